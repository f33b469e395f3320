"""The driver of the wire against a model of the chip: golden's bits always, or one sentence."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dyadprop as dp
from dyadprop import connection, serial_device
from dyadprop.cli import main
from dyadprop.device import Device
from dyadprop.errors import CapacityError, DeviceLost, DeviceTimeout, NetworkMismatch, ProtocolError, RangeError
from dyadprop.identity import read_identity
from dyadprop.network import Parameters
from dyadprop.operations import Operation
from dyadprop.packets import Frame, encode
from dyadprop.protocol import VERSION, Packet, Register, SelfTest
from dyadprop.rates import exponents
from dyadprop.results import sum_stats
from dyadprop.serial_device import SerialDevice
from dyadprop_sim.chip_model import ChipModel
from dyadprop_sim.devices import GoldenDevice
from dyadprop_sim.random_networks import random_case
from tests.host.test_device import in_a_forked_child
from tests.wires import Faults, Wire, pty_chip, socket_chip

NET = dp.Network(3, [dp.Dense(5, "tanh"), dp.Dense(2)], input_gradient=True, max_batch=20)
RNG = np.random.default_rng(11)
X, Y = RNG.uniform(-1, 1, (48, 3)), RNG.uniform(-1, 1, (48, 2))
ALL_FAULTS = Faults(lost=0.001, flipped=0.001, cut=0.03, twice=0.03, late=0.03, swapped=0.1)


def over(wire: Wire, net: dp.Network = NET, **options: Any) -> SerialDevice:
    return SerialDevice(net, address="wire", opener=wire.open, **options)


def words(value: Any) -> list[np.ndarray]:
    """Give all integers of a result or a checkpoint."""
    found: list[np.ndarray]
    if isinstance(value, dp.Checkpoint):
        return [np.asarray(a) for e in [*value.parameters, *value.residuals] for a in e[:2]]
    if isinstance(value, list):
        return [a for entry in value for a in entry[:2]]
    raw: Any = value.raw
    found = [raw.outputs]
    if isinstance(value, dp.Result):
        found += [a for entry in raw.gradients for a in entry[:2]]
        found += [] if raw.inputs is None else [raw.inputs]
    return found


def same(got: Any, expected: Any) -> int:
    """Compare what two devices answered; give how many words."""
    a, b = words(got), words(expected)
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)
    if not isinstance(got, (list, dp.Checkpoint)):
        assert got.stats.saturations == expected.stats.saturations
        assert got.cost == expected.cost
    return sum(map(np.size, a))


def calls(net: dp.Network, x: np.ndarray, y: np.ndarray, rate: float) -> list[tuple[str, Callable[[Device], Any]]]:
    course: dict[str, Any] = {"learning_rate": rate, "batch_size": min(4, net.max_batch)}
    return [
        ("parameters", lambda d: d.parameters()),
        ("predict", lambda d: d.predict(x[:9])),
        ("gradients", lambda d: d.gradients(x, y)),
        ("vjp", lambda d: d.vjp(x[:5], np.ones((5, net.outputs)))),
        ("train", lambda d: d.train(x, y, **course)),
        ("gradients of what was learnt", lambda d: d.gradients(x[:3], y[:3])),
        ("train on", lambda d: d.train(x[:11], y[:11], **course)),
        ("checkpoint", lambda d: d.checkpoint()),
    ]


def compare(device: Device, net: dp.Network = NET, x: np.ndarray = X, y: np.ndarray = Y, rate: float = 2**-6) -> int:
    golden = GoldenDevice(net)
    start = net.init(3)
    for one in (device, golden):
        one.load(start)
    return sum(same(call(device), call(golden)) for _, call in calls(net, x, y, rate))


# -- bits -------------------------------------------------------------------------------------------------------------


def test_a_clean_wire():
    wire = Wire(ChipModel(NET))
    with over(wire) as device:
        assert compare(device) == 608
        result = device.gradients(X, Y)
    stats = result.stats
    assert stats.retries == 0
    assert stats.bytes > 48 * 3 * 2
    assert stats.cycles > 0
    assert stats.transfer_cycles > 0
    # It is summed over the batches, which rounds otherwise than the quotient of the sums.
    assert stats.device_seconds == pytest.approx((stats.cycles + stats.transfer_cycles) / 25e6, rel=1e-12)
    figures = asdict(stats.wire)
    times = [figures.pop(name) for name in ("pack_seconds", "send_seconds", "wait_seconds", "unpack_seconds")]
    assert set(figures.values()) == {0}
    assert all(times)
    assert sum(times) < stats.seconds


def test_who_answers():
    wire = Wire(ChipModel(NET, board="ulx3s-85f", baud=115200))
    info = over(wire).info
    assert (info.kind, info.network, info.board, info.gateware) == ("serial", NET.hash, "ulx3s-85f", "python")
    assert (info.clock, info.max_batch, info.protocol) == (25e6, 20, 1)
    assert info.formats == tuple(NET.layer_formats(index) for index in range(3))
    assert info.lanes == (5, 2)
    assert (info.port, info.baud) == ("wire", 115200)
    assert 0.0005 < info.round_trip < 0.01


@pytest.mark.parametrize("seed", range(4))
def test_a_bad_wire(seed):
    """Lost, flipped, cut, doubled, late and swapped: the same bits, and figures that say so."""
    wire = Wire(ChipModel(NET), faults=ALL_FAULTS, seed=seed)
    with over(wire) as device:
        assert compare(device) == 608
        result = device.train(X, Y)
    assert result.stats.retries > 0
    assert result.stats.wire.reconnects == 0
    assert result.stats.wire.bad_packets + result.stats.wire.received_bad > 0


@pytest.mark.parametrize("seed", range(8))
def test_random_networks(seed):
    case = random_case(seed, max_width=6, layers=1 + seed % 3, batch=7)
    net = case.net
    golden, device = GoldenDevice(net), over(Wire(ChipModel(net), seed=seed), net)
    params = [entry.decode() for entry in case.params]
    x = net.formats.activation.to_floats(case.x)
    y = RNG.uniform(-1, 1, (7, net.outputs))
    if net.cost != "squared_error":
        y = np.eye(net.outputs)[RNG.integers(0, net.outputs, 7)]
    compared = 0
    for one in (golden, device):
        one.load(params)
    compared += same(device.gradients(x, y), golden.gradients(x, y))
    compared += same(device.vjp(x, y + 0.5), golden.vjp(x, y + 0.5))
    compared += same(device.predict(x), golden.predict(x))
    for exponent in list(exponents(net, 2))[:1]:
        rate = 2.0**-exponent
        compared += same(device.train(x, y, rate, 2), golden.train(x, y, rate, 2))
    compared += same(device.checkpoint(), golden.checkpoint())
    assert compared > 20
    print(f"{compared} words compared")


def test_counters_that_wrap():
    chip = ChipModel(NET)
    chip._counters.update({(1, "sensitivity"): 2**32 - 1, (2, "activation"): 2**32 - 2})
    chip.registers[Register.NOW] = 2**32 - 1000
    large = [Parameters(entry.weight * 0 + 7.5, entry.bias + 7.5) for entry in NET.init()]
    device, golden = over(Wire(chip)), GoldenDevice(NET)
    for one in (device, golden):
        one.load(large)
    a, b = device.gradients(X, Y), golden.gradients(X, Y)
    assert same(a, b) > 0
    assert len(b.stats.saturations) >= 2
    assert 0 < a.stats.cycles < 10**6


class Slow(Wire):
    """A simulated chip: slower than its rate says, in all it does."""

    factor = 300

    def write(self, data: bytes) -> None:
        super().write(data)
        self.now += len(data) * 10 / self.rate * self.factor

    def read(self, seconds: float) -> bytes:
        data = super().read(seconds)
        self.now += len(data) * 10 / self.rate * self.factor
        return data


def test_a_slow_chip_is_waited_for():
    wire = Slow(ChipModel(NET))
    device = over(wire, timeout=2.0)
    assert compare(device) == 608
    assert wire.now > 10.0
    assert device._link_counters.retries == 0
    assert device.info.round_trip > 0.1


def test_figures_of_several_calls_add_up():
    device = over(Wire(ChipModel(NET), faults=ALL_FAULTS, seed=2))
    device.load(NET.init())
    parts = [device.predict(X[:i]).stats for i in (1, 5, 9)]
    whole = sum_stats(parts)
    assert whole.retries == sum(part.retries for part in parts)
    assert whole.bytes == sum(part.bytes for part in parts) > 0
    for name, value in asdict(whole.wire).items():
        assert value == pytest.approx(sum(getattr(part.wire, name) for part in parts)), name
    assert whole.wire.received_bad + whole.wire.bad_packets > 0


# -- lost sessions ----------------------------------------------------------------------------------------------------


def reset(wire: Wire) -> None:
    wire.chip.reset()


def when_it_writes(wire: Wire, *events: tuple[int, Callable[[Wire], None]]) -> None:
    wire.events = [(wire.written + behind, event) for behind, event in events]


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize("behind", [1, 60, 400])
def test_a_reset_in_the_middle_of_any_call(index, behind):
    """Weights, residuals and journal come back; what saturated in the call that was cut off counts once."""
    wire = Wire(ChipModel(NET), seed=index)
    wire.chip.registers[Register.BAD_PACKETS] = 1000  # a reset brings it back to 0, which is no difference of 2^32
    device, golden = over(wire), GoldenDevice(NET)
    start = [Parameters(entry.weight * 6, entry.bias + 0.5) for entry in NET.init(3)]
    for one in (device, golden):
        one.load(start)
    compared = 0
    for number, (_, call) in enumerate(calls(NET, X * 3, Y * 7, 2**-4)):
        if number == index:
            when_it_writes(wire, (behind, reset))
        due = len(wire.events)  # it may be later than this call
        got, expected = call(device), call(golden)
        compared += same(got, expected)
        if isinstance(got, (dp.Result, dp.TrainResult)):
            assert got.stats.wire.reconnects == due - len(wire.events)
            assert got.stats.wire.bad_packets == 0
            if number == 4:
                assert sum(entry.count for entry in expected.stats.saturations) > 20
    assert compared == 608


def test_a_reset_while_parameters_are_loaded():
    wire = Wire(ChipModel(NET))
    device = over(wire)
    when_it_writes(wire, (40, reset))
    assert compare(device) == 608
    assert wire.events == []


@pytest.mark.parametrize("index", range(8))
def test_an_adapter_that_was_pulled_out_comes_back(index):
    wire = Wire(ChipModel(NET), seed=index)
    device, golden = over(wire), GoldenDevice(NET)
    for one in (device, golden):
        one.load(NET.init())
    compared = 0

    def pull(wire: Wire) -> None:
        wire.cut_off = True
        wire.chip.reset()
        wire.returns = wire.now + 1.0

    for number, (_, call) in enumerate(calls(NET, X, Y, 2**-6)):
        if number == index:
            when_it_writes(wire, (30, pull))
        compared += same(call(device), call(golden))
    assert compared == 608
    assert wire.opened == 2
    assert not wire.cut_off


def test_a_second_loss_in_one_call_is_the_end():
    wire = Wire(ChipModel(NET))
    device = over(wire)
    device.load(NET.init())
    when_it_writes(wire, (100, reset), (450, reset))
    with pytest.raises(DeviceLost, match=r"^device 'serial' was lost twice in one call: the device on wire was reset$"):
        device.gradients(X, Y)
    with pytest.raises(DeviceLost, match=r"^device 'serial' cannot be used: an earlier call failed \(DeviceLost: dev"):
        device.predict(X)


def test_losses_in_two_parts_of_one_call():
    wire = Wire(ChipModel(NET))
    device = over(wire)
    device.load(NET.init())
    device.gradients(X, Y)
    whole = wire.written
    device.gradients(X, Y)
    whole = wire.written - whole
    when_it_writes(wire, (50, reset), (whole + 400, reset))
    with pytest.raises(DeviceLost, match=r"^device 'serial' was lost twice in one call: the device on wire was reset$"):
        device.gradients(X, Y)


def test_one_loss_a_call_is_none_too_many():
    wire = Wire(ChipModel(NET))
    device, golden = over(wire), GoldenDevice(NET)
    compared = 0
    for one in (device, golden):
        one.load(NET.init())
    for number in range(4):
        when_it_writes(wire, (200, reset))
        result = device.train(X, Y, batch_size=5)
        assert result.stats.wire.reconnects == 1, number
        compared += same(result, golden.train(X, Y, batch_size=5))
    compared += same(device.checkpoint(), golden.checkpoint())
    assert compared == 4 * 96 + 2 * 32


def take_over(wire: Wire) -> None:
    """Let another program open a session; counters go on, unlike after a reset."""
    wire.chip.receive(encode(Frame(Packet.OPEN, 1, 2, 3, 0, bytes([VERSION]))))


@pytest.mark.parametrize("behind", [60, 150, 200])
def test_another_program_takes_the_session(behind):
    wire = Wire(ChipModel(NET))
    device, golden = over(wire), GoldenDevice(NET)
    start = [Parameters(entry.weight * 6, entry.bias + 0.5) for entry in NET.init(3)]
    compared = 0
    for one in (device, golden):
        one.load(start)
    for _, call in calls(NET, X * 3, Y * 7, 2**-4):
        when_it_writes(wire, (behind, take_over))
        compared += same(call(device), call(golden))
    assert compared == 608


def test_a_checkpoint_is_put_back_and_the_chip_reset():
    """Its residuals are part of what the device is brought back to."""
    wire = Wire(ChipModel(NET))
    device, golden = over(wire), GoldenDevice(NET)
    golden.load(NET.init())
    golden.train(X, Y, batch_size=5)
    checkpoint = golden.checkpoint()
    assert any(entry.largest for entry in checkpoint.residuals)
    device.resume(checkpoint)
    reset(wire)
    assert same(device.train(X, Y), golden.train(X, Y)) == 96
    assert same(device.checkpoint(), golden.checkpoint()) == 64


def test_a_port_that_does_not_come_back():
    wire = Wire(ChipModel(NET))
    device = over(wire, timeout=1.0)
    device.load(NET.init())
    when_it_writes(wire, (1, lambda w: setattr(w, "cut_off", True)))
    start = wire.now
    sentence = (
        r"^device 'serial' was lost \(port wire was lost: it is gone\) and did not come back: port wire cannot be "
        r"opened: it is gone$"
    )
    with pytest.raises(DeviceLost, match=sentence):
        device.predict(X)
    assert wire.now - start < 3.0
    device.close()


def test_another_chip_came_back():
    wire = Wire(ChipModel(NET))
    device = over(wire)
    device.load(NET.init())
    other = dp.Network(3, [dp.Dense(2)])

    def swap(wire: Wire) -> None:
        wire.chip = ChipModel(other, now=wire.clock)

    when_it_writes(wire, (1, swap))
    with pytest.raises(NetworkMismatch, match=f"belongs to network {other.hash}; this network is {NET.hash}"):
        device.predict(X)


def test_the_journal_is_cut_when_it_has_grown():
    wire = Wire(ChipModel(NET))
    device, golden = over(wire), GoldenDevice(NET)
    for one in (device, golden):
        one.load(NET.init())
    sizes = []
    compared = 0
    for number in range(12):
        compared += same(device.train(X, Y, batch_size=7), golden.train(X, Y, batch_size=7))
        compared += same(device.gradients(X[:2], Y[:2]), golden.gradients(X[:2], Y[:2]))
        assert device._journal is not None
        sizes.append(device._journal.size)
        assert device._journal.size <= 8 * device._state_size()
        assert len(device._journal.entries) <= 2 * number + 3
        if number in (3, 7):
            reset(wire)
    assert sizes.count(0) >= 2
    assert max(sizes) > 0
    assert compared == 12 * (96 + 4 + 32 + 6)


def test_a_reset_while_the_journal_is_cut(monkeypatch):
    monkeypatch.setattr(serial_device, "SNAPSHOT_AFTER", 0)
    wire = Wire(ChipModel(NET))
    device, golden = over(wire), GoldenDevice(NET)
    for one in (device, golden):
        one.load(NET.init())
    read = device._read_stages
    reads = []

    def reset_first(operation):
        reads.append(operation)
        if len(reads) == 2:
            wire.chip.reset()
        return read(operation)

    monkeypatch.setattr(device, "_read_stages", reset_first)
    assert same(device.train(X, Y), golden.train(X, Y)) == 96
    assert same(device.checkpoint(), golden.checkpoint()) == 64
    assert len(reads) == 6


@pytest.mark.parametrize("seed", range(5))
def test_resets_and_a_bad_wire(seed):
    wire = Wire(ChipModel(NET), faults=ALL_FAULTS, seed=seed)
    rng = np.random.default_rng(seed)
    device, golden = over(wire, timeout=20.0), GoldenDevice(NET)
    for one in (device, golden):
        one.load(NET.init())
    compared, lost = 0, 0
    for _, call in calls(NET, X, Y, 2**-6):
        when_it_writes(wire, (int(rng.integers(1, 800)), reset))
        compared += same(call(device), call(golden))
        lost += not wire.events
    assert compared == 608
    assert lost >= 3


# -- opening ----------------------------------------------------------------------------------------------------------


def test_another_network():
    chip = ChipModel(dp.Network(3, [dp.Dense(2)]), board="tang")
    sentence = (
        f"^device on wire \\(board tang\\) belongs to network {chip.net.hash}; this network is {NET.hash} "
        r"\(<Network 3-5-2"
    )
    with pytest.raises(NetworkMismatch, match=sentence):
        over(Wire(chip))


def test_another_board():
    sentence = r"^device on wire is board 'model'; asked for is 'ulx3s-85f'$"
    with pytest.raises(NetworkMismatch, match=sentence):
        over(Wire(ChipModel(NET)), board="ulx3s-85f")
    over(Wire(ChipModel(NET)), board="model")


def test_another_version():
    with pytest.raises(ProtocolError, match=r"^device on wire speaks protocol version 9; this driver speaks 1$"):
        over(Wire(ChipModel(NET, version=9)))


def test_nobody_there():
    with pytest.raises(
        DeviceTimeout, match=r"^no device answered on wire at 115200, 1000000, 3000000 baud within 1 s$"
    ):
        over(Wire(ChipModel(NET), faults=Faults(lost=1.0)), timeout=1.0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"baud": "fast"}, "option baud of device serial is 'fast'; allowed are int from 0 to 1e[+]08"),
        ({"baud": -1}, "option baud of device serial is -1; allowed are int from 0 to 1e[+]08"),
        ({"timeout": "nan"}, "option timeout of device serial is 'nan'; allowed are float from 0.01 to 3600"),
        ({"timeout": 0}, "option timeout of device serial is 0; allowed are float from 0.01 to 3600"),
        (
            {"baud": 7_000_000},
            "option baud of device serial is 7000000; board model at 2.5e[+]07 Hz takes up to 6250000, and of this",
        ),
    ],
)
def test_wrong_options(options, sentence):
    with pytest.raises(RangeError, match=f"^{sentence}"):
        over(Wire(ChipModel(NET)), **options)


def test_a_stage_that_no_message_can_carry():
    net = dp.Network(4096, [dp.Dense(4096)])
    with pytest.raises(
        CapacityError, match=r"^stage 1 has \d+ bytes of weights or gradients; a message carries at most 16777215$"
    ):
        SerialDevice(net, address="nowhere")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: b"\xff", "cannot be read: 'utf-8' codec can't decode byte"),
        (lambda d: b"[1]", "cannot be read: it is no object"),
        (lambda d: b"{", "cannot be read: Expecting property name"),
        (lambda d: b"[" * 60000, "cannot be read: "),
        (lambda d: {**d, "clock": 0}, "cannot be read: 0 is no frequency"),
        (lambda d: {**d, "clock": float("inf")}, "cannot be read: inf is no frequency"),
        (lambda d: {**d, "baud": "1e6"}, "cannot be read: '1e6' is no whole number"),
        (lambda d: {**d, "lanes": 3}, "cannot be read: 'int' object is not iterable"),
        (lambda d: {**d, "board": "a\nb"}, r"cannot be read: 'a\\nb' is no name"),
        (lambda d: {**d, "formats": [{"activation": "Q1"}]}, "cannot be read: format 'Q1' is not of the form"),
        (lambda d: {**d, "formats": [{}]}, "has no 'activation'"),
        (lambda d: {k: v for k, v in d.items() if k != "network"}, "has no 'network'"),
    ],
)
def test_identities_that_are_none(change, sentence):
    document = change(IDENTITY)
    if isinstance(document, dict):
        document = json.dumps(document).encode()
    with pytest.raises(ProtocolError, match=f"^identity of the device on here {sentence}") as caught:
        read_identity("here", document)
    assert "\n" not in str(caught.value)


IDENTITY = ChipModel(NET).identity()


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.floats(), st.lists, max_leaves=5), st.data()
)
def test_identities_of_anything(value, data):
    document = dict(IDENTITY)
    document[data.draw(st.sampled_from(sorted(document)))] = value
    told = ""
    try:
        assert read_identity("here", json.dumps(document).encode()).clock > 0
    except ProtocolError as error:
        told = str(error)
    assert "\n" not in told


def test_lanes_that_are_none_of_this_network(caplog):
    chip = ChipModel(NET)
    chip._lanes = (1, 2, 3)
    compare(over(Wire(chip)))
    assert "lanes of the device on wire make no plan" in caplog.text


# -- answers that are wrong -------------------------------------------------------------------------------------------


def test_a_word_with_too_many_bits():
    net = dp.Network(2, [dp.Dense(2)], formats=dp.Formats(dp.Q(4, 6), dp.Q(4, 6), dp.Q(2, 8)))
    chip = ChipModel(net)
    device = over(Wire(chip), net)
    device.load(net.init())
    answer = chip._answer

    def wrong(kind, body=b""):
        return answer(kind, b"\0\x40" * 2 if kind == 0xB0 else body)

    chip._answer = wrong  # type: ignore[method-assign]
    with pytest.raises(ProtocolError, match=r"^device sent OUTPUT with words from 0 to 16384; they have 10 bits$"):
        device.predict(np.zeros((1, 2)))


def test_weights_that_were_stored_wrong():
    chip = ChipModel(NET)
    device = over(Wire(chip))
    weights = chip._weight_bytes
    chip._weight_bytes = lambda stage: weights(stage)[:-1] + b"\x55"  # type: ignore[method-assign]
    with pytest.raises(
        ProtocolError, match=r"^weights of stage 1 on wire have check sum 0x[0-9a-f]{8} after they were"
    ):
        device.load(NET.init())


def test_a_command_that_is_refused():
    chip = ChipModel(NET)
    device = over(Wire(chip))
    device.load(NET.init())
    chip._held = np.zeros((1, 3), dtype=np.int64)
    with pytest.raises(ProtocolError, match=r"^device refused FORWARD: HELD, expected 53, got 48$"):
        device.predict(X)


# -- baud rate --------------------------------------------------------------------------------------------------------


def test_another_rate_is_tried_and_kept():
    wire = Wire(ChipModel(NET, baud=115200))
    device = over(wire, baud=3_000_000)
    assert device.info.baud == 3_000_000
    wire.pause(1.0)
    assert wire.chip.baud == pytest.approx(3e6, rel=0.01)
    assert compare(device) == 608
    reset(wire)  # which brings the old rate back, and the trial again
    assert same(device.predict(X), GoldenDevice_loaded(device).predict(X)) == 96
    assert device.info.baud == 3_000_000


def GoldenDevice_loaded(device: Device) -> GoldenDevice:  # noqa: N802 - a golden device with what another one holds
    golden = GoldenDevice(device.net)
    golden.load(device.parameters())
    return golden


def test_a_rate_that_it_has_already():
    wire = Wire(ChipModel(NET, baud=115200))
    over(wire, baud=3_000_000).close()
    wire.pause(1.0)
    device = over(wire, baud=3_000_000)
    assert device.info.baud == 3_000_000
    device.close()
    assert over(wire).info.baud == 3_000_000  # nobody asked for another


class Narrow(Wire):
    """A wire on which nothing comes through above a rate."""

    limit = 2_000_000
    deaf = 0  # bytes that come through all the same, there

    def _pass(self, data: bytes, way: str) -> bytes:
        if self.rate > self.limit:
            taken, self.deaf = data[: self.deaf], max(0, self.deaf - len(data))
            return super()._pass(taken, way) if taken else b""
        return super()._pass(data, way)


def test_a_rate_that_does_not_work(caplog):
    wire = Narrow(ChipModel(NET, baud=1_000_000))
    device = over(wire, baud=3_000_000)
    assert device.info.baud == 1_000_000
    assert "wire does not work at 3000000 baud; it stays at 1000000" in caplog.text
    assert compare(device) == 608
    assert wire.now < 5.0


@pytest.mark.parametrize("deaf", [90, 110, 120])
def test_a_rate_that_fails_in_the_middle_of_its_trial(deaf):
    """Wherever it stops, host and chip end at the same rate."""
    wire = Narrow(ChipModel(NET, baud=1_000_000))
    wire.deaf = deaf
    device = over(wire, baud=3_000_000)
    assert device.info.baud == round(wire.chip.baud, -4)


# -- the world outside ------------------------------------------------------------------------------------------------


def test_a_pseudo_terminal():
    with pty_chip(ChipModel(NET)) as name, dp.open(f"serial:{name}", NET) as device:
        assert device.info.port == name
        assert compare(device) == 608


def test_a_socket():
    with socket_chip(ChipModel(NET)) as name, dp.open(f"serial:{name}?timeout=5", NET) as device:
        assert device.info.baud == 0
        assert compare(device) == 608


def test_stale_bytes_of_an_earlier_run():
    """A program that died left answers on the way, and half a packet in the chip."""
    chip = ChipModel(NET)
    with pty_chip(chip) as name:
        first = dp.open(f"serial:{name}", NET)
        first.load(NET.init())
        link = first._connection.link  # type: ignore[attr-defined]
        flight = first._flight()  # type: ignore[attr-defined]
        flight.control([(1, Operation.READ_WEIGHT, 0)], [40])
        link._outgoing.extend(memoryview(command) for command in flight.commands)
        link._send(0.0)
        link.port.write(b"half a packet")
        time.sleep(0.05)
        first.close()
        with dp.open(f"serial:{name}", NET) as device:
            assert compare(device) == 608


def test_one_port_for_one_program():
    with pty_chip(ChipModel(NET)) as name:
        code = (
            "import sys, dyadprop as dp\n"
            "net = dp.Network(3, [dp.Dense(5, 'tanh'), dp.Dense(2)], input_gradient=True, max_batch=20)\n"
            f"try: dp.open('serial:{name}', net)\n"
            "except dp.DyadpropError as error: print(type(error).__name__, error)\n"
        )
        with dp.open(f"serial:{name}", NET) as device:
            answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
            assert answer == f"DeviceLost port {name} cannot be opened: another program uses it\n"
            assert compare(device) == 608


def test_a_forked_child_keeps_nobody_out():
    read, write = os.pipe()
    with pty_chip(ChipModel(NET)) as name:
        with dp.open(f"serial:{name}", NET):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: other tests' threads
                child = os.fork()
            if child == 0:
                os.read(read, 1)
                os._exit(0)
        try:
            with dp.open(f"serial:{name}", NET) as device:
                assert compare(device) == 608
        finally:
            os.write(write, b"x")
            os.waitpid(child, 0)
            os.close(read)
            os.close(write)


def test_a_closed_port():
    with pty_chip(ChipModel(NET)) as name:
        device = dp.open(f"serial:{name}?timeout=0.3", NET)
        device.load(NET.init())
        device._connection.link.port._port.close()  # type: ignore[attr-defined]
        result = device.predict(X)  # opened again
        assert result.stats.wire.reconnects == 1
        assert same(result, GoldenDevice_loaded(device).predict(X)) == 96
        device.close()


def test_a_cable_that_is_pulled_out_for_good():
    with pty_chip(ChipModel(NET)) as name:
        device = dp.open(f"serial:{name}?timeout=0.3", NET)
        device.load(NET.init())
    with pytest.raises(
        DeviceLost, match=f"^device 'serial' was lost \\(port {name} was lost: .*\\) and did not come back: "
    ):
        device.predict(X)
    device.close()


def test_a_socket_that_is_closed():
    with socket_chip(ChipModel(NET)) as name:
        device = dp.open(f"serial:{name}?timeout=0.3", NET)
        device.load(NET.init())
    with pytest.raises(DeviceLost, match=f"^device 'serial' was lost \\(port {name} was lost: .*Could not open port"):
        device.predict(X)
    device.close()


@pytest.mark.parametrize(
    ("name", "error", "sentence"),
    [
        ("/dev/no-such-port", DeviceLost, "port /dev/no-such-port cannot be opened: there is none; found are"),
        ("/dev/null", DeviceLost, "port /dev/null cannot be opened: "),
        ("socket://127.0.0.1:1", DeviceLost, "port socket://127.0.0.1:1 cannot be opened: Could not open port"),
        ("socket://nonsense", DeviceLost, "port socket://nonsense cannot be opened: "),
        ("gopher://here", RangeError, "port 'gopher://here' cannot be understood: "),
    ],
)
def test_ports_that_are_none(name, error, sentence):
    with pytest.raises(error, match=f"^{sentence}") as caught:
        dp.open(f"serial:{name}", NET)
    assert "\n" not in str(caught.value)


def test_fork_and_pickle():
    with pty_chip(ChipModel(NET)) as name, dp.open(f"serial:{name}", NET) as device:
        device.load(NET.init())
        _, answer = in_a_forked_child(lambda: device.predict(X))
        assert answer.startswith("DeviceLost: device 'serial' was opened by process")
        _, answer = in_a_forked_child(device.close)
        assert answer == "no error"
        with pytest.raises(dp.DyadpropError, match=r"^device 'serial' cannot be pickled or copied"):
            pickle.dumps(device)
        assert compare(device) == 608


def test_eight_threads():
    with pty_chip(ChipModel(NET)) as name, dp.open(f"serial:{name}", NET) as device:
        golden = GoldenDevice(NET)
        for one in (device, golden):
            one.load(NET.init())
        expected = golden.gradients(X[:10], Y[:10])
        compared: list[int] = []
        errors: list[BaseException] = []

        def use() -> None:
            try:
                for _ in range(5):
                    compared.append(same(device.gradients(X[:10], Y[:10]), expected))
            except BaseException as error:  # a thread's own traceback would be lost
                errors.append(error)

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(compared) == 40


# -- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pythons_own_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("pythons_own_handler")
@pytest.mark.parametrize("index", range(8))
def test_an_interrupt_in_the_middle_of_any_call(index):
    wire = Wire(ChipModel(NET))
    device, golden = over(wire), GoldenDevice(NET)
    for one in (device, golden):
        one.load(NET.init())
    compared = 0
    for number, (_, call) in enumerate(calls(NET, X, Y, 2**-6)):
        if number == index:
            when_it_writes(wire, (20, lambda w: signal.raise_signal(signal.SIGINT)))
            with pytest.raises(KeyboardInterrupt):
                call(device)
            assert wire.events == []
            if number in (4, 6):  # what was learnt stays learnt
                call(golden)
                continue
        compared += same(call(device), call(golden))
    assert compared > 480


@pytest.mark.usefixtures("pythons_own_handler")
def test_a_second_interrupt_does_not_wait():
    wire = Wire(ChipModel(NET))
    device = over(wire)
    device.load(NET.init())
    when_it_writes(wire, *[(20, lambda w: signal.raise_signal(signal.SIGINT))] * 2)
    with pytest.raises(KeyboardInterrupt):
        device.gradients(X, Y)
    with pytest.raises(DeviceLost, match=r"an earlier call failed \(KeyboardInterrupt"):
        device.predict(X)


# -- boards -----------------------------------------------------------------------------------------------------------


class Bench:
    """Ports with chips on them, in place of the system's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **chips: ChipModel | Exception) -> None:
        self.wires = {name: Wire(chip) if isinstance(chip, ChipModel) else chip for name, chip in chips.items()}
        monkeypatch.setattr(connection, "port_names", lambda usb=False: [*self.wires, *([] if usb else ["console"])])
        monkeypatch.setattr(connection.connect, "__kwdefaults__", {**self._defaults(connection.connect)})
        monkeypatch.setattr(connection.look, "__kwdefaults__", {**self._defaults(connection.look)})

    def _defaults(self, function: Any) -> dict[str, Any]:
        return {**function.__kwdefaults__, "opener": self.open}

    def open(self, address: str, baud: int) -> Wire:
        found = self.wires[address]
        if isinstance(found, Exception):
            raise found
        return found.open(address, baud)


