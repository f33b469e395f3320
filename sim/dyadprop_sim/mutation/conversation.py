"""What is said to a network's hardware, and what the model says that it answers: the parts of each script."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dyadprop.formats import Ints
from dyadprop.network import Network, RawParameters
from dyadprop.operations import COUNTER_BITS, STAGE_COUNTERS, Operation
from dyadprop.plan import Plan
from dyadprop.rates import FULL_SCALE
from dyadprop.tables import TABLE_ACTIVATIONS
from dyadprop_hw.layouts import ControlKind
from dyadprop_sim import arithmetic
from dyadprop_sim.golden import Model, Trace
from dyadprop_sim.random_networks import draw_words
from dyadprop_sim.rtl_network import pack
from dyadprop_sim.transactions import Words
from dyadprop_sim.verilator import NetworkSimulation

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


class Conversation:
    """Talk to one network, and keep what the model expects of it.

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

    def _link_bits(self, l: int, signal: str) -> tuple[str, int]:
        activation, sensitivity = self.rtl.link_tokens(l)
        # The flags of an activation stay: a sample that changes its mind has no answer.
        bits = activation["value"].width if signal == "activation" else sensitivity.size
        return f"{signal}_{l}_in", bits

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


def with_first(entry: RawParameters, value: int) -> RawParameters:
    """Give a stage's words with another first one."""
    weight = entry.weight.copy()
    weight[0, 0] = value
    return RawParameters(weight, entry.bias, entry.fraction_bits)
