"""The model of the chip against docs/protocol.md, sentence by sentence; no driver in here."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest

from dyadprop import Dense, Network
from dyadprop.network import RawParameters
from dyadprop.operations import Operation
from dyadprop.packets import Decoder, Frame, encode
from dyadprop.protocol import VERSION, Answer, Command, Packet, Reason, Register
from dyadprop_sim import golden
from dyadprop_sim.chip_model import ChipModel
from dyadprop_sim.random_networks import random_case

NET = Network(2, [Dense(3, "tanh"), Dense(1)], input_gradient=True)
SESSION, FIRST, DEVICE = 7, 65530, 100


class Host:
    """Speaks packets by hand."""

    def __init__(self, chip: ChipModel) -> None:
        self.chip, self.decoder = chip, Decoder()
        self.sequence, self.expected, self.stream = FIRST, DEVICE, b""

    def send(self, *frames: Frame, noise: bytes = b"") -> list[Frame]:
        return self.decoder.feed(self.chip.receive(b"".join(encode(frame) for frame in frames) + noise))

    def open(self) -> None:
        opened = self.send(Frame(Packet.OPEN, SESSION, FIRST, DEVICE, 0, bytes([VERSION])))
        assert opened == [Frame(Packet.OPENED, SESSION, DEVICE, FIRST, 16, bytes([VERSION]))]

    def short(self, kind: Packet, acknowledge: int | None = None) -> list[Frame]:
        return self.send(Frame(kind, SESSION, self.sequence, self.expected if acknowledge is None else acknowledge))

    def data(self, payload: bytes, ahead: int = 0) -> list[Frame]:
        return self.send(Frame(Packet.DATA, SESSION, (self.sequence + ahead) % 65536, self.expected, 0, payload))

    def say(self, *messages: tuple[int, bytes]) -> list[tuple[int, bytes]]:
        """Send commands in packets; give the answers."""
        out = b"".join(bytes([kind]) + len(body).to_bytes(3, "little") + body for kind, body in messages)
        for start in range(0, len(out), 50):
            self.take(self.data(out[start : start + 50]))
            self.sequence = (self.sequence + 1) % 65536
        while True:
            before = self.expected
            self.take(self.short(Packet.POLL))
            if self.expected == before:
                break
        answers = []
        while self.stream:
            size = int.from_bytes(self.stream[1:4], "little")
            answers.append((self.stream[0], self.stream[4 : 4 + size]))
            self.stream = self.stream[4 + size :]
        return answers

    def take(self, frames: list[Frame]) -> None:
        for frame in frames:
            if frame.kind == Packet.DATA and frame.sequence == self.expected:
                self.stream += frame.payload
                self.expected = (self.expected + 1) % 65536


@pytest.fixture
def host() -> Host:
    host = Host(ChipModel(NET))
    host.open()
    return host


def registers(host: Host) -> list[int]:
    ((kind, body),) = host.say((Command.REGISTERS, b""))
    assert kind == Answer.REGISTERS
    return np.frombuffer(body, dtype="<u4").tolist()


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_a_closed_device_answers_with_the_packets_session():
    host = Host(ChipModel(NET))
    for session in (0, 7, 255):
        assert host.send(Frame(Packet.POLL, session, 5, 6)) == [Frame(Packet.CLOSED, session, 0, 0)]
    host.open()
    assert host.send(Frame(Packet.DATA, 8, 5, 6, 0, b"x")) == [Frame(Packet.CLOSED, 8, 0, 0)]
    assert registers(host)[Register.FOREIGN_PACKETS] == 4


def test_another_version_stays_closed():
    host = Host(ChipModel(NET))
    opened = host.send(Frame(Packet.OPEN, SESSION, FIRST, DEVICE, 0, bytes([VERSION + 1])))
    assert opened == [Frame(Packet.OPENED, SESSION, DEVICE, FIRST, 16, bytes([VERSION]))]
    assert host.short(Packet.POLL) == [Frame(Packet.CLOSED, SESSION, 0, 0)]


def test_a_repeated_open_does_nothing(host):
    host.say((Command.ECHO, b"abc"))
    again = host.send(Frame(Packet.OPEN, SESSION, FIRST, DEVICE, 0, bytes([VERSION])))
    assert again[0][:4] == (Packet.OPENED, SESSION, DEVICE, FIRST)
    assert host.say((Command.ECHO, b"def")) == [(Answer.ECHO, b"def")]
    assert registers(host)[Register.SESSIONS] == 1
    # Another one forgets what was under way.
    host.data(bytes([Command.ECHO, 4, 0, 0, 1]))
    new = host.send(Frame(Packet.OPEN, SESSION + 1, 1, 2, 0, bytes([VERSION])))
    assert new == [Frame(Packet.OPENED, SESSION + 1, 2, 1, 16, bytes([VERSION]))]
    answer = host.send(Frame(Packet.DATA, SESSION + 1, 1, 2, 0, bytes([Command.ECHO, 1, 0, 0, 9])))
    assert answer[0].payload == bytes([Answer.ECHO, 1, 0, 0, 9])


def test_data_in_order_repeated_and_ahead(host):
    half = bytes([Command.ECHO, 2, 0, 0])
    (status,) = host.data(half)
    assert status == Frame(Packet.STATUS, SESSION, DEVICE, FIRST + 1, 16)
    (status,) = host.data(half)  # again
    assert status.kind == Packet.STATUS
    assert status.acknowledge == FIRST + 1
    for ahead in (2, 3, 32768):
        (gap,) = host.data(b"x", ahead=ahead)
        assert gap == Frame(Packet.GAP, SESSION, DEVICE, FIRST + 1, 16)
    (status,) = host.data(b"x", ahead=32770)  # behind, by less than 2^15
    assert status.kind == Packet.STATUS
    host.sequence += 1
    (answer,) = host.data(b"ab")
    assert answer.payload == bytes([Answer.ECHO, 2, 0, 0]) + b"ab"
    assert (answer.acknowledge, answer.credit) == (FIRST + 2, 16)
    host.sequence += 1
    host.expected += 1
    assert registers(host)[Register.UNEXPECTED_PACKETS] == 5


def test_a_gap_is_sent_as_one_among_others(host):
    frames = [Frame(Packet.DATA, SESSION, FIRST + i, DEVICE, 0, bytes([Command.ECHO, 9, 0, 0])) for i in (1, 0, 2)]
    kinds = [frame.kind for frame in host.send(*frames)]
    assert Packet.GAP in kinds


def test_no_room_no_packet(host):
    """Answers that nobody takes fill the device's slots, then its commands wait, then they are dropped."""
    echo = bytes([Command.ECHO, 124, 0, 0]) + bytes(range(124))
    taken = 0
    while True:
        last = host.send(Frame(Packet.DATA, SESSION, (FIRST + taken) % 65536, DEVICE, 0, echo))[-1]
        if (last.acknowledge - FIRST) % 65536 == taken:
            break
        taken += 1
    assert (last.kind, last.credit) == (Packet.STATUS, 0)
    assert last.sequence == DEVICE + 16
    assert 32 <= taken <= 34
    # The host has seen nothing; it asks for all from the first on.
    frames = host.short(Packet.RESEND)
    assert [frame.kind for frame in frames] == [Packet.STATUS] + [Packet.DATA] * 16
    assert [frame.sequence for frame in frames[1:]] == list(range(DEVICE, DEVICE + 16))
    # Acknowledged: the slots are free, and the rest comes with credit.
    host.take(frames)
    while True:
        frames = host.short(Packet.POLL)
        host.take(frames)
        if all(frame.kind != Packet.DATA for frame in frames):
            break
    assert frames[-1].credit == 16
    assert host.stream == (bytes([Answer.ECHO, 124, 0, 0]) + bytes(range(124))) * taken
    host.sequence = (FIRST + taken) % 65536
    host.stream = b""
    assert registers(host)[Register.UNEXPECTED_PACKETS] == 1


