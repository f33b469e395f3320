"""From words, counters and constants to messages to the host (docs/protocol.md, "Messages")."""

from enum import IntEnum
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import crc, data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from dyadprop.operations import HEAD_COUNTERS, OPERATION_BITS, STAGE_BITS, STAGE_COUNTERS, Operation
from dyadprop.plan import Plan
from dyadprop.protocol import (
    CHECK_BYTES,
    COUNTER_BYTES,
    MAX_PERIOD,
    MESSAGE_HEADER,
    NONCE_BYTES,
    REGISTER_BYTES,
    Answer,
    Register,
    WireSizes,
)
from dyadprop_hw.layouts import Fixed, control_token
from dyadprop_hw.network import control_data_bits
from dyadprop_hw.send_window import MessageByte
from dyadprop_hw.stage_sizes import StageSizes
from dyadprop_hw.streams import connect_stream
from dyadprop_hw.vector_queue import VectorQueue

LENGTH_BITS = 8 * (MESSAGE_HEADER - 1)
REFUSED_NUMBER = 4  # bytes of ``expected`` and ``got``
REFUSED_BODY = 2 + 2 * REFUSED_NUMBER

AnswerRequest = data.StructLayout(
    {
        "answer": 8,
        "fenced": 1,  # a reply that only says that commands are done comes first, and is dropped
        "stage": STAGE_BITS,
        "operation": OPERATION_BITS,
        "count": LENGTH_BITS,  # bytes to be echoed
        "period": range(MAX_PERIOD + 1),
        "kind": 8,  # of the command that is refused, and why
        "reason": 8,
        "expected": LENGTH_BITS,
        "got": LENGTH_BITS,
    }
)
"""An answer that a command asks for."""


class Part(IntEnum):
    """What an answer is made of: words of a few bytes each, one or more."""

    HEAD = 0
    PLACE = 1
    PERIOD = 2
    REFUSAL = 3
    EXPECTED = 4
    GOT = 5
    ECHO = 6
    IDENTITY = 7
    REGISTERS = 8
    REPLIES = 9
    SUM = 10
    """Replies whose bytes only go into the check sum."""
    CHECK = 11
    VECTOR = 12


class Source(IntEnum):
    """What a message is about."""

    REQUEST = 0
    OUTPUT = 1
    SENSITIVITY = 2


