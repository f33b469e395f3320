"""The conformance suite passes where it must, and finds out devices that are wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dyadprop as dp
from dyadprop.conformance.cases import FIXED, random_case
from dyadprop.conformance.judge import Judge
from dyadprop_sim.fault_trials import NET
from tests.wrong_devices import CrookedDevice

ROOT = Path(__file__).parents[2]
WRONG = ("broken", "crooked", "drifting", "forgetful")


def suite(device: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the suite as a user does, with the devices of tests/wrong_devices.py installed."""
    metadata = folder / "wrong-1.0.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: wrong\nVersion: 1.0\n")
    names = {kind: kind.capitalize() + "Device" for kind in (*WRONG, "twin")}
    lines = [f"{kind} = tests.wrong_devices:{name}" for kind, name in names.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[dyadprop.devices]", *lines]) + "\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "dyadprop.conformance"]
    return subprocess.run(
        [*command, "--device", device, *more],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("device", ["golden", "float", "twin"])
def test_right_devices_pass(device, tmp_path):
    done = suite(device, tmp_path, "--device-seed", "3")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "random-3" not in done.stdout
    assert " passed" in done.stdout


@pytest.mark.parametrize(
    ("device", "test"),
    [
        ("broken", "test_gradients_of_batches_around_each_split"),
        ("crooked", "test_gradients_of_batches_around_each_split"),
        ("drifting", "test_a_run"),
        ("forgetful?sample=8", "test_prediction_gives_the_outputs"),
    ],
)
def test_wrong_devices_fail(device, test, tmp_path):
    done = suite(device, tmp_path, "--maxfail", "8")
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr
    assert test in done.stdout
    assert "INTERNALERROR" not in done.stdout


def test_one_network_is_enough_for_a_board(tmp_path):
    net = dp.Network(3, [dp.Dense(4, "tanh"), dp.Dense(2)], max_batch=6)
    net.save(tmp_path / "net.toml")
    done = suite("golden", tmp_path, "--network", "net.toml")
    assert done.returncode == 0, done.stdout[-3000:]
    listed = suite("golden", tmp_path, "--network", "net.toml", "--collect-only").stdout
    assert "[own]" in listed
    assert "[tanh]" not in listed


def test_a_device_that_is_not_there_is_an_error(tmp_path):
    done = suite("nothing", tmp_path, "-x")
    assert done.returncode == 1
    assert "device 'nothing' is of no known kind" in done.stdout


@pytest.mark.parametrize("seed", range(-len(FIXED), 40))
@pytest.mark.parametrize("kind", ["golden", "float"])
def test_bounds_hold_without_a_golden_model(kind, seed):
    case = random_case(seed) if seed >= 0 else FIXED[seed]
    with dp.open(kind, case.net) as device:
        device.load(case.params)
        judge = Judge(case.net, case.params, None)
        compared = 0
        for batch in (1, 5):
            x, y, dy = case.inputs(batch), case.targets(batch), case.seeds(batch, 0.01)
            result = device.gradients(x, y)
            assert result.stats.saturations == []
            compared += judge.gradients(result, x, y) + judge.predict(device.predict(x), x)
            compared += judge.vjp(device.vjp(x, dy), x, dy) + judge.vjp(device.vjp(x, dy, 1), x, dy, 1)
    assert compared > 6 * case.net.outputs


@pytest.mark.parametrize("signal", ["weight", "bias"])
def test_bounds_find_a_wrong_bit_without_a_golden_model(signal):
    case = FIXED[0]
    device = CrookedDevice(case.net, signal=signal, bit="20")
    device.load(case.params)
    judge = Judge(case.net, case.params, None)
    x, y = case.inputs(4), case.targets(4)
    with pytest.raises(AssertionError, match=f"^{signal} gradient of layer 1 at .*allowed is a distance of"):
        judge.gradients(device.gradients(x, y), x, y)
    golden = dp.open("golden", case.net)
    golden.load(case.params)
    judge = Judge(case.net, case.params, golden)
    with pytest.raises(AssertionError, match=r"^1 of [0-9]+ words differ: "):
        judge.gradients(device.gradients(x, y), x, y)


def test_the_simulated_chip_passes(tmp_path):
    """The RTL of the whole chip, on the network that the fault tests have built already."""
    NET.save(tmp_path / "net.toml")
    done = suite("chip?optimize=1", tmp_path, "--network", "net.toml")
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_chip_in_another_program_passes(tmp_path):
    NET.save(tmp_path / "net.toml")
    command = [sys.executable, "-m", "dyadprop", "simulate", "--network", "net.toml", "--port", "tty", "-O1"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as chip:
        try:
            assert chip.stdout is not None
            while not chip.stdout.readline().startswith("Ctrl-C"):
                assert chip.poll() is None
            done = suite("serial:tty", tmp_path, "--network", "net.toml")
            assert done.returncode == 0, done.stdout[-3000:]
        finally:
            chip.terminate()
            assert chip.wait(60) == 0
