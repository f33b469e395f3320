"""The host's end of the wire for benches and tests, written from docs/protocol.md alone."""

import random
import struct
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass

from cobs import cobs

from dyadprop.protocol import HEADER, MAX_PAYLOAD, VERSION, Answer, Packet


@dataclass(frozen=True)
class Fields:
    """A packet.

    Attributes
    ----------
    kind, session, sequence, acknowledge : int
    payload : bytes
    credit : int
    """

    kind: int
    session: int = 0
    sequence: int = 0
    acknowledge: int = 0
    payload: bytes = b""
    credit: int = 0

    @property
    def raw(self) -> bytes:
        """Header, payload and check sum."""
        header = HEADER.pack(self.kind, self.session, self.sequence, self.acknowledge, self.credit)
        whole = header + self.payload
        return whole + struct.pack("<I", zlib.crc32(whole))

    @property
    def wire(self) -> bytes:
        """As it goes over the wire, with the zero at its end."""
        return cobs.encode(self.raw) + b"\0"


def decode(block: bytes) -> Fields | None:
    """Take a packet apart, given without the zero at its end; None if it is none."""
    try:
        raw = cobs.decode(block)
    except cobs.DecodeError:
        return None
    if len(raw) < HEADER.size + 4 or zlib.crc32(raw[:-4]) != struct.unpack("<I", raw[-4:])[0]:
        return None
    kind, session, sequence, acknowledge, credit = HEADER.unpack(raw[: HEADER.size])
    return Fields(kind, session, sequence, acknowledge, raw[HEADER.size : -4], credit)


def is_accepted(block: bytes) -> bool:
    """Say whether the device must take a packet for whole, judged by COBS, check sum and length alone."""
    packet = decode(block)
    return packet is not None and len(packet.payload) <= MAX_PAYLOAD


def message(kind: int, body: bytes = b"") -> bytes:
    """Make a message."""
    return bytes([kind]) + len(body).to_bytes(3, "little") + body


