"""Bench of the sample memory: both passes see each sample's words and flags in order; places are never overrun."""

from collections.abc import Callable
from typing import Any

import cocotb
import numpy as np
from amaranth.hdl import unsigned
from cocotb.triggers import RisingEdge

from dyadprop import timing
from dyadprop_hw.layouts import Fixed, activation_token
from dyadprop_hw.sample_memory import SampleMemory
from dyadprop_sim.benches.control import draw_words, items
from dyadprop_sim.benches.numbers import make_numbers
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named

DEPTHS = {
    # inputs, samples
    "one_one": (1, 1),
    "one_three": (1, 3),
    "three_one": (3, 1),
    "three_two": (3, 2),
    "two_five": (2, 5),
}


def make_top() -> Variants:
    """Make a memory for each size."""
    return Variants(
        {name: SampleMemory(make_numbers("relu", inputs=inputs), depth) for name, (inputs, depth) in DEPTHS.items()}
    )


class MemoryBench(Testbench):
    """A memory with what fills it, and both passes."""

    def __init__(self, dut: Any, variant: str, seed: int, *, stalls: bool = True) -> None:
        super().__init__(dut, variant, seed, stalls=stalls)
        self.inputs, self.depth = DEPTHS[variant]
        self.form = make_numbers("relu", inputs=self.inputs).input
        self.words = np.random.default_rng(seed)
        self.driver, self.times = self.source("activation_in", activation_token(self.form))
        flag = unsigned(1)
        self.strobes = {
            name: self.input(name, flag)
            for name in (
                *("forward_start", "forward_next", "forward_row", "forward_end"),
                *("backward_start", "backward_next", "backward_end"),
            )
        }
        self.flags = {
            name: self.port(name, flag)
            for name in ("forward_ready", "backward_ready", "forward_learn", "forward_update", "backward_update")
        }
        self.activations = {name: self.port(f"{name}_activation", Fixed(self.form)) for name in ("forward", "backward")}
        self.stored, self.waiting = (self.port(name, range(self.depth + 1)) for name in ("stored", "waiting"))
        self.checks = {name: self.checker(name) for name in ("forward", "backward")}
        self.samples: list[tuple[list[int], int, int]] = []
        self.started = 0
        self.finished = {"forward": 0, "backward": 0}
        self.waits = {"forward": 0.3, "backward": 0.3}  # share of the cycles in which a ready sample is left waiting
        self.held = 0
        self.learnt = 0.7  # share of the samples

    def send(self, count: int) -> None:
        """Draw and send samples; only the flags of their first words count."""
        for row in draw_words(self.words, self.form, (count, self.inputs)):
            learn = int(self.rng.random() < self.learnt)
            update = learn * self.rng.getrandbits(1)
            self.samples.append((row.tolist(), learn, update))
            flags = self.words.integers(0, 2, (2, self.inputs))
            flags[:, 0] = learn, update
            self.driver.send(items(value=row, learn=flags[0], update=flags[1]))

    async def run(self, which: str) -> None:
        """Be one of the passes: start when a sample is ready, walk over its columns, let it go."""
        edge = RisingEdge(self.dut.clk)
        forward = which == "forward"
        samples = iter(range(10**6))
        strobes = {name.removeprefix(f"{which}_"): port for name, port in self.strobes.items() if which in name}
        restart = False  # the next sample's start came with this one's end
        while True:
            if not restart:
                while not self.flags[f"{which}_ready"].get() or self.rng.random() < self.waits[which]:
                    await edge
                strobes["start"].set(1)
                await edge
                strobes["start"].set(0)
            number = next(samples)
            if not forward:
                while not self.samples[number][1]:
                    number = next(samples)  # it is dropped: nothing of it is seen here
            row, learn, update = self.samples[number]
            if forward:
                self.started += 1
            groups = self.rng.randrange(1, 4) if forward else 1
            for group in range(groups):
                for column in range(self.inputs):
                    await self.dwell(edge, strobes, which, row[column])
                    last = column == self.inputs - 1
                    restart = False
                    if not last:
                        strobes["next"].set(1)
                    elif forward:
                        strobes["row"].set(1)
                    if last and group == groups - 1:
                        strobes["end"].set(1)
                        restart = bool(self.flags[f"{which}_ready"].get()) and self.rng.random() < 0.7
                        strobes["start"].set(int(restart))
                    if forward:
                        assert (self.flags["forward_learn"].get(), self.flags["forward_update"].get()) == (
                            learn,
                            update,
                        )
                    else:
                        assert self.flags["backward_update"].get() == update
                    await edge
                    for port in strobes.values():
                        port.set(0)
            self.finished[which] += 1

    async def dwell(self, edge: Any, strobes: dict[str, Any], which: str, expected: int) -> None:
        """Show a column for a while: its word is there from one cycle later on."""
        await edge
        for _ in range(self.rng.randrange(2)):
            await edge
        await edge
        checker = self.checks[which]
        checker.expect([expected])
        checker.check(self.activations[which].get())

    async def until(self, reached: Callable[[], Any]) -> None:
        """Wait for something that has to come."""
        for _ in range(4000):
            if reached():
                return
            await self.cycles(1)
        assert reached(), f"passes finished: {self.finished}; samples stored: {self.stored.get()}"

    async def watch(self) -> None:
        """Compare the counts with those of samples arrived and started."""
        edge = RisingEdge(self.dut.clk)
        while True:
            await edge
            stored, waiting = self.stored.get(), self.waiting.get()
            assert isinstance(stored, int)
            assert isinstance(waiting, int)
            assert waiting <= stored <= self.depth
            self.held = max(self.held, stored)


