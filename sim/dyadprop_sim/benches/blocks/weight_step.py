"""Bench of the weight step: every shift, ties, both ends, against the golden arithmetic."""

import random
from typing import Any

import cocotb
import numpy as np
from amaranth.hdl import signed, unsigned

from dyadprop.formats import Q
from dyadprop_hw.layouts import Fixed
from dyadprop_hw.weight_step import WeightStep, rate_layout
from dyadprop_sim import arithmetic
from dyadprop_sim.benches.numbers import make_numbers
from dyadprop_sim.benches.pipes import compare
from dyadprop_sim.benches.ports import Item
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named

NUMBERS = {
    "default": make_numbers("identity", weight=Q(4, 12), sensitivity=Q(2, 14), max_batch=255),
    "narrow": make_numbers("identity", weight=Q(1, 1), sensitivity=Q(1, 2), max_batch=1),
    "wide": make_numbers("identity", weight=Q(0, 18), sensitivity=Q(4, 14), max_batch=1000),
}


def make_top() -> Variants:
    """Make a step for each set of formats."""
    return Variants({name: WeightStep(numbers) for name, numbers in NUMBERS.items()})


def draw(rng: random.Random, variant: str, shift: int, count: int) -> list[tuple[int, int]]:
    """Draw weights with their gradients: of all sizes, halfway between two steps, at both ends."""
    n = NUMBERS[variant]
    low, high = -(1 << n.gradient_bits - 1), (1 << n.gradient_bits - 1) - 1
    chosen = []
    for _ in range(count):
        gradient = rng.randint(low, high) >> rng.randrange(n.gradient_bits)
        if shift and rng.random() < 0.4:
            gradient = (gradient >> shift << shift) + (1 << shift - 1)
        if rng.random() < 0.1:
            gradient = rng.choice([low, low + 1, -1, 0, 1, high - 1, high])
        weight = rng.choice([n.weight.min_int, n.weight.max_int, rng.randint(n.weight.min_int, n.weight.max_int)])
        chosen.append((weight, min(max(gradient, low), high)))
    return chosen


@cocotb.test()
@cocotb.parametrize(variant=named(NUMBERS), seed=[1])
async def words(dut: Any, variant: str, seed: int) -> None:
    """One word a cycle, at every shift that there is, after exactly ``LATENCY``; residuals ``RESIDUAL_LATENCY``."""
    bench = Testbench(dut, variant, seed)
    n = NUMBERS[variant]
    rate = rate_layout(n.gradient_bits)
    port = bench.port("rate", rate)
    port.set({"shift": 0, "mask": 0})
    driver, monitor = bench.pipe(
        {"weight": Fixed(n.weight), "gradient": signed(n.gradient_bits), "update": unsigned(1)},
        {"weight_out": Fixed(n.weight), "saturated": unsigned(1)},
    )
    _, residual_monitor = bench.pipe({}, {"residual": signed(n.gradient_bits)})
    await bench.start()
    # No rate of the host's shifts beyond all bits, but the field has room for that; the mask has no more bits.
    for shift in range(1 << rate["shift"].width):
        port.set({"shift": shift, "mask": (1 << min(shift, n.gradient_bits - 1)) - 1})
        await bench.cycles(WeightStep.LATENCY + 2)
        pairs = draw(bench.rng, variant, shift, 40)
        weights, gradients = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
        expected: list[dict[str, Item]] = []
        residuals: list[dict[str, Item]] = []
        inputs: list[dict[str, Item]] = []
        steps = zip(*arithmetic.step(weights, gradients, shift, n.weight), strict=True)
        for (weight, gradient), (new, residual, limited) in zip(pairs, steps, strict=True):
            # A residual of the largest shifts may not fit; no rate that the host allows leaves such a one.
            wrapped = (int(residual) + (1 << n.gradient_bits - 1)) % (1 << n.gradient_bits) - (1 << n.gradient_bits - 1)
            expected.append({"weight_out": int(new), "saturated": int(limited)})
            update = bench.rng.randrange(2)
            inputs.append({"weight": weight, "gradient": gradient, "update": update})
            residuals.append({"residual": wrapped if update else gradient})
        await compare(driver, monitor, inputs, expected, WeightStep.LATENCY)
        await compare(driver, residual_monitor, inputs, residuals, WeightStep.RESIDUAL_LATENCY)
