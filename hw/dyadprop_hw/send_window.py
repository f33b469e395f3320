"""The packets that are kept until the host has them."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from dyadprop.protocol import MAX_PAYLOAD, SEND_SLOTS
from dyadprop_hw.claims import claim
from dyadprop_hw.receive_window import check_slots

MessageByte = data.StructLayout({"byte": 8, "last": 1})
"""A byte of a message; ``last``: the message ends with it."""


class SendWindow(wiring.Component):
    """Gather messages into numbered packets, and keep those until they are acknowledged.

    Parameters
    ----------
    slots : int
        Packets that it has room for, a power of two, at least 2.

    Members
    -------
    messages : In(stream of MessageByte)
    quiet : In(1)
        Nothing is being sent: a message that has ended needs no company.
    pending : Out(1), number : Out(16), length : Out
        A packet to be sent, for the first time or again.
    take : In(1)
        It is being sent from now on.
    offset : In, byte : Out(8)
        A byte of the packet taken last: asked for in one cycle, there in the next but one.
    acknowledge : In(16), acknowledged : In(1)
        The host has all before this number. Nothing happens if that is before the oldest one kept, or if one before it
        was never sent.
    again : In(1)
        Comes with ``acknowledged``: send again what is left.
    next_new : Out(16)
        Number of the next packet that is sent for the first time.
    empty : Out(1)
        Everything that came has been taken at least once.
    begin : In(1), first : In(16)
        Forget everything, and begin with this number.

    Notes
    -----
    A packet's slot is its number modulo their count. One byte a cycle.
    """

    messages: Any
    quiet: Signal
    pending: Signal
    number: Signal
    length: Signal
    take: Signal
    offset: Signal
    byte: Signal
    acknowledge: Signal
    acknowledged: Signal
    again: Signal
    next_new: Signal
    empty: Signal
    begin: Signal
    first: Signal

    def __init__(self, slots: int = SEND_SLOTS) -> None:
        check_slots(slots)
        self.slots = slots
        super().__init__(
            {
                "messages": In(stream.Signature(MessageByte)),
                "quiet": In(1),
                "pending": Out(1),
                "number": Out(16),
                "length": Out(range(MAX_PAYLOAD + 1)),
                "take": In(1),
                "offset": In(range(MAX_PAYLOAD)),
                "byte": Out(8),
                "acknowledge": In(16),
                "acknowledged": In(1),
                "again": In(1),
                "next_new": Out(16),
                "empty": Out(1),
                "begin": In(1),
                "first": In(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep a ring of slots; all counts are from the oldest one kept."""
        m = Module()
        m.submodules.slots = slots = Memory(shape=8, depth=self.slots * MAX_PAYLOAD, init=[])
        m.submodules.lengths = lengths = Memory(shape=range(MAX_PAYLOAD + 1), depth=self.slots, init=[])
        write, read = slots.write_port(), slots.read_port()
        length_write, length_read = lengths.write_port(), lengths.read_port()
        slot_bits = self.slots.bit_length() - 1
        oldest = Signal(16)
        counts = range(self.slots + 1)
        whole, sent, cursor = Signal(counts), Signal(counts), Signal(counts)
        filled = Signal(range(MAX_PAYLOAD + 1))  # bytes in the slot behind the whole ones
        ended = Signal()  # its last byte ends a message
        looked_up = Signal()  # ``length_read`` holds the length of the packet at the cursor
        sending = Signal(slot_bits, reset_less=True)

        open_slot = Signal(slot_bits)
        m.d.comb += [
            open_slot.eq(oldest + whole),
            self.number.eq(oldest + cursor),
            self.next_new.eq(oldest + sent),
            self.empty.eq((whole == sent) & (filled == 0)),
        ]

        # Bytes come in.
        enters = self.messages.valid & self.messages.ready
        full = Signal()
        close = Signal()
        m.d.comb += [
            self.messages.ready.eq((whole != self.slots) & ~full),
            write.en.eq(enters),
            write.addr.eq(Cat(filled[: len(self.offset)], open_slot)),
            write.data.eq(self.messages.payload.byte),
            close.eq(full | (ended & self.quiet & (cursor == whole) & ~enters)),
            length_write.en.eq(close),
            length_write.addr.eq(open_slot),
            length_write.data.eq(filled),
        ]
        with m.If(enters):
            m.d.sync += [
                filled.eq(filled + 1),
                full.eq(filled == MAX_PAYLOAD - 1),
                ended.eq(self.messages.payload.last),
            ]
        with m.If(close):
            m.d.sync += [filled.eq(0), full.eq(0), ended.eq(0)]

        # Packets go out, and are dropped once they have arrived.
        m.d.comb += [
            length_read.addr.eq(self.number),
            length_read.en.eq(~looked_up),
            self.length.eq(length_read.data),
            read.addr.eq(Cat(self.offset, sending)),
        ]
        m.d.sync += self.byte.eq(read.data)
        # How many are gone, whether so many were sent, and then they go: nothing is taken in the meantime.
        gone_q1 = Signal(16, reset_less=True)
        dropped_q2 = Signal(counts, reset_less=True)
        acknowledged_q1, again_q1, drop_q2, again_q2 = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [
            gone_q1.eq(self.acknowledge - oldest),
            acknowledged_q1.eq(self.acknowledged),
            again_q1.eq(self.again),
            dropped_q2.eq(gone_q1),
            drop_q2.eq(acknowledged_q1 & (gone_q1 <= sent)),
            again_q2.eq(again_q1),
        ]
        m.d.comb += self.pending.eq(looked_up & ~acknowledged_q1 & ~drop_q2)
        dropped = Mux(drop_q2, dropped_q2, 0)
        claim(m, ~self.take | self.pending)
        claim(m, ~(self.take & self.acknowledged))
        claim(m, (cursor <= sent) & (sent <= whole) & (whole <= self.slots))
        m.d.sync += [
            oldest.eq(oldest + dropped),
            whole.eq(whole + close - dropped),
            sent.eq(sent + (self.take & (cursor == sent)) - dropped),
            looked_up.eq(cursor != whole),
        ]
        with m.If(self.take):
            m.d.sync += [cursor.eq(cursor + 1), sending.eq(self.number), looked_up.eq(0)]
        with m.If(drop_q2):
            m.d.sync += [looked_up.eq(0), cursor.eq(Mux(again_q2 | (cursor < dropped), 0, cursor - dropped))]
        with m.If(self.begin):
            m.d.sync += [
                oldest.eq(self.first),
                whole.eq(0),
                sent.eq(0),
                cursor.eq(0),
                filled.eq(0),
                full.eq(0),
                ended.eq(0),
                looked_up.eq(0),
                acknowledged_q1.eq(0),
                drop_q2.eq(0),
            ]
        return m
