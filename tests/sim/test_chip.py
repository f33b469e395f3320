"""The whole chip in simulation: the device `chip`, its UART, the verb `simulate`, and resets from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.cli import main
from dyadprop.comparison import compare_checkpoints, compare_results, compare_training
from dyadprop.identity import read_identity
from dyadprop.plan import plan_network
from dyadprop.protocol import Register, SelfTest
from dyadprop.serial_device import SerialDevice
from dyadprop_boards.identity import identity
from dyadprop_boards.table import BOARDS, find_board
from dyadprop_sim.chip import ChipOptions, simulate_chip
from dyadprop_sim.chip_device import ChipDevice, SimulatedPort
from dyadprop_sim.chip_server import ChipServer
from dyadprop_sim.fault_trials import BUILD, NET
from dyadprop_sim.ports import PtyPort

RNG = np.random.default_rng(3)
X, Y = RNG.uniform(-1, 1, (12, NET.inputs)), RNG.uniform(-1, 1, (12, NET.outputs))
QUICK = "optimize=1"


def golden() -> dp.Device:
    device = dp.open("golden", NET)
    device.load(NET.init())
    return device


def same(device: dp.Device, samples: int = len(X)) -> dp.Result:
    """Load, compare one batch, and give what the device answered."""
    device.load(NET.init())
    result = device.gradients(X[:samples], Y[:samples])
    found = compare_results(NET, result, golden().gradients(X[:samples], Y[:samples]))
    assert found.first is None, found.first
    assert found.words > 40
    return result


# -- boards -----------------------------------------------------------------------------------------------------------


def test_boards_have_names_of_their_own_and_rates_that_their_clocks_make():
    assert len({board.name for board in BOARDS}) == len(BOARDS) >= 14
    for board in BOARDS:
        assert find_board(board.name) is board
        assert board.clock >= 8 * board.baud
    with pytest.raises(dp.RangeError, match=r"^board is 'ulx3s'; known are ulx3s-12f, ulx3s-25f, .*tang-primer-20k$"):
        find_board("ulx3s")


def test_the_driver_reads_what_a_chip_says_about_itself():
    plan, board = plan_network(NET), find_board("icebreaker")
    read = read_identity("here", identity(plan, board, "abc", 115_200))
    assert (read.network, read.gateware, read.board, read.clock) == (NET.hash, "abc", "icebreaker", 12e6)
    assert (read.baud, read.lanes, read.max_batch) == (115_200, plan.lanes, NET.max_batch)
    assert read.formats == tuple(NET.layer_formats(l) for l in range(3))
    assert read_identity("here", identity(plan, board, "abc")).baud == board.baud


# -- the device -------------------------------------------------------------------------------------------------------


def test_the_device_answers_goldens_bits():
    with dp.open(f"chip?{QUICK}&seed=4", NET) as device:
        assert isinstance(device, ChipDevice)
        assert (device.info.kind, device.info.board, device.info.clock) == ("chip", "ulx3s-85f", 25e6)
        assert device.info.network == NET.hash
        result = same(device)
        assert result.stats.cycles > 0
        assert result.stats.bytes > 500
        assert result.stats.retries == 0
        beside = golden()
        options: dict[str, Any] = {"learning_rate": 2.0**-5, "batch_size": 2, "epochs": 2}
        assert compare_training(NET, device.train(X, Y, **options), beside.train(X, Y, **options)).first is None
        assert compare_checkpoints(NET, device.checkpoint(), beside.checkpoint()).first is None
        server = device.server
    assert server.failure is None
    assert not server._thread.is_alive()


def test_a_host_waits_for_a_chip_that_tests_itself():
    with dp.open(f"chip?self_test=1&{QUICK}", NET) as device:
        assert isinstance(device, ChipDevice)
        # No byte is answered before; by far most of the time has gone into the test.
        assert device.server.chip.seconds * device.info.clock > 20_000
        assert device._registers[Register.SELF_TEST] == SelfTest.PASSED
        same(device)


def test_contents_at_power_on_do_not_matter():
    answers = []
    for seed in (1, 2):
        with dp.open(f"chip?{QUICK}&seed={seed}", NET) as device:
            answers.append(same(device))
    assert answers[0].stats.cycles == answers[1].stats.cycles


@pytest.mark.parametrize(
    ("options", "cycles_a_bit"),
    [
        ("baud=3000000", 25 / 3),
        ("baud=6250000&baud_error=0.01", 4),
        ("baud=5000000&baud_error=0.02", 5),
        ("baud=5000000&baud_error=-0.02", 5),
    ],
)
def test_through_the_uart(options, cycles_a_bit):
    with dp.open(f"chip?{QUICK}&bits=1&{options}", NET) as device:
        assert isinstance(device, ChipDevice)
        assert device.info.baud == round(25e6 / cycles_a_bit)
        chip: Any = device.server.chip
        start = chip.seconds
        result = same(device, 6)
        seconds = chip.seconds - start
        assert result.stats.retries == 0
        wire = result.stats.wire
        assert (wire.framing_errors, wire.overflows, wire.bad_packets, wire.received_bad) == (0, 0, 0, 0)
        assert chip.framing_errors == 0
        # All bytes of the last call had to pass at that rate, at least half of them one way.
        assert seconds > 0.5 * 10 * result.stats.bytes / device.info.baud


def test_bytes_keep_the_hosts_rate_without_the_uart():
    spent = []
    for paced in (1, 0):
        with dp.open(f"chip?{QUICK}&paced={paced}", NET) as device:
            assert isinstance(device, ChipDevice)
            chip: Any = device.server.chip
            start = chip.cycle
            same(device, 6)
            spent.append(chip.cycle - start)
    assert spent[0] > 5 * spent[1]


class CrookedPort(SimulatedPort):
    """Cannot make one rate, and makes another."""

    def __init__(self, address: str, baud: int, server: ChipServer) -> None:
        super().__init__(address, baud, server)
        self._claimed = baud

    @property
    def baud(self) -> int:
        return self._claimed

    @baud.setter
    def baud(self, value: int) -> None:
        self._claimed = value
        with self._losses():
            self._port.baudrate = 500_000 if value == 320_000 else value


def test_a_rate_that_does_not_work_goes_back_to_the_old_one():
    """The chip waits for a quarter of a second of its own time, which the simulation lets pass."""
    slow = replace(find_board("ulx3s-85f"), name="slow", clock=1_600_000, baud=200_000)
    chip = simulate_chip(plan_network(NET), slow, ChipOptions(bits=True, build=BUILD))
    with ChipServer(chip, PtyPort()) as server:
        opener = partial(CrookedPort, server=server)
        device = SerialDevice(NET, address=server.address, baud=200_000, opener=opener)
        cycle = chip.cycle
        device._change_baud(320_000)
        assert chip.cycle - cycle > 0.25 * slow.clock
        assert device.info.baud == 200_000
        same(device, 2)
        device.close()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("chip?bits=2", r"option bits of device chip is '2'; allowed are int from 0 to 1"),
        ("chip?paced=x", r"option paced of device chip is 'x'; allowed are int from 0 to 1"),
        ("chip?baud_error=1", r"option baud_error of device chip is '1'; allowed are float from -0.1 to 0.1"),
        ("chip?board=none", r"board is 'none'; known are ulx3s-12f, "),
        ("chip?optimize=3", r"option optimize of device chip is '3'; allowed are int from 0 to 2"),
        ("chip?address=x", r"device 'chip' knows no option 'address'; allowed are "),
    ],
)
def test_options_that_cannot_be(name, sentence):
    with pytest.raises(dp.RangeError, match=f"^{sentence}"):
        dp.open(name, NET)


# -- power ------------------------------------------------------------------------------------------------------------


def test_a_chip_that_is_reset_is_begun_again_with_the_same_bits():
    with dp.open(f"chip?{QUICK}", NET) as device:
        assert isinstance(device, ChipDevice)
        same(device)
        beside = golden()
        reconnects = 0
        for seed in range(5):
            device.server.power_on(seed)
            result = device.gradients(X, Y)
            assert compare_results(NET, result, beside.gradients(X, Y)).first is None
            reconnects += result.stats.wire.reconnects
            device.server.power_on(100 + seed)
            trained = device.train(X, Y)
            assert compare_training(NET, trained, beside.train(X, Y)).first is None
            assert compare_checkpoints(NET, device.checkpoint(), beside.checkpoint()).first is None
        assert reconnects == 5


# -- the verb ---------------------------------------------------------------------------------------------------------


class Simulate:
    """`dyadprop simulate` in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        NET.save(folder / "net.toml")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dyadprop", "simulate", "-O1", "--network", "net.toml", *options],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith("Ctrl-C"):
                break
        else:
            assert self._process.stderr is not None
            raise AssertionError(self._process.stderr.read())

    @property
    def address(self) -> str:
        return next(line.split()[4].rstrip(";") for line in self.lines if line.startswith("the chip answers"))

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        self._process.send_signal(number)
        out, err = self._process.communicate(timeout=60)
        return self._process.returncode, out + err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_driver_in_another_program(tmp_path, number):
    link = tmp_path / "ttyDYAD"
    chip = Simulate(tmp_path, "--port", str(link), "--json", "out.json")
    try:
        assert chip.address == str(link)
        assert any(f'dyadprop.open("serial:{link}", dyadprop.Network.load("net.toml"))' in line for line in chip.lines)
        for _ in range(2):
            with dp.open(f"serial:{link}", NET) as device:
                assert device.info.board == "ulx3s-85f"
                same(device)
        with dp.open(f"serial:{link}", NET) as device, pytest.raises(dp.DeviceLost, match="another program uses it"):
            dp.open(f"serial:{link}", NET)
        with pytest.raises(dp.NetworkMismatch):
            dp.open(f"serial:{link}", dp.Network(2, [dp.Dense(2)]))
    finally:
        code, rest = chip.end(number)
    assert code == 0, rest
    assert not link.is_symlink()
    assert "bytes to the chip" in rest
    assert "Traceback" not in rest
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["received"] > 1000
    assert document["seconds"] == document["cycles"] / 25e6


