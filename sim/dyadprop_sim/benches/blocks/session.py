"""Bench of the session: the rules one by one, then two streams of bytes over a link that damages packets."""

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from dyadprop.protocol import RECEIVE_SLOTS, SEND_SLOTS, VERSION, Packet
from dyadprop_hw.send_window import MessageByte
from dyadprop_hw.session import Session
from dyadprop_sim.benches.packets import Damage, Fields, Host, talk
from dyadprop_sim.benches.variants import Variants
from dyadprop_sim.benches.wire import WireBench

COUNTED = ("bad", "unexpected", "foreign", "restart")


def make_top() -> Variants:
    """Make a session."""
    return Variants({"session": Session()})


class SessionBench(WireBench):
    """A session between a host and the two streams of messages."""

    def __init__(self, dut: Any, seed: int, *, stalls: bool = True) -> None:
        super().__init__(dut, "session", seed, stalls=stalls)
        self.taker, monitor = self.sink("received", 8)
        self.received = self.checker("received")
        monitor.call(self.received.check)
        self.messages, _ = self.source("messages", MessageByte)
        self.committing = self.input("committing", 1)
        self.counts = dict.fromkeys(COUNTED, 0)
        self.host = Host(self.rng.randrange(256), self.rng.choice([0, 65530, 4711]), self.rng.choice([0, 65525, 42]))

    async def watch(self) -> None:
        """Count pulses."""
        edge = RisingEdge(self.dut.clk)
        ports = {name: self.port(name, 1) for name in COUNTED}
        while True:
            await edge
            for name, port in ports.items():
                self.counts[name] += port.bits()

    def give(self, *messages: bytes) -> None:
        """Let the device have messages for the host."""
        for message in messages:
            last = len(message) - 1
            self.messages.send([{"byte": byte, "last": int(k == last)} for k, byte in enumerate(message)])

    async def open(self) -> None:
        """Open the session."""
        (answer,) = await self.say(self.host.open())
        self.host.input(answer.wire)
        assert self.host.opened

    def data(self, offset: int, payload: bytes) -> Fields:
        """Make the host's DATA packet at an offset from its first one."""
        return self.host.packet(Packet.DATA, payload, self.host.open().sequence + offset)

    def own(self, kind: int, acknowledged: int) -> Fields:
        """Make a host's packet without payload that acknowledges so many packets."""
        first = self.host.open().acknowledge
        return Fields(kind, self.host.session, 0, (first + acknowledged) & 0xFFFF)


def kinds(packets: list[Fields]) -> list[int]:
    """Give the kinds of packets."""
    return [packet.kind for packet in packets]


