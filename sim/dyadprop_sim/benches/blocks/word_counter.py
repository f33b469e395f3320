"""Bench of the word counter: the order of a stage's words, with steps and restarts at random."""

from typing import Any

import cocotb
from amaranth.hdl import unsigned
from cocotb.triggers import RisingEdge

from dyadprop.plan import StagePlan
from dyadprop_hw.lane import LaneShape
from dyadprop_hw.word_counter import WordCounter
from dyadprop_sim.benches.numbers import make_numbers
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named

SHAPES = {
    f"n{inputs}x{outputs}_p{lanes}": StagePlan(make_numbers("relu", inputs=inputs, outputs=outputs), lanes)
    for inputs, outputs, lanes in ((1, 1, 1), (3, 4, 2), (2, 5, 3), (1, 7, 7), (5, 3, 1))
}


def make_top() -> Variants:
    """Make a counter for each shape."""
    return Variants({name: WordCounter(LaneShape(plan)) for name, plan in SHAPES.items()})


def words(plan: StagePlan) -> list[dict[str, int]]:
    """List where the words live: row by row, each row's bias last."""
    n, lanes = plan.numbers, plan.lanes
    return [
        {
            "lane": lanes - 1 - row % lanes,
            "address": row // lanes * n.columns + column,
            "last": int(row == n.outputs - 1 and column == n.columns - 1),
        }
        for row in range(n.outputs)
        for column in range(n.columns)
    ]


@cocotb.test()
@cocotb.parametrize(variant=named(SHAPES), seed=[1, 2])
async def order(dut: Any, variant: str, seed: int) -> None:
    """The counter shows the same word as a list that is stepped and restarted with it."""
    plan = SHAPES[variant]
    shape = LaneShape(plan)
    bench = Testbench(dut, variant, seed)
    restart, step = (bench.input(name, unsigned(1)) for name in ("restart", "step"))
    shown = {
        "lane": bench.port("lane", shape.forward["lane"].shape),
        "address": bench.port("address", shape.forward["address"].shape),
        "last": bench.port("last", unsigned(1)),
    }
    checker = bench.checker("word")
    await bench.start()
    listed = words(plan)
    edge = RisingEdge(dut.clk)
    position = wraps = 0
    count = 300
    for _ in range(count):
        restarts, steps = bench.rng.random() < 0.02, bench.rng.random() < 0.7
        restart.set(int(restarts))
        step.set(int(steps))
        await edge
        checker.expect([listed[position]])
        checker.check({name: port.get() for name, port in shown.items()})
        wraps += steps and position == len(listed) - 1
        position = 0 if restarts else (position + steps) % len(listed)
    assert wraps, "the counter never went round"
    await bench.finish(word=count)
