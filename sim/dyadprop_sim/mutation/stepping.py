"""Parts of the script that store gradients and take steps."""

from collections.abc import Iterator

import numpy as np

from dyadprop.formats import Ints
from dyadprop.network import RawParameters
from dyadprop.operations import Operation
from dyadprop.rates import FULL_SCALE, MIN_SCALE
from dyadprop.widths import StageNumbers
from dyadprop_sim.golden import Model
from dyadprop_sim.mutation.conversation import Conversation, Data, Entry, draw_data, with_first
from dyadprop_sim.rtl_network import pack

UNTOLD = 6  # more steps before any rate


class Stepping(Conversation):
    """Step from residuals and by rates of all kinds."""

    def _stored_and_read(self) -> Iterator[Entry]:
        """Read gradients right behind the word that was stored last."""
        self._sums = self._draw_residuals([6] * self.depth)
        self.rtl.load(self._sums, Operation.WRITE_GRADIENT)
        for stage in range(1, self.depth + 1):
            begin = self.rtl.command(stage, Operation.BEGIN)
            read = self.rtl.command(stage, Operation.READ_GRADIENT)
            value = int(self.rng.integers(-100, 100))
            self._sums[stage - 1] = with_first(self._sums[stage - 1], value)
            words = self._words(self._sums[stage - 1])
            stored = self.rtl.command(stage, Operation.WRITE_GRADIENT, [value])
            expected = [self._reply(stage, Operation.READ_GRADIENT, words)]
            yield from self._control(f"gradients, stage {stage}, just stored", [begin, stored, begin, read], expected)
            # All of them, and behind the last one the first is read.
            stored = self.rtl.command(stage, Operation.WRITE_GRADIENT, words[::-1])
            self._sums[stage - 1] = self._table(stage, words[::-1])
            expected = [self._reply(stage, Operation.READ_GRADIENT, words[::-1])]
            yield from self._control(f"gradients, stage {stage}, all stored", [begin, stored, read], expected)

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
