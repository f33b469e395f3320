"""The packets that have come in order and whose bytes nobody has taken yet."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from dyadprop.protocol import MAX_PAYLOAD, RECEIVE_SLOTS
from dyadprop_hw.claims import claim


def check_slots(slots: int) -> None:
    """Refuse a number of slots that a window cannot have.

    Raises
    ------
    ValueError
    """
    if slots < 2 or slots & (slots - 1) or slots > RECEIVE_SLOTS:
        raise ValueError(f"slots of a window are {slots}; allowed are powers of two from 2 to {RECEIVE_SLOTS}")


class ReceiveWindow(wiring.Component):
    """Turn numbered packets into a stream of bytes: each once, in order.

    Parameters
    ----------
    slots : int
        Packets that it has room for, a power of two, at least 2.

    Members
    -------
    write : In(1), offset : In, byte : In(8)
        A byte for the slot of the expected packet; it counts once that packet is accepted.
    number : In(16), length : In
        Of a packet whose bytes have all been written.
    expected, behind, room : Out(1)
        It is the one that is waited for, it is a repeated one: a cycle after ``number``; a slot was free when its first
        byte came.
    accept : In(1)
        Take it: it must be expected, and there must be room.
    begin : In(1), first : In(16)
        Forget everything, and expect this number.
    acknowledge : Out(16), credit : Out
        The number that is waited for; free slots.
    freed : Out(1)
        High for the cycle in which a slot becomes free.
    received : Out(stream.Signature(8))

    Notes
    -----
    A packet's slot is its number modulo their count. One byte a cycle, with three idle cycles between packets.
    """

    write: Signal
    offset: Signal
    byte: Signal
    number: Signal
    length: Signal
    expected: Signal
    behind: Signal
    room: Signal
    accept: Signal
    begin: Signal
    first: Signal
    acknowledge: Signal
    credit: Signal
    freed: Signal
    received: Any

    def __init__(self, slots: int = RECEIVE_SLOTS) -> None:
        check_slots(slots)
        self.slots = slots
        super().__init__(
            {
                "write": In(1),
                "offset": In(range(MAX_PAYLOAD)),
                "byte": In(8),
                "number": In(16),
                "length": In(range(MAX_PAYLOAD + 1)),
                "expected": Out(1),
                "behind": Out(1),
                "room": Out(1),
                "accept": In(1),
                "begin": In(1),
                "first": In(16),
                "acknowledge": Out(16),
                "credit": Out(range(slots + 1)),
                "freed": Out(1),
                "received": Out(stream.Signature(8)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep a ring of slots, and the lengths of what they hold."""
        m = Module()
        m.submodules.slots = slots = Memory(shape=8, depth=self.slots * MAX_PAYLOAD, init=[])
        m.submodules.lengths = lengths = Memory(shape=range(MAX_PAYLOAD + 1), depth=self.slots, init=[])
        write, read = slots.write_port(), slots.read_port()
        length_write, length_read = lengths.write_port(), lengths.read_port()
        slot_bits = self.slots.bit_length() - 1
        held = Signal(range(self.slots + 1))
        oldest = Signal(slot_bits, reset_less=True)  # slot that is being read
        position = Signal(range(MAX_PAYLOAD + 1), reset_less=True)
        looking = Signal()  # ``length_read`` holds the oldest slot's
        reading = Signal()  # and whether the byte at ``position`` is its last is known
        ends = Signal()
        valid = Signal()
        late = Signal()  # the slot became free only when bytes of the packet had passed

        ahead = Signal(16)
        free = Signal()
        m.d.comb += [
            ahead.eq(self.number - self.acknowledge),
            free.eq(held != self.slots),
            self.room.eq(free & ~late),
            self.credit.eq(self.slots - held),
            write.en.eq(self.write & free),
            write.addr.eq(Cat(self.offset, self.acknowledge[:slot_bits])),
            write.data.eq(self.byte),
            length_write.en.eq(self.accept),
            length_write.addr.eq(self.acknowledge[:slot_bits]),
            length_write.data.eq(self.length),
        ]
        m.d.sync += [
            self.expected.eq(ahead == 0),
            # by less than 2^15
            self.behind.eq(ahead[15] & (ahead[:15] != 0)),
        ]
        claim(m, ~self.accept | (self.expected & self.room))
        with m.If(self.write & (self.offset == 0)):
            m.d.sync += late.eq(~free)
        with m.If(self.accept):
            m.d.sync += self.acknowledge.eq(self.acknowledge + 1)

        fetch = Signal()
        m.d.comb += [
            length_read.addr.eq(oldest),
            length_read.en.eq(~looking),
            fetch.eq(reading & (~valid | self.received.ready)),
            read.en.eq(fetch),
            read.addr.eq(Cat(position[: len(self.offset)], oldest)),
            self.freed.eq(fetch & ends),
            self.received.valid.eq(valid),
            self.received.payload.eq(read.data),
        ]
        m.d.sync += ends.eq(position + 1 + fetch == length_read.data)
        with m.If(fetch):
            m.d.sync += [valid.eq(1), position.eq(position + 1)]
        with m.Elif(self.received.ready):
            m.d.sync += valid.eq(0)
        with m.If(~looking):
            m.d.sync += [looking.eq(held != 0), position.eq(0)]
        with m.Elif(self.freed):
            m.d.sync += [looking.eq(0), reading.eq(0), oldest.eq(oldest + 1)]
        with m.Else():
            m.d.sync += reading.eq(1)
        m.d.sync += held.eq(held + self.accept - self.freed)
        with m.If(self.begin):
            m.d.sync += [
                self.acknowledge.eq(self.first),
                oldest.eq(self.first[:slot_bits]),
                held.eq(0),
                looking.eq(0),
                reading.eq(0),
                valid.eq(0),
                late.eq(0),
            ]
        return m