def test_over_tcp_with_faults(tmp_path):
    chip = Simulate(tmp_path, "--port", "socket://localhost:0", "--fault", "flip=1e-3", "--fault", "drop=1e-3")
    try:
        assert "faults: flip 0.001 a byte, drop 0.001 a byte" in chip.lines
        with dp.open(f"serial:{chip.address}", NET) as device:
            retries = sum(same(device).stats.retries for _ in range(10))
        assert retries > 0
    finally:
        code, rest = chip.end()
    assert code == 0, rest


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--fault", "rust=0.1"], "fault is 'rust=0.1'; allowed are drop, flip, "),
        (["--fault", "drop"], "fault is 'drop'; allowed are drop, flip, "),
        (["--fault", "drop=2"], "fault is 'drop=2'; allowed are "),
        (["--board", "none"], "board is 'none'; known are ulx3s-12f, "),
        (["--port", "/dev/null"], "port /dev/null is there already; allowed is a name that is free"),
        (["--baud-error", "0.5"], "baud error is 0.5; allowed are -0.1 to 0.1"),
        (["--device", "golden"], "device is 'golden'; simulate makes one, so none can be chosen"),
        (["--baud", "20000000"], "baud rate 2e+07 takes 1.25 cycles a bit of a clock of 2.5e+07 Hz; allowed are 4 to"),
    ],
)
def test_what_cannot_be_simulated(options, sentence, tmp_path, capsys):
    NET.save(tmp_path / "net.toml")
    assert main(["simulate", "--network", str(tmp_path / "net.toml"), *options]) == 2
    assert f"dyadprop: {sentence}" in capsys.readouterr().err


