"""Everything that a network's hardware can be seen doing, as a list of words, beside what the model says."""

import functools
import itertools
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dyadprop.formats import Ints, Q
from dyadprop.network import Network, RawParameters
from dyadprop.operations import COUNTER_BITS, SCALE_BITS, STAGE_BITS, STAGE_COUNTERS, Operation
from dyadprop.plan import Plan
from dyadprop.rates import FULL_SCALE, MIN_SCALE
from dyadprop.tables import TABLE_ACTIVATIONS
from dyadprop.widths import PROBABILITY, StageNumbers
from dyadprop_hw.layouts import ControlKind
from dyadprop_hw.network import control_data_bits
from dyadprop_sim import arithmetic
from dyadprop_sim.golden import Model, Trace
from dyadprop_sim.random_networks import KINDS, draw_words
from dyadprop_sim.rtl_network import pack, unpack
from dyadprop_sim.transactions import Words
from dyadprop_sim.verilator import NetworkSimulation

STALLS = (0.0, 0.3, 0.7)
STEPS = ((0.0, 1), (0.3, 2), (0.7, 3), (0.0, 2), (0.0, 2), (0.0, 1))  # stalls, and samples between steps
STOPPED = 0.999  # rounds to a stall in each cycle
# Batches of each kind, with and without softmax, whose quotients differ in rare carries.
BULK = {("realistic", False): 12, ("realistic", True): 40}
EXACT = 20  # steps of each kind from accumulators that are chosen to the last bit
UNTOLD = 6  # more steps before any rate
SINGLE = 6  # batches with one weight a row
DRAWN = 20_000  # samples to choose rare ones from
EDGE = 5  # samples on, above and below each unit's rounding edge
CLOSED = 12  # random times for which each stream is closed
SHAKES = 12  # samples whose tokens are changed on the way
TARGETS = 30  # vectors of targets whose pace is watched
PAUSES = 12  # batches under stalls, with one that is timed behind each
# Commands that must not overtake a sample.
HELD = (
    Operation.WORD,
    Operation.CLEAR,
    Operation.READ_WEIGHT,
    Operation.READ_GRADIENT,
    Operation.WRITE_GRADIENT,
    Operation.RATE,
)
COUNTED = ("activation", "sensitivity", "weight")  # order of a stage's counters


class Entry(NamedTuple):
    """One observation.

    Attributes
    ----------
    what : str
        "gradients of stage 2, third batch".
    got : uint64 array
    expected : uint64 array or None
        What the golden model says; None for cycles and states, on which it has no say.
    """

    what: str
    got: Words
    expected: Words | None


class Data(NamedTuple):
    """Parameters and one batch, as words."""

    params: list[RawParameters]
    x: Ints
    targets: Ints
    seeds: Ints


def draw_data(net: Network, seed: int, kind: str, batch: int) -> Data:
    """Draw parameters and a batch for a network; ``kind`` is one of `random_networks.KINDS`."""
    rng = np.random.default_rng([seed, batch])
    case = draw_words(rng, net, kind, batch)
    form = net.layer_formats(len(net.layers)).sensitivity
    seeds = rng.integers(form.min_int, form.max_int, case.targets.shape, dtype=np.int64, endpoint=True)
    return Data(case.params, case.x, case.targets, seeds)


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


