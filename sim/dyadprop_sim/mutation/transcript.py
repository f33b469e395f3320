"""Everything that a network's hardware can be seen doing, as a list of words, beside what the model says."""

import itertools
from collections.abc import Iterator

import numpy as np

from dyadprop.operations import SCALE_BITS, STAGE_BITS, Operation
from dyadprop.rates import FULL_SCALE
from dyadprop_hw.network import control_data_bits
from dyadprop_sim.mutation.conversation import Data, Entry, draw_data
from dyadprop_sim.mutation.rounding import Rounding
from dyadprop_sim.mutation.shaking import Shaking
from dyadprop_sim.mutation.stepping import Stepping
from dyadprop_sim.mutation.waiting import Waiting
from dyadprop_sim.random_networks import KINDS

STALLS = (0.0, 0.3, 0.7)
STEPS = ((0.0, 1), (0.3, 2), (0.7, 3), (0.0, 2), (0.0, 2), (0.0, 1))  # stalls, and samples between steps
# Batches of each kind, with and without softmax, whose quotients differ in rare carries.
BULK = {("realistic", False): 12, ("realistic", True): 40}
EXACT = 20  # steps of each kind from accumulators that are chosen to the last bit
SINGLE = 6  # batches with one weight a row
CLOSED = 12  # random times for which each stream is closed
# Commands that must not overtake a sample.
HELD = (
    Operation.WORD,
    Operation.CLEAR,
    Operation.READ_WEIGHT,
    Operation.READ_GRADIENT,
    Operation.WRITE_GRADIENT,
    Operation.RATE,
)