OTHER = dp.Network(3, [dp.Dense(2)])


def test_the_board_that_fits_is_found(monkeypatch):
    bench = Bench(
        monkeypatch,
        usb0=DeviceLost("port usb0 cannot be opened: another program uses it"),
        usb1=ChipModel(OTHER),
        usb2=ChipModel(NET, baud=115200),
    )
    device = SerialDevice(NET, opener=bench.open)
    assert device.info.port == "usb2"
    assert compare(device) == 608
    # It comes back at another port.
    bench.wires["usb3"] = Wire(ChipModel(NET))
    wire = bench.wires.pop("usb2")
    assert isinstance(wire, Wire)
    wire.cut_off = True
    assert same(device.predict(X), GoldenDevice_loaded(device).predict(X)) == 96
    assert device.info.port == "usb3"


def test_no_board_fits(monkeypatch):
    bench = Bench(monkeypatch, usb0=DeviceLost("port usb0 is busy"), usb1=ChipModel(OTHER, board="tang"))
    sentence = (
        f"^no board with network {NET.hash} was found \\(<Network .*>\\); found are usb0: port usb0 is busy; "
        f"usb1: board tang with network {OTHER.hash}$"
    )
    with pytest.raises(NetworkMismatch, match=sentence):
        SerialDevice(NET, opener=bench.open)
    with pytest.raises(NetworkMismatch, match=f"^no board ulx3s with network {OTHER.hash} was found"):
        SerialDevice(OTHER, board="ulx3s", opener=bench.open)


