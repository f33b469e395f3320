"""Bench of the pacer: when passes start, of every small length, ready at random or always."""

from typing import Any

import cocotb
from amaranth.hdl import unsigned
from cocotb.triggers import RisingEdge

from dyadprop import timing
from dyadprop_hw.pacer import Pacer
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named

LENGTHS = {f"cycles_{cycles}": cycles for cycles in (2, 3, 4, 5, 9, 66)}


def make_top() -> Variants:
    """Make a pacer for each length of a pass."""
    return Variants({name: Pacer(cycles) for name, cycles in LENGTHS.items()})


@cocotb.test()
@cocotb.parametrize(variant=named(LENGTHS), share=[0.05, 0.5, 1.0], seed=[1])
async def starts(dut: Any, variant: str, share: float, seed: int) -> None:
    """A pass starts ``START`` after the first cycle in which it is ready and the one before leaves room for it."""
    bench = Testbench(dut, variant, seed)
    interval = max(LENGTHS[variant], Pacer.LEAST)
    ready, start = bench.input("ready", unsigned(1)), bench.port("start", unsigned(1))
    checker = bench.checker("start")
    await bench.start()
    edge = RisingEdge(dut.clk)
    expected: set[int] = set()
    decided: list[int] = []
    count = 20 * interval
    for cycle in range(count):
        now = bench.rng.random() < share
        ready.set(int(now))
        await edge
        checker.expect([int(cycle in expected)])
        checker.check(start.get())
        if now and (not decided or cycle >= decided[-1] + interval):
            decided.append(cycle)
            expected.add(cycle + timing.START)
    assert len(decided) == 20 if share == 1.0 else 2 <= len(decided) <= 20
    await bench.finish(start=count)