def test_an_acknowledgement_outside_of_what_is_kept_is_ignored(host):
    for number in range(3):
        host.data(bytes([Command.ECHO, 1, 0, 0, number]))
        host.sequence += 1
    for wrong in (DEVICE - 1, DEVICE + 4, DEVICE + 30000):
        assert [frame.kind for frame in host.short(Packet.RESEND, wrong)] == [Packet.STATUS]
    assert [frame.sequence for frame in host.short(Packet.RESEND, DEVICE + 1)[1:]] == [DEVICE + 1, DEVICE + 2]
    assert [frame.kind for frame in host.short(Packet.RESEND, DEVICE)] == [Packet.STATUS]  # it is gone now
    assert host.short(Packet.ACK, DEVICE + 3) == []
    assert [frame.kind for frame in host.short(Packet.RESEND, DEVICE + 3)] == [Packet.STATUS]


def test_noise_is_counted(host):
    assert host.send(noise=b"nonsense\0" * 3 + b"\0\0") == []
    assert host.send(Frame(42, SESSION, 0, 0)) == []
    found = registers(host)
    assert found[Register.BAD_PACKETS] == 3
    assert found[Register.FOREIGN_PACKETS] == 1


def test_power_off_forgets_the_session(host):
    host.chip.reset()
    assert host.short(Packet.POLL) == [Frame(Packet.CLOSED, SESSION, 0, 0)]


