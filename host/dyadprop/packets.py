"""Packets in a stream of bytes: COBS finds where they begin and end, a CRC-32 tells whether they are whole."""

import zlib
from typing import NamedTuple

from cobs import cobs

from dyadprop.protocol import CHECK_BYTES, HEADER, MAX_PACKET, MAX_PAYLOAD, Packet

_DELIMITER = b"\0"
_MIN_PACKET = HEADER.size + CHECK_BYTES
_MAX_ENCODED = MAX_PACKET + 1  # one COBS block
_PAYLOADS: dict[int, range] = {
    **dict.fromkeys(Packet, range(1)),
    Packet.DATA: range(1, MAX_PAYLOAD + 1),
    Packet.OPEN: range(1, 2),
    Packet.OPENED: range(1, 2),
}
_ANY = range(MAX_PAYLOAD + 1)


class Frame(NamedTuple):
    """A packet, its check sum taken off.

    Attributes
    ----------
    kind : int
        A `Packet`, or a number that none has.
    session : int
    sequence, acknowledge : int
        16 bits.
    credit : int
    payload : bytes
    """

    kind: int
    session: int
    sequence: int
    acknowledge: int
    credit: int = 0
    payload: bytes = b""


def encode(frame: Frame) -> bytes:
    """Give the bytes of a packet on the wire, the zero behind it included."""
    body = HEADER.pack(*frame[:5]) + frame.payload
    encoded: bytes = cobs.encode(body + zlib.crc32(body).to_bytes(CHECK_BYTES, "little"))
    return encoded + _DELIMITER


class Decoder:
    """Finds packets in bytes that come in pieces of any size; holds one packet's bytes at most.

    Attributes
    ----------
    bad : int
        Packets dropped so far: check sum, length or COBS was wrong.
    """

    def __init__(self) -> None:
        self.bad = 0
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes; give the packets that are complete with them."""
        pieces = (self._rest + data).split(_DELIMITER)
        # One byte more than a packet has is enough to know that it is none.
        self._rest = pieces.pop()[: _MAX_ENCODED + 1]
        frames = []
        for piece in pieces:
            if not piece:
                continue
            frame = _decode(piece)
            if frame is None:
                self.bad += 1
            else:
                frames.append(frame)
        return frames


def _decode(piece: bytes) -> Frame | None:
    if len(piece) > _MAX_ENCODED:
        return None
    try:
        packet: bytes = cobs.decode(piece)
    except cobs.DecodeError:
        return None
    if not _MIN_PACKET <= len(packet) <= MAX_PACKET:
        return None
    body = packet[:-CHECK_BYTES]
    if zlib.crc32(body) != int.from_bytes(packet[-CHECK_BYTES:], "little"):
        return None
    kind, session, sequence, acknowledge, credit = HEADER.unpack_from(body)
    payload = body[HEADER.size :]
    if len(payload) not in _PAYLOADS.get(kind, _ANY):
        return None
    return Frame(kind, session, sequence, acknowledge, credit, payload)