class AnswerSide(wiring.Component):
    """Write messages, one at a time.

    Parameters
    ----------
    plan : Plan
    identity : bytes
        At least one.

    Members
    -------
    request : In(stream of AnswerRequest)
        Taken when its message has been given.
    control : In(stream of control_token)
        Replies of the network.
    echoed : In(stream.Signature(8))
        Bytes of a command's body that come back.
    outputs, sensitivities : In(stream)
        The network's; ``sensitivities`` only where it has them.
    output_done : Out(1)
        A whole vector of outputs has left the network.
    register_index : Out, register_value : In, register_there : In(1)
        A register, and whether it is there; ``arm`` is high for the cycle before the first is asked for.
    first_gradient : Out(1)
        The first word of a READ_GRADIENT of stage 1 has come.
    messages : Out(stream of MessageByte)

    Notes
    -----
    A word takes its bytes and one cycle, eight times as long where it only goes into a check sum. No message is begun
    that could have to wait for anything but the host's bytes and the link: vectors are whole before, and a stage that
    has given its first reply gives all. So no two wait for one another.
    """

    request: Any
    control: Any
    echoed: Any
    outputs: Any
    sensitivities: Any
    output_done: Signal
    register_index: Signal
    register_value: Signal
    register_there: Signal
    arm: Signal
    first_gradient: Signal
    messages: Any

    def __init__(self, plan: Plan, identity: bytes) -> None:
        self.plan = plan
        self.identity = identity
        net = plan.net
        self._output = Fixed(net.layer_formats(len(net.layers)).activation)
        self._sensitivity = Fixed(net.formats.sensitivity)
        members: dict[str, Any] = {
            "request": In(stream.Signature(AnswerRequest)),
            "control": In(stream.Signature(control_token(control_data_bits(plan)))),
            "echoed": In(stream.Signature(8)),
            "outputs": In(stream.Signature(self._output)),
            "output_done": Out(1),
            "register_index": Out(range(len(Register))),
            "register_value": In(8 * REGISTER_BYTES),
            "register_there": In(1),
            "arm": Out(1),
            "first_gradient": Out(1),
            "messages": Out(stream.Signature(MessageByte)),
        }
        if net.input_gradient:
            members["sensitivities"] = In(stream.Signature(self._sensitivity))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Load a word, send its bytes."""
        m = Module()
        net = self.plan.net
        sizes = WireSizes(net)
        m.submodules.outputs = outputs = VectorQueue(self._output, net.outputs, 1)
        # Queue, words, bytes of a word, kind of the message.
        vectors: dict[Source, tuple[VectorQueue, int, int, Answer]] = {
            Source.OUTPUT: (outputs, net.outputs, sizes.output_word, Answer.OUTPUT)
        }
        connect_stream(m, wiring.flipped(self.outputs), outputs.i)
        if net.input_gradient:
            m.submodules.sensitivities = sensitivities = VectorQueue(self._sensitivity, net.inputs, 1)
            connect_stream(m, wiring.flipped(self.sensitivities), sensitivities.i)
            vectors[Source.SENSITIVITY] = (sensitivities, net.inputs, sizes.sensitivity_word, Answer.INPUT_SENSITIVITY)
        m.submodules.identity = rom = Memory(shape=8, depth=len(self.identity), init=self.identity)
        m.submodules.sizes = table = StageSizes(sizes)
        m.submodules.check = check = crc.Processor(crc.catalog.CRC32_ETHERNET(1))
        rom_read = rom.read_port()
        rom_byte = Signal(8, reset_less=True)
        m.d.sync += rom_byte.eq(rom_read.data)
        m.d.comb += self.output_done.eq(outputs.arrived)
        request = self.request.payload
        head = len(self.plan.stages) + 1

        part = Signal(Part)
        count = Signal(LENGTH_BITS)  # words of the part from the present one on
        word_bytes = max(MESSAGE_HEADER, sizes.output_word, sizes.sensitivity_word, *sizes.gradient_word)
        word = Signal(signed(8 * word_bytes))
        left = Signal(range(len(word) // 8 + 1))  # bytes of the present word behind the present one
        source = Signal(Source)
        bit = Signal(range(8))  # of a byte that goes into the check sum

        # A read-out: how many words, and of how many bytes.
        replies = Signal(range(max(HEAD_COUNTERS, STAGE_COUNTERS, *sizes.words) + 1))
        reply_bytes = Signal(range(len(word) // 8 + 1))
        reply_length = Signal(LENGTH_BITS)  # with stage and operation
        m.d.comb += table.stage.eq(request.stage)
        reads = (request.answer == Answer.REPLY) | (request.answer == Answer.CHECKSUM)
        m.d.comb += reply_length.eq(2)
        with m.Switch(Mux(request.answer == Answer.CHECKSUM, Operation.READ_WEIGHT, request.operation)):
            with m.Case(Operation.COUNTERS):
                counters = HEAD_COUNTERS, STAGE_COUNTERS
                m.d.comb += [
                    replies.eq(Mux(request.stage == head, *counters)),
                    reply_length.eq(Mux(request.stage == head, *(2 + COUNTER_BYTES * n for n in counters))),
                    reply_bytes.eq(COUNTER_BYTES),
                ]
            with m.Case(Operation.READ_WEIGHT):
                m.d.comb += [
                    replies.eq(table.words),
                    reply_length.eq(table.weights_out),
                    reply_bytes.eq(table.weight_bytes),
                ]
            with m.Case(Operation.READ_GRADIENT):
                m.d.comb += [
                    replies.eq(table.words),
                    reply_length.eq(table.gradients_out),
                    reply_bytes.eq(table.gradient_bytes),
                ]
        read_out = reads & (reply_bytes != 0)
        waits = request.fenced | read_out
        seen = Signal()
        gradient = (request.answer == Answer.REPLY) & (request.operation == Operation.READ_GRADIENT)
        m.d.comb += self.first_gradient.eq(
            self.request.valid & gradient & (request.stage == 1) & self.control.valid & ~seen
        )
        with m.If(self.first_gradient):
            m.d.sync += seen.eq(1)
        with m.If(self.request.valid & self.request.ready):
            m.d.sync += seen.eq(0)

        # Message header.
        kind, length = Signal(8), Signal(LENGTH_BITS)
        with m.If(source == Source.REQUEST):
            m.d.comb += kind.eq(request.answer)
            with m.Switch(request.answer):
                with m.Case(Answer.IDENTITY):
                    m.d.comb += length.eq(NONCE_BYTES + len(self.identity))
                with m.Case(Answer.ECHO):
                    m.d.comb += length.eq(request.count)
                with m.Case(Answer.REGISTERS):
                    m.d.comb += length.eq(REGISTER_BYTES * len(Register))
                with m.Case(Answer.CHECKSUM):
                    m.d.comb += length.eq(1 + CHECK_BYTES)
                with m.Case(Answer.REPLY):
                    m.d.comb += length.eq(reply_length)
                with m.Case(Answer.WRITTEN):
                    m.d.comb += length.eq(1)
                with m.Case(Answer.BAUD):
                    m.d.comb += length.eq(2)
                with m.Case(Answer.REFUSED):
                    m.d.comb += length.eq(REFUSED_BODY)
        for vector, (_, words, word_bytes, answer) in vectors.items():
            with m.If(source == vector):
                m.d.comb += [kind.eq(answer), length.eq(words * word_bytes)]

        # What comes behind this part: another one, with so many words, or nothing.
        following = Signal(Part)
        following_count = Signal(LENGTH_BITS, init=1)
        final = Signal()
        with m.Switch(part):
            with m.Case(Part.HEAD):
                for vector, (_, words, _, _) in vectors.items():
                    with m.If(source == vector):
                        m.d.comb += [following.eq(Part.VECTOR), following_count.eq(words)]
                with m.If(source == Source.REQUEST), m.Switch(request.answer):
                    with m.Case(Answer.IDENTITY):
                        m.d.comb += [following.eq(Part.ECHO), following_count.eq(NONCE_BYTES)]
                    with m.Case(Answer.ECHO):
                        m.d.comb += [following.eq(Part.ECHO), following_count.eq(request.count)]
                    with m.Case(Answer.REGISTERS):
                        m.d.comb += [following.eq(Part.REGISTERS), following_count.eq(len(Register))]
                    with m.Case(Answer.BAUD):
                        m.d.comb += following.eq(Part.PERIOD)
                    with m.Case(Answer.REFUSED):
                        m.d.comb += following.eq(Part.REFUSAL)
                    with m.Case(Answer.COMMITTED):
                        m.d.comb += final.eq(1)
                    with m.Default():
                        m.d.comb += following.eq(Part.PLACE)
            with m.Case(Part.PLACE):
                with m.If(request.answer == Answer.CHECKSUM):
                    m.d.comb += following.eq(Part.CHECK)
                with m.Else():
                    m.d.comb += [following.eq(Part.REPLIES), following_count.eq(replies), final.eq(~read_out)]
            with m.Case(Part.REFUSAL):
                m.d.comb += following.eq(Part.EXPECTED)
            with m.Case(Part.EXPECTED):
                m.d.comb += following.eq(Part.GOT)
            with m.Case(Part.ECHO):
                m.d.comb += [
                    following.eq(Part.IDENTITY),
                    following_count.eq(len(self.identity)),
                    final.eq(request.answer == Answer.ECHO),
                ]
            with m.Case(Part.SUM):
                m.d.comb += following.eq(Part.HEAD)
            with m.Default():
                m.d.comb += final.eq(1)

        # The part's next word, and whether it is there.
        loaded = Signal.like(word)
        size = Signal.like(left)
        there = Signal()
        take = Signal()
        m.d.comb += there.eq(1)
        with m.Switch(part):
            with m.Case(Part.HEAD):
                m.d.comb += [loaded.eq(Cat(kind, length)), size.eq(MESSAGE_HEADER)]
            with m.Case(Part.PLACE):
                m.d.comb += [loaded[:8].eq(request.stage), loaded[8:16].eq(request.operation)]
                m.d.comb += size.eq(Mux(request.answer == Answer.REPLY, 2, 1))
            with m.Case(Part.PERIOD):
                m.d.comb += [loaded.eq(request.period), size.eq(2)]
            with m.Case(Part.REFUSAL):
                m.d.comb += [loaded.eq(Cat(request.kind, request.reason)), size.eq(2)]
            with m.Case(Part.EXPECTED):
                m.d.comb += [loaded.eq(request.expected), size.eq(REFUSED_NUMBER)]
            with m.Case(Part.GOT):
                m.d.comb += [loaded.eq(request.got), size.eq(REFUSED_NUMBER)]
            with m.Case(Part.ECHO):
                m.d.comb += [loaded.eq(self.echoed.payload), size.eq(1), there.eq(self.echoed.valid)]
                m.d.comb += self.echoed.ready.eq(take)
            with m.Case(Part.IDENTITY):
                m.d.comb += [loaded.eq(rom_byte), size.eq(1)]
            with m.Case(Part.REGISTERS):
                m.d.comb += [loaded.eq(self.register_value), size.eq(REGISTER_BYTES), there.eq(self.register_there)]
            with m.Case(Part.REPLIES, Part.SUM):
                m.d.comb += [loaded.eq(self.control.payload.data), size.eq(reply_bytes), there.eq(self.control.valid)]
                m.d.comb += self.control.ready.eq(take)
            with m.Case(Part.CHECK):
                m.d.comb += [loaded.eq(check.crc), size.eq(CHECK_BYTES)]
            with m.Case(Part.VECTOR):
                for vector, (queue, _, word_bytes, _) in vectors.items():
                    with m.If(source == vector):
                        m.d.comb += [loaded.eq(queue.o.payload), size.eq(word_bytes), queue.o.ready.eq(take)]

        # Of the present word, known before it is sent: the part ends with it, the message does; what follows if not.
        ends, ends_message = Signal(), Signal()
        next_part, next_count = Signal(Part), Signal(LENGTH_BITS)
        m.d.comb += [
            # Asked for two cycles before: while the byte before is loaded.
            rom_read.addr.eq(Mux(part == Part.IDENTITY, len(self.identity) + 1 - count, 0)),
            self.register_index.eq(len(Register) - count),
            self.messages.payload.byte.eq(word[:8]),
            self.messages.payload.last.eq((left == 0) & ends & ends_message),
            # A bit a cycle: no host waits for a check sum as it waits for words.
            check.data.eq(word[:8].bit_select(bit, 1)),
        ]
        begin = Signal()  # another message
        sums = part == Part.SUM
        m.d.sync += [bit.eq(Mux(check.valid, bit + 1, 0)), self.request.ready.eq(0), self.arm.eq(0)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += check.start.eq(1)
                m.d.sync += [part.eq(Part.HEAD), count.eq(1), source.eq(Source.REQUEST)]
                whole: Any = 0
                for vector, (queue, _, _, _) in reversed(vectors.items()):
                    whole = whole | queue.whole
                    with m.If(queue.whole):
                        m.d.comb += begin.eq(1)
                        m.d.sync += source.eq(vector)
                with m.If(~whole & self.request.valid & ~self.request.ready & (~waits | self.control.valid)):
                    m.d.comb += [begin.eq(1), self.control.ready.eq(request.fenced)]
                    with m.If(request.answer == Answer.CHECKSUM):
                        m.d.sync += [part.eq(Part.SUM), count.eq(replies)]
                    m.d.sync += self.arm.eq(request.answer == Answer.REGISTERS)
                with m.If(begin):
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += take.eq(1)
                m.d.sync += [word.eq(loaded), left.eq(size - 1), ends.eq(count == 1), ends_message.eq(final)]
                m.d.sync += [next_part.eq(following), next_count.eq(following_count)]
                with m.If(there):
                    m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [self.messages.valid.eq(~sums), check.valid.eq(sums)]
                with m.If(Mux(sums, bit.all(), self.messages.ready)):
                    m.d.sync += [word.eq(word >> 8), left.eq(left - 1)]
                    with m.If(left == 0):
                        m.d.sync += count.eq(count - 1)
                        m.next = "LOAD"
                        with m.If(ends):
                            m.d.sync += [part.eq(next_part), count.eq(next_count)]
                            with m.If(ends_message):
                                m.d.sync += self.request.ready.eq(source == Source.REQUEST)
                                m.next = "IDLE"
        return m
