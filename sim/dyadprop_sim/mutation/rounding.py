"""Parts of the script whose sums lie on edges of rounding and of formats."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from dyadprop.formats import Ints, Q
from dyadprop.network import RawParameters
from dyadprop_sim import arithmetic
from dyadprop_sim.golden import Model, Trace
from dyadprop_sim.mutation.conversation import Conversation, Data, Entry, draw_data

DRAWN = 20_000  # samples to choose rare ones from
EDGE = 5  # samples on, above and below each unit's rounding edge


class Rounding(Conversation):
    """Choose samples and weights next to where words change."""

    def _single_weights(self) -> list[RawParameters]:
        """Draw rows with one weight, a power of two: a sum then has its operand's low bits, and is often a tie."""
        drawn = []
        for stage in self.plan.stages:
            n = stage.numbers
            largest = n.weight.width - 2
            powers = 1 << self.rng.integers(max(0, largest - 3), largest, n.outputs, dtype=np.int64, endpoint=True)
            weight = np.zeros((n.outputs, n.inputs), dtype=np.int64)
            columns = self.rng.integers(0, n.inputs, n.outputs)
            weight[np.arange(n.outputs), columns] = powers * self.rng.choice((-1, 1), n.outputs)
            bias = powers * self.rng.integers(-1, 2, n.outputs)
            drawn.append(RawParameters(weight, bias, n.weight.fraction_bits))
        return drawn

    def _rounding_edges(self) -> Iterator[Entry]:
        """Choose samples whose sums are ties, next to ties, or just inside or outside a format, of each unit."""
        for turn, kind in enumerate(("realistic", "uniform")):
            data = draw_data(self.net, int(self.rng.integers(1 << 30)), kind, DRAWN)
            trace = Model(self.net, data.params).textbook(data.x, data.targets)
            chosen: list[Ints] = []
            for values, shift, form in self._before_rounding(data, trace):
                words = arithmetic.round_half_even(values, shift)
                for distance in (words - form.max_int, words - form.min_int):
                    chosen += [self._nearest(distance, side) for side in (distance > 0, distance <= 0)]
                if shift > 0:
                    distance = (values & ((1 << shift) - 1)) - (1 << (shift - 1))
                    useful = (words >= form.min_int) & (words <= form.max_int)
                    sides = (distance == 0, distance > 0, distance < 0)
                    chosen += [self._nearest(distance, side & useful) for side in sides]
            yield from self._selected(f"rounding edges, turn {turn}", data, np.unique(np.concatenate(chosen)))

    @staticmethod
    def _nearest(distance: Ints, allowed: Any) -> Ints:
        """Give the samples whose distances, of those that are allowed, are the smallest of a unit."""
        ranked = np.where(allowed, abs(distance), np.iinfo(np.int64).max)
        return np.asarray(np.argsort(ranked, axis=0)[:EDGE].ravel())

    def _before_rounding(self, data: Data, trace: Trace) -> Iterator[tuple[Ints, int, Q]]:
        """Give exact values (samples, units), the bits that rounding takes off, and what is left."""
        for stage, params in zip(self.plan.stages, data.params, strict=True):
            n, l = stage.numbers, stage.numbers.index
            sums = arithmetic.accumulate(n, params, trace.activations[l - 1])
            yield sums, n.accumulator_fraction - n.output.fraction_bits, n.output
            if n.activation == "leaky_relu":
                negative = np.minimum(sums, -1)
                yield negative, n.accumulator_fraction + n.leak_bits - n.output.fraction_bits, n.output
            if n.has_slope_product:
                product = arithmetic.slope(n, trace.activations[l]) * trace.sensitivities[l]
                yield product, n.slope.fraction_bits, n.sensitivity
            if n.has_sensitivity:
                back = trace.deltas[l] @ params.weight
                yield back, n.sensitivity_sum_fraction - n.input_sensitivity.fraction_bits, n.input_sensitivity

    def _selected(self, what: str, data: Data, samples: Ints) -> Iterator[Entry]:
        size = min(40, self.net.max_batch)
        for begin in range(0, len(samples), size):
            part = samples[begin : begin + size]
            chosen = Data(data.params, *(array[part] for array in data[1:]))
            yield from self._many(f"{what}, from sample {begin}", chosen, load=not begin)
