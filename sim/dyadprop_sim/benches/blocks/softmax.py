"""Bench of softmax: probabilities to the last bit, and its cycles."""

from typing import Any

import cocotb
import numpy as np
from amaranth.hdl import unsigned
from amaranth.lib import data

from dyadprop import timing
from dyadprop.formats import Ints, Q
from dyadprop_hw.layouts import Fixed
from dyadprop_hw.softmax import Divider, Softmax
from dyadprop_sim import arithmetic
from dyadprop_sim.benches.control import draw_words, items
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named

FORMATS = {
    "default": (Q(6, 10), 3),
    "plain": (Q(4, 4), 5),
    "whole": (Q(6, 0), 2),
    "one": (Q(3, 8), 1),
    "wide": (Q(1, 17), 4),
}


def make_top() -> Variants:
    """Make a softmax for each format and number of outputs."""
    return Variants({name: Softmax(*numbers) for name, numbers in FORMATS.items()})


class Model:
    """What comes out for each vector of logits."""

    def __init__(self, variant: str) -> None:
        self.logit, self.outputs = FORMATS[variant]
        self.shape = data.StructLayout({"probability": unsigned(Divider.QUOTIENT_BITS), "logit": Fixed(self.logit)})

    def draw(self, rng: np.random.Generator, count: int) -> Ints:
        """Draw vectors: wide apart, close together, all the same, at both ends."""
        form = self.logit
        rows = [
            draw_words(rng, form, (1, self.outputs), int(rng.integers(0, form.width - 1))) for _ in range(count - 3)
        ]
        same = np.full((1, self.outputs), int(rng.integers(form.min_int, form.max_int)))
        ends = [rng.choice([form.min_int, form.max_int], (1, self.outputs)) for _ in range(2)]
        return np.concatenate([*rows, same, *ends])

    def items(self, logits: Ints) -> Any:
        """Compute with the golden arithmetic."""
        return items(probability=arithmetic.softmax(logits, self.logit.fraction_bits), logit=logits)


@cocotb.test()
@cocotb.parametrize(variant=named(FORMATS), seed=[1, 2])
async def vectors(dut: Any, variant: str, seed: int) -> None:
    """Vectors one behind the other, under stalls."""
    bench = Testbench(dut, variant, seed)
    model = Model(variant)
    driver, _ = bench.source("logit_in", Fixed(model.logit))
    checker, _ = bench.checked("probability_out", model.shape)
    logits = model.draw(np.random.default_rng(seed), 12)
    driver.send(logits.ravel().tolist())
    checker.expect(model.items(logits))
    await bench.start()
    await bench.finish(probability_out=logits.size)


@cocotb.test()
@cocotb.parametrize(variant=named(FORMATS), seed=[1])
async def cycles(dut: Any, variant: str, seed: int) -> None:
    """``3 n + SOFTMAX_SUM + DIVIDE`` a vector; ``2 n + SOFTMAX_SUM + DIVIDE + QUEUE`` from its last logit on."""
    bench = Testbench(dut, variant, seed, stalls=False)
    model = Model(variant)
    n = model.outputs
    driver, before = bench.source("logit_in", Fixed(model.logit))
    checker, after = bench.checked("probability_out", model.shape)
    logits = model.draw(np.random.default_rng(seed), 6)
    driver.send(logits.ravel().tolist())
    checker.expect(model.items(logits))
    await bench.start()
    await bench.finish(probability_out=logits.size)
    latencies = [b - a for a, b in zip(before.taken[n - 1 :: n], after.offered[n - 1 :: n], strict=True)]
    assert latencies == [2 * n + timing.SOFTMAX_SUM + timing.DIVIDE + timing.queue(n)] * 6, latencies
    intervals = np.diff(after.offered[::n]).tolist()
    assert intervals == [3 * n + timing.SOFTMAX_SUM + timing.DIVIDE] * 5, intervals