class Script:
    """Drive one network through all that it can do.

    Parameters
    ----------
    rtl : NetworkSimulation
        Fresh from reset.
    seed : int
        Of the data.
    first_count : int
        What the counters hold after reset.
    """

    def __init__(self, rtl: NetworkSimulation, seed: int, first_count: int = 0) -> None:
        self.rtl = rtl
        rtl.stalls = 0.0
        self.net = rtl.net
        self.plan: Plan = rtl.plan
        self.depth = len(self.plan.stages)
        self.seed = seed
        self.rng = np.random.default_rng([seed, 77])
        # Tables never saturate, and a stage without a sensitivity pass has none to count: no counter is there.
        exist = [
            found
            for stage in self.plan.stages
            for found in (stage.numbers.activation not in TABLE_ACTIVATIONS, stage.numbers.has_sensitivity, True)
        ]
        self._counts = np.array([*exist, True], dtype=np.int64) * first_count
        self._sums: list[RawParameters] = self._zeros()
        self._summed = 0
        self._params: list[RawParameters] = []
        self._scale = FULL_SCALE

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

    # -- what is done with one set of parameters ----------------------------------------------------------------------

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

    def _rescale(self, scale: int) -> Iterator[Entry]:
        self._scale = scale
        yield from self._control(
            f"scale {scale}",
            [
                self.rtl.command(self.depth + 1, Operation.RATE, [scale]),
                self.rtl.command(self.depth + 1, Operation.COUNTERS),
            ],
            [self._reply(self.depth + 1, Operation.COUNTERS, self._modulo(self._counts[-1:]))],
        )

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

    def _many(self, what: str, data: Data, *, load: bool = True) -> Iterator[Entry]:
        ones = np.ones(len(data.x), dtype=np.int64)
        if load:
            self._params = list(data.params)
            self.rtl.load(data.params)
        yield from self._gradients(what, data, ones, 0 * ones)
        yield from self._read_gradients(what)
        yield from self._counters(what)
        yield from self._links(what)
        yield from self._clear(what)

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

    def _pauses(self, data: Data) -> Iterator[Entry]:
        """Time a batch behind one that stalled: nothing of a stall may be left."""
        ones = np.ones(len(data.x), dtype=np.int64)
        for turn in range(PAUSES):
            for stalls in (0.5, 0.0):
                what = f"pause {turn}, stalls {stalls}"
                self.rtl.stalls = stalls
                yield from self._gradients(what, data, ones, 0 * ones)
                yield from self._read_gradients(what)
                yield from self._clear(what)
        yield from self._links("pauses")

    def _load(self, params: list[RawParameters], *, interrupted: bool) -> Iterator[Entry]:
        """Load; once after a load that was broken off in the middle, so that the beginning must be found again."""
        if interrupted:
            junk = [
                word
                for stage in range(1, self.depth + 1)
                for word in (
                    self.rtl.command(stage, Operation.WORD, [1]),
                    self.rtl.command(stage, Operation.WORD, [-2]),
                )
            ]
            self.rtl.counters(junk)
        self._params = list(params)
        self.rtl.load(params)
        yield self._status("loaded")

    def _predict(self, what: str, data: Data) -> Iterator[Entry]:
        trace = Model(self.net, data.params).predict(data.x)
        got = yield from self._run(
            what,
            {"input": pack(self.rtl.input_token, value=data.x.ravel(), learn=0, update=0)},
            {"output": trace.outputs.size},
        )
        yield Entry(
            f"outputs, {what}",
            got["output"],
            pack(self.rtl.output_token, value=trace.outputs.ravel(), learn=0, update=0),
        )
        self._count(trace)
        yield from self._counters(what)

    def _gradients(self, what: str, data: Data, learns: Ints, seeded: Ints) -> Iterator[Entry]:
        """Run a batch in which some samples are learnt from and some of those have a seed instead of a target."""
        traces = self._expect(data, learns, seeded)
        inputs, targets = self._tokens(data, learns, seeded)
        taught = int(learns.sum())
        outputs = {"output": len(data.x) * self.net.outputs}
        if self.net.input_gradient:
            outputs["input_sensitivity"] = taught * self.net.inputs
        got = yield from self._run(what, {"input": inputs, "target": targets}, outputs)
        yield from self._compare(what, got, data, learns, traces)

    def _hold(self, operation: Operation, stage: int, data: Data, count: int = 1) -> Iterator[Entry]:
        """Let samples wait for their targets; a command that touches what they need must wait with them."""
        what = f"{operation.name} for stage {stage} behind held samples, {count}"
        shifts = [int(self.rng.integers(0, s.numbers.largest_step_shift(1) + 1)) for s in self.plan.stages]
        part = Data(data.params, *(array[:count] for array in data[1:]))
        ones = np.ones(count, dtype=np.int64)
        before = self._counts.copy()
        update = operation is Operation.RATE
        if update:
            self.rtl.counters(self._rates(shifts))
        traces = self._expect(part, ones, 0 * ones)
        if update:
            self._step(shifts)
        inputs = pack(self.rtl.input_token, value=part.x.ravel(), learn=1, update=int(update))
        targets = pack(self.rtl.target_token, value=part.targets.ravel(), seed=0)
        # The head gives no output of the next sample before it has the first one's targets.
        first = yield from self._run(what, {"input": inputs}, {"output": self.net.outputs})
        self.rtl.simulation.wait(40 + (count - 1) * self.plan.output_latency)
        yield self._status(what)
        after, self._counts = self._counts, before
        activations = slice(0, STAGE_COUNTERS * self.depth, STAGE_COUNTERS)
        self._counts[activations] = after[activations]
        yield from self._counters(what)
        self._counts = after

        # The command reaches its stage long before the targets reach the head.
        words = [self.rtl.command(stage, Operation.BEGIN)] if operation is not Operation.CLEAR else []
        value = {Operation.WORD: 1, Operation.WRITE_GRADIENT: -3}.get(operation, 0)
        words.append(self.rtl.command(stage, operation, [value]))
        words.append(self.rtl.command(stage, Operation.BEGIN))
        words.append(self.rtl.command(self.depth + 1, Operation.COUNTERS))
        answer = []
        if operation is Operation.READ_WEIGHT:
            answer.append(self._reply(stage, operation, self._words(self._params[stage - 1])))
        elif operation is Operation.READ_GRADIENT:
            answer.append(self._reply(stage, operation, self._words(self._sums[stage - 1])))
        answer.append(self._reply(self.depth + 1, Operation.COUNTERS, self._modulo(self._counts[-1:])))
        outputs = {"control_out": sum(words.size for words in answer), "output": (count - 1) * self.net.outputs}
        if self.net.input_gradient:
            outputs["input_sensitivity"] = count * self.net.inputs
        more = yield from self._run(
            what, {"control_in": np.concatenate(words), "target": targets}, outputs, {"target": 0.97}
        )
        more["output"] = np.concatenate([first["output"], more["output"]])
        yield from self._compare(what, more, part, ones, traces, int(update))
        yield Entry(f"answers, {what}", more["control_out"], np.concatenate(answer))
        if operation is Operation.WORD:
            self._params[stage - 1] = _with_first(self._params[stage - 1], 1)
        elif operation is Operation.WRITE_GRADIENT:
            self._sums[stage - 1] = _with_first(self._sums[stage - 1], -3)
        elif operation is Operation.CLEAR:
            self._sums[stage - 1] = self._zeros()[stage - 1]
        yield from self._read_weights(what)
        yield from self._read_gradients(what)
        yield from self._clear(what)

    def _dropped(self, data: Data) -> Iterator[Entry]:
        """Let a sample that is not learnt from leave the memories in each cycle of another one's way down."""
        learns = np.array((1, 0, 1), dtype=np.int64)
        part = Data(data.params, *(array[: len(learns)] for array in data[1:]))
        inputs, targets = self._tokens(part, learns, 0 * learns)
        ends = self.net.inputs, self.net.outputs
        for delay in range(self.plan.gradient_latency):
            what = f"a sample is dropped {delay} cycles behind a target"
            if self._summed + 2 > self.net.max_batch:
                yield from self._clear(what)
            traces = self._expect(part, learns, 0 * learns)
            first = yield from self._run(what, {"input": inputs[: ends[0]]}, {"output": ends[1]})
            yield from self._run(what, {"target": targets[: ends[1]]}, {})
            self.rtl.simulation.wait(delay)
            outputs = {"output": 2 * ends[1]}
            if self.net.input_gradient:
                outputs["input_sensitivity"] = 2 * ends[0]
            got = yield from self._run(what, {"input": inputs[ends[0] :], "target": targets[ends[1] :]}, outputs)
            got["output"] = np.concatenate([first["output"], got["output"]])
            yield from self._compare(what, got, part, learns, traces)
            yield from self._read_gradients(what)
            yield from self._counters(what)
        yield from self._links("samples were dropped")
        yield from self._clear("samples were dropped")

    def _pile_up(self, data: Data) -> Iterator[Entry]:
        """Hold sensitivities back before one stage after the other, then let them come as fast as they can."""
        for l in range(1, self.depth + 1 if self.rtl.ports.links else 1):
            count = min(len(data.x), *(stage.samples for stage in self.plan.stages[:l]))
            part = Data(data.params, *(array[:count] for array in data[1:]))
            for last in (3, 4, 6):
                # Those in the middle leave the memory one by one, and the last ones' deltas wait for that.
                learns = np.ones(count, dtype=np.int64)
                learns[1:-last] = 0
                what = f"sensitivities of {last} samples pile up before stage {l}"
                yield from self._closed(what, self._link_bits(l, "sensitivity")[0], part, learns)

    def _closed(self, what: str, end: str, data: Data, learns: Ints, still: int | None = None) -> Iterator[Entry]:
        """Run a batch while a stream is closed, if nothing else is said until all stands still; then it is open."""
        traces = self._expect(data, learns, 0 * learns)
        inputs, targets = self._tokens(data, learns, 0 * learns)
        outputs = {"output": len(data.x) * self.net.outputs}
        if self.net.input_gradient:
            outputs["input_sensitivity"] = int(learns.sum()) * self.net.inputs
        if still is None:
            still = self.plan.gradient_latency + (2 + len(data.x)) * self.plan.interval
        got = yield from self._run(what, {"input": inputs, "target": targets}, outputs, {end: still})
        yield from self._compare(what, got, data, learns, traces)
        yield from self._read_gradients(what)
        yield from self._counters(what)
        yield from self._clear(what)

    def _half_arrived(self, data: Data) -> Iterator[Entry]:
        """Send a weight to a stage of which a sample has arrived in part: it must wait for the sample's end."""
        for stage in self.plan.stages if self.rtl.ports.links else self.plan.stages[:1]:
            l, inputs = stage.numbers.index, stage.numbers.inputs
            token = self.rtl.input_token if l == 1 else self.rtl.link_tokens(l - 1)[0]
            for count in sorted({1, inputs - 1} - {0, inputs}):
                what = f"{count} of {inputs} words of a sample in stage {l}"
                trace = Model(self.net, self._params).predict(data.x[:1])
                words = pack(token, value=trace.activations[l - 1][0], learn=0, update=0)
                feed = {} if l > 1 else {"input": words[:count]}
                rest = {} if l > 1 else {"input": words[count:]}
                if l > 1:
                    self.rtl.simulation.link_push(2 * l - 4, words[:count])
                yield from self._run(what, feed, {})
                self.rtl.simulation.wait(30)
                if l > 1:
                    self.rtl.simulation.link_push(2 * l - 4, words[count:])
                begin = self.rtl.command(l, Operation.BEGIN)
                asked = self.rtl.command(self.depth + 1, Operation.COUNTERS)
                commands = [begin, self.rtl.command(l, Operation.WORD, [count]), begin, asked]
                got = yield from self._run(
                    what,
                    {"control_in": np.concatenate(commands), **rest},
                    {"output": self.net.outputs, "control_out": 1},
                    {"input" if l == 1 else self._link_bits(l - 1, "activation")[0]: 60},
                )
                expected = pack(self.rtl.output_token, value=trace.outputs[0], learn=0, update=0)
                yield Entry(f"outputs, {what}", got["output"], expected)
                for k in [k for k in trace.saturations if k[0] < l]:
                    del trace.saturations[k]  # the stages below have not seen this sample
                self._count(trace)
                self._params[l - 1] = _with_first(self._params[l - 1], count)
                yield from self._read_weights(what)
                yield from self._counters(what)

    def _burst(self, data: Data) -> Iterator[Entry]:
        """Fill the sample memories, let targets wait, then let sensitivities pile up before each stage."""
        capacity = min(stage.samples for stage in self.plan.stages)
        for pattern in ((1, 0, 1, 1, 0, 0, 1), (1, 1, 1, 1, 1, 1, 1), (0, 1, 0, 1, 1, 1, 0)):
            what = f"burst of {pattern}"
            count = min(len(data.x), capacity, len(pattern))
            part = Data(data.params, *(array[:count] for array in data[1:]))
            learns = np.array(pattern[:count], dtype=np.int64)
            seeded = np.zeros(count, dtype=np.int64)
            traces = self._expect(part, learns, seeded)
            inputs, targets = self._tokens(part, learns, seeded)
            # One vector of outputs is sure to come without a target.
            first = yield from self._run(what, {"input": inputs}, {"output": self.net.outputs})
            self.rtl.simulation.wait(60)
            yield self._status(what)
            rest = {"output": (count - 1) * self.net.outputs}
            slow = {f"sensitivity_{l}_in": 0.99 for l in range(1, self.depth + 1)} if self.rtl.ports.links else {}
            got = yield from self._run(what, {"target": targets}, rest, slow)
            yield from self._take_sensitivities(what, got, learns)
            got["output"] = np.concatenate([first["output"], got["output"]])
            yield from self._compare(what, got, part, learns, traces)
            yield from self._read_gradients(what)
            yield from self._counters(what)
            yield from self._links(what)
        yield from self._clear("bursts")

    def _targets_alone(self, data: Data) -> Iterator[Entry]:
        """Send targets for outputs that wait, while seeds leave under stalls: nothing else says when one is taken."""
        count = min(len(data.x), *(stage.samples for stage in self.plan.stages))
        part = Data(data.params, *(array[:count] for array in data[1:]))
        ones = np.ones(count, dtype=np.int64)
        inputs, targets = self._tokens(part, ones, 0 * ones)
        stalls = {"target": 0.5}
        if self.rtl.ports.links:
            stalls[f"sensitivity_{self.depth}_out"] = 0.5
        for turn in range(TARGETS):
            what = f"targets alone, turn {turn}"
            traces = self._expect(part, ones, 0 * ones)
            first = yield from self._run(what, {"input": inputs}, {"output": self.net.outputs})
            self.rtl.simulation.wait(60)
            rest = {"output": (count - 1) * self.net.outputs}
            got = yield from self._run(what, {"target": targets}, rest, stalls, turn)
            yield from self._take_sensitivities(what, got, ones)
            got["output"] = np.concatenate([first["output"], got["output"]])
            yield from self._compare(what, got, part, ones, traces)
            yield from self._read_gradients(what)
            yield from self._clear(what)

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

    def _link_bits(self, l: int, signal: str) -> tuple[str, int]:
        activation, sensitivity = self.rtl.link_tokens(l)
        # The flags of an activation stay: a sample that changes its mind has no answer.
        bits = activation["value"].width if signal == "activation" else sensitivity.size
        return f"{signal}_{l}_in", bits

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

    def _fill(self, data: Data) -> Iterator[Entry]:
        """Close each link and the output, and see how many samples and vectors each stage holds."""
        ones = np.ones(len(data.x), dtype=np.int64)
        for closed in range(0, self.depth + 1) if self.rtl.ports.links else (0,):
            what = f"filled behind link {closed}"
            if closed:
                self.rtl.simulation.link_capacity(2 * (closed - 1), 1)
            # Learnt samples stay in the first stage's memory, and no sensitivity comes back yet.
            count = min(len(data.x), self.plan.stages[0].samples)
            part = Data(data.params, *(array[:count] for array in data[1:]))
            learns = ones[:count]
            traces = self._expect(part, learns, 0 * learns)
            inputs, targets = self._tokens(part, learns, 0 * learns)
            yield from self._run(what, {"input": inputs}, {})
            self.rtl.simulation.wait(400)
            yield self._status(what)
            if closed:
                self.rtl.simulation.link_capacity(2 * (closed - 1), 0)
            outputs = {"output": count * self.net.outputs}
            if self.net.input_gradient:
                outputs["input_sensitivity"] = count * self.net.inputs
            got = yield from self._run(what, {"target": targets}, outputs)
            yield from self._compare(what, got, part, learns, traces)
            yield from self._read_gradients(what)
            yield from self._clear(what)

    def _stored_and_read(self) -> Iterator[Entry]:
        """Read gradients right behind the word that was stored last."""
        self._sums = self._draw_residuals([6] * self.depth)
        self.rtl.load(self._sums, Operation.WRITE_GRADIENT)
        for stage in range(1, self.depth + 1):
            begin = self.rtl.command(stage, Operation.BEGIN)
            read = self.rtl.command(stage, Operation.READ_GRADIENT)
            value = int(self.rng.integers(-100, 100))
            self._sums[stage - 1] = _with_first(self._sums[stage - 1], value)
            words = self._words(self._sums[stage - 1])
            stored = self.rtl.command(stage, Operation.WRITE_GRADIENT, [value])
            expected = [self._reply(stage, Operation.READ_GRADIENT, words)]
            yield from self._control(f"gradients, stage {stage}, just stored", [begin, stored, begin, read], expected)
            # All of them, and behind the last one the first is read.
            stored = self.rtl.command(stage, Operation.WRITE_GRADIENT, words[::-1])
            self._sums[stage - 1] = self._table(stage, words[::-1])
            expected = [self._reply(stage, Operation.READ_GRADIENT, words[::-1])]
            yield from self._control(f"gradients, stage {stage}, all stored", [begin, stored, read], expected)

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

    def _train(self, what: str, kind: str, batch_size: int, stalls: float) -> Iterator[Entry]:
        """Step after each few samples, from any residuals and with any rate; some samples are not learnt from."""
        numbers = [stage.numbers for stage in self.plan.stages]
        scale = int(self.rng.integers(MIN_SCALE, FULL_SCALE + 1))
        # As small, as large, and as different shifts as the stages can take: a network's own rate gives some of them.
        shifts = [int(self.rng.integers(0, n.largest_step_shift(batch_size) + 1)) for n in numbers]
        if batch_size == 2:
            shifts = [n.largest_step_shift(batch_size) for n in numbers]
        elif self.rng.random() < 0.3:
            shifts = [int(self.rng.integers(0, 3)) for n in numbers]
        data = draw_data(self.net, int(self.rng.integers(1 << 30)), kind, 3 * batch_size)
        if self.rng.random() < 0.7:
            data.x[:batch_size] = 0  # then the first step takes what was stored, ties too
        self._sums, self._summed = self._draw_residuals(shifts), 0
        self.rtl.load(self._sums, Operation.WRITE_GRADIENT)
        yield from self._read_gradients(f"{what}, stored")
        commands = self._rates(shifts)
        commands.append(self.rtl.command(self.depth + 1, Operation.RATE, [scale]))
        self.rtl.counters(commands)

        inputs, outputs, sensitivities = [], [], []
        for begin in range(0, len(data.x), batch_size):
            part = slice(begin, begin + batch_size)
            model = Model(self.net, self._params)
            bystander = model.predict(data.x[:1])
            trace = model.scaled(scale).textbook(data.x[part], data.targets[part])
            self._add(trace.gradients)
            self._step(shifts)
            last = np.arange(batch_size) == batch_size - 1
            for x, known, learn, update in (
                (data.x[:1], bystander, 0, np.zeros(1, dtype=np.int64)),
                (data.x[part], trace, 1, last.astype(np.int64)),
            ):
                flags = {"learn": learn, "update": np.repeat(update, self.net.inputs)}
                inputs.append(pack(self.rtl.input_token, value=x.ravel(), **flags))
                flags["update"] = np.repeat(update, self.net.outputs)
                outputs.append(pack(self.rtl.output_token, value=known.outputs.ravel(), **flags))
                self._count(known)
            if self.net.input_gradient:
                back = trace.sensitivities[0].ravel()
                token = self.rtl.input_sensitivity_token
                sensitivities.append(pack(token, value=back, activation=data.x[part].ravel()))

        expected = {"output": np.concatenate(outputs)}
        if self.net.input_gradient:
            expected["input_sensitivity"] = np.concatenate(sensitivities)
        self.rtl.stalls = stalls
        targets = pack(self.rtl.target_token, value=data.targets.ravel(), seed=0)
        sizes = {stream: words.size for stream, words in expected.items()}
        got = yield from self._run(what, {"input": np.concatenate(inputs), "target": targets}, sizes)
        for stream, words in expected.items():
            yield Entry(f"{stream}, {what}", got[stream], words)
        yield from self._read_weights(what)
        yield from self._read_gradients(what)
        yield from self._counters(what)
        yield from self._links(what)
        self.rtl.stalls = 0.0
        self.rtl.counters([self.rtl.command(self.depth + 1, Operation.RATE, [FULL_SCALE])])

    def _untold(self, data: Data) -> Iterator[Entry]:
        """Learn and step before any rate has been set: full seeds, and whole gradients; large ones, and those that fit.

        With every second seed gradients are stored before: then the first sample does not start from zero, and rows
        that do not exist hold anything.
        """
        if self.seed % 2:
            self._sums = self._draw_residuals([6] * self.depth)
            self.rtl.load(self._sums, Operation.WRITE_GRADIENT)
        more = [draw_data(self.net, 100 * self.seed + part, "uniform", 1) for part in range(UNTOLD)]
        for drawn in (data, *more):
            self._params = list(drawn.params)
            self.rtl.load(drawn.params)
            part = Data(drawn.params, drawn.x[:1], drawn.targets[:1], drawn.seeds[:1])
            yield from self._learn_and_step("before any rate", part, np.zeros(1, dtype=np.int64), [0] * self.depth)
        self._params = list(data.params)
        self.rtl.load(data.params)

    def _step_exactly(self, what: str, data: Data, turn: int, *, beyond: bool = False) -> Iterator[Entry]:
        """Step by what was stored and nothing else: the sample between has a seed of zero.

        A shift beyond all bits leaves weights and accumulators as they are.
        """
        self._params = list(data.params)
        self.rtl.load(data.params)
        shifts, self._sums, self._summed = [], [], 0
        for stage in self.plan.stages:
            n = stage.numbers
            largest = n.largest_step_shift(1)
            # Next to ties every second time the largest shift, which has a bit of each kind; else small ones too.
            shift = max(0, largest - (turn // 2 % 2) * int(self.rng.integers(1, 4)))
            if turn % 2:
                shift = int(self.rng.integers(0, (3, largest)[turn // 2 % 2], endpoint=True))
            if beyond:
                shift = (1 << (n.gradient_bits - 1).bit_length()) - 1
            self._sums.append(self._table(n.index, self._draw_exact(n, shift, turn)))
            shifts.append(shift)
        self.rtl.load(self._sums, Operation.WRITE_GRADIENT)
        self.rtl.counters(self._rates(shifts))
        part = Data(data.params, data.x[:1], data.targets[:1], 0 * data.seeds[:1])
        yield from self._learn_and_step(what, part, np.ones(1, dtype=np.int64), shifts)
        yield from self._clear(what)

    def _learn_and_step(self, what: str, part: Data, seeded: Ints, shifts: list[int]) -> Iterator[Entry]:
        one = np.ones(1, dtype=np.int64)
        traces = self._expect(part, one, seeded)
        self._step(shifts)
        inputs = pack(self.rtl.input_token, value=part.x.ravel(), learn=1, update=1)
        outputs = {"output": self.net.outputs}
        if self.net.input_gradient:
            outputs["input_sensitivity"] = self.net.inputs
        got = yield from self._run(what, {"input": inputs, "target": self._tokens(part, one, seeded)[1]}, outputs)
        yield from self._compare(what, got, part, one, traces, update=1)
        yield from self._read_weights(what)
        yield from self._read_gradients(what)
        yield from self._counters(what)

    def _draw_exact(self, n: StageNumbers, shift: int, turn: int) -> Ints:
        """Draw accumulators a bit above a tie, in odd turns single bits; the turns go through all bits."""
        count = n.outputs * n.columns
        room = (1 << (n.gradient_bits - 1)) - 1
        position = turn // 4 + 10 * (np.arange(count, dtype=np.int64) % n.columns)
        if turn % 2:
            low = self.rng.integers(0, 3, count, dtype=np.int64) << shift
            drawn = self.rng.choice((-1, 1), count) * ((1 << position % (n.gradient_bits - 1)) + low)
        else:
            half = (1 << shift) >> 1
            far = 1 << position % (shift - 1) if shift > 1 else 0
            steps = min(2, room >> shift + 1)
            drawn = (2 * self.rng.integers(-steps, steps, count, endpoint=True) << shift) + half + far
        return np.asarray(np.clip(drawn, -room, room), dtype=np.int64)

    def _rates(self, shifts: list[int]) -> list[Words]:
        return [self.rtl.command(stage, Operation.RATE, [shift]) for stage, shift in enumerate(shifts, start=1)]

    def _add(self, gradients: Sequence[RawParameters]) -> None:
        self._sums = [
            RawParameters(a.weight + b.weight, a.bias + b.bias, a.fraction_bits)
            for a, b in zip(self._sums, gradients, strict=True)
        ]

    def _step(self, shifts: list[int]) -> None:
        """Step by what the accumulators hold, each stage with its own shift."""
        for k, (stage, shift) in enumerate(zip(self.plan.stages, shifts, strict=True)):
            params, sums, form = self._params[k], self._sums[k], stage.numbers.weight
            weight = arithmetic.step(params.weight, sums.weight, shift, form)
            bias = arithmetic.step(params.bias, sums.bias, shift, form)
            self._params[k] = RawParameters(weight.words, bias.words, params.fraction_bits)
            self._sums[k] = RawParameters(weight.residual, bias.residual, sums.fraction_bits)
            limited = np.count_nonzero(weight.saturated) + np.count_nonzero(bias.saturated)
            self._counts[STAGE_COUNTERS * k + 2] += limited

    def _draw_residuals(self, shifts: list[int]) -> list[RawParameters]:
        """Draw what accumulators may hold: what a step leaves, ties, or anything that has room for a few samples."""
        drawn = []
        kind = int(self.rng.choice((0, 1, 1, 2)))
        for stage, zero, shift in zip(self.plan.stages, self._zeros(), shifts, strict=True):
            n = stage.numbers
            room = (1 << (n.gradient_bits - 1)) - 1 - (3 << (n.sensitivity.width + n.input.width - 2))
            limit = min(room, (1 << shift) // 2) if kind == 0 else room

            def draw(shape: tuple[int, ...], limit: int = limit, shift: int = shift, room: int = room) -> Ints:
                values = self.rng.integers(-limit, limit, shape, dtype=np.int64, endpoint=True)
                if kind == 1 and shift:
                    # Ties, and half of them with one more bit far below.
                    values = np.sign(values) * (((np.abs(values) >> shift) << shift) - (1 << (shift - 1)))
                    far = self.rng.integers(0, shift, shape, dtype=np.int64)
                    values = np.clip(values + (self.rng.integers(0, 2, shape, dtype=np.int64) << far), -room, room)
                return values

            drawn.append(RawParameters(draw(zero.weight.shape), draw(zero.bias.shape), zero.fraction_bits))
        return drawn

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

    # -- tokens, expectations, comparisons ----------------------------------------------------------------------------

    def _tokens(self, data: Data, learns: Ints, seeded: Ints) -> tuple[Words, Words]:
        inputs = pack(self.rtl.input_token, value=data.x.ravel(), learn=np.repeat(learns, self.net.inputs), update=0)
        rows = [k for k in range(len(data.x)) if learns[k]]
        words = [
            pack(self.rtl.target_token, value=(data.seeds if seeded[k] else data.targets)[k], seed=int(seeded[k]))
            for k in rows
        ]
        return inputs, np.concatenate([*words, np.zeros(0, dtype=np.uint64)])

    def _expect(self, data: Data, learns: Ints, seeded: Ints) -> list[Trace]:
        """Run the model sample by sample; add to the sums and counts that the hardware keeps."""
        model = Model(self.net, self._params).scaled(self._scale)
        traces = []
        for k in range(len(data.x)):
            x = data.x[k : k + 1]
            if learns[k]:
                given = (data.seeds if seeded[k] else data.targets)[k : k + 1]
                trace = model.textbook(x, given, seeds=bool(seeded[k]))
                self._add(trace.gradients)
                self._summed += 1
            else:
                trace = model.predict(x)
            self._count(trace)
            traces.append(trace)
        return traces

    def _compare(
        self,
        what: str,
        got: dict[str, Words],
        data: Data,
        learns: Ints,
        traces: Sequence[Trace],
        update: int = 0,
    ) -> Iterator[Entry]:
        outputs = np.concatenate([trace.outputs.ravel() for trace in traces])
        expected = pack(self.rtl.output_token, value=outputs, learn=np.repeat(learns, self.net.outputs), update=update)
        yield Entry(f"outputs, {what}", got["output"], expected)
        if self.net.input_gradient:
            taught = [k for k in range(len(data.x)) if learns[k]]
            words = [
                pack(self.rtl.input_sensitivity_token, value=traces[k].sensitivities[0].ravel(), activation=data.x[k])
                for k in taught
            ]
            expected = np.concatenate([*words, np.zeros(0, dtype=np.uint64)])
            yield Entry(f"input sensitivities, {what}", got["input_sensitivity"], expected)

    @staticmethod
    def _modulo(counts: Ints) -> Ints:
        return counts % (1 << COUNTER_BITS)

    def _count(self, trace: Trace) -> None:
        for (l, signal), count in trace.saturations.items():
            if signal == "sensitivity" and l == self.depth:
                self._counts[-1] += count
            else:
                # Stage l counts x_l and its own weights, stage l + 1 the sensitivities of layer l.
                stage = l if signal == "sensitivity" else l - 1
                self._counts[STAGE_COUNTERS * stage + COUNTED.index(signal)] += count

    def _reply(self, stage: int, operation: int, values: Any) -> Words:
        kind: Any = ControlKind.REPLY  # an Amaranth enum, which type checkers take for an int
        return pack(self.rtl.control_token, kind=kind.value, stage=stage, operation=operation, data=values)

    def _run(
        self,
        what: str,
        inputs: Mapping[str, Words],
        outputs: Mapping[str, int],
        stalls: Mapping[str, float] | None = None,
        turn: int = 0,
    ) -> Generator[Entry, None, dict[str, Words]]:
        """Run one transaction and return its words; each one's cycle is an observation, under a turn's stalls too."""
        cycles: dict[str, Words] = {}
        start = np.uint64(self.rtl.simulation.cycle)
        if stalls is None:
            got = self.rtl.run(dict(inputs), dict(outputs), cycles=cycles)
        else:
            got = self.rtl.simulation.run(
                inputs,
                outputs,
                stalls=stalls,
                seed=self.seed + 1000 * turn,
                patience=40 * self.rtl.patience,
                cycles=cycles,
            )
        for stream in outputs:
            yield Entry(f"cycles of {stream}, {what}", cycles[stream] - start, None)
        yield self._status(what)
        return got

    def _take_sensitivities(self, what: str, got: dict[str, Words], learns: Ints) -> Iterator[Entry]:
        """Take what waits at the network's end, and put it to the other words that came."""
        if self.net.input_gradient:
            outputs = {"input_sensitivity": int(learns.sum()) * self.net.inputs}
            more = yield from self._run(f"{what}, taken", {}, outputs)
            got["input_sensitivity"] = more["input_sensitivity"]

    def _control(self, what: str, commands: list[Words], expected: list[Words]) -> Iterator[Entry]:
        answer = np.concatenate(expected)
        got = yield from self._run(what, {"control_in": np.concatenate(commands)}, {"control_out": len(answer)})
        yield Entry(what, got["control_out"], answer)

    def _read(self, what: str, operation: Operation, params: list[RawParameters]) -> Iterator[Entry]:
        stages = range(1, self.depth + 1)
        # Whoever is asked first has just finished; with another seed that is another stage.
        for stage in stages if self.seed % 2 else reversed(stages):
            words = self._words(params[stage - 1])
            command = self.rtl.command(stage, operation)
            yield from self._control(f"{what}, stage {stage}", [command], [self._reply(stage, operation, words)])

    def _read_weights(self, what: str) -> Iterator[Entry]:
        yield from self._read(f"weights, {what}", Operation.READ_WEIGHT, self._params)

    def _read_gradients(self, what: str) -> Iterator[Entry]:
        yield from self._read(f"gradients, {what}", Operation.READ_GRADIENT, self._sums)

    def _counters(self, what: str) -> Iterator[Entry]:
        stages = range(1, self.depth + 2)
        commands = [self.rtl.command(stage, Operation.COUNTERS) for stage in stages]
        expected = [self._reply(stage, Operation.COUNTERS, self._own_counts(stage)) for stage in stages]
        yield from self._control(f"counters, {what}", commands, expected)

    def _own_counts(self, stage: int) -> Ints:
        return self._modulo(self._counts[STAGE_COUNTERS * (stage - 1) : STAGE_COUNTERS * stage])

    def _clear(self, what: str) -> Iterator[Entry]:
        commands = [self.rtl.command(stage, Operation.CLEAR) for stage in range(1, self.depth + 1)]
        self._sums, self._summed = self._zeros(), 0
        commands.append(self.rtl.command(self.depth + 1, Operation.COUNTERS))
        expected = [self._reply(self.depth + 1, Operation.COUNTERS, self._modulo(self._counts[-1:]))]
        yield from self._control(f"cleared, {what}", commands, expected)

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

    def _table(self, stage: int, words: Ints) -> RawParameters:
        """Shape words in their order on the chain into gradients of a stage."""
        n = self.plan.stages[stage - 1].numbers
        table = words.reshape(n.outputs, n.columns)
        return RawParameters(table[:, :-1], table[:, -1], n.gradient_fraction)

    @staticmethod
    def _words(entry: RawParameters) -> Ints:
        return np.hstack([entry.weight, entry.bias[:, None]]).ravel()

    def _links(self, what: str) -> Iterator[Entry]:
        """Give all tokens that have passed the links between the stages."""
        for link, (source, _) in enumerate(self.rtl.ports.links):
            yield Entry(f"tokens of {source}, {what}", self.rtl.simulation.link_seen(link), None)

    def _congested(self, kind: str) -> Iterator[Entry]:
        """Ask for one read-out behind the other at a chain that hardly moves."""
        for stage, (params, sums) in enumerate(zip(self._params, self._sums, strict=True), start=1):
            commands, expected = [], []
            for _ in range(4):
                for operation, words in (
                    (Operation.READ_WEIGHT, self._words(params)),
                    (Operation.READ_GRADIENT, self._words(sums)),
                    (Operation.COUNTERS, self._own_counts(stage)),
                ):
                    commands.append(self.rtl.command(stage, operation))
                    expected.append(self._reply(stage, operation, words))
            for number in (stage, self.depth + 1):
                commands += [self.rtl.command(number, Operation.COUNTERS)] * 4
                expected += [self._reply(number, Operation.COUNTERS, self._own_counts(number))] * 4
            answer = np.concatenate(expected)
            asked = {"control_in": np.concatenate(commands)}
            for stalls in (0.9, 0.5, 100.0):  # the last: closed at first
                what = f"answers under stalls {stalls}, stage {stage}, {kind}"
                got = yield from self._run(what, asked, {"control_out": answer.size}, {"control_out": stalls})
                yield Entry(what, got["control_out"], answer)

    def _status(self, what: str) -> Entry:
        simulation = self.rtl.simulation
        return Entry(f"status, {what}", np.array([simulation.cycle, *simulation.status()], dtype=np.uint64), None)

    def _zeros(self) -> list[RawParameters]:
        return [
            RawParameters(
                np.zeros((s.numbers.outputs, s.numbers.inputs), dtype=np.int64),
                np.zeros(s.numbers.outputs, dtype=np.int64),
                s.numbers.gradient_fraction,
            )
            for s in self.plan.stages
        ]


def _with_first(entry: RawParameters, value: int) -> RawParameters:
    weight = entry.weight.copy()
    weight[0, 0] = value
    return RawParameters(weight, entry.bias, entry.fraction_bits)