class Script(Waiting, Rounding, Stepping, Shaking):
    """Drive one network through all that it can do; made as any `Conversation` is."""

    def run(self) -> Iterator[Entry]:
        """Give one observation after the other."""
        yield self._status("after reset")
        yield from self._read_gradients("before any sample")
        # In an odd and in an even cycle: what changes in each must be seen.
        yield from self._counters("after reset")
        yield from self._counters("after reset, again")
        self.rtl.simulation.wait(1)
        yield from self._counters("after reset, a cycle later")
        for turn, kind in enumerate(KINDS):
            data = draw_data(self.net, self.seed * len(KINDS) + turn, kind, min(5, self.net.max_batch))
            yield from self._turn(turn, kind, data)
        yield from self._pipeline()

    def _turn(self, turn: int, kind: str, data: Data) -> Iterator[Entry]:
        first = turn == 0
        yield from self._load(data.params, interrupted=first)
        if first:
            yield from self._untold(data)
        yield from self._read_weights(kind)
        yield from self._predict(f"{kind}, forward only", data)
        for stalls in STALLS:
            what = f"{kind}, stalls {stalls}"
            self.rtl.stalls = stalls
            if self._summed + len(data.x) > self.net.max_batch:
                yield from self._clear(what)
            learns = np.ones(len(data.x), dtype=np.int64) if stalls == 0 else self.rng.integers(0, 2, len(data.x))
            seeded = self.rng.integers(0, 2, len(data.x))
            yield from self._rescale(FULL_SCALE if stalls == 0 else self._draw_scale())
            yield from self._gradients(what, data, learns, seeded)
            yield from self._read_gradients(what)
            yield from self._counters(what)
            yield from self._links(what)
            self.rtl.stalls = 0.0
        yield from self._rescale(FULL_SCALE)
        yield from self._clear(kind)
        yield from self._read_gradients(f"{kind}, cleared")
        self.rtl.stalls = 0.5
        yield from self._strangers(kind)
        self.rtl.stalls = 0.0
        yield from self._congested(kind)
        yield from self._stored_and_read()
        yield from self._partly(kind)
        yield from self._clear(kind)
        for stage in range(1, self.depth + 1):
            if kind in ("uniform", "realistic"):
                for operation in HELD:
                    yield from self._hold(operation, stage, data)
            else:
                yield from self._hold(Operation.WORD, stage, data, min(2, self.plan.stages[0].samples))
        for stalls, batch_size in STEPS:
            yield from self._train(f"{kind}, steps of {batch_size} under stalls {stalls}", kind, batch_size, stalls)
        yield from self._clear(f"{kind}, learnt")
        for part in range(EXACT):
            yield from self._step_exactly(f"{kind}, exact step {part}", data, turn * EXACT + part)
        yield from self._step_exactly(f"{kind}, step beyond all bits", data, turn, beyond=True)
        yield from self._bulk(kind)
        if kind == "ties":
            for part in range(SINGLE):
                data = draw_data(self.net, int(self.rng.integers(1 << 30)), "uniform", min(40, self.net.max_batch))
                yield from self._many(f"one weight a row, part {part}", data._replace(params=self._single_weights()))
        if kind == "realistic":
            yield from self._rounding_edges()
            yield from self._pauses(data)

    def _draw_scale(self) -> int:
        """Draw a seed's scale; powers of two often, as they leave ties."""
        if self.rng.random() < 0.5:
            return 1 << int(self.rng.integers(0, SCALE_BITS))
        return int(self.rng.integers(1, FULL_SCALE))

    def _bulk(self, kind: str) -> Iterator[Entry]:
        """Run many samples: rare carries, ties and limits are somewhere among them."""
        for part in range(BULK.get((kind, self.net.cost == "softmax_cross_entropy"), 4)):
            data = draw_data(self.net, int(self.rng.integers(1 << 30)), kind, min(40, self.net.max_batch))
            yield from self._rescale(FULL_SCALE if part % 4 < 2 else self._draw_scale())
            yield from self._many(f"{kind}, many, part {part}", data, load=bool(part % 2))
        yield from self._rescale(FULL_SCALE)

    def _partly(self, kind: str) -> Iterator[Entry]:
        """Store some words of a stage, to the middle of each row, and see that all others stay."""
        for stage in range(1, self.depth + 1):
            n = self.plan.stages[stage - 1].numbers
            for row in range(n.outputs):
                count = row * n.columns + int(self.rng.integers(1, n.columns, endpoint=True))
                what = f"{count} words stored, {kind}"
                for operation, held, bits in (
                    (Operation.WORD, self._params, n.weight.width),
                    (Operation.WRITE_GRADIENT, self._sums, n.gradient_bits),
                ):
                    words = self._words(held[stage - 1]).copy()
                    words[:count] = self.rng.integers(-(1 << bits - 1), 1 << bits - 1, count)
                    held[stage - 1] = self._table(stage, words)._replace(fraction_bits=held[stage - 1].fraction_bits)
                    begin = self.rtl.command(stage, Operation.BEGIN)
                    self.rtl.counters([begin, self.rtl.command(stage, operation, words[:count]), begin])
                yield from self._read_weights(what)
                yield from self._read_gradients(what)

    def _pipeline(self) -> Iterator[Entry]:
        """Fill the network with more samples than it holds, back to back, then with one slow stream after the other."""
        count = 4 + max(stage.samples for stage in self.plan.stages)
        data = draw_data(self.net, self.seed + 1000, "uniform", min(count, self.net.max_batch))
        self._params = list(data.params)
        self.rtl.load(data.params)
        ones = np.ones(len(data.x), dtype=np.int64)
        yield from self._gradients("pipeline", data, ones, 0 * ones)
        yield from self._read_gradients("pipeline")
        yield from self._clear("pipeline")
        slow: dict[str, dict[str, float]] = {
            "slow output": {"output": 0.97},
            "slow target": {"target": 0.97},
            "slow input": {"input": 0.9},
            "slow input sensitivity": {"input_sensitivity": 0.97},
        }
        for ends in self.rtl.ports.links:
            slow |= {f"slow {end}": {end: 0.97} for end in ends}
        outer = ["input", "target", "output"] + ["input_sensitivity"] * self.net.input_gradient
        few = Data(data.params, *(array[:6] for array in data[1:]))
        for name in itertools.chain(outer, *self.rtl.ports.links):
            yield from self._closed(f"{name} closed", name, data, ones)
            for still in self.rng.integers(1, self.plan.gradient_latency + 3 * self.plan.interval, CLOSED):
                what = f"{name} closed for {still} cycles"
                yield from self._closed(what, name, few, np.ones(len(few.x), dtype=np.int64), int(still))
        if self.net.input_gradient:
            # A pass that has waited for a place begins in each cycle of the way of another vector's deltas.
            for still in range(self.plan.gradient_latency, self.plan.gradient_latency + 2 * self.plan.interval):
                what = f"input_sensitivity closed for just {still} cycles"
                yield from self._closed(what, "input_sensitivity", few, np.ones(len(few.x), dtype=np.int64), still)
        for what, stalls in slow.items():
            traces = self._expect(data, ones, 0 * ones)
            inputs, targets = self._tokens(data, ones, 0 * ones)
            outputs = {"output": len(data.x) * self.net.outputs}
            if self.net.input_gradient:
                outputs["input_sensitivity"] = len(data.x) * self.net.inputs
            got = yield from self._run(what, {"input": inputs, "target": targets}, outputs, stalls)
            yield from self._compare(what, got, data, ones, traces)
            yield from self._read_gradients(what)
            yield from self._clear(what)
        yield from self._dropped(data)
        yield from self._pile_up(data)
        yield from self._half_arrived(data)
        self._params = list(data.params)
        self.rtl.load(data.params)
        yield from self._burst(data)
        yield from self._targets_alone(data)
        yield from self._fill(data)
        # Nothing is left over: one more batch gives just its own words.
        yield from self._predict("at the end", data)
        yield from self._shake(data)

    def _strangers(self, what: str) -> Iterator[Entry]:
        """Send what nobody knows: dropped by the cost head that it names, passed on where no stage has that number."""
        known = (Operation.COUNTERS, Operation.RATE)
        commands = [self.rtl.command(self.depth + 1, code, [-5]) for code in Operation if code not in known]
        bits = control_data_bits(self.plan)
        data = self.rng.integers(-(1 << bits - 1), 1 << bits - 1, 40, dtype=np.int64)
        numbers = [0, *range(self.depth + 2, 1 << STAGE_BITS)]
        passed = [self.rtl.command(stage, Operation(stage % 8), data[stage % 40 :][:1]) for stage in numbers]
        for stage in range(self.depth + 2):
            passed += [self._reply(stage, code, data[20 + stage : 24 + stage]) for code in Operation]
        yield from self._control(f"strangers, {what}", [*commands, *passed], passed)
