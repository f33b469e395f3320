"""From the bytes of messages to words, samples and operations of the network (docs/protocol.md, "Messages")."""

from collections.abc import Iterable
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from dyadprop.operations import Operation
from dyadprop.plan import Plan
from dyadprop.protocol import (
    CONTROL_BYTES,
    CONTROL_OPERATIONS,
    MESSAGE_HEADER,
    MIN_PERIOD,
    NONCE_BYTES,
    Answer,
    Command,
    Reason,
    WireSizes,
)
from dyadprop.widths import target_format
from dyadprop_hw.answer_side import LENGTH_BITS, AnswerRequest
from dyadprop_hw.claims import claim
from dyadprop_hw.layouts import ControlKind, activation_token, control_token, target_token
from dyadprop_hw.network import control_data_bits
from dyadprop_hw.stage_sizes import StageSizes

SAMPLES = (Command.FORWARD, Command.LEARN, Command.LEARN_SEED, Command.STEP, Command.HOLD)
TARGETS = (Command.LEARN, Command.LEARN_SEED, Command.STEP)
STAGED = (Command.LOAD, Command.CHECKSUM, Command.WRITE_GRADIENT)
WHILE_HELD = (Command.IDENTIFY, Command.ECHO, Command.REGISTERS, Command.RELEASE)
ANSWERS = {
    Command.IDENTIFY: Answer.IDENTITY,
    Command.ECHO: Answer.ECHO,
    Command.REGISTERS: Answer.REGISTERS,
    Command.COMMIT: Answer.COMMITTED,
    Command.CHECKSUM: Answer.CHECKSUM,
    Command.CONTROL: Answer.REPLY,
    Command.WRITE_GRADIENT: Answer.WRITTEN,
    Command.BAUD: Answer.BAUD,
    Command.KEEP_BAUD: Answer.BAUD,
}
SILENT = (Operation.CLEAR, Operation.RATE)
"""Operations that give no words."""
HEAD_OPERATIONS = (Operation.COUNTERS, Operation.RATE)
"""Operations of the cost head."""


