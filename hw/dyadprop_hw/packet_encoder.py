"""From packets to bytes: check sum, COBS, delimiter (docs/protocol.md, "Packets")."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import crc, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from dyadprop.protocol import CHECK_BYTES, DELIMITER, HEADER, MAX_PACKET, MAX_PAYLOAD
from dyadprop_hw.claims import claim
from dyadprop_hw.packet_decoder import PacketHead


class PacketEncoder(wiring.Component):
    """Send one packet at a time.

    Members
    -------
    idle : Out(1)
        The last packet's bytes are all taken.
    start : In(1), head : In(PacketHead)
        Only while idle: send this packet.
    offset : Out, byte : In(8)
        A byte of the payload: asked for in one cycle, there in the next but one.
    bytes : Out(stream.Signature(8))

    Notes
    -----
    The packet is put into a buffer, a byte a cycle, then sent: a block's code byte stands before its bytes but is known
    behind them. First byte ``length + 16`` cycles after ``start``, then one every third cycle at most.
    """

    idle: Signal
    start: Signal
    head: Any
    offset: Signal
    byte: Signal
    bytes: Any

    def __init__(self) -> None:
        super().__init__(
            {
                "idle": Out(1),
                "start": In(1),
                "head": In(PacketHead),
                "offset": Out(range(MAX_PAYLOAD)),
                "byte": In(8),
                "bytes": Out(stream.Signature(8)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Fill, then send."""
        m = Module()
        m.submodules.check = check = crc.Processor(crc.catalog.CRC32_ETHERNET())
        # Small enough that yosys would build it of LUTs, 200 of them.
        style = {"ram_style": "block"}
        m.submodules.buffer = buffer = Memory(shape=8, depth=MAX_PACKET + 2, init=[], attrs=style)
        write, read = buffer.write_port(), buffer.read_port()
        header = Signal(HEADER.size * 8, reset_less=True)
        length = Signal(range(MAX_PAYLOAD + 1), reset_less=True)  # of the payload that is still to come
        index = Signal(range(MAX_PAYLOAD + 1), reset_less=True)  # in the present part of the packet
        place = Signal(range(MAX_PACKET + 2), reset_less=True)  # of the next byte in the buffer
        code = Signal.like(place)  # where the open block's code byte will stand
        byte = Signal(8, reset_less=True)  # of the buffer, to be sent
        raw = Signal(8)
        put = Signal()  # ``raw`` is the packet's next byte
        close = Signal()  # the packet has ended: so does the open block

        address, byte_in = Signal.like(write.addr), Signal(8)
        m.d.sync += [write.en.eq(put | close), write.addr.eq(address), write.data.eq(byte_in)]
        m.d.comb += [
            address.eq(place),
            byte_in.eq(raw),
            check.start.eq(self.start),
            check.data.eq(raw),
        ]
        with m.If((raw == 0) | close):
            m.d.comb += [address.eq(code), byte_in.eq(place - code)]
        with m.If(put):
            m.d.sync += place.eq(place + 1)
            with m.If(raw == 0):
                m.d.sync += code.eq(place)

        m.d.sync += index.eq(index + 1)
        m.d.comb += self.offset.eq(0)
        with m.FSM() as fsm:
            m.d.comb += self.idle.eq(fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.sync += [index.eq(0), place.eq(1), code.eq(0)]
                with m.If(self.start):
                    m.d.sync += [header.eq(Value.cast(self.head.header)), length.eq(self.head.length)]
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += [raw.eq(header[:8]), put.eq(1), check.valid.eq(1)]
                m.d.sync += header.eq(header[8:])
                with m.If(index == HEADER.size - 1):
                    m.d.comb += self.offset.eq(1)
                    m.d.sync += index.eq(0)
                    m.next = "PAYLOAD"
                    with m.If(length == 0):
                        m.next = "CHECK"
            with m.State("PAYLOAD"):
                m.d.comb += [raw.eq(self.byte), put.eq(1), check.valid.eq(1), self.offset.eq(index + 2)]
                m.d.sync += length.eq(length - 1)
                with m.If(length == 1):
                    m.d.sync += index.eq(0)
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += [raw.eq(check.crc.word_select(index[:2], 8)), put.eq(1)]
                with m.If(index == CHECK_BYTES - 1):
                    m.next = "CLOSE"
            with m.State("CLOSE"):
                m.d.comb += close.eq(1)
                m.d.sync += code.eq(0)  # from here on: the byte that is sent
                m.next = "CLOSED"
            with m.State("CLOSED"):
                m.next = "READ"
            with m.State("READ"):
                m.next = "FETCH"
            with m.State("FETCH"):
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [self.bytes.valid.eq(1), self.bytes.payload.eq(Mux(code == place, DELIMITER, byte))]
                with m.If(self.bytes.ready):
                    m.d.sync += code.eq(code + 1)
                    m.next = "READ"
                    with m.If(code == place):
                        m.next = "IDLE"
        m.d.sync += byte.eq(read.data)
        m.d.comb += [read.addr.eq(code), read.en.eq(fsm.ongoing("READ"))]
        claim(m, ~self.start | self.idle)
        claim(m, ~self.start | (self.head.length <= MAX_PAYLOAD))
        claim(m, ~put | (place <= MAX_PACKET))
        return m
