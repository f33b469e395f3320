"""The packet decoder in compiled simulation, given whatever hypothesis thinks of."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dyadprop.protocol import MAX_PAYLOAD, Packet
from dyadprop_hw.packet_decoder import PacketDecoder, PacketHead
from dyadprop_sim.benches.packets import Fields, decode, is_accepted
from dyadprop_sim.benches.ports import Codec
from dyadprop_sim.library import BuildOptions, Ports, build_library
from dyadprop_sim.simulation import Simulation

PORTS = Ports(inputs=("bytes",), outputs=("packet",))
END = Fields(Packet.POLL, 255, 0x1234, 0xABCD)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Simulation]:
    options = BuildOptions(optimize="-O0", assertions=True, random_start=True)
    path = build_library("a packet decoder", "packet decoder", PacketDecoder, PORTS, options)
    simulation = Simulation(path, PORTS, seed=1, randomize=True)
    yield simulation
    simulation.close()


def heads(wire: bytes) -> list[int]:
    """Give the packets of some bytes as the decoder must."""
    codec, header = Codec(PacketHead), Codec(PacketHead["header"].shape)
    found = []
    for block in wire.split(b"\0")[:-1]:
        packet = decode(block) if block else None
        if packet is None or not is_accepted(block):
            continue
        names = ("kind", "session", "sequence", "acknowledge", "credit")
        fields = {name: int(getattr(packet, name)) for name in names}
        found.append(codec.encode({"header": header.encode(fields), "length": len(packet.payload)}))
    return found


packets = st.builds(
    Fields,
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.binary(max_size=MAX_PAYLOAD + 3),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    wire = bytearray(draw(packets).wire)
    place = draw(st.integers(0, len(wire) - 1))
    match draw(st.integers(0, 2)):
        case 0:
            wire[place] ^= draw(st.integers(1, 255))
        case 1:
            del wire[place : place + draw(st.integers(1, 200))]
        case 2:
            wire[place:place] = draw(st.binary(min_size=1, max_size=4))
    return bytes(wire)


pieces = st.one_of(st.binary(max_size=300), st.just(b"\0"), packets.map(lambda p: p.wire), damaged())
compared = {"blocks": 0, "packets": 0}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(pieces, min_size=1, max_size=30), st.sampled_from([0.0, 0.4]))
def test_any_bytes_leave_a_decoder_that_takes_the_next_packet(
    decoder: Simulation, strings: list[bytes], stalls: float
) -> None:
    # Behind a delimiter, whatever came before, comes a packet: the last one that it gives, and soon.
    wire = b"".join(strings) + b"\0" + END.wire
    expected = heads(wire)
    words = np.frombuffer(wire, np.uint8).astype(np.uint64)
    start = decoder.cycle
    out = decoder.run({"bytes": words}, {"packet": len(expected)}, stalls=stalls, seed=len(wire), patience=200)
    assert out["packet"].tolist() == expected
    assert expected[-1] == heads(END.wire)[0]
    if not stalls:
        assert decoder.cycle - start <= len(wire) + len(expected) + 1
    compared["blocks"] += wire.count(0)
    compared["packets"] += len(expected)


def test_enough_was_compared() -> None:
    assert compared["blocks"] > 300
    assert compared["packets"] > 150


def test_heads_are_those_of_the_struct() -> None:
    (word,) = heads(END.wire)
    assert word.to_bytes(8, "little") == struct.pack("<BBHHBB", Packet.POLL, 255, 0x1234, 0xABCD, 0, 0)
