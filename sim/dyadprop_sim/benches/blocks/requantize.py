"""Bench of the requantizer: every value of small formats, ties and both ends of large ones."""

from typing import Any

import cocotb
import numpy as np
from amaranth.hdl import signed, unsigned

from dyadprop.formats import Q
from dyadprop_hw.layouts import Fixed
from dyadprop_hw.requantize import Requantize
from dyadprop_sim import arithmetic
from dyadprop_sim.benches.pipes import compare
from dyadprop_sim.benches.ports import Item
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named

FORMATS = {
    "narrow": (8, 6, Q(2, 2)),
    "one_bit": (8, 4, Q(3, 3)),
    "exact": (8, 3, Q(2, 3)),
    "left": (6, 1, Q(2, 6)),
    "all_dropped": (5, 12, Q(2, 4)),
    "accumulator": (37, 24, Q(4, 12)),
    "wide": (41, 30, Q(1, 17)),
}


def make_top() -> Variants:
    """Make a requantizer for each set of formats."""
    return Variants({name: Requantize(*numbers) for name, numbers in FORMATS.items()})


class Model:
    """What comes out for each number that goes in."""

    def __init__(self, variant: str) -> None:
        self.width, self.fraction_bits, self.q = FORMATS[variant]

    def items(self, values: list[int]) -> list[dict[str, Item]]:
        """Compute with the golden arithmetic."""
        words, saturated = arithmetic.requantize(np.array(values, dtype=np.int64), self.fraction_bits, self.q)
        return [{"value_out": int(word), "saturated": int(flag)} for word, flag in zip(words, saturated, strict=True)]

    def inputs(self, rng: Any) -> list[int]:
        """Choose every number of a small width; of a large one ties, the ends of both formats, and random ones."""
        low, high = -(1 << self.width - 1), (1 << self.width - 1) - 1
        if self.width <= 8:
            return list(range(low, high + 1))
        shift = self.fraction_bits - self.q.fraction_bits
        chosen = [low, high, 0, -1, 1]
        for word in (self.q.min_int, self.q.min_int + 1, -2, -1, 0, 1, self.q.max_int - 1, self.q.max_int):
            middle = word << shift
            half = 1 << shift - 1
            chosen += [middle + offset for offset in (-half - 1, -half, -half + 1, -1, 0, 1, half - 1, half, half + 1)]
        chosen += [rng.randint(low, high) for _ in range(100)]
        chosen += [rng.randint(self.q.min_int * 2, self.q.max_int * 2) << shift for _ in range(50)]
        chosen += [(rng.randint(self.q.min_int, self.q.max_int) << shift) + (1 << shift - 1) for _ in range(100)]
        return [min(max(value, low), high) for value in chosen]


@cocotb.test()
@cocotb.parametrize(variant=named(FORMATS), seed=[1])
async def values(dut: Any, variant: str, seed: int) -> None:
    """One number a cycle, each as the golden arithmetic has it, after exactly ``LATENCY``."""
    bench = Testbench(dut, variant, seed)
    model = Model(variant)
    driver, monitor = bench.pipe(
        {"value_in": signed(model.width)}, {"value_out": Fixed(model.q), "saturated": unsigned(1)}
    )
    await bench.start()
    numbers = model.inputs(bench.rng)
    bench.rng.shuffle(numbers)
    await compare(
        driver, monitor, [{"value_in": number} for number in numbers], model.items(numbers), Requantize.LATENCY
    )
