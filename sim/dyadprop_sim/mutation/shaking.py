"""The part of the script that changes words on links to any bits."""

import functools
from collections.abc import Iterator

import numpy as np

from dyadprop.formats import Ints, Q
from dyadprop.operations import Operation
from dyadprop.widths import PROBABILITY
from dyadprop_sim import arithmetic
from dyadprop_sim.mutation.conversation import Conversation, Data, Entry
from dyadprop_sim.rtl_network import pack, unpack
from dyadprop_sim.transactions import Words

STOPPED = 0.999  # rounds to a stall in each cycle
SHAKES = 12  # samples whose tokens are changed on the way


@functools.cache  # one search for all mutants
def _near_quotients(form: Q) -> Ints:
    """Give triples of logits that a softmax's divider hardly tells apart, for each bit of its quotients."""
    lower = -np.arange(12 << form.fraction_bits, dtype=np.int64)  # below that an exponential is nothing
    pairs = np.stack(np.meshgrid(lower, lower), axis=-1).reshape(-1, 2)
    logits = np.hstack([np.zeros((len(pairs), 1), dtype=np.int64), pairs])
    rest = arithmetic.exponentials(logits, form.fraction_bits)
    divisor = rest.sum(axis=1, keepdims=True)
    chosen: list[int] = []
    for _ in range(PROBABILITY.fraction_bits + 2):
        distance = rest - divisor
        # A bit of the divisor is told from its opposite only where it is small.
        for side in (distance >= 0, distance < 0, (distance >= 0) & (divisor & 3 < 2)):
            ranked = np.where(side, abs(distance), np.iinfo(np.int64).max).min(axis=1)
            chosen.append(int(np.argmin(ranked)))
        rest = 2 * np.where(distance >= 0, distance, rest)
    return logits[np.unique(chosen)]


class Shaking(Conversation):
    """Send what no network would send: all of it has an answer."""

    def _shake(self, data: Data) -> Iterator[Entry]:
        """Change the values that links hold to any bits: no network would send some of them, but all have an answer.

        Must come last: what the model expects of counters and sums is lost.
        """
        simulation = self.rtl.simulation
        down = [(2 * l - 1, *self._link_bits(l, "sensitivity")) for l in range(self.depth, 0, -1)]
        up = [(2 * l - 2, *self._link_bits(l, "activation")) for l in range(1, self.depth + 1)]
        divides = self.net.cost == "softmax_cross_entropy" and self.net.outputs == 3
        logits = _near_quotients(self.plan.stages[-1].numbers.output) if divides else ()
        for turn in range(max(SHAKES, len(logits)) if self.rtl.ports.links else 0):
            what = f"flipped, turn {turn}"
            inputs = pack(self.rtl.input_token, value=data.x[turn % len(data.x)], learn=1, update=0)
            targets = pack(self.rtl.target_token, value=data.targets[turn % len(data.x)], seed=0)
            held = {sink: STOPPED for _, sink in self.rtl.ports.links}
            yield from self._move(what, held, {"input": inputs, "target": targets[:0]})
            for link, sink, bits in up + down:
                if link == down[0][0]:
                    yield from self._move(what, held, {"target": targets}, {"output": self.net.outputs})
                yield from self._move(what, held)
                tokens = simulation.link_seen(link)
                yield Entry(f"tokens before {sink}, {what}", tokens, None)
                count = simulation.link_held(link)
                masks = self.rng.integers(1 << bits, size=count).astype(np.uint64)
                if link % 2 and turn % 2:
                    masks = self._at_slope_limits(link // 2, masks, tokens[len(tokens) - count :])
                if link == up[-1][0] and turn < len(logits):
                    token = self.rtl.link_tokens(self.depth)[0]
                    masks = pack(token, value=logits[turn] ^ unpack(token, "value", tokens[-count:]), learn=0, update=0)
                for position, mask in enumerate(masks):
                    simulation.link_flip(link, position, int(mask))
                del held[sink]
            yield from self._move(what, held)
            yield from self._links(what)
            for stage, entry in enumerate(self._sums, start=1):
                words = self._words(entry).size
                asked = {"control_in": self.rtl.command(stage, Operation.READ_GRADIENT)}
                got = yield from self._run(what, asked, {"control_out": words})
                yield Entry(f"gradients, stage {stage}, {what}", got["control_out"], None)
            if self.net.input_gradient:
                got = yield from self._run(what, {}, {"input_sensitivity": self.net.inputs})
                yield Entry(f"input sensitivities, {what}", got["input_sensitivity"], None)

    def _at_slope_limits(self, stage: int, masks: Words, tokens: Words) -> Words:
        """Turn a sensitivity's activation into one whose slope is limited, or only just not; no stage would send it."""
        n = self.plan.stages[stage].numbers
        if not n.has_slope_product:
            return masks
        x = np.arange(n.output.min_int, n.output.max_int + 1, dtype=np.int64)
        f = n.output.fraction_bits
        exact = (1 << 2 * f) - x * x if n.activation == "tanh" else (x << f) - x * x
        words = arithmetic.round_half_even(exact, 2 * f - n.slope.fraction_bits)
        nearest = x[np.argsort(abs(words - n.slope.min_int))[:12]]
        token = self.rtl.link_tokens(stage + 1)[1]
        value = unpack(token, "value", tokens ^ masks)
        return pack(token, value=value, activation=self.rng.choice(nearest, len(masks))) ^ tokens

    def _move(
        self,
        what: str,
        stalls: dict[str, float],
        inputs: dict[str, Words] | None = None,
        outputs: dict[str, int] | None = None,
    ) -> Iterator[Entry]:
        """Let some time pass for the links: as long as a few counters take to be read."""
        asked = np.concatenate([self.rtl.command(self.depth + 1, Operation.COUNTERS)] * 30)
        inputs, outputs = {"control_in": asked, **(inputs or {})}, {"control_out": asked.size, **(outputs or {})}
        yield from self._run(what, inputs, outputs, stalls)
