"""A stage's place on the control chain, and what it does with the words addressed to it."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from dyadprop import timing
from dyadprop.operations import COUNTER_BITS, STAGE_COUNTERS, Operation
from dyadprop_hw.claims import claim
from dyadprop_hw.lane import LaneShape
from dyadprop_hw.layouts import BackwardOperation, ControlKind, control_token
from dyadprop_hw.streams import Queue
from dyadprop_hw.word_counter import WordCounter


class ControlPort(wiring.Component):
    """Keep the commands for one place of the chain, pass everything else on.

    Each step on a command's way ends in a register, so that no path leads from one place through what another does.

    Parameters
    ----------
    index : int
        ``stage`` of the commands that are kept.
    data_bits : int

    Members
    -------
    control_in, control_out : stream of control_token
        From and to the neighbours.
    command : Out(stream)
        The kept command, once it is seen; while it is held, the chain waits behind it.
    reply : In(stream of signed(data_bits))
        Answers, only while a command is held: so replies leave in the order of the commands.

    Notes
    -----
    ``timing.QUEUE`` cycles a place, one word a cycle. A command of this place is offered ``timing.COMMAND`` cycles
    after it was taken in, and leaves the queue the cycle after it is done: three cycles for each that takes one.
    """

    control_in: Any
    control_out: Any
    command: Any
    reply: Any

    def __init__(self, index: int, data_bits: int) -> None:
        self.index = index
        self.data_bits = data_bits
        token = control_token(data_bits)
        super().__init__(
            {
                "control_in": In(stream.Signature(token)),
                "control_out": Out(stream.Signature(token)),
                "command": Out(stream.Signature(token)),
                "reply": In(stream.Signature(self.control_data)),
            }
        )

    @property
    def control_data(self) -> Any:
        """Shape of a reply's data."""
        return control_token(self.data_bits)["data"].shape

    def elaborate(self, platform: object) -> Module:
        """Split by address in front of a queue, merge behind it."""
        m = Module()
        token = control_token(self.data_bits)
        m.submodules.queue = queue = Queue(data.StructLayout({"own": 1, "word": token}), 2)
        entering, word, out = self.control_in.payload, queue.o.payload.word, self.control_out
        held, done = Signal(), Signal()  # a command is offered; it has been taken
        own = queue.o.payload.own
        m.d.comb += [
            queue.i.valid.eq(self.control_in.valid),
            self.control_in.ready.eq(queue.i.ready),
            queue.i.payload.word.eq(entering),
            queue.i.payload.own.eq((entering.kind == ControlKind.COMMAND) & (entering.stage == self.index)),
            self.command.payload.eq(word),
            self.command.valid.eq(held),
            self.reply.ready.eq(out.ready),
            queue.o.ready.eq(Mux(own, done, out.ready)),
            out.valid.eq(Mux(held, self.reply.valid, queue.o.valid & ~own)),
            out.payload.eq(word),
        ]
        with m.If(held):
            m.d.comb += [
                out.payload.kind.eq(ControlKind.REPLY),
                out.payload.data.eq(self.reply.payload),
            ]
        taken = held & self.command.ready
        m.d.sync += [done.eq(taken), held.eq(queue.o.valid & own & ~taken & ~done)]
        return m


