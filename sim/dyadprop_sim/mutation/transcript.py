"""Everything that a network's hardware can be seen doing, as a list of words, beside what the model says."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dyadprop.formats import Ints
from dyadprop.network import Network, RawParameters
from dyadprop.operations import COUNTER_BITS, STAGE_COUNTERS, Operation
from dyadprop.plan import Plan
from dyadprop.rates import FULL_SCALE
from dyadprop.tables import TABLE_ACTIVATIONS
from dyadprop_hw.layouts import ControlKind
from dyadprop_sim.golden import Model, Trace
from dyadprop_sim.random_networks import KINDS, draw_words, random_rate
from dyadprop_sim.simulation import Words
from dyadprop_sim.verilator import NetworkSimulation, pack

STALLS = (0.0, 0.3, 0.7)
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
        yield from self._counters("after reset")
        for turn, kind in enumerate(KINDS):
            data = draw_data(self.net, self.seed * len(KINDS) + turn, kind, min(5, self.net.max_batch))
            yield from self._turn(kind, data, first=turn == 0)
        yield from self._pipeline()

    # -- what is done with one set of parameters ----------------------------------------------------------------------

    def _turn(self, kind: str, data: Data, *, first: bool) -> Iterator[Entry]:
        yield from self._load(data.params, interrupted=first)
        yield from self._read_weights(kind)
        yield from self._predict(f"{kind}, forward only", data)
        for stalls in STALLS:
            what = f"{kind}, stalls {stalls}"
            self.rtl.stalls = stalls
            if self._summed + len(data.x) > self.net.max_batch:
                yield from self._clear(what)
            learns = np.ones(len(data.x), dtype=np.int64) if stalls == 0 else self.rng.integers(0, 2, len(data.x))
            seeded = self.rng.integers(0, 2, len(data.x))
            yield from self._gradients(what, data, learns, seeded)
            yield from self._read_gradients(what)
            yield from self._counters(what)
            self.rtl.stalls = 0.0
        yield from self._clear(kind)
        yield from self._read_gradients(f"{kind}, cleared")
        yield from self._strangers(kind)
        yield from self._hold(kind, data)
        for stalls, batch_size in zip(STALLS, (1, 2, 3), strict=True):
            yield from self._train(f"{kind}, steps of {batch_size} under stalls {stalls}", kind, batch_size, stalls)
        yield from self._clear(f"{kind}, learnt")

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
        self._params = params
        self.rtl.load(params)
        yield self._status("loaded")

    def _predict(self, what: str, data: Data) -> Iterator[Entry]:
        trace = Model(self.net, data.params).predict(data.x)
        cycles: dict[str, Words] = {}
        start = self.rtl.simulation.cycle
        got = self.rtl.run(
            {"input": pack(self.rtl.input_token, value=data.x.ravel(), learn=0, update=0)},
            {"output": trace.outputs.size},
            cycles=cycles,
        )
        yield Entry(
            f"outputs, {what}",
            got["output"],
            pack(self.rtl.output_token, value=trace.outputs.ravel(), learn=0, update=0),
        )
        yield Entry(f"cycles of outputs, {what}", cycles["output"] - np.uint64(start), None)
        self._count(trace)
        yield from self._counters(what)
        yield self._status(what)

    def _gradients(self, what: str, data: Data, learns: Ints, seeded: Ints) -> Iterator[Entry]:
        """Run a batch in which some samples are learnt from and some of those have a seed instead of a target."""
        traces = self._expect(data, learns, seeded)
        inputs, targets = self._tokens(data, learns, seeded)
        taught = int(learns.sum())
        outputs = {"output": len(data.x) * self.net.outputs}
        if self.net.input_gradient:
            outputs["input_sensitivity"] = taught * self.net.inputs
        cycles: dict[str, Words] = {}
        start = self.rtl.simulation.cycle
        got = self.rtl.run({"input": inputs, "target": targets}, outputs, cycles=cycles)
        yield from self._compare(what, got, data, learns, traces)
        if not self.rtl.stalls:
            for stream in outputs:
                yield Entry(f"cycles of {stream}, {what}", cycles[stream] - np.uint64(start), None)

    def _hold(self, kind: str, data: Data) -> Iterator[Entry]:
        """Look at a sample that waits for its targets; commands that touch parameters must wait with it."""
        part = Data(data.params, data.x[:1], data.targets[:1], data.seeds[:1])
        learns, seeded = np.ones(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
        before = self._counts.copy()
        traces = self._expect(part, learns, seeded)
        inputs, targets = self._tokens(part, learns, seeded)
        got = self.rtl.run({"input": inputs}, {"output": self.net.outputs})
        self.rtl.simulation.wait(40)
        yield self._status(f"{kind}, waiting for targets")
        after, self._counts = self._counts, before
        activations = slice(0, STAGE_COUNTERS * self.depth, STAGE_COUNTERS)
        self._counts[activations] = after[activations]
        yield from self._counters(f"{kind}, waiting for targets")
        self._counts = after
        # These reach every stage long before the targets do; what they change must not change the sample.
        words = [self.rtl.command(s, Operation.BEGIN) for s in range(1, self.depth + 1)]
        words += [self.rtl.command(s, Operation.WORD, [1]) for s in range(1, self.depth + 1)]
        words += [self.rtl.command(s, Operation.BEGIN) for s in range(1, self.depth + 1)]
        words.append(self.rtl.command(self.depth + 1, Operation.COUNTERS))
        outputs = {"control_out": 1}
        if self.net.input_gradient:
            outputs["input_sensitivity"] = self.net.inputs
        more = self.rtl.simulation.run(
            {"control_in": np.concatenate(words), "target": targets},
            outputs,
            stalls={"target": 0.97},
            seed=self.seed,
            patience=self.rtl.patience,
        )
        yield from self._compare(f"{kind}, held", {**more, "output": got["output"]}, part, learns, traces)
        expected = self._reply(self.depth + 1, Operation.COUNTERS, self._modulo(self._counts[-1:]))
        yield Entry(f"counter, {kind}, held", more["control_out"], expected)
        self._params = [_with_first(entry, 1) for entry in self._params]
        yield from self._read_weights(f"{kind}, changed behind a held sample")
        yield from self._read_gradients(f"{kind}, held")
        yield from self._clear(kind)

    def _train(self, what: str, kind: str, batch_size: int, stalls: float) -> Iterator[Entry]:
        """Step after each few samples, from any residuals and with any rate; some samples are not learnt from."""
        rate = random_rate(self.rng, self.net, batch_size)
        if rate is None:
            return
        data = draw_data(self.net, int(self.rng.integers(1 << 30)), kind, 3 * batch_size)
        shifts = [stage.numbers.step_shift(rate.exponent) for stage in self.plan.stages]
        self._sums, self._summed = self._draw_residuals(shifts), 0
        self.rtl.load(self._sums, Operation.WRITE_GRADIENT)
        yield from self._read_gradients(f"{what}, stored")
        commands = [self.rtl.command(s, Operation.RATE, [shift]) for s, shift in enumerate(shifts, start=1)]
        commands.append(self.rtl.command(self.depth + 1, Operation.RATE, [rate.scale]))
        self.rtl.counters(commands)

        model = Model(self.net, self._params)
        model.load_residuals(self._sums)
        inputs, outputs, sensitivities = [], [], []
        for begin in range(0, len(data.x), batch_size):
            part = slice(begin, begin + batch_size)
            bystander = model.predict(data.x[:1])
            trace = model.scaled(rate.scale).textbook(data.x[part], data.targets[part])
            counts = model.step(trace.gradients, rate.exponent)
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
            for key, count in counts.items():
                self._counts[STAGE_COUNTERS * key[0] - 1] += count
            if self.net.input_gradient:
                back = trace.sensitivities[0].ravel()
                token = self.rtl.input_sensitivity_token
                sensitivities.append(pack(token, value=back, activation=data.x[part].ravel()))
        self._params, self._sums = list(model.params), list(model.residuals)

        expected = {"output": np.concatenate(outputs)}
        if self.net.input_gradient:
            expected["input_sensitivity"] = np.concatenate(sensitivities)
        cycles: dict[str, Words] = {}
        start = self.rtl.simulation.cycle
        self.rtl.stalls = stalls
        targets = pack(self.rtl.target_token, value=data.targets.ravel(), seed=0)
        sizes = {stream: words.size for stream, words in expected.items()}
        got = self.rtl.run({"input": np.concatenate(inputs), "target": targets}, sizes, cycles=cycles)
        for stream, words in expected.items():
            yield Entry(f"{stream}, {what}", got[stream], words)
            if not stalls:
                yield Entry(f"cycles of {stream}, {what}", cycles[stream] - np.uint64(start), None)
        yield from self._read_weights(what)
        yield from self._read_gradients(what)
        yield from self._counters(what)
        self.rtl.stalls = 0.0
        self.rtl.counters([self.rtl.command(self.depth + 1, Operation.RATE, [FULL_SCALE])])

    def _draw_residuals(self, shifts: list[int]) -> list[RawParameters]:
        """Draw what steps may have left behind: up to half a step."""
        drawn = []
        for zero, shift in zip(self._zeros(), shifts, strict=True):
            half = (1 << shift) // 2
            weight = self.rng.integers(-half, half, zero.weight.shape, dtype=np.int64, endpoint=True)
            bias = self.rng.integers(-half, half, zero.bias.shape, dtype=np.int64, endpoint=True)
            drawn.append(RawParameters(weight, bias, zero.fraction_bits))
        return drawn

    def _pipeline(self) -> Iterator[Entry]:
        """Fill the network with more samples than it holds, back to back, then with one slow stream after the other."""
        data = draw_data(self.net, self.seed + 1000, "uniform", min(12, self.net.max_batch))
        self._params = data.params
        self.rtl.load(data.params)
        ones = np.ones(len(data.x), dtype=np.int64)
        yield from self._gradients("pipeline", data, ones, 0 * ones)
        yield from self._read_gradients("pipeline", timed=True)
        yield from self._clear("pipeline")
        slow: dict[str, dict[str, float]] = {
            "slow output": {"output": 0.97},
            "slow target": {"target": 0.97},
            "slow input": {"input": 0.9},
            "slow input sensitivity": {"input_sensitivity": 0.97},
        }
        for what, stalls in slow.items():
            traces = self._expect(data, ones, 0 * ones)
            inputs, targets = self._tokens(data, ones, 0 * ones)
            outputs = {"output": len(data.x) * self.net.outputs}
            if self.net.input_gradient:
                outputs["input_sensitivity"] = len(data.x) * self.net.inputs
            got = self.rtl.simulation.run(
                {"input": inputs, "target": targets}, outputs, stalls=stalls, seed=self.seed, patience=self.rtl.patience
            )
            yield from self._compare(what, got, data, ones, traces)
            yield from self._read_gradients(what)
            yield from self._clear(what)
        # Nothing is left over: one more batch gives just its own words.
        yield from self._predict("at the end", data)

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
                self._sums = [
                    RawParameters(a.weight + b.weight, a.bias + b.bias, a.fraction_bits)
                    for a, b in zip(self._sums, trace.gradients, strict=True)
                ]
                self._summed += 1
            else:
                trace = model.predict(x)
            self._count(trace)
            traces.append(trace)
        return traces

    def _compare(
        self, what: str, got: dict[str, Words], data: Data, learns: Ints, traces: Sequence[Trace]
    ) -> Iterator[Entry]:
        outputs = np.concatenate([trace.outputs.ravel() for trace in traces])
        expected = pack(self.rtl.output_token, value=outputs, learn=np.repeat(learns, self.net.outputs), update=0)
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

    def _control(
        self, what: str, commands: list[Words], expected: list[Words], *, timed: bool = False
    ) -> Iterator[Entry]:
        answer = np.concatenate(expected)
        cycles: dict[str, Words] = {}
        got = self.rtl.run({"control_in": np.concatenate(commands)}, {"control_out": len(answer)}, cycles=cycles)
        yield Entry(what, got["control_out"], answer)
        if timed:
            yield Entry(f"cycles of {what}", cycles["control_out"] - cycles["control_out"][0], None)

    def _read(self, what: str, operation: Operation, params: list[RawParameters], *, timed: bool) -> Iterator[Entry]:
        for stage, entry in enumerate(params, start=1):
            words = np.hstack([entry.weight, entry.bias[:, None]]).ravel()
            command = self.rtl.command(stage, operation)
            yield from self._control(
                f"{what}, stage {stage}", [command], [self._reply(stage, operation, words)], timed=timed
            )

    def _read_weights(self, what: str) -> Iterator[Entry]:
        yield from self._read(f"weights, {what}", Operation.READ_WEIGHT, self._params, timed=True)

    def _read_gradients(self, what: str, *, timed: bool = False) -> Iterator[Entry]:
        yield from self._read(f"gradients, {what}", Operation.READ_GRADIENT, self._sums, timed=timed)

    def _counters(self, what: str) -> Iterator[Entry]:
        stages = range(1, self.depth + 2)
        commands = [self.rtl.command(stage, Operation.COUNTERS) for stage in stages]
        own = [self._modulo(self._counts[STAGE_COUNTERS * (s - 1) : STAGE_COUNTERS * s]) for s in stages]
        expected = [self._reply(stage, Operation.COUNTERS, counts) for stage, counts in zip(stages, own, strict=True)]
        yield from self._control(f"counters, {what}", commands, expected)

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
        passed = [self.rtl.command(stage, Operation.WORD, [-7]) for stage in (0, self.depth + 2, 127)]
        passed.append(self._reply(1, Operation.READ_GRADIENT, [-9]))
        yield from self._control(f"strangers, {what}", [*commands, *passed], passed)

    def _status(self, what: str) -> Entry:
        return Entry(f"status, {what}", np.array(self.rtl.simulation.status(), dtype=np.uint64), None)

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