# -- messages ---------------------------------------------------------------------------------------------------------


def refused(kind: int, reason: Reason, expected: int, got: int) -> tuple[int, bytes]:
    return Answer.REFUSED, bytes([kind, reason]) + expected.to_bytes(4, "little") + got.to_bytes(4, "little")


def entry(stage: int, operation: int, data: int = 0) -> bytes:
    return bytes([stage, operation]) + data.to_bytes(4, "little", signed=True)


@pytest.mark.parametrize(
    ("command", "body", "reason", "expected", "got"),
    [
        (0x77, b"anything", Reason.KIND, 0, 0x77),
        (Command.IDENTIFY, b"short", Reason.LENGTH, 8, 5),
        (Command.ECHO, b"", Reason.LENGTH, 1, 0),
        (Command.REGISTERS, b"x", Reason.LENGTH, 0, 1),
        (Command.LOAD, b"", Reason.LENGTH, 19, 0),
        (Command.LOAD, b"\0" + bytes(18), Reason.STAGE, 2, 0),
        (Command.LOAD, b"\3" + bytes(18), Reason.STAGE, 2, 3),
        (Command.LOAD, b"\1" + bytes(17), Reason.LENGTH, 19, 18),
        (Command.COMMIT, b"x", Reason.LENGTH, 0, 1),
        (Command.COMMIT, b"", Reason.INCOMPLETE, 2, 0),
        (Command.CHECKSUM, b"\4", Reason.STAGE, 2, 4),
        (Command.CHECKSUM, b"\1x", Reason.LENGTH, 1, 2),
        (Command.CONTROL, b"", Reason.LENGTH, 6, 0),
        (Command.CONTROL, bytes(7), Reason.LENGTH, 6, 7),
        (Command.CONTROL, entry(0, Operation.CLEAR), Reason.STAGE, 3, 0),
        (Command.CONTROL, entry(4, Operation.COUNTERS), Reason.STAGE, 3, 4),
        (Command.CONTROL, entry(1, Operation.WORD), Reason.OPERATION, 0, Operation.WORD),
        (Command.CONTROL, entry(1, 99), Reason.OPERATION, 0, 99),
        (Command.CONTROL, entry(3, Operation.CLEAR), Reason.OPERATION, 0, Operation.CLEAR),
        (Command.WRITE_GRADIENT, b"\1" + bytes(5), Reason.LENGTH, 1 + 9 * 5, 6),
        (Command.FORWARD, b"", Reason.LENGTH, 4, 0),
        (Command.FORWARD, bytes(5), Reason.LENGTH, 4, 5),
        (Command.LEARN, bytes(4), Reason.LENGTH, 6, 4),
        (Command.LEARN_SEED, bytes(7), Reason.LENGTH, 6, 7),
        (Command.STEP, bytes(8), Reason.LENGTH, 6, 8),
        (Command.HOLD, bytes(8), Reason.LENGTH, 4, 8),
        (Command.RELEASE, bytes(2), Reason.NOT_HELD, Command.HOLD, Command.RELEASE),
        (Command.BAUD, bytes(1), Reason.LENGTH, 2, 1),
        (Command.BAUD, b"\x3f\0", Reason.PERIOD, 64, 63),
        (Command.KEEP_BAUD, b"x", Reason.LENGTH, 0, 1),
    ],
)
def test_refusals(host, command, body, reason, expected, got):
    echo = (Command.ECHO, b"still here")
    answers = host.say((command, body), echo)
    assert answers == [refused(command, reason, expected, got), (Answer.ECHO, b"still here")]
    assert registers(host)[Register.REFUSALS] == 1


