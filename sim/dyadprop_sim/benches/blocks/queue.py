"""Bench of the queue: order, places and cycles."""

from typing import Any

import cocotb
from amaranth.lib import data
from cocotb.triggers import RisingEdge

from dyadprop import timing
from dyadprop.formats import Q
from dyadprop_hw.layouts import Fixed
from dyadprop_hw.streams import Queue
from dyadprop_sim.benches.ports import Item
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named

SHAPE = data.StructLayout({"value": Fixed(Q(2, 5)), "flag": 1})
DEPTHS = {"d1": 1, "d2": 2, "d3": 3, "d8": 8, "d16": 16, "d17": 17, "d40": 40}


def make_top() -> Variants:
    """Make a queue of each depth."""
    return Variants({name: Queue(SHAPE, depth) for name, depth in DEPTHS.items()})


class QueueBench(Testbench):
    """A queue between two neighbours; what goes in is what is expected."""

    def __init__(self, dut: Any, variant: str, seed: int, *, stalls: bool = True) -> None:
        super().__init__(dut, variant, seed, stalls=stalls)
        self.inputs, self.input_times = self.source("i", SHAPE)
        self.taker, self.output_times = self.sink("o", SHAPE)
        self.checker_o = self.checker("o")
        self.output_times.call(self.checker_o.check)

    def send(self, count: int) -> None:
        """Send random items."""
        values = SHAPE["value"].shape.q
        items: list[Item] = [
            {"value": self.rng.randint(values.min_int, values.max_int), "flag": self.rng.getrandbits(1)}
            for _ in range(count)
        ]
        self.inputs.send(items)
        self.checker_o.expect(items)


@cocotb.test()
@cocotb.parametrize(variant=named(DEPTHS), seed=[1, 2, 3])
async def order(dut: Any, variant: str, seed: int) -> None:
    """Items leave in the order in which they came, once; there is room whenever fewer than ``depth`` are inside."""
    bench = QueueBench(dut, variant, seed)
    stream = bench.input_times.stream
    offered = [0, 0]  # cycles with room promised, and without

    async def watch() -> None:
        edge = RisingEdge(dut.clk)
        inside = 0
        while True:
            await edge
            promised = inside < DEPTHS[variant]
            offered[not promised] += 1
            assert stream.flag(stream.ready) or not promised, (
                f"no room in cycle {bench.now()} with {inside} items inside"
            )
            inside = len(bench.input_times.taken) - len(bench.output_times.taken)

    await bench.start(watch())
    bench.send(200)
    await bench.finish(o=200)
    assert offered[0], "it never had room"


@cocotb.test()
@cocotb.parametrize(variant=named(DEPTHS), seed=[1])
async def latency(dut: Any, variant: str, seed: int) -> None:
    """An item is offered ``timing.queue`` cycles after it was accepted; with two places or more, one a cycle."""
    bench = QueueBench(dut, variant, seed, stalls=False)
    await bench.start()
    bench.send(40)
    await bench.finish(o=40)
    taken, offered = bench.input_times.taken, bench.output_times.offered
    assert [b - a for a, b in zip(taken, offered, strict=True)] == [timing.queue(DEPTHS[variant])] * 40
    interval = 1 if DEPTHS[variant] > 1 else 2
    assert taken[-1] - taken[0] <= 39 * interval, f"40 items took {taken[-1] - taken[0] + 1} cycles"


@cocotb.test()
@cocotb.parametrize(variant=named(DEPTHS), seed=[1])
async def places(dut: Any, variant: str, seed: int) -> None:
    """A queue that nobody takes from takes ``depth`` items in a row, at most one more a register; all leave later."""
    bench = QueueBench(dut, variant, seed, stalls=False)
    depth = DEPTHS[variant]
    bench.taker.stalls.share = 1.0
    await bench.start()
    bench.send(depth + 5)
    await bench.cycles(60)
    taken = bench.input_times.taken
    # Behind the memory, and in a deep one a place for an item that steps aside.
    registers = timing.queue(depth) - 1 + (depth > timing.SHALLOW)
    assert depth <= len(taken) <= depth + registers, f"it took {len(taken)} items"
    assert taken[depth - 1] - taken[0] == depth - 1
    assert not bench.output_times.taken
    bench.taker.stalls.share = 0.0
    await bench.finish(o=depth + 5)
