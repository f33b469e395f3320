"""A stage's place on the control chain, and what it does with the words addressed to it."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from dyadprop import timing
from dyadprop.operations import COUNTER_BITS, STAGE_COUNTERS, Operation
from dyadprop_hw.claims import claim
from dyadprop_hw.lane import LaneShape
from dyadprop_hw.layouts import BackwardOperation, ControlKind, control_token, delayed, register_wave
from dyadprop_hw.streams import Count, Queue
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
    operations : Out(len(Operation))
        While a command is offered the bit of its operation, else none: out of registers, so that nobody decodes.
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
    operations: Signal
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
                "operations": Out(len(Operation)),
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
        held, done = Signal(), Signal()  # there is a command; it was taken in the cycle before
        operations = Signal.like(self.operations)  # its own
        own = queue.o.payload.own
        m.d.comb += [
            queue.i.valid.eq(self.control_in.valid),
            self.control_in.ready.eq(queue.i.ready),
            queue.i.payload.word.eq(entering),
            queue.i.payload.own.eq((entering.kind == ControlKind.COMMAND) & (entering.stage == self.index)),
            self.command.payload.eq(word),
            # What says that it was taken comes late, and so is put in front of nothing but its users.
            self.command.valid.eq(held & ~done),
            self.operations.eq(operations & ~done.replicate(len(operations))),
            self.reply.ready.eq(out.ready),
            queue.o.ready.eq(Mux(own, done, out.ready)),
            out.valid.eq(self.reply.valid | (queue.o.valid & ~own)),
            out.payload.eq(word),
        ]
        with m.If(self.command.valid):
            m.d.comb += [
                out.payload.kind.eq(ControlKind.REPLY),
                out.payload.data.eq(self.reply.payload),
            ]
        claim(m, ~self.reply.valid | self.command.valid)
        waits = queue.o.valid & own & ~done
        m.d.sync += [
            done.eq(self.command.valid & self.command.ready),
            held.eq(waits),
            *(operations[which].eq(waits & (word.operation == which)) for which in Operation),
        ]
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
        last = Signal(init=self.count == 1)  # of the positions
        # Counters go on counting: what is offered is kept.
        value = Signal(COUNTER_BITS, reset_less=True)
        taken = self.reply.valid & self.reply.ready
        m.d.comb += [self.reply.payload.eq(value), self.done.eq(taken & last)]
        with m.If(~self.reply.valid):
            m.d.sync += self.reply.valid.eq(self.start)
            with m.Switch(position):
                for i in range(self.count):
                    with m.Case(i):
                        m.d.sync += value.eq(self.counters[i])
        with m.Elif(taken):
            m.d.sync += [self.reply.valid.eq(0), position.eq(Mux(last, 0, position + 1))]
            if self.count > 1:
                m.d.sync += last.eq(position == self.count - 2)
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
    operations : In(len(Operation))
        Of the command that is offered (`ControlPort`).
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
    many read-outs as the answer queue holds are under way at once. What is decided leaves as a wave
    ``timing.DECISION`` cycles later; in between it is given its place, and moves the count of words.
    """

    command: Any
    operations: Signal
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
                "operations": In(len(Operation)),
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
        """Run one command at a time."""
        m = Module()
        shape = self.shape
        rate = Signal(shape.rate)
        m.submodules.counter = counter = WordCounter(shape)
        # Answers on their way and waiting: the queue has room for each read-out before it starts.
        credits = shape.plan.answer_words
        m.submodules.answers = answers = Queue(self.reply.payload.shape(), credits)
        m.submodules.counts = counts = CounterReply(STAGE_COUNTERS, self.reply.payload.shape())
        under_way = Count(credits, "under_way")
        issued, final = Signal(), Signal()  # all read-outs of this command are on their way; one is left
        storing = Signal(range(timing.GRADIENT))  # until reads see what WRITE_GRADIENT has sent last
        # Reads see it, and there is room for the read-out of this cycle, those of its two neighbours, which are not
        # counted yet either, and a word to be read.
        may_read = Signal()
        m.d.sync += [answers.i.valid.eq(self.word_valid), answers.i.payload.eq(self.word_data)]
        m.d.comb += [
            *(count.eq(counter) for count, counter in zip(counts.counters, self.counters, strict=True)),
        ]
        claim(m, ~answers.i.valid | answers.i.ready)
        offered = self.command.payload
        claim(m, self.operations == Mux(self.command.valid, 1 << offered.operation, 0))

        begins, counts_asked = self.operations[Operation.BEGIN], self.operations[Operation.COUNTERS]
        # These wait for the stage to be quiet, and then take a cycle.
        stores, clears, stores_gradient, sets_rate = (
            self.operations[which] & self.quiet
            for which in (Operation.WORD, Operation.CLEAR, Operation.WRITE_GRADIENT, Operation.RATE)
        )
        reads = self.operations[Operation.READ_WEIGHT] | self.operations[Operation.READ_GRADIENT]
        reads_now = Signal()
        # Decided: a weight, a gradient, a read-out, a rate.
        writes_q1, stores_q1, issue_q1, sets_rate_q1 = Signal(), Signal(), Signal(), Signal()
        word_q1 = Signal.like(offered.data, reset_less=True)
        issue, taken, answered = Signal(), Signal(), Signal()
        ended = Signal()  # the last answer was taken in the cycle before
        m.d.sync += [
            ended.eq(answered | counts.done),
            writes_q1.eq(stores),
            stores_q1.eq(stores_gradient),
            issue_q1.eq(reads_now),
            sets_rate_q1.eq(sets_rate),
            word_q1.eq(offered.data),
            counter.step.eq(stores | stores_gradient | reads_now),
            counter.restart.eq(begins | issued),
        ]
        m.d.comb += [
            reads_now.eq(reads & self.quiet & may_read),
            # One more than there are words has been decided when the last one is seen: no wave leaves, and the counter
            # is set back behind it.
            issue.eq(issue_q1 & ~issued),
            taken.eq(answers.o.valid & self.reply.ready),
            answered.eq(final & taken),
            counts.start.eq(counts_asked & ~ended),
            counts.reply.ready.eq(self.reply.ready),
            answers.o.ready.eq(self.reply.ready),
            self.reply.valid.eq(counts.reply.valid | answers.o.valid),
            self.reply.payload.eq(Mux(counts.reply.valid, counts.reply.payload, answers.o.payload)),
            # One that answers is done behind its last answer, BEGIN at once, any other when the stage is quiet.
            self.command.ready.eq(ended | (~(reads | counts_asked) & (begins | self.quiet))),
        ]
        # Both give nothing unless they are asked.
        claim(m, ~answers.o.valid | reads)
        claim(m, ~counts.reply.valid | counts_asked)
        under_way.drive(m, issue, taken)
        m.d.sync += may_read.eq((under_way.value < credits - 2) & (storing <= 1) & ~issued)
        with m.If(issue & counter.last):
            m.d.sync += [issued.eq(1), may_read.eq(0)]
        with m.If(answered):
            m.d.sync += issued.eq(0)
        # A cycle late behind the last read-out's start, but long before its answer.
        m.d.sync += final.eq(issued & (under_way.value == Mux(taken, 2, 1)))
        with m.If(storing != 0):
            m.d.sync += storing.eq(storing - 1)
        with m.If(stores_gradient):
            m.d.sync += [storing.eq(timing.GRADIENT - 1), may_read.eq(0)]
        with m.If(self.learnt | stores_gradient):
            m.d.sync += self.fresh.eq(0)
        with m.If(clears):
            m.d.sync += self.fresh.eq(1)
        with m.If(sets_rate_q1):
            m.d.sync += [
                rate.shift.eq(word_q1),
                rate.mask.eq(~(~Const(0, len(rate.mask)) << word_q1[: len(rate.shift)])),
            ]

        write, read = Signal(shape.forward), Signal(shape.backward)
        m.d.comb += [
            write.valid.eq(writes_q1),
            write.write.eq(1),
            write.lane.eq(counter.lane),
            write.address.eq(counter.address),
            write.operand.eq(word_q1),
            read.valid.eq(stores_q1 | issue),
            read.operation.eq(BackwardOperation.READ_GRADIENT),
            read.fresh.eq(self.fresh),
            read.lane.eq(counter.lane),
            read.address.eq(counter.address),
        ]
        with m.If(self.operations[Operation.READ_WEIGHT]):
            m.d.comb += read.operation.eq(BackwardOperation.READ_WEIGHT)
        with m.If(stores_q1):
            m.d.comb += read.operation.eq(BackwardOperation.WRITE_GRADIENT)
        register_wave(m, write, self.write)
        register_wave(m, read, self.read)

        # The stored gradient meets its wave where a lane adds to the partial sum. A register of its own says whether
        # there is one: it resets a whole word.
        stores_q2 = Signal()
        word_q2 = delayed(m, word_q1, 1, "stored_word")
        partial = Signal.like(self.partial, name="stored")
        m.d.sync += stores_q2.eq(stores_q1)
        m.d.comb += [
            partial.eq(Mux(stores_q2, word_q2, 0)),
            self.partial.eq(delayed(m, partial, timing.ENTRY + timing.PARTIAL - 1, "partial")),
            self.rate.eq(rate),
        ]
        return m
