"""A stage's short memory of past inputs: what keeps each sample's products together."""

from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from dyadprop.widths import StageNumbers
from dyadprop_hw.claims import claim
from dyadprop_hw.layouts import Fixed, activation_token
from dyadprop_hw.streams import Count


class SampleMemory(wiring.Component):
    """Hold the input vectors of the samples in flight, oldest first.

    A sample arrives word by word, waits for its forward pass, and stays until its backward pass has used it. A sample
    that is not to be learnt from leaves as soon as it is the oldest and its forward pass is over.

    Parameters
    ----------
    numbers : StageNumbers
    depth : int
        Samples, at least 1.

    Members
    -------
    activation_in : In(stream.Signature(activation_token))
        ``n_in`` words a sample.
    forward_ready, backward_ready : Out(1)
        A whole sample waits for its forward pass; the oldest one for its backward pass.
    forward_learn, forward_update : Out(1)
        Flags of the sample in its forward pass, from the second cycle on: to be learnt from; the step follows.
    backward_update : Out(1)
        Of the sample in its backward pass.
    forward_start, forward_next, forward_row, forward_end : In(1)
        Take the waiting sample, a cycle after that was decided; go to its next column; back to its first column; done
        with it (comes with ``forward_row``).
    backward_start, backward_next, backward_end : In(1)
        The same for the backward pass; the end sets the sample's place free.
    forward_activation, backward_activation : Out(Fixed(A_{l-1}))
        The present column's activation, one cycle after its address.
    stored, waiting : Out
        Samples held (arriving ones too), and those whose forward pass has not started.

    Notes
    -----
    ``depth * n_in`` words, one writer and two readers. A place is free ``timing.RELEASE`` after ``backward_end``, so
    behind its last read, and written later: reader and writer never meet in one word.
    """

    activation_in: Any
    depth: int

    def __init__(self, numbers: StageNumbers, depth: int) -> None:
        if depth < 1:
            raise ValueError(f"depth of a sample memory is {depth}; it must be at least 1")
        self.numbers = numbers
        self.depth = depth
        super().__init__(
            {
                "activation_in": In(stream.Signature(activation_token(numbers.input))),
                "forward_ready": Out(1),
                "forward_learn": Out(1),
                "forward_update": Out(1),
                "backward_update": Out(1),
                "forward_start": In(1),
                "forward_next": In(1),
                "forward_row": In(1),
                "forward_end": In(1),
                "backward_ready": Out(1),
                "backward_start": In(1),
                "backward_next": In(1),
                "backward_end": In(1),
                "forward_activation": Out(Fixed(numbers.input)),
                "backward_activation": Out(Fixed(numbers.input)),
                "stored": Out(range(depth + 1)),
                "waiting": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the ring of places."""
        m = Module()
        inputs, words = self.numbers.inputs, self.depth * self.numbers.inputs
        m.submodules.words = memory = Memory(shape=Fixed(self.numbers.input), depth=words, init=[])
        write = memory.write_port()
        forward_read = memory.read_port()
        backward_read = memory.read_port()
        learn, update = (
            Array(Signal(name=f"{flag}_{place}", reset_less=True) for place in range(self.depth))
            for flag in ("learn", "update")
        )

        stored, waiting, finished = (Count(self.depth, name) for name in ("stored_count", "waiting_count", "finished"))

        def after(value: Signal, limit: int) -> Any:
            return Mux(value == limit - 1, 0, value + 1)

        def next_base(base: Signal, name: str) -> Signal:
            # A pass takes two cycles or more.
            following = Signal.like(base, name=name, init=inputs % words)
            m.d.sync += following.eq(Mux(base == words - inputs, 0, base + inputs))
            return following

        # Arrival: words are stored one behind the other, so the ring needs one counter and the sample's column another.
        write_address = Signal(range(words))
        write_column = Signal(range(inputs))
        write_place = Signal(range(self.depth))
        token = self.activation_in
        accepted = token.valid & token.ready
        first, last = Signal(init=1), Signal(init=inputs == 1)  # of write_column: a sample's first, last
        arrived = accepted & last
        begun = token.valid & first & stored.room
        m.d.comb += [
            token.ready.eq(~first | stored.room),
            write.addr.eq(write_address),
            write.data.eq(token.payload.value),
            write.en.eq(accepted),
        ]
        with m.If(accepted):
            m.d.sync += [
                write_address.eq(after(write_address, words)),
                write_column.eq(after(write_column, inputs)),
                first.eq(last),
                last.eq(after(write_column, inputs) == inputs - 1),
            ]
        # Flags are wanted ``timing.COUNTED`` later at the earliest, and so may be put down a cycle late.
        begun_q1, arrived_q1 = Signal(), Signal()
        learn_q1, update_q1 = Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            begun_q1.eq(begun),
            arrived_q1.eq(arrived),
            learn_q1.eq(token.payload.learn),
            update_q1.eq(token.payload.update),
        ]
        with m.If(begun_q1):
            m.d.sync += [
                learn[write_place].eq(learn_q1),
                update[write_place].eq(update_q1),
            ]
        with m.If(arrived_q1):
            m.d.sync += write_place.eq(after(write_place, self.depth))

        # Forward: the columns of one sample, once for each row group.
        forward_base = Signal(range(words))
        forward_base_after = next_base(forward_base, "forward_base_after")
        forward_address = Signal(range(words))
        forward_place = Signal(range(self.depth))
        m.d.comb += [
            forward_read.addr.eq(forward_address),
        ]
        # The place counts on at the start: the next sample's flags are wanted while this one's pass still runs.
        following = data.View(data.StructLayout({"learn": 1, "update": 1}), Signal(2, name="following"))
        m.d.sync += [following.learn.eq(learn[forward_place]), following.update.eq(update[forward_place])]
        with m.If(self.forward_start):
            m.d.sync += [
                self.forward_learn.eq(following.learn),
                self.forward_update.eq(following.update),
                forward_place.eq(after(forward_place, self.depth)),
            ]
        with m.If(self.forward_next):
            m.d.sync += forward_address.eq(forward_address + 1)
        with m.If(self.forward_row):
            m.d.sync += forward_address.eq(forward_base)
        with m.If(self.forward_end):
            m.d.sync += [
                forward_base.eq(forward_base_after),
                forward_address.eq(forward_base_after),
            ]

        # Backward: the oldest sample; one that is not learnt from is dropped here instead.
        backward_base = Signal(range(words))
        backward_base_after = next_base(backward_base, "backward_base_after")
        backward_address = Signal(range(words))
        backward_place = Signal(range(self.depth))
        backward_busy = Signal()
        oldest_learns, oldest_updates = Signal(), Signal()
        # One that is taken changes the count a cycle later, and its successor is the oldest one yet a cycle later.
        dropped, taken_q1 = Signal(), Signal()
        taken = self.backward_start | dropped
        known = finished.some & ~taken & ~taken_q1
        m.d.comb += [
            backward_read.addr.eq(backward_address),
            self.backward_ready.eq(known & oldest_learns),
        ]
        m.d.sync += [
            dropped.eq(known & ~oldest_learns & ~backward_busy),
            taken_q1.eq(taken),
            oldest_learns.eq(learn[backward_place]),
            oldest_updates.eq(update[backward_place]),
        ]
        with m.If(taken):
            m.d.sync += backward_place.eq(after(backward_place, self.depth))
        with m.If(self.backward_end):
            m.d.sync += backward_busy.eq(0)
        with m.If(self.backward_start):
            m.d.sync += [backward_busy.eq(1), self.backward_update.eq(oldest_updates)]
        with m.If(self.backward_next):
            m.d.sync += backward_address.eq(backward_address + 1)
        gone = self.backward_end | dropped
        with m.If(gone):
            m.d.sync += [backward_base.eq(backward_base_after), backward_address.eq(backward_base_after)]

        # What is counted for a pass may come from far away; whoever waits for it loses a cycle.
        forward_end_q1, gone_q1 = Signal(), Signal()
        m.d.sync += [forward_end_q1.eq(self.forward_end), gone_q1.eq(gone)]
        stored.drive(m, begun, gone_q1)
        waiting.drive(m, arrived_q1, self.forward_start)
        finished.drive(m, forward_end_q1, taken)
        # A word is never written while it is read.
        reads_forward = self.forward_next | self.forward_row
        reads_backward = self.backward_next | self.backward_end
        claim(m, ~(write.en & reads_forward & (write.addr == forward_address)))
        claim(m, ~(write.en & reads_backward & (write.addr == backward_address)))
        m.d.comb += [
            self.stored.eq(stored.value),
            self.waiting.eq(waiting.value),
            self.forward_ready.eq(waiting.some),
            self.forward_activation.eq(forward_read.data),
            self.backward_activation.eq(backward_read.data),
        ]
        return m
