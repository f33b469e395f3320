"""Parts of the script in which something waits: for a target, a place, a command, or the end of a stall."""

from collections.abc import Iterator

import numpy as np

from dyadprop.formats import Ints
from dyadprop.operations import STAGE_COUNTERS, Operation
from dyadprop_sim.golden import Model
from dyadprop_sim.mutation.conversation import Conversation, Data, Entry, with_first
from dyadprop_sim.rtl_network import pack

TARGETS = 30  # vectors of targets whose pace is watched
PAUSES = 12  # batches under stalls, with one that is timed behind each


class Waiting(Conversation):
    """Let samples, commands and answers wait for each other."""

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
            self._params[stage - 1] = with_first(self._params[stage - 1], 1)
        elif operation is Operation.WRITE_GRADIENT:
            self._sums[stage - 1] = with_first(self._sums[stage - 1], -3)
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
                self._params[l - 1] = with_first(self._params[l - 1], count)
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
