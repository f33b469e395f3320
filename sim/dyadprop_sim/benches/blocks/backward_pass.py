"""Bench of the backward pass: its waves for samples and banks of deltas, its pace, and the read-outs in between."""

from typing import Any

import cocotb
import numpy as np
from amaranth.hdl import unsigned
from cocotb.triggers import RisingEdge

from dyadprop import timing
from dyadprop.plan import StagePlan
from dyadprop_hw.backward_pass import BackwardPass
from dyadprop_hw.lane import LaneShape
from dyadprop_hw.layouts import BackwardOperation, Fixed
from dyadprop_sim.benches.control import draw_words
from dyadprop_sim.benches.numbers import make_numbers
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named

PLANS = {
    "groups": StagePlan(make_numbers("relu", inputs=3, outputs=5), 2),
    "one": StagePlan(make_numbers("relu", inputs=1, outputs=1), 1),
    "lanes": StagePlan(make_numbers("relu", inputs=2, outputs=9), 5),
    "row": StagePlan(make_numbers("relu", inputs=4, outputs=3), 3),
}


def make_top() -> Variants:
    """Make a pass for each plan."""
    return Variants({name: BackwardPass(LaneShape(plan)) for name, plan in PLANS.items()})


class PassBench(Testbench):
    """A backward pass with its memory and lane 0.

    Parameters
    ----------
    eager : bool
        Samples are ready at once, one behind the other.
    """

    def __init__(self, dut: Any, variant: str, seed: int, *, eager: bool) -> None:
        super().__init__(dut, variant, seed)
        self.plan = plan = PLANS[variant]
        n = plan.numbers
        self.shape = LaneShape(plan)
        self.eager = eager
        self.words = np.random.default_rng(seed)
        self.begin, self.fresh, self.update = (self.input(name, unsigned(1)) for name in ("start", "fresh", "update"))
        self.activation = self.input("activation", Fixed(n.input))
        self.read = self.input("read", self.shape.backward)
        self.strobes = {name: self.port(name, unsigned(1)) for name in ("next_column", "end", "busy")}
        self.wave = self.port("wave", self.shape.backward)
        self.waves, self.reads = self.checker("wave"), self.checker("read")
        self.samples: list[tuple[list[int], int, int]] = []
        self.starts: list[int] = []
        self.wave_times: list[int] = []
        self.given = 0

    def add(self, count: int) -> None:
        """Put samples into the memory, and expect their waves."""
        n, plan = self.plan.numbers, self.plan
        for row in draw_words(self.words, n.input, (count, n.inputs)).tolist():
            fresh, update = self.rng.getrandbits(1), self.rng.getrandbits(1)
            bank = len(self.samples) % plan.banks
            self.samples.append((row, fresh, update))
            for column, operand in enumerate([*row, n.one]):
                self.waves.expect(
                    {
                        "operation": BackwardOperation.LEARN.value,
                        "fresh": fresh,
                        "update": update,
                        "first": int(group == 0),
                        "last": int(group == plan.groups - 1),
                        "bias": int(column == n.inputs),
                        "address": group * n.columns + column,
                        "delta": bank * plan.groups + group,
                        "operand": operand,
                    }
                    for group in range(plan.groups)
                )

    async def run(self) -> None:
        """Be the memory: answer a column one cycle after it was shown; offer samples, sometimes read a word."""
        edge = RisingEdge(self.dut.clk)
        taken = column = idle = left = 0
        started = False
        while True:
            await edge
            strobes = {name: port.get() for name, port in self.strobes.items()}
            text = self.wave.text()
            assert text[-1] in "01", f"valid is {text[-1]}"
            if text[-1] == "1":
                wave = self.wave.get()
                assert isinstance(wave, dict)
                if wave["operation"] == BackwardOperation.LEARN.value:
                    self.waves.check({name: value for name, value in wave.items() if name not in ("valid", "lane")})
                    self.wave_times.append(self.now())
                else:
                    known = {name: wave[name] for name in ("operation", "fresh", "lane", "address")}
                    self.reads.check((self.now(), known))
            # The column shown in the cycle that ends now is answered in the next one.
            self.read.set_bits(0)
            if taken:
                self.activation.set(self.samples[taken - 1][0][column])
            if strobes["end"]:
                assert strobes["busy"]
                column = 0
            elif strobes["next_column"]:
                column += 1
            if started:
                taken += 1
                self.starts.append(self.now())
            if taken:
                self.fresh.set(self.samples[taken - 1][1])
                self.update.set(self.samples[taken - 1][2])
            idle = 0 if strobes["busy"] or started else idle + 1
            left -= left > 0
            started = left == 0 and taken < len(self.samples) and (self.eager or self.rng.random() < 0.08)
            if started:
                left = self.plan.backward_cycles
            if not started and not self.eager and idle > 3 and self.rng.random() < 0.5:
                self.give_read()
            self.begin.set(int(started))

    def give_read(self) -> None:
        """Pass a read-out on; it must be the next wave, ``timing.ENTRY`` later."""
        word: dict[str, int] = {name: 0 for name, _ in self.shape.backward}
        operations = (BackwardOperation.READ_WEIGHT, BackwardOperation.READ_GRADIENT, BackwardOperation.WRITE_GRADIENT)
        known = {
            "operation": self.rng.choice(operations).value,
            "fresh": self.rng.getrandbits(1),
            "lane": self.rng.randrange(self.plan.lanes),
            "address": self.rng.randrange(self.plan.words),
        }
        self.read.set(word | known | {"valid": 1})
        self.reads.expect([(self.now() + 1 + timing.ENTRY, known)])  # given in the cycle to come
        self.given += 1


@cocotb.test()
@cocotb.parametrize(variant=named(PLANS), seed=[1, 2])
async def waves(dut: Any, variant: str, seed: int) -> None:
    """Samples that become ready at random, and read-outs while nothing runs."""
    bench = PassBench(dut, variant, seed, eager=False)
    bench.add(12)
    await bench.start(bench.run())
    await bench.drain()
    bench.eager = True  # no more read-outs
    count = 12 * bench.plan.groups * bench.plan.numbers.columns
    await bench.drain()
    assert bench.given, "nothing was read"
    await bench.finish(wave=count, read=bench.given)


@cocotb.test()
@cocotb.parametrize(variant=named(PLANS), seed=[1])
async def cycles(dut: Any, variant: str, seed: int) -> None:
    """One pass right behind the other, each ``backward_cycles``; ``LATENCY`` from a column shown to its wave."""
    bench = PassBench(dut, variant, seed, eager=True)
    plan = bench.plan
    bench.add(6)
    await bench.start(bench.run())
    words = plan.groups * plan.numbers.columns
    await bench.finish(wave=6 * words, read=0)
    intervals = np.diff(bench.wave_times[::words]).tolist()
    assert intervals == [plan.groups * max(plan.numbers.columns, -(-timing.GRADIENT // plan.groups))] * 5, intervals
    # The first column is shown in the cycle after the start.
    first = [wave - start - 1 for wave, start in zip(bench.wave_times[::words], bench.starts, strict=True)]
    assert first == [BackwardPass.LATENCY] * 6, first
