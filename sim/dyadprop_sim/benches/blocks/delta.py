"""Bench of delta: each kind, every activation that a word can hold, also those that no table gives."""

import random
from typing import Any

import cocotb
import numpy as np

from dyadprop import timing
from dyadprop.widths import StageNumbers
from dyadprop_hw.delta import Delta
from dyadprop_hw.layouts import Fixed
from dyadprop_sim import arithmetic
from dyadprop_sim.benches.numbers import KINDS
from dyadprop_sim.benches.pipes import compare
from dyadprop_sim.benches.ports import Item
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named


def make_top() -> Variants:
    """Make a delta of each kind."""
    return Variants({name: Delta(numbers) for name, numbers in KINDS.items()})


class Model:
    """What comes out for each sensitivity with its activation."""

    def __init__(self, numbers: StageNumbers) -> None:
        self.numbers = numbers

    def items(self, pairs: list[tuple[int, int]]) -> list[dict[str, Item]]:
        """Compute with the golden arithmetic."""
        sensitivity, activation = np.array(pairs, dtype=np.int64).T
        return [{"delta": int(word)} for word in arithmetic.delta(self.numbers, sensitivity, activation)]

    def inputs(self, rng: random.Random, count: int) -> list[tuple[int, int]]:
        """Draw words of all sizes, and pair the ends of both formats."""
        s, a = self.numbers.sensitivity, self.numbers.output
        one = 1 << a.fraction_bits
        ends = [
            (x, y)
            for x in (s.min_int, s.min_int + 1, -1, 0, 1, s.max_int)
            for y in (a.min_int, -1, 0, 1, min(one, a.max_int), max(-one, a.min_int), one >> 1, a.max_int)
        ]
        return ends + [
            (rng.randint(s.min_int, s.max_int) >> rng.randrange(s.width), rng.randint(a.min_int, a.max_int))
            for _ in range(count)
        ]


@cocotb.test()
@cocotb.parametrize(variant=named(KINDS), seed=[1])
async def values(dut: Any, variant: str, seed: int) -> None:
    """One unit a cycle, each as the golden arithmetic has it, after exactly ``latency``."""
    numbers = KINDS[variant]
    bench = Testbench(dut, variant, seed)
    model = Model(numbers)
    driver, monitor = bench.pipe(
        {"sensitivity": Fixed(numbers.sensitivity), "activation": Fixed(numbers.output)},
        {"delta": Fixed(numbers.sensitivity)},
    )
    await bench.start()
    pairs = model.inputs(bench.rng, 400)
    await compare(
        driver,
        monitor,
        [{"sensitivity": sensitivity, "activation": activation} for sensitivity, activation in pairs],
        model.items(pairs),
        timing.delta(numbers),
    )
