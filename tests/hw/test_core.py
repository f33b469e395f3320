# amaranth: UnusedElaboratable=no
"""A whole core in compiled simulation, spoken to in packets made here, against the golden model."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from dyadprop.network import Network, RawParameters
from dyadprop.operations import Operation
from dyadprop.plan import plan_network
from dyadprop.protocol import MIN_PERIOD, RECEIVE_SLOTS, Answer, Command, Packet, Reason, Register
from dyadprop_hw.chip import Core
from dyadprop_hw.receive_window import ReceiveWindow
from dyadprop_hw.send_window import SendWindow
from dyadprop_sim import golden
from dyadprop_sim.benches.packets import Damage, Fields, Host, decode, message, split_messages, talk, undamaged
from dyadprop_sim.random_networks import Case, random_case, random_rate
from tests.hw.core import IDENTITY, CoreSimulation, Messages
from tests.hw.netlist import Netlist

CASES = {seed: random_case(seed, layers=2, max_width=5, batch=7) for seed in (7, 8)}

SLOTS = {CASES[8].net.hash: 2}
"""Of a core with the shortest windows there are."""


class Link:
    """A host, a core and what happens between them."""

    def __init__(self, net: Network, seed: int, stalls: float, share: float) -> None:
        rng = random.Random(seed)
        self.core = CoreSimulation(net, seed, stalls, slots=SLOTS.get(net.hash, RECEIVE_SLOTS))
        self.damage: Callable[[list[Fields], bool], bytes] = Damage(rng, share) if share else undamaged
        self.host = Host(rng.randrange(256), rng.choice([0, 65530, 4711]), rng.choice([0, 65525, 42]))
        self.size = rng.choice([128, 100, 37]) if share else 128
        self.rounds = 0

    def ask(self, commands: bytes, count: int) -> list[tuple[int, bytes]]:
        """Send messages and give so many answers."""
        self.host.send(commands, self.size)
        conversation = talk(
            self.host,
            self.damage,
            lambda: not self.host.unacknowledged and len(split_messages(self.host.received)[0]) >= count,
            200,
        )
        wire = next(conversation)
        while True:
            answer = self.core.exchange(wire, patience=600)
            try:
                wire = conversation.send(answer)
            except StopIteration as end:
                self.rounds += end.value
                break
        found, rest = split_messages(self.host.received)
        assert not rest
        assert len(found) == count
        self.host.received = b""
        return found

    def say(self, *packets: Fields) -> list[Fields]:
        """Send packets, undamaged, and give the answers."""
        answers = [decode(block) for block in self.core.exchange(undamaged(list(packets))).split(b"\0")[:-1]]
        assert None not in answers
        return [answer for answer in answers if answer is not None]


@pytest.fixture
def link(request: pytest.FixtureRequest) -> Iterator[Link]:
    link = Link(CASES[7].net, 1, 0.0, 0.0)
    yield link
    link.core.close()


def read_all(net: Network, operation: Operation) -> bytes:
    return Messages(net).control(*((l, operation, 0) for l in range(1, len(net.layers) + 1)))


def stage_words(entry: RawParameters) -> list[int]:
    return np.hstack([entry.weight, entry.bias[:, None]]).ravel().tolist()


def vectors(found: list[tuple[int, bytes]], kind: Answer, size: int) -> list[list[int]]:
    return [Messages(CASES[7].net).numbers(body, size) for k, body in found if k == kind]


# -- against the golden model ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stalls", "share"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.2), (0.3, 0.4)])
@pytest.mark.parametrize("seed", list(CASES))
def test_gradients_are_the_golden_models(seed: int, stalls: float, share: float) -> None:
    case = CASES[seed]
    link = Link(case.net, seed, stalls, share)
    wire, net = Messages(case.net), case.net
    compared = 0
    link.ask(wire.load(case.params), 1)
    for command, seeds in ((Command.LEARN, False), (Command.LEARN_SEED, True)):
        trace = golden.textbook(net, case.params, case.x, case.targets, seeds=seeds) if not seeds else None
        targets = case.targets
        if seeds:
            form = net.layer_formats(len(net.layers)).sensitivity
            targets = np.random.default_rng(seed).integers(form.min_int, form.max_int + 1, case.targets.shape)
            trace = golden.textbook(net, case.params, case.x, targets, seeds=True)
        assert trace is not None
        count = len(case.x) * (2 if net.input_gradient else 1) + len(net.layers)
        clear = wire.control(*((l, Operation.CLEAR, 0) for l in range(1, len(net.layers) + 1)))
        link.ask(clear, len(net.layers))
        found = link.ask(wire.samples(command, case.x, targets) + read_all(net, Operation.READ_GRADIENT), count)
        assert vectors(found, Answer.OUTPUT, wire.sizes.output_word) == trace.outputs.tolist()
        compared += trace.outputs.size
        if net.input_gradient:
            assert trace.inputs is not None
            back = vectors(found, Answer.INPUT_SENSITIVITY, wire.sizes.sensitivity_word)
            assert back == trace.inputs.tolist()
            compared += trace.inputs.size
        replies = [wire.reply(body) for kind, body in found if kind == Answer.REPLY]
        assert [words for _, _, words in replies] == [stage_words(entry) for entry in trace.gradients]
        compared += sum(len(words) for _, _, words in replies)
    assert compared > 100
    if share:
        assert isinstance(link.damage, Damage)
        assert link.damage.damaged > 5
    link.core.close()


def trainable() -> Case:
    for seed in range(50, 200):
        case = random_case(seed, layers=2, max_width=5, batch=7)
        if random_rate(np.random.default_rng(seed), case.net, 1) is not None:
            return case
    raise AssertionError


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_steps_are_the_golden_models(share: float) -> None:
    case = trainable()
    net, wire = case.net, Messages(case.net)
    rate = random_rate(np.random.default_rng(1), net, 1)
    assert rate is not None
    model = golden.Model(net, case.params)
    training = model.train(case.x, case.targets, batch_size=1, exponent=rate.exponent, scale=rate.scale)
    link = Link(net, 3, 0.2, share)
    layers = len(net.layers)
    rates = [(s.index, Operation.RATE, s.step_shift(rate.exponent)) for s in (p.numbers for p in link.core.plan.stages)]
    commands = wire.load(case.params) + wire.control(*rates, (layers + 1, Operation.RATE, rate.scale))
    link.ask(commands, 1 + layers + 1)
    count = len(case.x) * (2 if net.input_gradient else 1) + 2 * layers
    found = link.ask(
        wire.samples(Command.STEP, case.x, case.targets)
        + read_all(net, Operation.READ_WEIGHT)
        + read_all(net, Operation.READ_GRADIENT),
        count,
    )
    assert vectors(found, Answer.OUTPUT, wire.sizes.output_word) == training.outputs.tolist()
    replies = [wire.reply(body)[2] for kind, body in found if kind == Answer.REPLY]
    expected = [stage_words(entry) for entry in (*model.params, *model.residuals)]
    assert replies == expected
    assert sum(map(len, replies)) > 30
    # They come back the way they went: written to a core with another session, read again.
    again = Host(9, 1, 2)
    link.host = again
    link.ask(wire.parameters(Command.WRITE_GRADIENT, model.residuals), layers)
    found = link.ask(read_all(net, Operation.READ_GRADIENT) + read_all(net, Operation.READ_WEIGHT), 2 * layers)
    assert [wire.reply(body)[2] for _, body in found] == expected[layers:] + expected[:layers]
    link.core.close()


def test_a_held_sample_waits_for_its_release(link: Link) -> None:
    case = CASES[7]
    net, wire = case.net, Messages(case.net)
    form = net.layer_formats(len(net.layers)).sensitivity
    seeds = np.random.default_rng(5).integers(form.min_int, form.max_int + 1, (2, net.outputs))
    trace = golden.textbook(net, case.params, case.x[:2], seeds, seeds=True)
    link.ask(wire.load(case.params), 1)
    release = message(Command.RELEASE, wire.words(seeds[0], wire.sizes.target_word))
    found = link.ask(release, 1)
    assert found == [refused(Command.RELEASE, Reason.NOT_HELD, Command.HOLD, Command.RELEASE)]
    found = link.ask(
        wire.samples(Command.HOLD, case.x[:1])
        + message(Command.ECHO, b"still here")
        + wire.samples(Command.FORWARD, case.x)
        + message(Command.COMMIT)
        + message(Command.BAUD, bytes(2)),
        5,
    )
    assert vectors(found, Answer.OUTPUT, wire.sizes.output_word) == [trace.outputs[0].tolist()]
    held = (Command.FORWARD, Command.COMMIT, Command.BAUD)
    assert [entry for entry in found if entry[0] == Answer.REFUSED] == [
        refused(command, Reason.HELD, Command.RELEASE, command) for command in held
    ]
    more = wire.samples(Command.LEARN_SEED, case.x[1:2], seeds[1:])
    back = 2 if net.input_gradient else 0
    found = link.ask(release + more + read_all(net, Operation.READ_GRADIENT), 1 + back + len(net.layers))
    replies = [wire.reply(body)[2] for kind, body in found if kind == Answer.REPLY]
    assert replies == [stage_words(entry) for entry in trace.gradients]


# -- commands --------------------------------------------------------------------------------------------------------


def refused(command: int, reason: Reason, expected: int, got: int) -> tuple[int, bytes]:
    return Answer.REFUSED, struct.pack("<BBII", command, reason, expected, got)


def test_what_cannot_be_done_is_refused_and_skipped(link: Link) -> None:
    net = CASES[7].net
    wire = Messages(net)
    sizes, layers = wire.sizes, len(net.layers)
    weights = [1 + n * b for n, b in zip(sizes.words, sizes.weight_word, strict=True)]
    gradients = [1 + n * b for n, b in zip(sizes.words, sizes.gradient_word, strict=True)]
    sample = sizes.inputs + sizes.targets
    cases: list[tuple[int, bytes, Reason, int, int]] = [
        (0x7F, bytes(300), Reason.KIND, 0, 0x7F),
        (0, b"", Reason.KIND, 0, 0),
        (Command.IDENTIFY, bytes(7), Reason.LENGTH, 8, 7),
        (Command.ECHO, b"", Reason.LENGTH, 1, 0),
        (Command.REGISTERS, b"x", Reason.LENGTH, 0, 1),
        (Command.LOAD, b"", Reason.LENGTH, 1, 0),
        (Command.LOAD, bytes([0]) + bytes(weights[0] - 1), Reason.STAGE, layers, 0),
        (Command.LOAD, bytes([layers + 1]), Reason.STAGE, layers, layers + 1),
        (Command.LOAD, bytes([1]) + bytes(weights[0]), Reason.LENGTH, weights[0], weights[0] + 1),
        (Command.LOAD, bytes([2]) + bytes(weights[1] - 2), Reason.LENGTH, weights[1], weights[1] - 1),
        (Command.COMMIT, b"", Reason.INCOMPLETE, layers, 0),
        (Command.CHECKSUM, bytes([200]), Reason.STAGE, layers, 200),
        (Command.CHECKSUM, bytes([1, 1]), Reason.LENGTH, 1, 2),
        (Command.CONTROL, bytes(7), Reason.LENGTH, 6, 7),
        (Command.CONTROL, b"", Reason.LENGTH, 6, 0),
        (Command.WRITE_GRADIENT, bytes([1]), Reason.LENGTH, gradients[0], 1),
        (Command.FORWARD, bytes(sizes.inputs * 3 + 1), Reason.LENGTH, sizes.inputs, sizes.inputs * 3 + 1),
        (Command.FORWARD, b"", Reason.LENGTH, sizes.inputs, 0),
        (Command.LEARN, bytes(sample - 1), Reason.LENGTH, sample, sample - 1),
        (Command.STEP, bytes(2 * sample + 1), Reason.LENGTH, sample, 2 * sample + 1),
        (Command.HOLD, bytes(2 * sizes.inputs), Reason.LENGTH, sizes.inputs, 2 * sizes.inputs),
        (Command.BAUD, bytes([1]), Reason.LENGTH, 2, 1),
        (Command.BAUD, struct.pack("<H", MIN_PERIOD - 1), Reason.PERIOD, MIN_PERIOD, MIN_PERIOD - 1),
    ]
    commands = b"".join(message(kind, body) for kind, body, *_ in cases) + message(Command.ECHO, b"end")
    found = link.ask(commands, len(cases) + 1)
    assert found[:-1] == [refused(kind, why, expected, got) for kind, _, why, expected, got in cases]
    assert found[-1] == (Answer.ECHO, b"end")
    (registers,) = link.ask(message(Command.REGISTERS), 1)
    assert struct.unpack("<12I", registers[1])[Register.REFUSALS] == len(cases)


def test_each_entry_of_control_is_judged_alone(link: Link) -> None:
    net = CASES[7].net
    wire, head = Messages(net), len(net.layers) + 1
    entries = [
        (1, Operation.CLEAR, 0),
        (0, Operation.CLEAR, 0),
        (head + 1, Operation.COUNTERS, 0),
        (1, Operation.COUNTERS, 0),
        (1, Operation.WORD, 0),
        (head, Operation.READ_WEIGHT, 0),
        (head, Operation.RATE, 256),
        (2, Operation.RATE, 3),
        (head, Operation.COUNTERS, 0),
    ]
    found = link.ask(wire.control(*entries), len(entries))
    control = Command.CONTROL
    assert found == [
        (Answer.REPLY, bytes([1, Operation.CLEAR])),
        refused(control, Reason.STAGE, head, 0),
        refused(control, Reason.STAGE, head, head + 1),
        (Answer.REPLY, bytes([1, Operation.COUNTERS]) + bytes(12)),
        refused(control, Reason.OPERATION, 0, Operation.WORD),
        refused(control, Reason.OPERATION, 0, Operation.READ_WEIGHT),
        (Answer.REPLY, bytes([head, Operation.RATE])),
        (Answer.REPLY, bytes([2, Operation.RATE])),
        (Answer.REPLY, bytes([head, Operation.COUNTERS]) + bytes(4)),
    ]


def test_weights_are_taken_all_or_not_at_all(link: Link) -> None:
    case = CASES[7]
    net, wire = case.net, Messages(case.net)
    layers = len(net.layers)
    link.ask(wire.load(case.params), 1)
    other = [entry._replace(weight=0 * entry.weight, bias=0 * entry.bias + 1) for entry in case.params]
    halves = wire.parameters(Command.LOAD, other)
    first = message(Command.LOAD, halves[4 : 4 + int.from_bytes(halves[1:4], "little")])
    expected = [stage_words(entry) for entry in case.params]
    found = link.ask(first + message(Command.COMMIT) + read_all(net, Operation.READ_WEIGHT), 1 + layers)
    assert found[0] == refused(Command.COMMIT, Reason.INCOMPLETE, layers, 1)
    assert [wire.reply(body)[2] for _, body in found[1:]] == expected
    # What was kept aside is gone; a session that ends in the middle drops it too.
    assert link.ask(message(Command.COMMIT), 1) == [refused(Command.COMMIT, Reason.INCOMPLETE, layers, 0)]
    link.host.send(halves[: len(halves) - 3])
    link.host.send(b"")
    link.say(*link.host.output())
    link.host = Host(200, 5, 6)
    found = link.ask(message(Command.COMMIT) + read_all(net, Operation.READ_WEIGHT), 1 + layers)
    assert found[0] == refused(Command.COMMIT, Reason.INCOMPLETE, layers, 0)
    assert [wire.reply(body)[2] for _, body in found[1:]] == expected
    # And the check sums are those of the words.
    (sums,) = ([body for _, body in link.ask(message(Command.CHECKSUM, bytes([1])), 1)],)
    assert sums[0] == bytes([1]) + struct.pack("<I", zlib.crc32(found[1][1][2:]))


def test_who_and_when(link: Link) -> None:
    case = CASES[7]
    net, wire = case.net, Messages(case.net)
    assert link.ask(message(Command.IDENTIFY, b"12345678"), 1) == [(Answer.IDENTITY, b"12345678" + IDENTITY)]
    link.ask(wire.load(case.params), 1)
    back = 1 if net.input_gradient else 0
    (registers,) = link.ask(message(Command.REGISTERS), 1)
    before = struct.unpack("<12I", registers[1])
    link.ask(wire.samples(Command.LEARN, case.x[:1], case.targets[:1]), 1 + back)
    found = link.ask(read_all(net, Operation.READ_GRADIENT) + message(Command.REGISTERS), len(net.layers) + 1)
    after = dict(zip(Register, struct.unpack("<12I", found[-1][1]), strict=True))
    assert before[Register.NOW] < after[Register.FIRST_INPUT] < after[Register.LAST_OUTPUT]
    # A byte of the body a cycle and a word's own cycle: the network is fed more slowly than it could be.
    assert after[Register.LAST_OUTPUT] - after[Register.FIRST_INPUT] >= link.core.plan.output_latency - 1
    assert after[Register.LAST_OUTPUT] < after[Register.FIRST_GRADIENT] < after[Register.NOW]
    assert after[Register.SESSIONS] == 1
    assert after[Register.BAD_PACKETS] == after[Register.OVERFLOWS] == after[Register.SELF_TEST] == 0


def test_baud_is_answered_with_the_period_that_it_asks_for(link: Link) -> None:
    found = link.ask(message(Command.BAUD, struct.pack("<H", 1000)) + message(Command.ECHO, b"x"), 2)
    assert found == [(Answer.BAUD, struct.pack("<H", 1000)), (Answer.ECHO, b"x")]
    # The clock of this core makes 10,000 cycles of a rate's trial too many to wait for; it is on trial now.
    assert link.ask(message(Command.KEEP_BAUD), 1) == [(Answer.BAUD, struct.pack("<H", 1000))]


# -- the link --------------------------------------------------------------------------------------------------------


def test_a_session_can_begin_at_any_time() -> None:
    """Samples, read-outs and loads are cut off by OPEN wherever it falls; what follows is right."""
    case = CASES[8]
    net, wire = case.net, Messages(case.net)
    trace = golden.textbook(net, case.params, case.x, case.targets)
    rng = random.Random(1)
    link = Link(net, 4, 0.2, 0.0)
    layers = len(net.layers)
    back = len(case.x) if net.input_gradient else 0
    work = (
        wire.load(case.params)
        + wire.samples(Command.LEARN, case.x, case.targets)
        + read_all(net, Operation.READ_GRADIENT)
        + wire.load(case.params)
    )
    for number in range(20):
        link.host = Host(number, rng.randrange(1 << 16), rng.randrange(1 << 16))
        # A zero first: the last session ended in the middle of a packet.
        link.host.input(link.core.exchange(b"\0" + link.host.open().wire))
        assert link.host.opened
        link.host.send(work)
        flow = undamaged(link.host.output())
        link.core.exchange(flow[: rng.randrange(len(flow))], patience=rng.randrange(20, 60))
    link.core.exchange(b"\0")
    link.host = Host(99, 1, 2)
    commands = wire.load(case.params) + wire.samples(Command.LEARN, case.x, case.targets)
    found = link.ask(commands + read_all(net, Operation.READ_GRADIENT), 1 + len(case.x) + back + layers)
    assert vectors(found, Answer.OUTPUT, wire.sizes.output_word) == trace.outputs.tolist()
    replies = [wire.reply(body)[2] for kind, body in found if kind == Answer.REPLY]
    assert replies == [stage_words(entry) for entry in trace.gradients]
    (registers,) = link.ask(message(Command.REGISTERS), 1)
    assert struct.unpack("<12I", registers[1])[Register.SESSIONS] == 21
    link.core.close()


def test_packets_are_counted(link: Link) -> None:
    link.ask(message(Command.ECHO, b"x"), 1)
    host = link.host
    broken = bytearray(host.packet(Packet.POLL).wire)
    broken[3] ^= 1 if broken[3] != 1 else 2
    link.core.exchange(bytes(broken) + b"\0\0\1\2\0")
    link.say(host.packet(Packet.DATA, b"ahead", 500), host.packet(Packet.DATA, b"again", host.open().sequence))
    link.say(Fields(Packet.POLL, host.session ^ 1), Fields(77, host.session))
    (registers,) = link.ask(message(Command.REGISTERS), 1)
    values = dict(zip(Register, struct.unpack("<12I", registers[1]), strict=True))
    assert values[Register.BAD_PACKETS] == 2
    assert values[Register.UNEXPECTED_PACKETS] == 2
    assert values[Register.FOREIGN_PACKETS] == 2
    assert values[Register.SESSIONS] == 1


@pytest.mark.parametrize("slots", [0, 1, 3, 32])
def test_windows_that_cannot_be_are_refused(slots: int) -> None:
    message = f"^slots of a window are {slots}; allowed are powers of two from 2 to 16$"
    with pytest.raises(ValueError, match=message):
        ReceiveWindow(slots)
    with pytest.raises(ValueError, match=message):
        SendWindow(slots)


def test_no_path_crosses_the_core_without_a_clock_edge() -> None:
    module = Netlist(Core(plan_network(CASES[7].net), IDENTITY, 1e6, 100_000)).module("top")
    sources = module.sources()
    assert {"rx__ready", "tx__valid", "tx__payload", "period"} <= set(sources)
    assert {output: inputs for output, inputs in sources.items() if inputs} == {}