def test_each_entry_of_control_is_judged_alone(host):
    body = entry(1, Operation.RATE, 3) + entry(9, 1) + entry(2, Operation.COUNTERS) + entry(3, Operation.COUNTERS)
    assert host.say((Command.CONTROL, body)) == [
        (Answer.REPLY, bytes([1, Operation.RATE])),
        refused(Command.CONTROL, Reason.STAGE, 3, 9),
        (Answer.REPLY, bytes([2, Operation.COUNTERS]) + bytes(12)),
        (Answer.REPLY, bytes([3, Operation.COUNTERS]) + bytes(4)),
    ]


def test_identity(host):
    ((kind, body),) = host.say((Command.IDENTIFY, b"12345678"))
    assert kind == Answer.IDENTITY
    assert body[:8] == b"12345678"
    document = json.loads(body[8:])
    keys = "protocol network gateware board clock baud formats lanes max_batch"
    assert sorted(document) == sorted(keys.split())
    assert document["network"] == NET.hash
    assert len(document["formats"]) == 3


def words(entry: RawParameters, size: int) -> bytes:
    table = np.hstack([entry.weight, entry.bias[:, None]])
    return b"".join(int(word).to_bytes(size, "little", signed=True) for word in table.ravel())


def load(host: Host, params: list[RawParameters]) -> None:
    sizes = host.chip._sizes.weight_word
    loads = [(Command.LOAD, bytes([i]) + words(e, sizes[i - 1])) for i, e in enumerate(params, 1)]
    assert host.say(*loads, (Command.COMMIT, b"")) == [(Answer.COMMITTED, b"")]


def test_a_load_that_ends_half_way_has_changed_nothing(host):
    case = random_case(1, layers=2)
    host = Host(ChipModel(case.net))
    host.open()
    load(host, case.params)
    read = (Command.CONTROL, entry(1, Operation.READ_WEIGHT))
    before = host.say(read)
    size = host.chip._sizes.words[0] * host.chip._sizes.weight_word[0]
    assert before == [(Answer.REPLY, bytes([1, 3]) + words(case.params[0], host.chip._sizes.weight_word[0]))]
    host.say((Command.LOAD, b"\1" + bytes(size)))
    assert host.say(read) == before
    assert host.say((Command.COMMIT, b"")) == [refused(Command.COMMIT, Reason.INCOMPLETE, 2, 1)]
    assert host.say((Command.COMMIT, b"")) == [refused(Command.COMMIT, Reason.INCOMPLETE, 2, 0)]
    assert host.say(read) == before
    check = zlib.crc32(before[0][1][2:]).to_bytes(4, "little")
    assert host.say((Command.CHECKSUM, b"\1")) == [(Answer.CHECKSUM, b"\1" + check)]
    # Weights outlive a session.
    host.send(Frame(Packet.OPEN, SESSION, FIRST, DEVICE + 1, 0, bytes([VERSION])))
    host.sequence, host.expected = FIRST, DEVICE + 1
    assert host.say(read) == before