@cocotb.test()
async def opening(dut: Any) -> None:
    """OPEN, repeated, of another version, while open; packets of sessions that are not open."""
    bench = SessionBench(dut, 1, stalls=False)
    await bench.start(bench.watch())
    opening = Fields(Packet.OPEN, 7, 1000, 2000, bytes([VERSION]))
    opened = Fields(Packet.OPENED, 7, 2000, 1000, bytes([VERSION]), RECEIVE_SLOTS)
    # Closed: whatever comes is answered with its session; another version opens nothing.
    assert kinds(await bench.say(Fields(Packet.DATA, 9, 1, 2, b"x"))) == [Packet.CLOSED]
    assert await bench.say(Fields(Packet.OPEN, 7, 1000, 2000, b"\7")) == [opened]
    (closed,) = await bench.say(Fields(Packet.POLL, 7))
    assert (closed.kind, closed.session, closed.payload) == (Packet.CLOSED, 7, b"")
    assert bench.counts == {"bad": 0, "unexpected": 0, "foreign": 2, "restart": 0}
    # Open; its repetition does nothing, another session is foreign.
    assert await bench.say(opening) == [opened]
    assert bench.counts["restart"] == 1
    status = Fields(Packet.STATUS, 7, 2000, 1001, b"", RECEIVE_SLOTS)
    bench.received.expect(b"abc")
    assert (await bench.say(Fields(Packet.DATA, 7, 1000, 2000, b"abc")))[-1] == status
    await bench.drain()
    (again,) = await bench.say(opening)
    assert (again.kind, again.sequence, again.acknowledge) == (Packet.OPENED, 2000, 1000)
    assert await bench.say(Fields(Packet.POLL, 7, 0, 2000)) == [status]
    (closed,) = await bench.say(Fields(Packet.POLL, 8, 0, 2000))
    assert (closed.kind, closed.session) == (Packet.CLOSED, 8)
    # Kinds that nobody knows, and those of the device itself, are not answered: two devices could talk for ever.
    assert await bench.say(*(Fields(kind, 8, 0, 2000) for kind in (0, 6, 7, 9, 10, 200))) == []
    assert bench.counts == {"bad": 0, "unexpected": 0, "foreign": 9, "restart": 1}
    # Lengths that a kind cannot have.
    assert (
        await bench.say(Fields(Packet.DATA, 7, 1001, 2000), Fields(Packet.OPEN, 1), Fields(Packet.ACK, 7, 0, 0, b"x"))
        == []
    )
    assert bench.counts["bad"] == 3
    # Other numbers are another session.
    answer = await bench.say(Fields(Packet.OPEN, 7, 1000, 2001, bytes([VERSION])))
    assert answer == [Fields(Packet.OPENED, 7, 2001, 1000, bytes([VERSION]), RECEIVE_SLOTS)]
    assert bench.counts["restart"] == 2
    await bench.finish(received=3)


@cocotb.test()
async def order(dut: Any) -> None:
    """Packets of the host: taken once and in order, with STATUS or GAP as the answer; none beyond the slots."""
    bench = SessionBench(dut, 3, stalls=False)
    await bench.start(bench.watch())
    await bench.open()
    (gap,) = await bench.say(bench.data(1, b"later"))
    assert (gap.kind, gap.acknowledge) == (Packet.GAP, bench.host.open().sequence)
    bench.received.expect(b"firstsecond")
    answer = await bench.say(bench.data(0, b"first"), bench.data(1, b"second"))
    assert set(kinds(answer)) == {Packet.STATUS}
    assert answer[-1].acknowledge == (bench.host.open().sequence + 2) & 0xFFFF
    # Repeated ones, up to the farthest that still counts as behind.
    for offset in (0, 1, 2 - 0x7FFF):
        assert kinds(await bench.say(bench.data(offset, b"again"))) == [Packet.STATUS]
    for offset in (3, 2 - 0x8000):
        assert kinds(await bench.say(bench.data(offset, b"ahead"))) == [Packet.GAP]
    assert bench.counts["unexpected"] == 6
    # Nobody takes the bytes: 16 slots, no more; credit says so.
    bench.taker.stalls.share = 1.0
    await bench.cycles(3)
    for k in range(RECEIVE_SLOTS + 2):
        (*_, status) = await bench.say(bench.data(2 + k, bytes([k])))
        took = min(k + 1, RECEIVE_SLOTS + 1)  # the first byte is on its way out already
        assert status.kind == Packet.STATUS
        assert (status.acknowledge - bench.host.open().sequence - 2) & 0xFFFF == took
        assert status.credit == RECEIVE_SLOTS + 1 - took
    bench.received.expect(bytes(range(RECEIVE_SLOTS + 1)))
    bench.taker.stalls.share = 0.0
    freed = await bench.say()
    assert freed[-1].credit == RECEIVE_SLOTS
    assert bench.counts == {"bad": 0, "unexpected": 7, "foreign": 0, "restart": 1}
    await bench.finish(received=11 + RECEIVE_SLOTS + 1)


