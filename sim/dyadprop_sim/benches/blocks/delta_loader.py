"""Bench of the delta loader: each delta to its lane and bank, no bank before it is free, and its cycles."""

from typing import Any

import cocotb
import numpy as np
from amaranth.hdl import unsigned
from cocotb.triggers import RisingEdge

from dyadprop import timing
from dyadprop.plan import StagePlan
from dyadprop_hw.delta_loader import DeltaLoader
from dyadprop_hw.lane import LaneShape
from dyadprop_hw.layouts import sensitivity_token
from dyadprop_sim import arithmetic
from dyadprop_sim.benches.control import draw_words, items
from dyadprop_sim.benches.numbers import make_numbers
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named

PLANS = {
    "tanh": StagePlan(make_numbers("tanh", inputs=3, outputs=5), 2),
    "identity": StagePlan(make_numbers("identity", inputs=2, outputs=1), 1),
    "leaky_relu": StagePlan(make_numbers("leaky_relu", inputs=1, outputs=4), 4),
    "relu": StagePlan(make_numbers("relu", inputs=1, outputs=4), 3),
    "matched": StagePlan(make_numbers("sigmoid", inputs=4, outputs=3, matched=True), 1),
}


def make_top() -> Variants:
    """Make a loader for each plan."""
    return Variants({name: DeltaLoader(LaneShape(plan)) for name, plan in PLANS.items()})


class LoaderBench(Testbench):
    """A loader, the stage that feeds it, and the backward passes that use its banks.

    Parameters
    ----------
    passes : bool
        Whether there are any.
    """

    def __init__(self, dut: Any, variant: str, seed: int, *, stalls: bool = True, passes: bool = True) -> None:
        super().__init__(dut, variant, seed, stalls=stalls)
        self.plan = plan = PLANS[variant]
        n = self.n = plan.numbers
        shape = LaneShape(plan)
        self.words = np.random.default_rng(seed)
        self.inputs, self.input_times = self.source("sensitivity_in", sensitivity_token(n.sensitivity, n.output))
        self.wave = self.port("wave", shape.delta)
        self.loaded = self.port("loaded", unsigned(1))
        self.start_stb, self.end_stb = self.input("start", unsigned(1)), self.input("end", unsigned(1))
        self.waves = self.checker("wave")
        self.passes = passes
        self.vectors = self.started = self.ended = self.rows = 0
        self.wave_times: list[int] = []
        self.loaded_times: list[int] = []

    def send(self, count: int) -> None:
        """Draw and send vectors, and expect their deltas."""
        n, plan = self.n, self.plan
        sensitivity = draw_words(self.words, n.sensitivity, (count, n.outputs), int(self.words.integers(0, 3)))
        activation = draw_words(self.words, n.output, (count, n.outputs))
        self.inputs.send(items(value=sensitivity, activation=activation))
        for vector in arithmetic.delta(n, sensitivity, activation):
            bank = self.vectors % plan.banks
            for row in range(plan.groups * plan.lanes):
                self.waves.expect(
                    [
                        {
                            "valid": 1,
                            "lane": plan.lanes - 1 - row % plan.lanes,
                            "delta": bank * plan.groups + row // plan.lanes,
                            "value": int(vector[row]) if row < n.outputs else 0,
                        }
                    ]
                )
            self.vectors += 1

    def look(self) -> None:
        """Check the wave of a cycle: never may it reach a bank that a pass still reads."""
        text = self.wave.text()
        assert text[-1] in "01", f"valid is {text[-1]}"
        if text[-1] == "1":
            self.waves.check(self.wave.get())
            self.wave_times.append(self.now())
            vector = self.rows // (self.plan.groups * self.plan.lanes)
            assert vector - self.ended < self.plan.banks, f"vector {vector} came into a bank in use"
            self.rows += 1
        if self.loaded.get():
            self.loaded_times.append(self.now())

    async def watch(self) -> None:
        """Look at each cycle; start a pass on each whole bank and end it after a while."""
        edge = RisingEdge(self.dut.clk)
        left = 0  # cycles of the pass that runs
        while True:
            await edge
            self.look()
            left = max(0, left - 1)
            self.end_stb.set(int(left == 1))
            self.ended += left == 1
            start = self.loaded.bits() == 1 and left <= 1 and self.passes and self.rng.random() < 0.7
            self.start_stb.set(int(start))
            if start:
                assert self.started < self.vectors, "more banks are whole than vectors were sent"
                self.started += 1
                # The strobe's own cycle passes before `loaded` is looked at again.
                await edge
                self.look()
                self.start_stb.set(0)
                left = self.rng.randrange(1, 2 * self.plan.backward_cycles)
                self.end_stb.set(int(left == 1))
                self.ended += left == 1


@cocotb.test()
@cocotb.parametrize(variant=named(PLANS), seed=[1, 2])
async def vectors(dut: Any, variant: str, seed: int) -> None:
    """Vectors one behind the other, passes of random length."""
    bench = LoaderBench(dut, variant, seed)
    await bench.start(bench.watch())
    bench.send(15)
    await bench.drain()
    await bench.cycles(4 * bench.plan.banks * bench.plan.backward_cycles + 100)
    assert bench.started == bench.ended == 15
    await bench.finish(wave=15 * bench.plan.groups * bench.plan.lanes)


@cocotb.test()
@cocotb.parametrize(variant=named(PLANS), seed=[1])
async def cycles(dut: Any, variant: str, seed: int) -> None:
    """``Delta.latency + 1`` from word to wave; ``load_latency`` to its pass; no more vectors than banks."""
    bench = LoaderBench(dut, variant, seed, stalls=False, passes=False)
    plan, n = bench.plan, bench.n
    await bench.start(bench.watch())
    bench.send(1)
    await bench.drain()
    await bench.cycles(20)
    existing = bench.wave_times[: n.outputs]
    latencies = [b - a for a, b in zip(bench.input_times.taken, existing, strict=True)]
    assert latencies == [timing.delta(n) + 1] * n.outputs, latencies
    whole = bench.loaded_times[0] - bench.input_times.taken[-1] + timing.START
    assert whole == plan.load_latency, f"measured {whole}, predicted {plan.load_latency}"
    bench.send(plan.banks + 1)
    await bench.cycles((plan.banks + 1) * plan.groups * plan.lanes + 50)
    taken = len(bench.input_times.taken)
    assert taken == plan.banks * n.outputs, f"{taken} words were taken into {plan.banks} banks"
    bench.passes = True
    await bench.finish(wave=(plan.banks + 2) * plan.groups * plan.lanes)
