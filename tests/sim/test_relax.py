"""The verb relax through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import dyadprop as dp
from dyadprop.cli import main
from dyadprop.relaxation.chain import Relaxation
from dyadprop.relaxation.state import State
from dyadprop_sim import probe
from dyadprop_sim.commands import relax

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def _no_default_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DYADPROP_DEVICE", raising=False)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "net.toml"
    dp.Network(3, [dp.Dense(4, "tanh", lanes=2), dp.Dense(2, "tanh", lanes=1)]).save(path)
    return path


def arguments(device: str, out: Path, *more: str) -> list[str]:
    return ["relax", "--device", device, "--out", str(out), "--json", str(out / "relax.json"), *more]


@pytest.mark.parametrize("device", ["golden", "verilator"])
def test_a_small_network(device: str, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(device, tmp_path, "--network", str(small), "--seed", "3")) == 0
    assert capsys.readouterr().out == (
        "layer  x exact from tick (bound)  lambda exact from tick (bound)\n"
        "    1                  1 (1)                      4 (4)\n"
        "    2                  2 (2)                      3 (3)\n"
        f"{device}: all exact after tick 4 of at most 2L = 4, unchanged until tick 7; {tmp_path}/theorem.png\n"
    )
    assert json.loads((tmp_path / "relax.json").read_text()) == {
        "device": device,
        "network": dp.Network.load(small).hash,
        "seed": 3,
        "ticks": 7,
        "activations_exact_from": [1, 2],
        "sensitivities_exact_from": [4, 3],
        "late": [],
    }
    assert (tmp_path / "theorem.png").read_bytes().startswith(PNG)


def test_the_default_network_and_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments("golden", tmp_path, "-q")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("golden: all exact after tick 16 of at most 2L = 16")
    document = json.loads((tmp_path / "relax.json").read_text())
    assert document["activations_exact_from"] == list(range(1, 9))
    assert document["sensitivities_exact_from"] == list(range(16, 8, -1))


def one_tick_late(trajectory: Any) -> Any:
    def delayed(*args: Any, **options: Any) -> list[State]:
        states = trajectory(*args, **options)
        return [states[0], *states[:-1]]

    return delayed


@pytest.mark.parametrize("device", ["golden", "verilator"])
def test_one_tick_late_fails(
    device: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if device == "golden":
        monkeypatch.setattr(Relaxation, "trajectory", one_tick_late(Relaxation.trajectory))
    else:
        monkeypatch.setattr(relax, "rtl_trajectory", one_tick_late(probe.rtl_trajectory))
    assert main(arguments(device, tmp_path, "--network", str(small), "-q")) == 1
    late = [
        "x_1 at tick 2 instead of 1",
        "x_2 at tick 3 instead of 2",
        "lambda_1 at tick 5 instead of 4",
        "lambda_2 at tick 4 instead of 3",
    ]
    assert capsys.readouterr().out == f"{device}: late: {', '.join(late)}; {tmp_path}/theorem.png\n"
    assert json.loads((tmp_path / "relax.json").read_text())["late"] == late


def test_one_wrong_bit_of_the_state_at_rest_fails(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held_sample = probe.held_sample

    def crooked(*args: Any) -> Any:
        relaxation, rest = held_sample(*args)
        rest.sensitivities[1][0, 2] ^= 1
        return relaxation, rest

    monkeypatch.setattr(relax, "held_sample", crooked)
    assert main(arguments("golden", tmp_path, "--network", str(small), "-q")) == 1
    assert "golden: late: lambda_1 at tick 8 instead of 4; " in capsys.readouterr().out


def test_a_device_that_has_no_links_to_see(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments("float", tmp_path)) == 2
    assert capsys.readouterr().err == ("dyadprop: device 'float' cannot be probed; allowed are golden and verilator\n")
