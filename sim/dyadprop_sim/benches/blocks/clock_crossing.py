"""Bench of a clock crossing: words go there and back, so that both ends are in the bench's clock."""

from collections.abc import Coroutine
from typing import Any

import cocotb
from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from cocotb.clock import Clock

from dyadprop_hw.clock_crossing import ClockCrossing
from dyadprop_hw.streams import connect_stream
from dyadprop_sim.benches.testbench import PERIOD, Testbench
from dyadprop_sim.benches.variants import Variants

SHAPE = unsigned(8)
FAR = "far"
PERIODS = [900, 1998, 2000, 5000, 7000]  # ps


class ThereAndBack(wiring.Component):
    """One crossing into another clock, and one out of it."""

    i: Any
    o: Any

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(SHAPE)), "o": Out(stream.Signature(SHAPE))})

    def elaborate(self, platform: object) -> Module:
        """Put one behind the other."""
        m = Module()
        m.submodules.there = there = ClockCrossing(SHAPE, "sync", FAR)
        m.submodules.back = back = ClockCrossing(SHAPE, FAR, "sync")
        connect_stream(m, wiring.flipped(self.i), there.i)
        connect_stream(m, there.o, back.i)
        connect_stream(m, back.o, wiring.flipped(self.o))
        return m


def make_top() -> Variants:
    """Make one."""
    return Variants({"both": ThereAndBack()})


class CrossingBench(Testbench):
    """Two crossings between two neighbours; what goes in is what is expected."""

    RESET = 20  # three cycles of the slowest clock, and some more

    def __init__(self, dut: Any, seed: int, period: int, *, stalls: bool = True) -> None:
        super().__init__(dut, "both", seed, stalls=stalls)
        self.inputs, self.input_times = self.source("i", SHAPE)
        self.checker_o, self.output_times = self.checked("o", SHAPE)
        dut.far_rst.value = 1
        Clock(dut.far_clk, period, unit="ps").start(start_high=bool(self.rng.getrandbits(1)))

    async def start(self, *parts: Coroutine[Any, Any, None]) -> None:
        """Reset both sides at once."""
        await super().start(*parts)
        self.dut.far_rst.value = 0

    def send(self, count: int) -> None:
        """Send random words."""
        items = [self.rng.getrandbits(8) for _ in range(count)]
        self.inputs.send(items)
        self.checker_o.expect(items)


@cocotb.test()
@cocotb.parametrize(period=PERIODS, seed=[1, 2, 3])
async def order(dut: Any, period: int, seed: int) -> None:
    """Words arrive in order, once, whichever clock is faster."""
    bench = CrossingBench(dut, seed, period)
    await bench.start()
    bench.send(200)
    await bench.finish(o=200)


@cocotb.test()
@cocotb.parametrize(period=PERIODS)
async def cycles(dut: Any, period: int) -> None:
    """The cycles that `ClockCrossing` tells, of two of them: the slower one decides how often a word is accepted."""
    bench = CrossingBench(dut, 1, period, stalls=False)
    await bench.start()
    bench.send(100)
    await bench.finish(o=100)
    here, there = PERIOD * 1000, period
    taken, offered = bench.input_times.taken, bench.output_times.offered
    interval = (taken[-1] - taken[0]) / 99 * here
    slower, faster = max(here, there), min(here, there)
    assert 3 * slower + 2 * faster <= interval <= 4 * slower + 3 * faster, interval
    for accepted, shown in zip(taken, offered, strict=True):
        # The crossing back takes the word with its next edge; this side sees what comes with the edge behind that.
        passed = (shown - accepted) * here
        assert 3 * there + 3 * here <= passed <= 4 * there + 4 * here, passed
