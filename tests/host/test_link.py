"""A session against a model of the chip: streams come through whatever happens on the way, or a sentence says why."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyadprop import Dense, Network
from dyadprop.errors import DeviceTimeout, DyadpropError, ProtocolError
from dyadprop.link import MIN_PAYLOAD, Link, SessionLost
from dyadprop.messages import Flight
from dyadprop.packets import Decoder, Frame, encode
from dyadprop.protocol import MAX_PAYLOAD, RECEIVE_SLOTS, SEND_SLOTS, VERSION, Answer, Command, Packet, Register
from dyadprop_sim.chip_model import ChipModel
from tests.wires import Faults, Wire

NET = Network(2, [Dense(2)])


def echo(sizes: list[int], seed: int = 0) -> tuple[Flight, list]:
    rng = np.random.default_rng(seed)
    flight, expected = Flight(), []
    for size in sizes:
        body = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
        flight.say(Command.ECHO, body)
        expected.append((flight.expect(Answer.ECHO, size), body))
    return flight, expected


def opened(wire: Wire, timeout: float = 5.0) -> Link:
    link = Link(wire, timeout=timeout)
    link.open(timeout)
    return link


def talk(link: Link, sizes: list[int], seed: int = 0) -> int:
    flight, expected = echo(sizes, seed)
    assert link.talk(flight.commands, flight)
    for answer, body in expected:
        assert bytes(answer.data) == body
    return sum(sizes)


def test_a_clean_link_sends_nothing_twice():
    wire = Wire(ChipModel(NET), rate=3_000_000)
    wire.chip._period = round(25e6 * 16 / 3e6)
    link = opened(wire)
    compared = sum(talk(link, [1, 3, 200, 1, 5000], seed) for seed in range(20))
    assert compared == 104100
    assert link.counters.retries == 0
    assert link.counters.bad_packets == 0
    assert sum(wire.chip.registers[Register.BAD_PACKETS : Register.REFUSALS]) == 0
    # Each way: 4 bytes of header a message, 13 a packet of 128, acknowledgements.
    assert link.counters.bytes < 2 * 104100 * 1.3


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "faults",
    [
        Faults(lost=0.002),
        Faults(flipped=0.002),
        Faults(cut=0.2),
        Faults(twice=0.3),
        Faults(late=0.3),
        Faults(swapped=0.5),
        Faults(lost=0.002, flipped=0.002, cut=0.05, twice=0.05, late=0.05, swapped=0.1),
    ],
    ids=["lost", "flipped", "cut", "twice", "late", "swapped", "all"],
)
def test_the_streams_come_through(faults, seed):
    link = opened(Wire(ChipModel(NET), faults=faults, seed=seed))
    assert sum(talk(link, [1, 20, 3000, 1, 1, 500], seed * 100 + i) for i in range(3)) == 10569


def test_numbers_of_packets_wrap(monkeypatch):
    highest = type("Highest", (), {"randrange": lambda self, end: end - 2})
    monkeypatch.setattr("dyadprop.link.random.SystemRandom", highest)
    link = opened(Wire(ChipModel(NET), faults=Faults(lost=0.001), seed=1))
    assert link._base == 65534
    assert sum(talk(link, [4000], seed) for seed in range(3)) == 12000
    assert link._base > 65536


def test_short_packets_where_many_are_lost_and_long_ones_again():
    wire = Wire(ChipModel(NET), faults=Faults(lost=0.01), seed=3)
    link = opened(wire)
    talk(link, [2000])
    assert link.payload < MAX_PAYLOAD
    assert link.payload >= MIN_PAYLOAD
    wire.faults.lost = 0.0
    talk(link, [30000])
    assert link.payload == MAX_PAYLOAD


def test_the_window_is_what_the_device_has_room_for():
    wire = Wire(ChipModel(NET))
    link = opened(wire)
    flights = []
    write = wire.write

    def watch(data: bytes) -> None:
        numbers = [frame.sequence for frame in Decoder().feed(data) if frame.kind == Packet.DATA]
        flights.append(len(numbers))
        assert link._next <= link._limit <= link._base + RECEIVE_SLOTS
        write(data)

    wire.write = watch  # type: ignore[method-assign]
    talk(link, [20000])
    assert max(flights) == RECEIVE_SLOTS


def test_a_reset_device_ends_the_session():
    wire = Wire(ChipModel(NET))
    link = opened(wire)
    talk(link, [10])
    wire.chip.reset()
    flight, _ = echo([10])
    with pytest.raises(SessionLost, match=r"^the device on wire was reset$"):
        link.talk(flight.commands, flight)
    link.open(1.0)
    talk(link, [10])


def test_a_reset_is_noticed_while_answers_are_awaited():
    wire = Wire(ChipModel(NET))
    link = opened(wire)
    wire.events = [(wire.written + 2000, lambda w: w.chip.reset())]
    flight, _ = echo([5000])
    with pytest.raises(SessionLost, match="reset"):
        link.talk(flight.commands, flight)


def test_a_lost_port_ends_the_session():
    wire = Wire(ChipModel(NET))
    link = opened(wire)
    wire.events = [(wire.written + 500, lambda w: setattr(w, "cut_off", True))]
    flight, _ = echo([5000])
    with pytest.raises(SessionLost, match=r"^port wire was lost: it is gone$"):
        link.talk(flight.commands, flight)


def test_another_version_is_named():
    wire = Wire(ChipModel(NET, version=VERSION + 1))
    with pytest.raises(ProtocolError, match=r"^device on wire speaks protocol version 2; this driver speaks 1$"):
        opened(wire)
    assert wire.chip.registers[Register.SESSIONS] == 0


def test_nobody_there():
    wire = Wire(ChipModel(NET), faults=Faults(lost=1.0))
    with pytest.raises(DeviceTimeout, match=r"^no device answered on wire within 2 s$"):
        opened(wire, 2.0)
    assert 2.0 <= wire.now < 2.1


def test_a_device_that_falls_silent():
    wire = Wire(ChipModel(NET))
    link = opened(wire, 1.0)
    wire.faults.lost = 1.0
    flight, _ = echo([5000])
    start = wire.now
    sentence = r"^device on wire made no progress for 1\.\d+ s while ECHO was awaited; nothing came for [\d.]+ s$"
    with pytest.raises(DeviceTimeout, match=sentence):
        link.talk(flight.commands, flight)
    assert 1.0 <= wire.now - start < 1.5


def test_a_device_that_answers_polls_and_nothing_else():
    wire = Wire(ChipModel(NET))
    link = opened(wire, 1.0)
    flight = Flight()
    flight.expect(Answer.OUTPUT, 2, 3, what="of the sample")
    sentence = (
        r"^device on wire made no progress for 1\.\d+ s while OUTPUT 1 of 3 of the sample was awaited; it answers"
    )
    with pytest.raises(DeviceTimeout, match=sentence):
        link.talk([], flight)
    assert wire.written < 500  # it is asked less and less often


def test_time_that_computing_takes_is_waited_for():
    wire = Wire(ChipModel(NET))
    link = opened(wire, 1.0)
    flight = Flight(seconds=10.0)
    flight.expect(Answer.OUTPUT, 2)
    with pytest.raises(DeviceTimeout):
        link.talk([], flight)
    assert wire.now > 10.0


def test_giving_up_and_going_on():
    wire = Wire(ChipModel(NET), faults=Faults(lost=1.0))
    wire.faults.lost = 0.0
    link = opened(wire)
    wire.faults.lost = 1.0
    flight, expected = echo([300])
    assert not link.talk(flight.commands, flight, 0.5)
    wire.faults.lost = 0.0
    assert link.talk([], flight, 5.0)
    assert bytes(expected[0][0].data) == expected[0][1]


def test_an_answer_to_an_earlier_opening_opens_nothing():
    wire = Wire(ChipModel(NET), faults=Faults(lost=1.0))
    link = Link(wire, timeout=1.0)
    late = [Frame(Packet.OPENED, session, 5, 6, 16, bytes([VERSION])) for session in range(256)]
    wire._late["in"] = b"".join(map(encode, late))
    with pytest.raises(DeviceTimeout, match=r"^no device answered on wire within 1 s$"):
        link.open(1.0)


# -- a device that says anything --------------------------------------------------------------------------------------


class Hostile:
    """A port whose other end opens the session and then sends what it is told."""

    def __init__(self, make) -> None:
        self.name, self.baud, self.now, self.reads = "hostile", 1_000_000, 0.0, 0
        self.make, self.coming = make, b""
        self.opening = Frame(0, 0, 0, 0)

    def write(self, data: bytes) -> None:
        for frame in Decoder().feed(data):
            if frame.kind == Packet.OPEN:
                self.opening = frame
                answer = Frame(Packet.OPENED, frame.session, frame.acknowledge, frame.sequence, 16, frame.payload)
                self.coming += encode(answer)

    def read(self, seconds: float) -> bytes:
        self.reads += 1
        self.now += max(min(seconds, 0.01), 1e-6)
        data, self.coming = self.coming, b""
        return data or self.make(self)

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def close(self) -> None:
        pass


def held_by(link: Link) -> int:
    return sum(map(len, link._ahead.values())) + sum(map(len, link._window)) + len(link._decoder._rest)


def suffer(make) -> tuple[Hostile, Link, Flight, BaseException | None]:
    port = Hostile(make)
    link = Link(port, timeout=1.0)
    link.open(1.0)
    flight, _ = echo([3000, 10])
    try:
        link.talk(flight.commands, flight)
    except (DyadpropError, SessionLost) as error:
        return port, link, flight, error
    return port, link, flight, None


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**63), st.lists(st.binary(max_size=300), max_size=4), st.floats(0, 1), st.integers(1, 30))
def test_any_packets_at_all(seed, noise, near, times):
    """Bounded time, bounded memory, a sentence."""
    rng = np.random.default_rng(seed)

    def number(base: int) -> int:
        return (base + int(rng.integers(-20, 40) if rng.random() < near else rng.integers(65536))) % 65536

    def make(port: Hostile) -> bytes:
        if port.reads > 30:
            return b""
        if noise and rng.random() < 0.1:
            return noise[int(rng.integers(len(noise)))]
        sent, first = b"", port.opening
        for _ in range(int(rng.integers(1, 5))):
            kind = [Packet.DATA, Packet.STATUS, Packet.GAP, int(rng.integers(256))][int(rng.integers(4))]
            size = int(rng.integers(1, 129)) if kind == Packet.DATA else 0
            session = first.session if rng.random() < 0.9 else int(rng.integers(256))
            # Some that look like answers.
            body = rng.bytes(size) if rng.random() < 0.5 else (b"\x82\xb8\x0b\0" + bytes(124))[:size]
            frame = Frame(
                kind, session, number(first.acknowledge), number(first.sequence), int(rng.integers(256)), body
            )
            sent += encode(frame)
        return sent * times

    port, link, flight, error = suffer(make)
    assert error is not None
    assert "\n" not in str(error)
    assert held_by(link) <= (SEND_SLOTS + RECEIVE_SLOTS + 2) * MAX_PAYLOAD
    assert sum(len(b.data) for kind in flight._expected.values() for b in kind) <= 3010
    assert port.now < 5.0


@pytest.mark.parametrize(
    "frame",
    [
        lambda first, n: Frame(Packet.STATUS, first.session, first.acknowledge, first.sequence, 16),
        lambda first, n: Frame(Packet.GAP, first.session, first.acknowledge, first.sequence, 16),
        lambda first, n: Frame(Packet.STATUS, first.session, first.acknowledge + 5, first.sequence, n % 16),
        lambda first, n: Frame(Packet.DATA, first.session, first.acknowledge + 7, first.sequence, 16, b"ahead"),
        lambda first, n: Frame(Packet.DATA, first.session, first.acknowledge - 1, first.sequence, 16, b"old"),
        lambda first, n: Frame(Packet.OPENED, first.session, first.acknowledge, first.sequence, 16, b"\1"),
        lambda first, n: Frame(77, first.session, 0, 0, 255),
    ],
)
def test_a_flood_without_progress_ends_in_time(frame):
    count = [0]

    def make(port: Hostile) -> bytes:
        count[0] += 1
        first = port.opening
        packet = frame(first, count[0])
        return encode(packet._replace(sequence=packet.sequence % 65536)) * 20

    port, link, _, error = suffer(make)
    assert isinstance(error, DeviceTimeout)
    assert port.now < 3.0
    assert link.counters.retries < 2000


def test_a_stream_of_good_packets_with_nonsense():
    count = [0]

    def make(port: Hostile) -> bytes:
        first = port.opening
        count[0] += 1
        sequence = (first.acknowledge + count[0] - 1) % 65536
        return encode(Frame(Packet.DATA, first.session, sequence, first.sequence, 16, bytes(100)))

    *_, error = suffer(make)
    assert isinstance(error, ProtocolError)
    assert str(error) == "device sent answer 0x00 with 0 bytes; awaited is ECHO"
