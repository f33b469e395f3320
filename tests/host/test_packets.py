"""Packets: what goes in comes out, and nothing else does."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from cobs import cobs
from hypothesis import given
from hypothesis import strategies as st

from dyadprop.packets import Decoder, Frame, encode
from dyadprop.protocol import MAX_PAYLOAD, Packet

NUMBERS = st.integers(0, 65535)
PAYLOADS = {Packet.DATA: (1, MAX_PAYLOAD), Packet.OPEN: (1, 1), Packet.OPENED: (1, 1)}


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    kind = draw(st.sampled_from(Packet))
    low, high = PAYLOADS.get(kind, (0, 0))
    payload = draw(st.binary(min_size=low, max_size=high))
    byte = st.integers(0, 255)
    return Frame(kind, draw(byte), draw(NUMBERS), draw(NUMBERS), draw(byte), payload)


def raw(body: bytes) -> bytes:
    """Give a packet with any body and a right check sum."""
    return bytes(cobs.encode(body + zlib.crc32(body).to_bytes(4, "little"))) + b"\0"


def test_bytes_of_a_packet():
    # By hand: COBS of 01 07 34 12 ff 00 03 / 41 / CRC, which zlib and every Ethernet card agree upon.
    body = bytes([1, 7, 0x34, 0x12, 0xFF, 0x00, 3, 0x41])
    check = zlib.crc32(body).to_bytes(4, "little")
    assert 0 not in check
    assert encode(Frame(Packet.DATA, 7, 0x1234, 0x00FF, 3, b"A")) == (
        bytes([6, 1, 7, 0x34, 0x12, 0xFF, 7, 3, 0x41]) + check + b"\0"
    )


@given(st.lists(frames(), max_size=8), st.data())
def test_packets_come_through_in_pieces_of_any_size(sent, data):
    stream = b"".join(b"\0" * data.draw(st.integers(0, 2)) + encode(frame) for frame in sent)
    decoder, came = Decoder(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        came += decoder.feed(stream[:size])
        stream = stream[size:]
    assert came == sent
    assert decoder.bad == 0


@given(st.lists(frames(), min_size=1, max_size=4), st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_costs_its_packets_and_no_others(sent, where, change):
    packets = [encode(frame) for frame in sent]
    stream = bytearray(b"".join(packets))
    where %= len(stream)
    stream[where] ^= change
    decoder = Decoder()
    came = decoder.feed(bytes(stream)) + decoder.feed(b"\0")
    hit = next(i for i in range(len(packets)) if where < sum(map(len, packets[: i + 1])))
    assert decoder.bad in (1, 2)
    # A delimiter that was hit joins two packets; one that appears splits a packet.
    lost = {hit, hit + 1} if where == sum(map(len, packets[: hit + 1])) - 1 else {hit}
    assert came == [frame for i, frame in enumerate(sent) if i not in lost]


@pytest.mark.parametrize(
    "packet",
    [
        raw(b""),  # shorter than a header
        raw(bytes([Packet.ACK, 0, 0, 0, 0, 0])),
        raw(bytes([Packet.ACK, 0, 0, 0, 0, 0, 0, 1])),  # payload where there is none
        raw(bytes([Packet.DATA, 0, 0, 0, 0, 0, 0])),  # no payload where there must be
        raw(bytes([Packet.DATA, 0, 0, 0, 0, 0, 0]) + bytes(129)),
        raw(bytes([Packet.OPEN, 0, 0, 0, 0, 0, 0, 1, 1])),
        b"\x05\x01\0",  # COBS that promises more
        b"\xff" * 1000 + b"\0",
    ],
)
def test_what_is_no_packet_is_dropped_and_counted(packet):
    decoder = Decoder()
    good = Frame(Packet.STATUS, 1, 2, 3, 4)
    assert decoder.feed(packet + encode(good)) == [good]
    assert decoder.bad == 1


def test_a_packet_of_no_known_kind_is_the_sessions_to_judge():
    decoder = Decoder()
    assert decoder.feed(raw(bytes([99, 1, 2, 0, 3, 0, 4]) + b"any")) == [Frame(99, 1, 2, 3, 4, b"any")]
    assert decoder.bad == 0


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_no_packet_and_fills_no_memory(seed):
    rng = np.random.default_rng(seed)
    decoder, came = Decoder(), []
    for _ in range(200):
        came += decoder.feed(rng.integers(0, 256, 1000, dtype=np.uint8).tobytes())
        assert len(decoder._rest) < 150
    came += decoder.feed(b"\1" * 10**6)
    assert len(decoder._rest) < 150
    assert came == []
    assert decoder.bad > 500