class CounterReply(wiring.Component):
    """Answer COUNTERS: one word a counter, in order.

    Parameters
    ----------
    count : int
        Counters.
    data_bits : int

    Members
    -------
    start : In(1)
        Held while the command is at the head.
    counters : Out-facing array of In(COUNTER_BITS)
    reply : Out(stream of signed(data_bits))
    done : Out(1)
        In the cycle in which the last word is taken.
    """

    start: Signal
    counters: Any
    reply: Any
    done: Signal

    def __init__(self, count: int, shape: Any) -> None:
        self.count = count
        super().__init__(
            {
                "start": In(1),
                "counters": In(COUNTER_BITS).array(count),
                "reply": Out(stream.Signature(shape)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count through the counters."""
        m = Module()
        position = Signal(range(self.count))
        # Counters go on counting: what is offered is kept.
        value = Signal(COUNTER_BITS, reset_less=True)
        taken = self.reply.valid & self.reply.ready
        m.d.comb += [self.reply.payload.eq(value), self.done.eq(taken & (position == self.count - 1))]
        with m.If(~self.reply.valid):
            m.d.sync += self.reply.valid.eq(self.start)
            with m.Switch(position):
                for i in range(self.count):
                    with m.Case(i):
                        m.d.sync += value.eq(self.counters[i])
        with m.Elif(taken):
            m.d.sync += [self.reply.valid.eq(0), position.eq(Mux(self.done, 0, position + 1))]
        return m


class StageControl(wiring.Component):
    """Carry out the commands of one stage.

    Parameters
    ----------
    shape : LaneShape
    data_bits : int

    Members
    -------
    command : In(stream of control_token)
    reply : Out(stream of signed(data_bits))
    quiet : In(1)
        No sample is in flight in this stage.
    write : Out(forward_wave)
        A weight on its way to its lane.
    read : Out(backward_wave)
        A read-out on its way to its lane.
    word : In(stream-less valid and data)
        ``word_valid``, ``word_data``: the read-out's answer from the end of the chain.
    fresh : Out(1)
        Gradients start from zero; read-outs of them give zero.
    learnt : In(1)
        A backward pass has ended: gradients hold something.
    counters : array of In(COUNTER_BITS)
        Activation, sensitivity, weight.
    rate : Out(rate_layout)
        Zero shift until it is set.
    partial : Out(signed(partial_bits))
        A gradient to be stored, when its wave's partial sum is due at lane 0; else zero.

    Notes
    -----
    WORD takes one cycle; a read-out ``words + latency`` cycles, one word a cycle unless the chain makes it wait: as
    many read-outs as the answer queue holds are under way at once.
    """

    command: Any
    reply: Any
    quiet: Signal
    write: data.View
    read: data.View
    word_valid: Signal
    word_data: Signal
    fresh: Signal
    learnt: Signal
    counters: Any
    rate: data.View
    partial: Signal

    def __init__(self, shape: LaneShape, data_bits: int) -> None:
        self.shape = shape
        self.data_bits = data_bits
        token = control_token(data_bits)
        super().__init__(
            {
                "command": In(stream.Signature(token)),
                "reply": Out(stream.Signature(token["data"].shape)),
                "quiet": In(1),
                "write": Out(shape.forward),
                "read": Out(shape.backward),
                "word_valid": In(1),
                "word_data": In(token["data"].shape),
                "fresh": Out(1, init=1),
                "learnt": In(1),
                "counters": In(COUNTER_BITS).array(STAGE_COUNTERS),
                "rate": Out(shape.rate),
                "partial": Out(signed(shape.partial_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Decode; run one read-out at a time."""
        m = Module()
        shape = self.shape
        rate = Signal(shape.rate)
        m.submodules.counter = counter = WordCounter(shape)
        # Answers on their way and waiting: the queue has room for each read-out before it starts.
        credits = shape.plan.answer_words
        m.submodules.answers = answers = Queue(self.reply.payload.shape(), credits)
        m.submodules.counts = counts = CounterReply(STAGE_COUNTERS, self.reply.payload.shape())
        under_way = Signal(range(credits + 1))
        issued = Signal()  # all read-outs of this command are on their way
        storing = Signal(range(timing.GRADIENT))  # until reads see what WRITE_GRADIENT has sent last
        stored = Signal(init=1)
        room = Signal()  # for the read-out of this cycle and that of the next
        m.d.comb += [
            answers.i.valid.eq(self.word_valid),
            answers.i.payload.eq(self.word_data),
            *(count.eq(counter) for count, counter in zip(counts.counters, self.counters, strict=True)),
        ]
        claim(m, ~answers.i.valid | answers.i.ready)
        operation = self.command.payload.operation
        with m.If(self.learnt):
            m.d.sync += self.fresh.eq(0)

        with m.If(storing != 0):
            m.d.sync += [storing.eq(storing - 1), stored.eq(storing == 1)]
        issue = Signal()
        taken = Signal()
        m.d.sync += [under_way.eq(under_way + issue - taken), room.eq(under_way < credits - 1)]
        with m.If(self.command.valid):
            with m.Switch(operation):
                with m.Case(Operation.BEGIN):
                    m.d.comb += [self.command.ready.eq(1), counter.restart.eq(1)]
                with m.Case(Operation.WORD):
                    m.d.comb += [
                        self.command.ready.eq(self.quiet),
                        counter.step.eq(self.quiet),
                        self.write.valid.eq(self.quiet),
                    ]
                with m.Case(Operation.CLEAR):
                    m.d.comb += self.command.ready.eq(self.quiet)
                    with m.If(self.quiet):
                        m.d.sync += self.fresh.eq(1)
                with m.Case(Operation.COUNTERS):
                    m.d.comb += [
                        counts.start.eq(1),
                        self.command.ready.eq(counts.done),
                        self.reply.valid.eq(counts.reply.valid),
                        self.reply.payload.eq(counts.reply.payload),
                        counts.reply.ready.eq(self.reply.ready),
                    ]
                with m.Case(Operation.READ_WEIGHT, Operation.READ_GRADIENT):
                    m.d.comb += [
                        issue.eq(self.quiet & ~issued & room & stored),
                        self.reply.valid.eq(answers.o.valid),
                        self.reply.payload.eq(answers.o.payload),
                        answers.o.ready.eq(self.reply.ready),
                        taken.eq(answers.o.valid & answers.o.ready),
                        counter.step.eq(issue),
                        self.read.valid.eq(issue),
                        self.command.ready.eq(issued & taken & (under_way == 1)),
                    ]
                    with m.If(issue & counter.last):
                        m.d.sync += issued.eq(1)
                    with m.If(self.command.ready):
                        m.d.sync += issued.eq(0)
                with m.Case(Operation.WRITE_GRADIENT):
                    m.d.comb += [
                        self.command.ready.eq(self.quiet),
                        counter.step.eq(self.quiet),
                        self.read.valid.eq(self.quiet),
                    ]
                    with m.If(self.quiet):
                        m.d.sync += [self.fresh.eq(0), storing.eq(timing.GRADIENT - 1), stored.eq(0)]
                with m.Case(Operation.RATE):
                    m.d.comb += self.command.ready.eq(self.quiet)
                    with m.If(self.quiet):
                        m.d.sync += [
                            rate.shift.eq(self.command.payload.data),
                            rate.mask.eq(~(~Const(0, len(rate.mask)) << self.command.payload.data[: len(rate.shift)])),
                        ]
                with m.Default():
                    m.d.comb += self.command.ready.eq(1)  # not known: dropped; drivers see no answer

        m.d.comb += [
            self.write.write.eq(1),
            self.write.lane.eq(counter.lane),
            self.write.address.eq(counter.address),
            self.write.operand.eq(self.command.payload.data),
            self.read.operation.eq(BackwardOperation.READ_GRADIENT),
            self.read.fresh.eq(self.fresh),
            self.read.lane.eq(counter.lane),
            self.read.address.eq(counter.address),
        ]
        with m.If(operation == Operation.READ_WEIGHT):
            m.d.comb += self.read.operation.eq(BackwardOperation.READ_WEIGHT)
        with m.Elif(operation == Operation.WRITE_GRADIENT):
            m.d.comb += self.read.operation.eq(BackwardOperation.WRITE_GRADIENT)

        # The stored gradient meets its wave where a lane adds to the partial sum.
        partial: Any = Mux(self.read.valid & (operation == Operation.WRITE_GRADIENT), self.command.payload.data, 0)
        for cycle in range(timing.PARTIAL):
            partial_next = Signal.like(self.partial, name=f"partial_q{cycle + 1}", reset_less=True)
            m.d.sync += partial_next.eq(partial)
            partial = partial_next
        m.d.comb += [self.partial.eq(partial), self.rate.eq(rate)]
        return m
