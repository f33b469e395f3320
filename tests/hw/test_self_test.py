"""The power-on self-test in compiled simulation: healthy cores pass it, whatever was there; faults are told apart."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from dyadprop import Dense, Formats, Network, Q
from dyadprop.operations import Operation
from dyadprop.protocol import Answer, Command, Register, SelfTest
from dyadprop.self_test import self_test_program
from dyadprop_sim import golden
from dyadprop_sim.benches.packets import Host, message, split_messages, talk, undamaged
from dyadprop_sim.random_networks import draw_words
from tests.hw.core import CoreSimulation, Messages
from tests.hw.faulty_core import FIRST_PRODUCTS, MEMORIES, PRODUCT_BITS, PRODUCTS, STREAMS, FaultyCoreSimulation

SMALL = Formats(Q(3, 5), Q(3, 5), Q(2, 6))
NETWORKS = {
    # Words of one to three bytes, one lane a stage.
    "softmax": Network(
        3,
        [
            Dense(4, "leaky_relu", lanes=1, slope=0.25, formats=Formats(Q(4, 14), Q(2, 10), Q(2, 16))),
            Dense(2, lanes=1, formats=Formats(Q(4, 2), Q(3, 5), Q(2, 6))),
        ],
        "softmax_cross_entropy",
        formats=SMALL,
        max_batch=40,
    ),
    # Small batches, several lanes, three stages.
    "sigmoid": Network(
        2,
        [
            Dense(3, "relu", lanes=3),
            Dense(4, "tanh", lanes=2, formats=Formats(Q(3, 3), Q(3, 5), Q(2, 6))),
            Dense(2, "sigmoid"),
        ],
        "sigmoid_cross_entropy",
        input_gradient=True,
        formats=Formats(Q(2, 3), Q(3, 5), Q(2, 6)),
        max_batch=8,
    ),
}
NETWORKS["single"] = Network(2, [Dense(3, "relu"), Dense(2)], formats=SMALL, max_batch=1)
FAULTY = Network(2, [Dense(3, "tanh", lanes=2), Dense(2)], formats=SMALL, input_gradient=True)
WAIT = 300_000  # cycles: more than any of these tests takes


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_healthy_core_passes_and_is_as_after_reset(name: str) -> None:
    net = NETWORKS[name]
    wire, rng = Messages(net), np.random.default_rng(5)
    case = draw_words(rng, net, "uniform", net.max_batch)
    trace = golden.textbook(net, case.params, case.x, case.targets)
    stages = range(1, len(net.layers) + 1)
    program = self_test_program(net)
    spent = []
    for seed in (1, 2):
        core = CoreSimulation(net, seed, program=program)
        assert core.verdict()[0] == SelfTest.RUNNING
        core.simulation.wait(500)
        # A host opens a session and asks while the test runs. Packets are answered, messages wait.
        host = Host(7, 3, 4)
        host.send(message(Command.REGISTERS))
        for _ in range(2):
            host.input(core.exchange(undamaged(host.output()), patience=100))
        assert not host.received
        assert core.verdict()[0] == SelfTest.RUNNING
        verdict, cycles = core.wait_for_verdict(WAIT)
        assert verdict == SelfTest.PASSED
        spent.append(cycles)
        ask = _Asking(core, host)
        (registers,) = ask(b"", 1)
        values = dict(zip(Register, struct.unpack("<12I", registers[1]), strict=True))
        assert values.pop(Register.NOW) > cycles
        assert values.pop(Register.SELF_TEST) == SelfTest.PASSED
        assert values.pop(Register.SESSIONS) == 1
        assert set(values.values()) == {0}
        counts = wire.control(*((l, Operation.COUNTERS, 0) for l in stages))
        gradients = wire.control(*((l, Operation.READ_GRADIENT, 0) for l in stages))
        found = ask(counts + gradients, 2 * len(stages))
        assert all(not any(wire.reply(body)[2]) for _, body in found)
        count = 1 + len(case.x) * (1 + net.input_gradient) + len(stages)
        found = ask(wire.load(case.params) + wire.samples(Command.LEARN, case.x, case.targets) + gradients, count)
        replies = [wire.reply(body)[2] for kind, body in found if kind == Answer.REPLY]
        assert replies == [np.hstack([g.weight, g.bias[:, None]]).ravel().tolist() for g in trace.gradients]
        outputs = [wire.numbers(body, wire.sizes.output_word) for kind, body in found if kind == Answer.OUTPUT]
        assert outputs == trace.outputs.tolist()
        assert sum(map(len, replies)) + trace.outputs.size > 10
        core.close()
    assert spent[0] == spent[1]


def test_a_core_passes_whose_network_has_a_clock_of_its_own() -> None:
    # The test begins at once, while the network is still held in reset.
    net = NETWORKS["single"]
    program = self_test_program(net)
    for seed in (1, 2):
        core = CoreSimulation(net, seed, program=program, split=True)
        verdict, cycles = core.wait_for_verdict(WAIT)
        assert verdict == SelfTest.PASSED
        assert cycles > 1000
        core.close()


class _Asking:
    """A host that asks a core."""

    def __init__(self, core: CoreSimulation, host: Host) -> None:
        self._core, self._host = core, host

    def __call__(self, commands: bytes, count: int) -> list[tuple[int, bytes]]:
        host = self._host
        host.send(commands, 128)
        conversation = talk(
            host, undamaged, lambda: not host.unacknowledged and len(split_messages(host.received)[0]) >= count, 200
        )
        wire = next(conversation)
        while True:
            try:
                wire = conversation.send(self._core.exchange(wire, patience=600))
            except StopIteration:
                break
        found, rest = split_messages(host.received)
        assert not rest
        host.received = b""
        return found


@pytest.fixture(scope="module")
def faulty() -> FaultyCoreSimulation:
    return FaultyCoreSimulation(FAULTY, self_test_program(FAULTY))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_core_passes_without_its_faults(faulty: FaultyCoreSimulation, seed: int) -> None:
    verdict, cycles = faulty.verdict(0, seed, WAIT)
    print(f"{cycles} cycles")
    assert verdict == SelfTest.PASSED


EXPECTED = {
    1: SelfTest.WEIGHTS,
    2: SelfTest.WEIGHTS,
    3: SelfTest.GRADIENTS,
    4: SelfTest.GRADIENTS,
    5: SelfTest.PRODUCTS,
    6: SelfTest.WEIGHTS,
    7: SelfTest.WEIGHTS,
    8: SelfTest.PRODUCTS,
    9: SelfTest.TABLES,
    **dict.fromkeys(STREAMS, SelfTest.HUNG),
}


def test_faults_of_memories_tables_and_streams_are_told_apart(faulty: FaultyCoreSimulation) -> None:
    assert EXPECTED.keys() == {*MEMORIES, *STREAMS}
    found = {fault: faulty.verdict(fault, fault, WAIT)[0] for fault in EXPECTED}
    assert found == EXPECTED


@pytest.mark.parametrize("product", FIRST_PRODUCTS)
def test_each_stuck_bit_of_a_product_is_found(faulty: FaultyCoreSimulation, product: str) -> None:
    first = PRODUCTS + PRODUCT_BITS * FIRST_PRODUCTS.index(product)
    found = [faulty.verdict(first + bit, bit, WAIT)[0] for bit in range(PRODUCT_BITS)]
    # What is read out goes beside products of zero: a stuck bit of one shows in weights or in gradients.
    if product == "gradient":
        assert set(found) == {SelfTest.GRADIENTS}
        return
    if product == "sensitivity":
        word = FAULTY.formats.weight.width
        assert set(found[:word]) == {SelfTest.WEIGHTS}
        assert set(found[word:]) == {SelfTest.GRADIENTS}
        return
    # The lowest bits of a sum of products are rounded away; rare ties show them.
    assert set(found[:3]) <= {SelfTest.PRODUCTS, SelfTest.TABLES}
    assert set(found[3:]) == {SelfTest.PRODUCTS}