class CommandSide(wiring.Component):
    """Carry out one command after the other.

    Parameters
    ----------
    plan : Plan

    Members
    -------
    received : In(stream.Signature(8))
        Messages of the host.
    input : Out(stream of activation_token), target : Out(stream of target_token)
        Samples for the network.
    control : Out(stream of control_token)
        Commands for the network.
    request : Out(stream of AnswerRequest)
        One at a time: the next command begins when it is taken.
    echoed : Out(stream.Signature(8))
        The bytes that an answer gives back.
    output_done : In(1)
        The outputs of a sample have left the network.
    committing : Out(1)
        The network's weights are being replaced.
    period : In
        Of the line, now.
    wanted_period : Out, change_period, keep_period : Out(1)
        See `LineRate`; high for a cycle, ``change_period`` when its answer has been given.
    refused : Out(1)
        High for a cycle.

    Notes
    -----
    A byte a cycle, one cycle more for each word, and 30 cycles or so for a message's header: its length is divided bit
    by bit. One memory for the weights that are kept aside.
    """

    received: Any
    input: Any
    target: Any
    control: Any
    request: Any
    echoed: Any
    output_done: Signal
    committing: Signal
    period: Signal
    wanted_period: Signal
    change_period: Signal
    keep_period: Signal
    refused: Signal

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        net = plan.net
        last = net.layer_formats(len(net.layers))
        self._input = activation_token(net.formats.activation)
        self._target = target_token(target_format(net), last.sensitivity)
        self._control = control_token(control_data_bits(plan))
        period = AnswerRequest["period"].shape
        super().__init__(
            {
                "received": In(stream.Signature(8)),
                "input": Out(stream.Signature(self._input)),
                "target": Out(stream.Signature(self._target)),
                "control": Out(stream.Signature(self._control)),
                "request": Out(stream.Signature(AnswerRequest)),
                "echoed": Out(stream.Signature(8)),
                "output_done": In(1),
                "committing": Out(1),
                "period": In(period),
                "wanted_period": Out(period),
                "change_period": Out(1),
                "keep_period": Out(1),
                "refused": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Read a header, judge it, carry the command out."""
        m = Module()
        plan, net = self.plan, self.plan.net
        sizes = WireSizes(net)
        stages = len(plan.stages)
        m.submodules.sizes = table = StageSizes(sizes)
        weight_bits = max(stage.numbers.weight.width for stage in plan.stages)
        m.submodules.aside = aside = Memory(shape=weight_bits, depth=sum(sizes.words), init=[])
        aside_write, aside_read = aside.write_port(), aside.read_port()
        weight = Signal(weight_bits, reset_less=True)
        m.d.sync += weight.eq(aside_read.data)

        # -- the word that is being put together ------------------------------------------------------------------
        word_bytes = max(
            CONTROL_BYTES, MESSAGE_HEADER, sizes.input_word, sizes.target_word, *sizes.weight_word, *sizes.gradient_word
        )
        word = Signal(8 * word_bytes, reset_less=True)
        index = Signal(range(max(word_bytes, LENGTH_BITS)))

        def collected(size: int, width: int | None = None) -> Value:
            """Give a word of so many bytes, which have come in from above; or its low bits."""
            whole = word[len(word) - 8 * size :]
            return whole if width is None else whole[:width]

        def collected_one_of(counts: Iterable[int], chosen: Value, shape: Any) -> Value:
            value = Signal(shape)
            with m.Switch(chosen):
                for size in sorted(set(counts)):
                    with m.Case(size):
                        m.d.comb += value.eq(collected(size).as_signed())
            return value

        # -- the command ------------------------------------------------------------------------------------------
        kind = Signal(8)
        left, none_left = Signal(LENGTH_BITS), Signal()  # bytes of the body
        largest = max(*(_length(command, sizes)[0] for command in Command), *Command, MIN_PERIOD, stages + 1)
        expected = Signal(range(max(largest, *table.columns["weights_in"], *table.columns["gradients_in"]) + 1))
        got = Signal(LENGTH_BITS)
        rest = Signal(range(2 * max(sizes.inputs + sizes.targets, CONTROL_BYTES, sizes.inputs)))
        multiple = Signal()
        right_length = Signal()
        m.d.sync += right_length.eq(Mux(multiple, (rest == 0) & (got != 0), got == expected))
        stage = Signal(self._control["stage"].shape)
        operation = Signal(self._control["operation"].shape)
        words = Signal(range(max(net.inputs, net.outputs, *sizes.words) + 1))  # still to come
        last = Signal()  # one word: known two cycles behind ``words``
        m.d.sync += last.eq(words == 1)
        address = Signal(range(sum(sizes.words)))
        complete = Signal(stages)  # stages whose weights are kept aside
        held = Signal()
        targets = Signal()  # of the sample: its inputs have come
        answer, reason = Signal(8), Signal(Reason)
        skip = Signal()  # the rest of the body is not wanted
        fenced = Signal()
        asking = Signal()  # the network is being asked for words: it takes the command when it has given them
        m.d.comb += table.stage.eq(stage)

        kinds: dict[tuple[Command, ...], Signal] = {}

        def is_one(*commands: Command) -> Signal:
            """Say whether the command is one of these; known two cycles behind ``kind``'s coming."""
            if commands not in kinds:
                names = "_or_".join(command.name.lower() for command in commands[:3])
                kinds[commands] = Signal(name=f"is_{names}")
            return kinds[commands]

        def refuse(why: Reason) -> None:
            m.d.sync += reason.eq(why)
            m.next = "REFUSE"

        # -- samples in flight ------------------------------------------------------------------------------------
        # What the memories and queues of all stages hold, generously.
        in_flight = Signal(range(2 * sum(s.samples + s.output_vectors + 4 for s in plan.stages) + 8))
        entered = Signal()
        m.d.sync += in_flight.eq(in_flight + entered - self.output_done)
        claim(m, (in_flight != 0) | entered | ~self.output_done)
        claim(m, ~in_flight.all() | ~entered)

        taken = self.received.valid & self.received.ready
        with m.If(taken):
            m.d.sync += [
                word.eq(Cat(word[8:], self.received.payload)),
                left.eq(left - 1),
                none_left.eq(left == 1),
            ]
        m.d.comb += [
            self.echoed.payload.eq(self.received.payload),
            self.input.payload.value.eq(collected(sizes.input_word, net.formats.activation.width)),
            self.input.payload.learn.eq(~is_one(Command.FORWARD)),
            self.input.payload.update.eq(is_one(Command.STEP)),
            self.target.payload.value.eq(collected(sizes.target_word)),
            self.target.payload.seed.eq(is_one(Command.LEARN_SEED, Command.RELEASE)),
            aside_write.addr.eq(address),
            aside_write.data.eq(collected_one_of(sizes.weight_word, table.weight_bytes, weight_bits)),
            aside_read.addr.eq(address),
            self.control.payload.kind.eq(ControlKind.COMMAND),
            self.control.payload.stage.eq(stage),
            self.control.payload.operation.eq(operation),
            self.control.payload.data.eq(collected(CONTROL_BYTES)[16:].as_signed()),
            self.wanted_period.eq(collected(2)),
            self.request.payload.answer.eq(answer),
            self.request.payload.fenced.eq(fenced),
            self.request.payload.stage.eq(stage),
            self.request.payload.operation.eq(operation),
            self.request.payload.count.eq(got),
            self.request.payload.period.eq(Mux(is_one(Command.BAUD), self.wanted_period, self.period)),
            self.request.payload.kind.eq(kind),
            self.request.payload.reason.eq(reason),
            self.request.payload.expected.eq(expected),
            self.request.payload.got.eq(got),
        ]

        with m.If(is_one(Command.WRITE_GRADIENT)):
            gradient = collected_one_of(sizes.gradient_word, table.gradient_bytes, self._control["data"].shape)
            m.d.comb += [
                self.control.payload.operation.eq(Operation.WRITE_GRADIENT),
                self.control.payload.data.eq(gradient),
            ]
        with m.Elif(is_one(Command.CHECKSUM)):
            m.d.comb += self.control.payload.operation.eq(Operation.READ_WEIGHT)

        with m.If(fenced):
            m.d.comb += [
                self.control.payload.stage.eq(stages + 1),
                self.control.payload.operation.eq(Operation.COUNTERS),
            ]
        with m.If(asking):
            m.d.comb += self.control.valid.eq(1)
            with m.If(self.control.ready):
                m.d.sync += asking.eq(0)
        claim(m, ~(asking & self.request.valid & self.request.ready))

        # Bytes of the word to come.
        wanted = Signal(range(word_bytes + 1))
        with m.If(is_one(Command.LOAD)):
            m.d.comb += wanted.eq(table.weight_bytes)
        with m.Elif(is_one(Command.WRITE_GRADIENT)):
            m.d.comb += wanted.eq(table.gradient_bytes)
        with m.Elif(is_one(Command.CONTROL)):
            m.d.comb += wanted.eq(CONTROL_BYTES)
        with m.Elif(is_one(Command.BAUD)):
            m.d.comb += wanted.eq(2)
        with m.Else():
            m.d.comb += wanted.eq(Mux(targets, sizes.target_word, sizes.input_word))

        with m.FSM():
            with m.State("HEADER"):
                m.d.comb += self.received.ready.eq(1)
                m.d.sync += [skip.eq(0), targets.eq(0)]
                with m.If(taken):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == MESSAGE_HEADER - 1):
                        m.d.sync += index.eq(0)
                        m.next = "KIND"
            with m.State("KIND"):
                length = collected(MESSAGE_HEADER)[8:]
                m.d.sync += [
                    kind.eq(collected(MESSAGE_HEADER, 8)),
                    left.eq(length),
                    none_left.eq(length == 0),
                    got.eq(length),
                    multiple.eq(0),
                    skip.eq(1),
                ]
                m.next = "DECODE"
            with m.State("DECODE"):
                m.next = "KNOWN"
            with m.State("KNOWN"):
                m.d.sync += [rest.eq(0), fenced.eq(0)]
                with m.Switch(kind):
                    for command in Command:
                        with m.Case(command):
                            exact, times = _length(command, sizes)
                            m.d.sync += [expected.eq(exact), multiple.eq(times), answer.eq(ANSWERS.get(command, 0))]
                with m.If(~is_one(*Command)):
                    refuse(Reason.KIND)
                with m.Elif(held & ~is_one(*WHILE_HELD)):
                    refuse(Reason.HELD)
                with m.Elif(~held & is_one(Command.RELEASE)):
                    refuse(Reason.NOT_HELD)
                with m.Elif(is_one(*STAGED)):
                    m.next = "STAGE"
                with m.Else():
                    m.next = "DIVIDE"
            with m.State("STAGE"):
                with m.If(got == 0):
                    refuse(Reason.LENGTH)
                with m.Else():
                    m.d.comb += self.received.ready.eq(1)
                    with m.If(taken):
                        m.next = "KNOWN_STAGE"
            with m.State("KNOWN_STAGE"):
                number = collected(1)
                m.d.sync += stage.eq(number)
                m.next = "STAGE_LENGTH"
                with m.If((number == 0) | (number > stages)):
                    refuse(Reason.STAGE)
            with m.State("STAGE_LENGTH"):
                with m.If(is_one(Command.LOAD)):
                    m.d.sync += expected.eq(table.weights_in)
                with m.Elif(is_one(Command.WRITE_GRADIENT)):
                    m.d.sync += expected.eq(table.gradients_in)
                m.next = "COMPARE"
            with m.State("DIVIDE"):
                # One bit of the length a cycle, the highest first.
                m.d.sync += index.eq(index + 1)
                shifted = Cat(Cat(reversed(got)).bit_select(index, 1), rest)
                m.d.sync += rest.eq(Mux(shifted >= expected, shifted - expected, shifted))
                with m.If(index == LENGTH_BITS - 1):
                    m.d.sync += index.eq(0)
                    m.next = "COMPARE"
            with m.State("COMPARE"):
                m.next = "LENGTH"
            with m.State("LENGTH"):
                with m.If(right_length):
                    m.d.sync += skip.eq(0)
                    m.next = "BEGIN"
                with m.Else():
                    refuse(Reason.LENGTH)
            with m.State("BEGIN"):
                m.d.sync += [words.eq(table.words), address.eq(table.base)]
                m.next = "WORD"
                with m.If(is_one(Command.IDENTIFY, Command.ECHO, Command.REGISTERS)):
                    m.next = "ANSWER"
                with m.Elif(is_one(Command.KEEP_BAUD)):
                    m.d.comb += self.keep_period.eq(1)
                    m.next = "ANSWER"
                with m.Elif(is_one(Command.LOAD)):
                    m.d.sync += complete.bit_select((stage - 1).as_unsigned(), 1).eq(0)
                with m.Elif(is_one(Command.COMMIT)):
                    m.next = "SETTLE"
                    with m.If(~complete.all()):
                        refuse(Reason.INCOMPLETE)
                with m.Elif(is_one(Command.CHECKSUM, Command.WRITE_GRADIENT)):
                    m.next = "SETTLE"
                with m.Elif(is_one(*SAMPLES)):
                    m.d.sync += words.eq(net.inputs)
                with m.Elif(is_one(Command.RELEASE)):
                    m.d.sync += [words.eq(net.outputs), targets.eq(1)]

            # -- bodies -------------------------------------------------------------------------------------------
            with m.State("WORD"):
                m.d.comb += self.received.ready.eq(1)
                with m.If(taken):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == wanted - 1):
                        m.d.sync += index.eq(0)
                        m.next = "PUT"
            with m.State("PUT"):
                moved = Signal()
                with m.If(moved):
                    m.d.sync += [words.eq(words - 1), address.eq(address + 1)]
                    m.next = "WORD"
                with m.If(is_one(Command.LOAD)):
                    m.d.comb += [aside_write.en.eq(1), moved.eq(1)]
                    with m.If(last):
                        m.d.sync += complete.bit_select((stage - 1).as_unsigned(), 1).eq(1)
                        m.next = "HEADER"
                with m.Elif(is_one(Command.WRITE_GRADIENT)):
                    m.d.comb += [self.control.valid.eq(1), moved.eq(self.control.ready)]
                    with m.If(moved & last):
                        m.next = "FENCE"
                with m.Elif(is_one(Command.CONTROL)):
                    place, what = collected(CONTROL_BYTES, 8), collected(CONTROL_BYTES)[8:16]
                    m.d.sync += [stage.eq(place), operation.eq(what)]
                    m.next = "SETTLE"
                    with m.If((place == 0) | (place > stages + 1)):
                        refuse(Reason.STAGE)
                    with m.Elif(
                        ~Cat(what == o for o in CONTROL_OPERATIONS).any()
                        | ((place == stages + 1) & ~Cat(what == o for o in HEAD_OPERATIONS).any())
                    ):
                        refuse(Reason.OPERATION)
                with m.Elif(is_one(Command.BAUD)):
                    m.next = "ANSWER"
                    with m.If(self.wanted_period < MIN_PERIOD):
                        refuse(Reason.PERIOD)
                with m.Elif(targets):
                    m.d.comb += [self.target.valid.eq(1), moved.eq(self.target.ready)]
                    with m.If(moved & last):
                        m.d.sync += [targets.eq(0), words.eq(net.inputs), held.eq(0)]
                        with m.If(none_left):
                            m.next = "HEADER"
                with m.Else():
                    m.d.comb += [self.input.valid.eq(1), moved.eq(self.input.ready)]
                    m.d.comb += entered.eq(moved & (words == net.inputs))
                    with m.If(moved & last):
                        m.d.sync += words.eq(net.inputs)
                        with m.If(is_one(*TARGETS)):
                            m.d.sync += [targets.eq(1), words.eq(net.outputs)]
                        with m.Elif(none_left):
                            m.d.sync += held.eq(is_one(Command.HOLD))
                            m.next = "HEADER"

            # -- the control chain --------------------------------------------------------------------------------
            with m.State("SETTLE"), m.If(in_flight == 0):
                m.next = "COMMAND"
                with m.If(is_one(Command.WRITE_GRADIENT)):
                    m.next = "FIRST"
                with m.Elif(is_one(Command.COMMIT)):
                    m.d.sync += [stage.eq(1), address.eq(0), self.committing.eq(1), complete.eq(0)]
                    m.next = "FIRST"
            with m.State("FIRST"):
                m.d.comb += [self.control.valid.eq(1), self.control.payload.operation.eq(Operation.BEGIN)]
                m.d.sync += words.eq(table.words)
                with m.If(self.control.ready):
                    m.next = "WORD"
                    with m.If(is_one(Command.COMMIT)):
                        m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += aside_read.en.eq(1)
                m.next = "KEPT"
            with m.State("KEPT"):
                m.next = "STORE"
            with m.State("STORE"):
                m.d.comb += [
                    self.control.valid.eq(1),
                    self.control.payload.operation.eq(Operation.WORD),
                    self.control.payload.data.eq(weight.as_signed()),
                ]
                with m.If(self.control.ready):
                    m.d.sync += [words.eq(words - 1), address.eq(address + 1)]
                    m.next = "FETCH"
                    with m.If(last):
                        m.d.sync += stage.eq(stage + 1)
                        m.next = "FIRST"
                        with m.If(stage == stages):
                            m.next = "FENCE"
            with m.State("COMMAND"):
                with m.If(is_one(Command.CONTROL) & Cat(operation == o for o in SILENT).any()):
                    m.d.comb += self.control.valid.eq(1)
                    with m.If(self.control.ready):
                        m.next = "FENCE"
                with m.Else():
                    m.d.sync += asking.eq(1)
                    m.next = "ANSWER"
            with m.State("FENCE"):
                # The cost head's counter comes when all before it is done; nobody wants its value.
                m.d.sync += [asking.eq(1), fenced.eq(1)]
                m.next = "ANSWER"

            # -- the end ------------------------------------------------------------------------------------------
            with m.State("REFUSE"):
                # One place for all reasons: what is wrong still stands where it was found.
                m.d.comb += self.refused.eq(1)
                m.d.sync += [answer.eq(Answer.REFUSED), fenced.eq(0)]
                controls = is_one(Command.CONTROL)
                with m.Switch(reason):
                    with m.Case(Reason.KIND):
                        m.d.sync += [expected.eq(0), got.eq(kind)]
                    with m.Case(Reason.HELD):
                        m.d.sync += [expected.eq(Command.RELEASE), got.eq(kind)]
                    with m.Case(Reason.NOT_HELD):
                        m.d.sync += [expected.eq(Command.HOLD), got.eq(kind)]
                    with m.Case(Reason.STAGE):
                        place = Mux(controls, collected(CONTROL_BYTES, 8), collected(1))
                        m.d.sync += [expected.eq(Mux(controls, stages + 1, stages)), got.eq(place)]
                    with m.Case(Reason.OPERATION):
                        m.d.sync += [expected.eq(0), got.eq(collected(CONTROL_BYTES)[8:16])]
                    with m.Case(Reason.INCOMPLETE):
                        m.d.sync += [expected.eq(stages), got.eq(sum(complete)), complete.eq(0)]
                    with m.Case(Reason.PERIOD):
                        m.d.sync += [expected.eq(MIN_PERIOD), got.eq(self.wanted_period)]
                m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += [
                    self.request.valid.eq(1),
                    self.echoed.valid.eq(self.received.valid),
                    self.received.ready.eq(self.echoed.ready),
                ]
                with m.If(self.request.ready):
                    m.d.comb += self.change_period.eq(is_one(Command.BAUD) & (answer == Answer.BAUD))
                    m.d.sync += [self.committing.eq(0), fenced.eq(0)]
                    m.next = "HEADER"
                    with m.If(skip):
                        m.next = "SKIP"
                    with m.Elif(is_one(Command.CONTROL) & ~none_left):
                        m.d.sync += answer.eq(Answer.REPLY)
                        m.next = "WORD"
            with m.State("SKIP"):
                with m.If(none_left):
                    m.next = "HEADER"
                with m.Else():
                    m.d.comb += self.received.ready.eq(1)
        for commands, flag in kinds.items():
            m.d.sync += flag.eq(Cat(*(kind == command for command in commands)).any())
        return m


def _length(command: Command, sizes: WireSizes) -> tuple[int, bool]:
    """Give the length of a command's body, without a stage's words, and whether it may be a multiple."""
    match command:
        case Command.IDENTIFY:
            return NONCE_BYTES, False
        case Command.ECHO:
            return 1, True
        case Command.LOAD | Command.CHECKSUM | Command.WRITE_GRADIENT:
            return 1, False  # the stage; more when it is known
        case Command.CONTROL:
            return CONTROL_BYTES, True
        case Command.FORWARD:
            return sizes.inputs, True
        case Command.LEARN | Command.LEARN_SEED | Command.STEP:
            return sizes.inputs + sizes.targets, True
        case Command.HOLD:
            return sizes.inputs, False
        case Command.RELEASE:
            return sizes.targets, False
        case Command.BAUD:
            return 2, False
        case _:
            return 0, False
