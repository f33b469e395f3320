"""Bench of the table look-up: every argument of small tables, random ones of the largest."""

from typing import Any

import cocotb
from amaranth.hdl import unsigned

from dyadprop.tables import Table, exp_table, phi_table
from dyadprop_hw.activation import TableLookup
from dyadprop_sim.benches.pipes import compare
from dyadprop_sim.benches.ports import Item
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named

TABLES = {
    "tanh_plain": phi_table("tanh", 6),
    "tanh_interpolated": phi_table("tanh", 12),
    "sigmoid_one_bit": phi_table("sigmoid", 8),
    "sigmoid_finest": phi_table("sigmoid", 17),
    "exp_plain": exp_table(4),
    "exp_interpolated": exp_table(12),
    "exp_whole": exp_table(0),
}


def make_top() -> Variants:
    """Make a look-up for each table."""
    return Variants({name: TableLookup(table, falling=name.startswith("exp")) for name, table in TABLES.items()})


class Model:
    """Linear interpolation in rational numbers: no shift, no mask."""

    def __init__(self, table: Table, *, falling: bool) -> None:
        self.table = table
        self.sign = -1 if falling else 1

    def value(self, argument: int) -> int:
        """Give the table's value at an argument."""
        index, rest = divmod(argument, 2**self.table.gap_bits)
        whole, remainder = divmod(self.table.step[index] * rest, 2**self.table.gap_bits)
        twice = 2 * remainder
        up = twice > 2**self.table.gap_bits or (twice == 2**self.table.gap_bits and whole % 2 == 1)
        return self.table.value[index] + self.sign * (whole + up)


@cocotb.test()
@cocotb.parametrize(variant=named(TABLES), seed=[1])
async def values(dut: Any, variant: str, seed: int) -> None:
    """One argument a cycle, each value as the model has it, after exactly ``LATENCY``."""
    bench = Testbench(dut, variant, seed)
    table = TABLES[variant]
    model = Model(table, falling=variant.startswith("exp"))
    bits = table.index_bits + table.gap_bits
    driver, monitor = bench.pipe({"argument": unsigned(max(1, bits))}, {"value": unsigned(table.value_bits)})
    await bench.start()
    arguments = list(range(1 << bits)) if bits <= 10 else [bench.rng.getrandbits(bits) for _ in range(500)]
    arguments += [0, (1 << bits) - 1]
    bench.rng.shuffle(arguments)
    inputs: list[dict[str, Item]] = [{"argument": argument} for argument in arguments]
    expected: list[dict[str, Item]] = [{"value": model.value(argument)} for argument in arguments]
    await compare(driver, monitor, inputs, expected, TableLookup.LATENCY)