@cocotb.test()
async def repeats(dut: Any) -> None:
    """Packets of the device: full ones and ends of messages, kept until acknowledged, sent again when asked."""
    bench = SessionBench(dut, 4, stalls=False)
    await bench.start(bench.watch())
    await bench.open()
    first = bench.host.open().acknowledge
    bench.give(b"short")
    packets = await bench.say()
    bench.give(bytes(300))
    packets += await bench.say()
    assert [len(p.payload) for p in packets] == [5, 128, 128, 44]
    assert [p.sequence for p in packets] == [(first + k) & 0xFFFF for k in range(4)]
    # Asked for again: a STATUS, then what is not acknowledged.
    status, *again = await bench.say(bench.own(Packet.RESEND, 1))
    assert (status.kind, status.sequence) == (Packet.STATUS, (first + 4) & 0xFFFF)
    assert again == packets[1:]
    # Acknowledgements of what is not there mean nothing; neither does RESEND with such a one.
    for wrong in (0, 5, 0x8000):
        assert kinds(await bench.say(bench.own(Packet.RESEND, wrong))) == [Packet.STATUS]
    assert await bench.say(bench.own(Packet.ACK, 3)) == []
    status, *again = await bench.say(bench.own(Packet.RESEND, 3))
    assert again == packets[3:]
    assert await bench.say(bench.own(Packet.ACK, 4)) == []
    # No more than 16 are sent before the first is acknowledged, and then one more.
    bench.give(bytes(128 * (SEND_SLOTS + 3)))
    packets = await bench.say()
    assert [p.sequence for p in packets] == [(first + 4 + k) & 0xFFFF for k in range(SEND_SLOTS)]
    (more,) = await bench.say(bench.own(Packet.ACK, 5))
    assert more.sequence == (first + 4 + SEND_SLOTS) & 0xFFFF
    assert len(await bench.say(bench.own(Packet.ACK, 4 + SEND_SLOTS))) == 2
    bench.received.expect(b"x")
    await bench.say(bench.data(0, b"x"))
    await bench.finish(received=1)


@cocotb.test()
async def commits_are_waited_for(dut: Any) -> None:
    """A session does not begin while weights are being replaced; messages to the host are dropped until it does."""
    bench = SessionBench(dut, 5, stalls=False)
    await bench.start(bench.watch())
    await bench.open()
    bench.committing.set_bits(1)
    opening = Fields(Packet.OPEN, 1, 2, 3, bytes([VERSION]))
    assert await bench.say(opening) == []
    bench.give(bytes(128 * (SEND_SLOTS + 5)))
    await bench.drain()
    assert await bench.say() == []
    assert bench.counts["restart"] == 1
    bench.committing.set_bits(0)
    assert kinds(await bench.say()) == [Packet.OPENED]
    bench.give(b"new")
    (packet,) = await bench.say()
    assert (packet.payload, packet.sequence) == (b"new", 3)
    bench.received.expect(b"x")
    await bench.say(Fields(Packet.DATA, 1, 2, 3, b"x"))
    await bench.finish(received=1)


@cocotb.test()
@cocotb.parametrize(seed=[1, 2])
async def streams(dut: Any, seed: int) -> None:
    """Over a link that loses, repeats, breaks and delays packets both streams carry each byte once, in order."""
    bench = SessionBench(dut, seed)
    await bench.start(bench.watch())
    rng = bench.rng
    damage = Damage(rng, rng.choice([0.2, 0.4]))
    up = rng.randbytes(400)
    down = [rng.randbytes(rng.choice([1, 2, 10, 150])) for _ in range(8)]
    bench.received.expect(up)
    bench.host.send(up, rng.choice([128, 100, 37]))
    await bench.hold(talk(bench.host, damage, lambda: bench.host.opened))
    bench.give(*down)
    whole = b"".join(down)
    await bench.hold(
        talk(bench.host, damage, lambda: not bench.host.unacknowledged and len(bench.host.received) >= len(whole))
    )
    assert bench.host.received == whole
    assert damage.damaged > 2
    assert bench.counts["restart"] == 1
    await bench.finish(received=len(up))