def split_messages(stream: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Take whole messages from a stream; give them and what is left."""
    found = []
    while len(stream) >= 4:
        end = 4 + int.from_bytes(stream[1:4], "little")
        if len(stream) < end:
            break
        found.append((stream[0], stream[4:end]))
        stream = stream[end:]
    return found, stream


class Host:
    """A host that goes back to what is not acknowledged, and asks again for what is missing.

    Parameters
    ----------
    session, sequence, acknowledge : int
        The numbers that it opens with.

    Attributes
    ----------
    received : bytes
        The stream of the device's messages.
    opened, closed : bool
        OPENED came; CLOSED came for this session.
    version : int
        That the device said.
    packets : list of Fields
        All that came whole.
    """

    def __init__(self, session: int, sequence: int, acknowledge: int) -> None:
        self.session = session
        self._first = sequence, acknowledge
        self._next = acknowledge  # number of the device's packet that is waited for
        self._oldest = sequence  # number of the first packet not acknowledged
        self._chunks: list[bytes] = []  # from ``_oldest`` on
        self._sent = 0  # of them
        self._credit = 0
        self._buffer = b""
        self._missing = False
        self._owes = False  # an acknowledgement
        self.received = b""
        self.opened = False
        self.closed = False
        self.version = -1
        self.packets: list[Fields] = []

    def packet(self, kind: int, payload: bytes = b"", sequence: int | None = None) -> Fields:
        """Make a packet of this session."""
        number = self._oldest + self._sent if sequence is None else sequence
        return Fields(kind, self.session, number & 0xFFFF, self._next, payload)

    def open(self, version: int = VERSION) -> Fields:
        """Make the packet that opens the session."""
        sequence, acknowledge = self._first
        return Fields(Packet.OPEN, self.session, sequence, acknowledge, bytes([version]))

    def send(self, stream: bytes, size: int = MAX_PAYLOAD) -> None:
        """Queue bytes of messages."""
        self._chunks += [stream[i : i + size] for i in range(0, len(stream), size)]

    @property
    def unacknowledged(self) -> int:
        """Packets of which the device has not said that it has them."""
        return len(self._chunks)

    def output(self, *, stuck: bool = False) -> list[Fields]:
        """Give what is to be sent now; ``stuck``: nothing came for a while."""
        if not self.opened:
            return [self.open()]
        packets = []
        if stuck:
            self._sent = 0
        if stuck or self._missing:
            packets.append(self.packet(Packet.RESEND))
            self._missing = False
        while self._sent < min(len(self._chunks), self._credit):
            packets.append(self.packet(Packet.DATA, self._chunks[self._sent]))
            self._sent += 1
        if not packets and self._owes:
            packets.append(self.packet(Packet.ACK))
        self._owes = False
        return packets

    def input(self, wire: bytes) -> None:
        """Take bytes from the device."""
        *blocks, self._buffer = (self._buffer + wire).split(b"\0")
        for block in blocks:
            packet = decode(block)
            if packet is not None:
                self.packets.append(packet)
                self._take(packet)

    def _take(self, packet: Fields) -> None:
        if packet.session != self.session:
            return
        if packet.kind == Packet.CLOSED:
            self.closed = True
            return
        if packet.kind == Packet.OPENED:
            self.version = packet.payload[0]
            if (packet.acknowledge, packet.sequence) == self._first and self.version == VERSION and not self.opened:
                self.opened = True
                self._credit = packet.credit
            return
        if not self.opened:
            return
        done = (packet.acknowledge - self._oldest) & 0xFFFF
        if done <= len(self._chunks):
            del self._chunks[:done]
            self._oldest = packet.acknowledge
            self._sent = max(0, self._sent - done)
            self._credit = packet.credit
        if packet.kind == Packet.GAP:
            self._sent = 0
        if packet.kind == Packet.DATA:
            self._owes = True
            if packet.sequence == self._next:
                self._next = (self._next + 1) & 0xFFFF
                self.received += packet.payload
            elif (packet.sequence - self._next) & 0xFFFF < 0x8000:
                self._missing = True
        elif packet.sequence != self._next and (packet.sequence - self._next) & 0xFFFF < 0x8000:
            self._missing = True


def talk(
    host: Host, damage: Callable[[list[Fields], bool], bytes], done: Callable[[], bool], rounds: int = 3000
) -> Generator[bytes, bytes, int]:
    """Hold a conversation over a link that may damage packets: yield bytes for the device, be sent what it says.

    Parameters
    ----------
    host : Host
    damage : callable
        Makes bytes of packets; told whether they come back from the device.
    done : callable
        Says when the host has what it wants.
    rounds : int
        That are too many.
    """
    stuck = False
    for count in range(rounds):
        if done():
            return count
        before = len(host.packets)
        answer = yield damage(host.output(stuck=stuck), False)
        whole = [decode(block) for block in answer.split(b"\0") if block]
        assert None not in whole, f"the device sent {answer.hex()}"
        host.input(damage([packet for packet in whole if packet is not None], True))
        stuck = len(host.packets) == before
    waiting, came = host.unacknowledged, len(host.received)
    raise AssertionError(f"not done after {rounds} rounds: {waiting} packets wait, {came} bytes came")


def undamaged(packets: list[Fields], back: bool = False) -> bytes:
    """Give packets as they are."""
    return b"".join(packet.wire for packet in packets)


class Damage:
    """Lose packets, repeat them, break them, and hold some back.

    Parameters
    ----------
    rng : random.Random
    share : float
        Of the packets that something happens to.
    """

    def __init__(self, rng: random.Random, share: float) -> None:
        self._rng = rng
        self._share = share
        self._late: dict[bool, list[bytes]] = {False: [], True: []}  # by where they go: no line gives back what it got
        self.damaged = 0

    def __call__(self, packets: list[Fields], back: bool = False) -> bytes:
        """Make bytes of packets to the device, or back to the host."""
        wire = []
        late = self._late[back]
        for packet in packets:
            block = packet.wire
            if self._rng.random() >= self._share:
                wire.append(block)
                continue
            self.damaged += 1
            match self._rng.randrange(6):
                case 0:
                    pass
                case 1:
                    wire += [block, block]
                case 2:
                    place = self._rng.randrange(len(block))
                    wire.append(
                        block[:place] + bytes([block[place] ^ (1 << self._rng.randrange(8))]) + block[place + 1 :]
                    )
                case 3:
                    place = self._rng.randrange(len(block))
                    wire.append(block[:place] + block[place + self._rng.randrange(1, 5) :])
                case 4:
                    wire.append(self._rng.randbytes(self._rng.randrange(1, 20)) + block)
                case 5:
                    late.append(block)
        if late and self._rng.random() < 0.5:
            wire.append(late.pop(0))
        return b"".join(wire)


def answers(stream: bytes) -> dict[Answer, list[bytes]]:
    """Sort the messages of a stream by kind."""
    found: dict[Answer, list[bytes]] = {}
    messages, rest = split_messages(stream)
    assert not rest, f"{len(rest)} bytes are no whole message"
    for kind, body in messages:
        found.setdefault(Answer(kind), []).append(body)
    return found