@cocotb.test()
@cocotb.parametrize(variant=named(DEPTHS), backlog=[0, 1], seed=[1, 2, 3])
async def samples(dut: Any, variant: str, backlog: int, seed: int) -> None:
    """Samples that come, are used and leave at random; some are not to be learnt from.

    With a backlog the backward pass waits long, so that several are dropped in a row behind it.
    """
    bench = MemoryBench(dut, variant, seed)
    if backlog:
        bench.waits["backward"] = 0.98
    count = 20
    bench.send(count)
    await bench.start(bench.run("forward"), bench.run("backward"), bench.watch())
    await bench.drain()
    learnt = sum(learn for _, learn, _ in bench.samples)
    await bench.until(lambda: bench.finished == {"forward": count, "backward": learnt} and bench.stored.get() == 0)
    assert bench.waiting.get() == 0
    assert bench.held == bench.depth, f"it never held more than {bench.held} samples"
    forward = bench.checks["forward"].compared
    assert forward >= count * bench.inputs
    await bench.finish(forward=forward, backward=learnt * bench.inputs)


@cocotb.test()
@cocotb.parametrize(variant=named(DEPTHS))
async def release(dut: Any, variant: str) -> None:
    """A full memory takes the next sample's first word as soon as the oldest one's place is free."""
    bench = MemoryBench(dut, variant, 1, stalls=False)
    bench.learnt, bench.waits["backward"] = 1.0, 1.0
    count = bench.depth + 1
    bench.send(count)
    await bench.start(bench.run("forward"), bench.run("backward"))
    await bench.until(lambda: bench.finished["forward"] == bench.depth)
    assert (bench.stored.get(), len(bench.times.taken)) == (bench.depth, bench.depth * bench.inputs)
    bench.waits["backward"] = 0.0
    await bench.until(lambda: bench.strobes["backward_end"].get())
    ended = bench.now()
    await bench.drain()
    assert bench.times.taken[bench.depth * bench.inputs] - ended == 1 + timing.RELEASE
    await bench.until(lambda: bench.finished == {"forward": count, "backward": count})
    forward = bench.checks["forward"].compared
    assert forward >= count * bench.inputs
    await bench.finish(forward=forward, backward=count * bench.inputs)
