"""Bench of the activations: each kind, in formats that round, shift, interpolate and saturate."""

import random
from typing import Any

import cocotb
import numpy as np
from amaranth.hdl import signed, unsigned

from dyadprop import timing
from dyadprop.widths import StageNumbers
from dyadprop_hw.activation import Activation
from dyadprop_hw.layouts import Fixed
from dyadprop_sim import arithmetic
from dyadprop_sim.benches.numbers import KINDS
from dyadprop_sim.benches.pipes import compare
from dyadprop_sim.benches.ports import Item
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named


def make_top() -> Variants:
    """Make an activation of each kind."""
    return Variants({name: Activation(numbers) for name, numbers in KINDS.items()})


class Model:
    """What comes out for each pre-activation."""

    def __init__(self, numbers: StageNumbers) -> None:
        self.numbers = numbers

    def items(self, accumulators: list[int]) -> list[dict[str, Item]]:
        """Compute with the golden arithmetic."""
        words, flags = arithmetic.activate(self.numbers, np.array(accumulators, dtype=np.int64))
        return [{"activation": int(w), "saturated": int(f)} for w, f in zip(words, flags, strict=True)]

    def inputs(self, rng: random.Random, count: int) -> list[int]:
        """Draw pre-activations of all sizes, ties and both ends."""
        bits = self.numbers.accumulator_bits
        low, high = -(1 << bits - 1), (1 << bits - 1) - 1
        shift = self.numbers.accumulator_fraction - self.numbers.output.fraction_bits
        chosen = [low, low + 1, -1, 0, 1, high - 1, high]
        for _ in range(count):
            size = rng.randrange(2, bits + 1)
            value = rng.randint(-(1 << size - 1), (1 << size - 1) - 1)
            if shift > 0 and rng.random() < 0.5:
                value = (value >> shift << shift) + (1 << shift - 1)
            chosen.append(min(max(value, low), high))
        return chosen


@cocotb.test()
@cocotb.parametrize(variant=named(KINDS), seed=[1])
async def values(dut: Any, variant: str, seed: int) -> None:
    """One unit a cycle, each as the golden arithmetic has it, after exactly ``latency``."""
    numbers = KINDS[variant]
    bench = Testbench(dut, variant, seed)
    model = Model(numbers)
    driver, monitor = bench.pipe(
        {"accumulator": signed(numbers.accumulator_bits)},
        {"activation": Fixed(numbers.output), "saturated": unsigned(1)},
    )
    await bench.start()
    accumulators = model.inputs(bench.rng, 400)
    await compare(
        driver,
        monitor,
        [{"accumulator": a} for a in accumulators],
        model.items(accumulators),
        timing.activation(numbers.activation),
    )
