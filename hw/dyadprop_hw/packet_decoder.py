"""From bytes to packets: COBS, check sum, lengths (docs/protocol.md, "Packets")."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, unsigned
from amaranth.lib import crc, data, stream, wiring
from amaranth.lib.wiring import In, Out

from dyadprop.protocol import CHECK_BYTES, DELIMITER, HEADER, MAX_PACKET, MAX_PAYLOAD
from dyadprop_hw.claims import claim

OVERHEAD = HEADER.size + CHECK_BYTES

# As `HEADER` packs it; and the bytes of the payload.
PacketHeader = data.StructLayout({"kind": 8, "session": 8, "sequence": 16, "acknowledge": 16, "credit": 8})
PacketHead = data.StructLayout({"header": PacketHeader, "length": range(MAX_PAYLOAD + 1)})


class PacketDecoder(wiring.Component):
    """Find packets in a stream of bytes and take those that are whole.

    Members
    -------
    bytes : In(stream.Signature(8))
    packet : Out(stream of PacketHead)
        A whole packet with the right check sum; no byte is taken before it is.
    write : Out(1), offset : Out, byte : Out(8)
        A byte of the payload, for a buffer of 128; bytes come before anybody knows whether their packet is whole.
    bad : Out(1)
        High for a cycle: bytes up to a delimiter were no packet.

    Notes
    -----
    One byte a cycle; a packet is there the cycle after its delimiter. A delimiter always brings it back to its start.
    Behind a payload the check sum is written too, as far as the buffer goes.

    COBS: what begins a block says where the next one begins, and stands in the place of a zero before it. So each byte
    that comes gives at most one. Blocks of 254 without a zero need no case of their own: no packet is as long.
    """

    bytes: Any
    packet: Any
    write: Signal
    offset: Signal
    byte: Signal
    bad: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "bytes": In(stream.Signature(8)),
                "packet": Out(stream.Signature(PacketHead)),
                "write": Out(1),
                "offset": Out(range(MAX_PAYLOAD)),
                "byte": Out(8),
                "bad": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Decode, count, check."""
        m = Module()
        m.submodules.check = check = crc.Processor(crc.catalog.CRC32_ETHERNET())
        block = Signal(8)  # bytes left in the block
        begun = Signal()  # a byte of this packet has come
        count = Signal(range(MAX_PACKET + 2))  # bytes out, at most one more than a packet has
        header = Signal(PacketHeader, reset_less=True)
        length = Signal(range(MAX_PAYLOAD + 1), reset_less=True)
        waiting = Signal()  # a packet waits to be taken

        taken = self.bytes.valid & self.bytes.ready
        end = self.bytes.payload == DELIMITER
        m.d.comb += [
            self.bytes.ready.eq(~waiting),
            self.packet.valid.eq(waiting),
            self.packet.payload.header.eq(header),
            self.packet.payload.length.eq(length),
        ]

        # A byte that comes is one of the block, or the length of the next: then the zero between them goes out.
        out = Signal()
        in_header = count < HEADER.size
        position = Signal(unsigned(len(count)))
        m.d.comb += [
            out.eq(taken & ~end & ((block != 0) | begun)),
            self.byte.eq(self.bytes.payload),
            position.eq(count - HEADER.size),
            self.offset.eq(position),
            self.write.eq(out & ~in_header & (position < MAX_PAYLOAD)),
            check.start.eq(taken & end),
            check.valid.eq(out),
            check.data.eq(self.byte),
        ]
        with m.If(block == 0):
            m.d.comb += self.byte.eq(0)
        with m.If(out & (count != MAX_PACKET + 1)):
            m.d.sync += count.eq(count + 1)
        with m.If(out & in_header):
            m.d.sync += header.eq(Cat(Value.cast(header)[8:], self.byte))
        with m.If(taken):
            m.d.sync += [begun.eq(1), block.eq(block - 1)]
            with m.If(block == 0):
                m.d.sync += block.eq(self.bytes.payload - 1)

        m.d.sync += self.bad.eq(0)
        whole = (block == 0) & check.match_detected & (count >= OVERHEAD) & (count <= MAX_PACKET)
        with m.If(taken & end):
            m.d.sync += [begun.eq(0), block.eq(0), count.eq(0), length.eq(count - OVERHEAD), waiting.eq(begun & whole)]
            m.d.sync += self.bad.eq(begun & ~whole)
        with m.If(self.packet.valid & self.packet.ready):
            m.d.sync += waiting.eq(0)
        claim(m, ~self.write | (count <= MAX_PACKET))
        return m
