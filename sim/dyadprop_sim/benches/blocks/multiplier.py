"""Bench of the multiplier: corners of both operands, and random ones."""

import itertools
from typing import Any

import cocotb
from amaranth.hdl import signed

from dyadprop_hw.multiplier import Multiplier
from dyadprop_sim.benches.pipes import compare
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named

WIDTHS = {"one_bit": (1, 1), "narrow": (3, 5), "block": (18, 18), "wide": (20, 7)}


def make_top() -> Variants:
    """Make a multiplier for each pair of widths."""
    return Variants({name: Multiplier(*bits) for name, bits in WIDTHS.items()})


def operands(rng: Any, bits: int) -> list[int]:
    """Choose both ends, what is around zero, and random ones."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    return sorted({low, high, max(low, -1), 0, min(high, 1)} | {rng.randint(low, high) for _ in range(20)})


@cocotb.test()
@cocotb.parametrize(variant=named(WIDTHS), seed=[1])
async def values(dut: Any, variant: str, seed: int) -> None:
    """A pair a cycle, each product after exactly ``LATENCY``."""
    bench = Testbench(dut, variant, seed)
    a_bits, b_bits = WIDTHS[variant]
    driver, monitor = bench.pipe({"a": signed(a_bits), "b": signed(b_bits)}, {"product": signed(a_bits + b_bits)})
    await bench.start()
    pairs = list(itertools.product(operands(bench.rng, a_bits), operands(bench.rng, b_bits)))
    bench.rng.shuffle(pairs)
    await compare(
        driver,
        monitor,
        [{"a": a, "b": b} for a, b in pairs],
        [{"product": a * b} for a, b in pairs],
        Multiplier.LATENCY,
    )