def test_a_driver_whose_chip_is_gone_says_so(tmp_path):
    link = tmp_path / "tty"
    chip = Simulate(tmp_path, "--port", str(link))
    with dp.open(f"serial:{link}?timeout=1", NET) as device:
        same(device)
        assert chip.end(signal.SIGKILL)[0] == -signal.SIGKILL
        start = time.monotonic()
        with pytest.raises(dp.DeviceLost, match="was lost"):
            device.gradients(X, Y)
        assert time.monotonic() - start < 30
    assert os.path.islink(link)  # nobody was left to remove it: the next one does
    chip = Simulate(tmp_path, "--port", str(link))
    with dp.open(f"serial:{link}", NET) as device:
        same(device)
    assert chip.end()[0] == 0


def test_digits_are_learnt_through_the_chip(tmp_path, capsys):
    """What `make demo DEVICE=chip` does, with a smaller network."""
    dp.Network(64, [dp.Dense(4, "tanh"), dp.Dense(10)]).save(tmp_path / "net.toml")
    options = ["--network", str(tmp_path / "net.toml"), "--epochs", "1", "--batch-size", "250", "--out", str(tmp_path)]
    assert main(["train", "--device", f"chip?{QUICK}", *options]) == 0
    out = capsys.readouterr().out
    assert "each word is compared with the golden model's" in out
    assert "all equal" in out
    assert json.loads((tmp_path / "history.json").read_text())["words"] > 8000