@pytest.mark.parametrize("seed", range(6))
def test_samples_are_goldens(seed):
    case = random_case(seed, max_width=5, batch=5)
    net, chip = case.net, ChipModel(case.net)
    host, sizes = Host(chip), chip._sizes
    host.open()
    load(host, case.params)
    model = golden.Model(net, case.params)

    def bytes_of(values, size: int) -> bytes:
        return b"".join(int(v).to_bytes(size, "little", signed=True) for v in values)

    x = [bytes_of(row, sizes.input_word) for row in case.x]
    y = [bytes_of(row, sizes.target_word) for row in case.targets]
    forward = [(Answer.OUTPUT, bytes_of(row, sizes.output_word)) for row in model.predict(case.x).outputs]
    assert host.say((Command.FORWARD, b"".join(x))) == forward
    trace = model.textbook(case.x, case.targets)
    answers = host.say((Command.LEARN, b"".join(a + b for a, b in zip(x, y, strict=True))))
    assert [answer for answer in answers if answer[0] == Answer.OUTPUT] == forward
    inputs = [body for kind, body in answers if kind == Answer.INPUT_SENSITIVITY]
    if trace.inputs is not None:
        assert inputs == [bytes_of(row, sizes.sensitivity_word) for row in trace.inputs]
    else:
        assert inputs == []
    reads = b"".join(entry(i, Operation.READ_GRADIENT) for i in range(1, len(net.layers) + 1))
    expected = [
        (Answer.REPLY, bytes([i, Operation.READ_GRADIENT]) + words(e, sizes.gradient_word[i - 1]))
        for i, e in enumerate(trace.gradients, 1)
    ]
    assert host.say((Command.CONTROL, reads)) == expected
    counts = model.predict(case.x).saturations + trace.saturations
    head = (Command.CONTROL, entry(1, Operation.COUNTERS) + entry(len(net.layers) + 1, Operation.COUNTERS))
    (_, first), (_, last) = host.say(head)
    assert np.frombuffer(first[2:], "<u4").tolist() == [counts[1, "activation"], counts[0, "sensitivity"], 0]
    assert np.frombuffer(last[2:], "<u4").tolist() == [counts[len(net.layers), "sensitivity"]]
    # CLEAR, then one half learnt and one held: the gradients of the seeds.
    seeds = model.textbook(case.x[:1], trace.sensitivities[len(net.layers)][:1], seeds=True)
    clear = b"".join(entry(i, Operation.CLEAR) for i in range(1, len(net.layers) + 1))
    seed_word = bytes_of(trace.sensitivities[len(net.layers)][0], sizes.target_word)
    answers = host.say((Command.CONTROL, clear), (Command.HOLD, x[0]), (Command.CONTROL, reads), (Command.ECHO, b"x"))
    assert answers[len(net.layers) :] == [
        forward[0],
        refused(Command.CONTROL, Reason.HELD, Command.RELEASE, Command.CONTROL),
        (Answer.ECHO, b"x"),
    ]
    host.say((Command.RELEASE, seed_word))
    expected = [
        (Answer.REPLY, bytes([i, Operation.READ_GRADIENT]) + words(e, sizes.gradient_word[i - 1]))
        for i, e in enumerate(seeds.gradients, 1)
    ]
    assert host.say((Command.CONTROL, reads)) == expected


def test_registers(host):
    load(host, golden_words())
    first = registers(host)
    host.say((Command.FORWARD, bytes(12)))
    second = registers(host)
    assert first[Register.NOW] < second[Register.FIRST_INPUT] < second[Register.LAST_OUTPUT] < second[Register.NOW]
    host.say((Command.FORWARD, bytes(4)), (Command.CONTROL, entry(1, Operation.READ_GRADIENT)))
    third = registers(host)
    assert second[Register.NOW] < third[Register.FIRST_INPUT] < third[Register.LAST_OUTPUT]
    assert third[Register.LAST_OUTPUT] <= third[Register.FIRST_GRADIENT] < third[Register.NOW]


def golden_words() -> list[RawParameters]:
    return NET.quantize(NET.init()).raw


# -- baud rate --------------------------------------------------------------------------------------------------------


def test_a_rate_on_trial_returns_unless_it_is_kept():
    now = [0.0]
    host = Host(ChipModel(NET, clock=16e6, baud=1_000_000, now=lambda: now[0]))
    host.open()
    assert host.chip.baud == 1e6
    faster = (Command.BAUD, (64).to_bytes(2, "little"))
    assert host.say(faster) == [(Answer.BAUD, b"\x40\0")]
    assert host.chip.baud == 4e6
    now[0] += 0.24
    assert host.chip.baud == 4e6
    now[0] += 0.02
    assert host.chip.baud == 1e6
    assert host.say(faster) == [(Answer.BAUD, b"\x40\0")]
    now[0] += 0.2
    assert host.say((Command.KEEP_BAUD, b"")) == [(Answer.BAUD, b"\x40\0")]
    now[0] += 10.0
    assert host.chip.baud == 4e6
    host.chip.reset()
    assert host.chip.baud == 1e6
