"""Two reliable streams of bytes over packets that get lost (docs/protocol.md, "Sessions")."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from dyadprop.protocol import RECEIVE_SLOTS, VERSION, Packet
from dyadprop_hw.packet_decoder import PacketDecoder
from dyadprop_hw.packet_encoder import PacketEncoder
from dyadprop_hw.receive_window import ReceiveWindow
from dyadprop_hw.send_window import MessageByte, SendWindow
from dyadprop_hw.streams import connect_stream


class Session(wiring.Component):
    """Between the bytes of a link and the bytes of messages.

    Parameters
    ----------
    slots : int
        Packets that it has room for, each way: 2, 4, 8 or 16.

    Members
    -------
    rx, tx : In, Out(stream.Signature(8))
        The link.
    received : Out(stream.Signature(8))
        The host's messages: each byte once, in order.
    messages : In(stream of MessageByte)
        Messages to the host.
    restart : Out(1)
        A session begins: high for a cycle, in which both streams stand still; whoever is behind them starts anew.
    committing : In(1)
        A session must not begin now; until it does, messages to the host are dropped.
    all_sent : Out(1)
        All messages have left through ``tx``.
    bad, unexpected, foreign : Out(1)
        High for a cycle: a packet was dropped.

    Notes
    -----
    A packet is judged the cycle after it was decoded, and answered in the next if nothing is being sent. Two block
    RAMs for the slots and one for the packet that is being sent.
    """

    rx: Any
    tx: Any
    received: Any
    messages: Any
    restart: Signal
    committing: Signal
    all_sent: Signal
    bad: Signal
    unexpected: Signal
    foreign: Signal

    def __init__(self, slots: int = RECEIVE_SLOTS) -> None:
        self.slots = slots
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "received": Out(stream.Signature(8)),
                "messages": In(stream.Signature(MessageByte)),
                "restart": Out(1),
                "committing": In(1),
                "all_sent": Out(1),
                "bad": Out(1),
                "unexpected": Out(1),
                "foreign": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Judge one packet at a time; say one thing at a time."""
        m = Module()
        m.submodules.decoder = decoder = PacketDecoder()
        m.submodules.encoder = encoder = PacketEncoder()
        m.submodules.inbox = inbox = ReceiveWindow(self.slots)
        m.submodules.outbox = outbox = SendWindow(self.slots)
        connect_stream(m, wiring.flipped(self.rx), decoder.bytes)
        connect_stream(m, encoder.bytes, wiring.flipped(self.tx))
        connect_stream(m, inbox.received, wiring.flipped(self.received))

        is_open = Signal()
        session = Signal(8)
        host_first, own_first = Signal(16), Signal(16)  # numbers that the session began with
        version = Signal(8, reset_less=True)  # first byte of the payload
        with m.If(decoder.write & (decoder.offset == 0)):
            m.d.sync += version.eq(decoder.byte)

        # What has yet to be said.
        status, asked, gap, closed, opened = Signal(), Signal(), Signal(), Signal(), Signal()
        # Whom CLOSED and OPENED answer.
        closed_session, opened_session = Signal(8, reset_less=True), Signal(8, reset_less=True)
        opened_own, opened_host = Signal(16, reset_less=True), Signal(16, reset_less=True)

        packet = decoder.packet.payload
        header, length = packet.header, packet.length
        # A packet stands still until it is judged: what it is is known a cycle later.
        known = Signal()
        judged = known & decoder.packet.ready
        m.d.sync += known.eq(decoder.packet.valid & ~judged)
        kind_bits = Packet.CLOSED.bit_length()
        kind = header.kind[:kind_bits]
        high = header.kind[kind_bits:] != 0
        mine, repeated = Signal(), Signal()
        is_open_packet, right_version = Signal(), Signal()
        own_session = is_open & (header.session == session)
        m.d.sync += [
            mine.eq(own_session),
            repeated.eq(own_session & (header.sequence == host_first) & (header.acknowledge == own_first)),
            is_open_packet.eq((kind == Packet.OPEN) & ~high),
            right_version.eq(version == VERSION),
        ]
        begin = Signal()
        wrong = Signal()  # of a length that its kind cannot have
        m.d.sync += wrong.eq(0)
        with m.If(~high):
            with m.Switch(kind):
                with m.Case(Packet.DATA):
                    m.d.sync += wrong.eq(length == 0)
                with m.Case(Packet.OPEN):
                    m.d.sync += wrong.eq(length != 1)
                with m.Case(*(k for k in Packet if k not in (Packet.DATA, Packet.OPEN, Packet.OPENED))):
                    m.d.sync += wrong.eq(length != 0)
        fresh = is_open_packet & ~wrong & right_version & ~repeated
        m.d.comb += [
            decoder.packet.ready.eq(known & ~(fresh & self.committing) & ~self.restart),
            begin.eq(judged & fresh),
            self.bad.eq(decoder.bad | (judged & wrong)),
            inbox.write.eq(decoder.write),
            inbox.offset.eq(decoder.offset),
            inbox.byte.eq(decoder.byte),
            inbox.number.eq(header.sequence),
            inbox.length.eq(length),
            inbox.begin.eq(begin),
            inbox.first.eq(header.sequence),
            outbox.acknowledge.eq(header.acknowledge),
            outbox.begin.eq(begin),
            outbox.first.eq(header.acknowledge),
        ]
        m.d.sync += self.restart.eq(begin)

        # Say one thing when nothing is being sent. It is crossed out, and noted again below if a packet comes now.
        head = encoder.head
        version_payload = Signal()  # OPENED's payload is this and not a slot's
        data = outbox.pending & ~known
        m.d.comb += [
            head.header.session.eq(session),
            head.header.sequence.eq(outbox.next_new),
            head.header.acknowledge.eq(inbox.acknowledge),
            head.header.credit.eq(inbox.credit),
            encoder.byte.eq(Mux(version_payload, VERSION, outbox.byte)),
            outbox.offset.eq(encoder.offset),
            outbox.quiet.eq(encoder.idle),
            self.all_sent.eq(outbox.empty & encoder.idle),
        ]
        with m.If(encoder.idle & ~self.restart):
            with m.If(opened):
                m.d.comb += [
                    encoder.start.eq(1),
                    head.header.kind.eq(Packet.OPENED),
                    head.header.session.eq(opened_session),
                    head.header.sequence.eq(opened_own),
                    head.header.acknowledge.eq(opened_host),
                    head.length.eq(1),
                ]
                m.d.sync += [opened.eq(0), version_payload.eq(1)]
            with m.Elif(closed):
                m.d.comb += [
                    encoder.start.eq(1),
                    head.header.kind.eq(Packet.CLOSED),
                    head.header.session.eq(closed_session),
                ]
                m.d.sync += closed.eq(0)
            with m.Elif(gap | asked):
                m.d.comb += [
                    encoder.start.eq(1),
                    head.header.kind.eq(Mux(asked, Packet.STATUS, Packet.GAP)),
                ]
                m.d.sync += [status.eq(0), asked.eq(0)]
                with m.If(~asked):
                    m.d.sync += gap.eq(0)
            with m.Elif(data):
                m.d.comb += [
                    encoder.start.eq(1),
                    outbox.take.eq(1),
                    head.header.kind.eq(Packet.DATA),
                    head.header.sequence.eq(outbox.number),
                    head.length.eq(outbox.length),
                ]
                m.d.sync += [status.eq(0), version_payload.eq(0)]
            with m.Elif(status):
                m.d.comb += [encoder.start.eq(1), head.header.kind.eq(Packet.STATUS)]
                m.d.sync += status.eq(0)

        with m.If(inbox.freed):
            m.d.sync += status.eq(1)
        with m.If(judged & ~wrong):
            with m.If(is_open_packet):
                m.d.sync += [
                    opened.eq(1),
                    opened_session.eq(header.session),
                    opened_own.eq(header.acknowledge),
                    opened_host.eq(header.sequence),
                ]
            with m.Elif(high | (kind == 0) | (kind > Packet.OPEN)):
                m.d.comb += self.foreign.eq(1)
            with m.Elif(~mine):
                m.d.comb += self.foreign.eq(1)
                m.d.sync += [closed.eq(1), closed_session.eq(header.session)]
            with m.Else():
                m.d.comb += outbox.acknowledged.eq(1)
                with m.Switch(kind):
                    with m.Case(Packet.DATA):
                        m.d.comb += [
                            inbox.accept.eq(inbox.expected & inbox.room),
                            self.unexpected.eq(~inbox.accept),
                        ]
                        with m.If(inbox.expected | inbox.behind):
                            m.d.sync += status.eq(1)
                        with m.Else():
                            m.d.sync += gap.eq(1)
                    with m.Case(Packet.POLL):
                        m.d.sync += asked.eq(1)
                    with m.Case(Packet.RESEND):
                        m.d.comb += outbox.again.eq(1)
                        m.d.sync += asked.eq(1)
        with m.If(begin):
            m.d.sync += [
                is_open.eq(1),
                session.eq(header.session),
                host_first.eq(header.sequence),
                own_first.eq(header.acknowledge),
                status.eq(0),
                asked.eq(0),
                gap.eq(0),
            ]

        # While a session waits to begin, what is behind the streams must be able to come to its end.
        waiting = known & fresh & self.committing
        m.d.comb += [
            outbox.messages.payload.eq(self.messages.payload),
            outbox.messages.valid.eq(self.messages.valid & ~waiting & ~self.restart),
            self.messages.ready.eq((outbox.messages.ready | waiting) & ~self.restart),
        ]
        return m