def test_no_board_at_all(monkeypatch):
    bench = Bench(monkeypatch, usb0=DeviceLost("port usb0 is busy"))
    sentence = (
        f"^no board with network {NET.hash} was found; looked at usb0: port usb0 is busy; not looked at: console$"
    )
    with pytest.raises(DeviceLost, match=sentence):
        SerialDevice(NET, opener=bench.open)
    bench = Bench(monkeypatch)
    sentence = f"^no board with network {NET.hash} was found; there is no USB serial adapter; not looked at: console$"
    with pytest.raises(DeviceLost, match=sentence):
        SerialDevice(NET, opener=bench.open)


def test_boards_are_listed(monkeypatch, capsys):
    bench = Bench(
        monkeypatch,
        usb0=ChipModel(OTHER, board="tang"),
        usb1=DeviceLost("port usb1 cannot be opened: another program uses it"),
    )
    silent = Wire(ChipModel(NET), faults=Faults(lost=1.0))
    bench.wires["usb2"] = silent
    assert main(["devices", "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-3:] == [
        f"serial:usb0: board tang with network {OTHER.hash}",
        "serial:usb1: port usb1 cannot be opened: another program uses it",
        "serial:usb2: no device answered on wire at 115200, 1000000, 3000000 baud within 0.3 s",
    ]
    boards = json.loads(captured.out)["boards"]
    assert [entry["port"] for entry in boards] == ["usb0", "usb1", "usb2"]
    assert boards[0]["network"] == OTHER.hash
    assert silent.now < 1.5
    assert main(["devices", "--device", "serial:usb0", "-v"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(
        f"serial:usb0: board tang with network {OTHER.hash}, gateware python, 25 MHz, starts at 1000000"
    )
    assert line.endswith(" ms, its self-test is not built in")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (SelfTest.HUNG, "failed: a stream stood still"),
        (SelfTest.WEIGHTS, "failed: weights did not come back as they were written"),
        (SelfTest.GRADIENTS, "failed: gradients did not come back as they were written"),
        (SelfTest.PRODUCTS, "failed: wrong outputs or gradients of corner values"),
        (
            SelfTest.TABLES,
            "failed: wrong outputs or gradients of random samples, behind right ones of corner values",
        ),
        (77, "failed: 0x0000004d, which this driver cannot read"),
    ],
)
def test_a_device_that_failed_its_self_test_is_refused(verdict, words, monkeypatch, capsys):
    chip = ChipModel(NET)
    chip.registers[Register.SELF_TEST] = verdict
    with pytest.raises(DeviceLost, match=f"^device on wire cannot be used: its self-test {words}$"):
        over(Wire(chip))
    Bench(monkeypatch, usb0=chip)
    assert main(["devices", "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].endswith(f"with network {NET.hash}, its self-test {words}")
    assert [entry["self_test"] for entry in json.loads(captured.out)["boards"]] == [verdict]


def test_a_device_that_passed_its_self_test_is_used():
    chip = ChipModel(NET)
    chip.registers[Register.SELF_TEST] = SelfTest.PASSED
    over(Wire(chip)).close()


def test_a_check_sum_is_that_of_the_words():
    chip = ChipModel(NET)
    over(Wire(chip)).load(NET.init())
    raw = NET.quantize(NET.init()).raw[0]
    table = np.hstack([raw.weight, raw.bias[:, None]]).astype("<i2").tobytes()
    assert zlib.crc32(chip._weight_bytes(1)) == zlib.crc32(table)
