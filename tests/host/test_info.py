"""The verb info through the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import dyadprop as dp
from dyadprop.cli import main
from dyadprop.commands import info
from dyadprop.plan import plan_network
from dyadprop_boards import board_info


def saved(tmp_path: Path, net: dp.Network) -> str:
    path = tmp_path / "net.toml"
    net.save(path)
    return str(path)


NET = dp.Network(16, [dp.Dense(20, "tanh"), dp.Dense(7, "relu", lanes=3), dp.Dense(4)])


def test_table_and_json_are_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, NET)
    plan = plan_network(NET, 40)
    assert main(["info", path, "--multipliers", "40", "--json", str(tmp_path / "info.json")]) == 0
    out = capsys.readouterr().out
    document = json.loads((tmp_path / "info.json").read_text())
    lines = out.splitlines()
    assert len(lines) == 1 + 3 + 4
    assert [line.split()[1] for line in lines[1:4]] == ["16x20", "20x7", "7x4"]
    assert [int(line.split()[3]) for line in lines[1:4]] == list(plan.lanes)
    assert [int(line.split()[5]) for line in lines[1:4]] == [stage.tick for stage in plan.stages]
    assert lines[4:6] == ["", repr(NET)]
    assert f"{plan.interval} cycles a sample streaming" in out
    assert f"{plan.output_latency} cycles to its last output, {plan.gradient_latency} to its last gradient" in out
    assert f"{plan.multipliers} multipliers of at most 40, " in out

    assert document["network"] == NET.hash
    assert document["cycles_a_sample"] == plan.interval == max(stage.tick for stage in plan.stages)
    assert document["multipliers"] == plan.multipliers == sum(row["multipliers"] for row in document["stages"]) <= 40
    assert document["memory_bits"] == sum(row["memory_bits"] for row in document["stages"])
    for row in document["stages"]:
        kinds = [bits for name, bits in row.items() if name.endswith("_bits") and name != "memory_bits"]
        assert sum(kinds) == row["memory_bits"]
    products = 2 * 16 * 20 + 3 * 20 * 7 + 3 * 7 * 4
    assert document["useful_products_a_sample"] == products
    share = products / (plan.multipliers * plan.interval)
    assert document["busy_share_of_multipliers"] == pytest.approx(share)
    assert 0 < share < 1


def test_lanes_that_layers_name_are_kept(tmp_path: Path) -> None:
    assert plan_network(NET, 40).lanes[1] == 3
    assert plan_network(NET, 10_000).lanes[1] == 3


def test_a_stage_without_a_way_back_has_no_latency_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", saved(tmp_path, NET), "--json", "-"]) == 0
    captured = capsys.readouterr()
    rows = json.loads(captured.out)["stages"]
    assert rows[0]["backward_latency"] is None
    assert all(row["backward_latency"] > 0 for row in rows[1:])
    assert captured.err.splitlines()[1].split()[9] == "-"


def test_a_budget_that_is_too_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", saved(tmp_path, NET), "--multipliers", "10"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "dyadprop: network 16-20-7-4 needs at least 16 multipliers with the lanes its layers name; the budget is 10\n"
    )


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tmp_path / "nothing.toml")]) == 2
    assert "nothing.toml" in capsys.readouterr().err


def test_a_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", saved(tmp_path, NET), "--board", "ulx3s-12f", "--json", str(tmp_path / "info.json")]) == 0
    out = capsys.readouterr().out
    document = json.loads((tmp_path / "info.json").read_text())
    assert document["board"] == "ulx3s-12f"
    assert document["multipliers"] == document["resources"]["multipliers"]["predicted"] <= 28
    assert document["resources"]["block_rams"]["available"] == 56
    assert list(document["parts"]) == ["stage_1", "stage_2", "stage_3", "head", "link", "board"]
    multipliers = document["multipliers"]
    assert "\non ulx3s-12f (LFE5U-12F), predicted: " in out
    assert f", {multipliers} of 28 multipliers, " in out
    assert f"{multipliers} multipliers, " in out
    rows = [line.split() for line in out.splitlines()[9:16]]
    assert [row[0] for row in rows] == ["part", "stage_1", "stage_2", "stage_3", "head", "link", "board"]
    assert sum(int(row[3]) for row in rows[1:]) == multipliers
    gradients = 80e6 / document["cycles_a_sample"]
    assert document["speed"]["gradients_a_second"] == gradients
    assert f"at 80 MHz {gradients:,.0f} gradients/s, one alone in " in out
    assert [entry["baud"] for entry in document["line"]] == [1_000_000, 3_000_000]


def test_a_budget_on_a_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", saved(tmp_path, NET), "--board", "ulx3s-85f", "--multipliers", "40"]) == 0
    assert " multipliers of at most 40, " in capsys.readouterr().out
    assert main(["info", saved(tmp_path, NET), "--board", "icebreaker"]) == 2
    assert "it does not fit board icebreaker (iCE40UP5K); " in capsys.readouterr().err
    assert main(["info", saved(tmp_path, NET), "--board", "nothing"]) == 2
    assert capsys.readouterr().err.startswith("dyadprop: board is 'nothing'; known are ")


def test_what_is_not_fitted_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["info", saved(tmp_path, NET), "--board", "ulx3s-85f"]
    again = "python -m dyadprop_boards.fit_resources --family ecp5"
    monkeypatch.setattr(board_info, "fitted_to", lambda family: "older")
    monkeypatch.setattr(board_info, "gateware_revision", lambda: "newer")
    assert main(arguments) == 0
    told = f"LUTs and flip-flops were fitted to gateware older; {again} fits them to this one, newer\n"
    assert told in capsys.readouterr().out
    monkeypatch.setattr(board_info, "gateware_revision", lambda: "older")
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "fitted" not in out
    assert " LUTs, " in out
    monkeypatch.setattr(board_info, "coefficients", lambda family: {})
    assert main([*arguments, "--json", str(tmp_path / "info.json")]) == 0
    out = capsys.readouterr().out
    assert f"LUTs and flip-flops are not known: nothing is fitted for ecp5 yet; {again} does it\n" in out
    assert " LUTs, " not in out
    assert json.loads((tmp_path / "info.json").read_text())["resources"].keys() == {"multipliers", "block_rams"}


def test_boards_that_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(info, "entry_points", lambda **names: ())
    assert main(["info", saved(tmp_path, NET), "--board", "ulx3s-12f"]) == 2
    assert capsys.readouterr().err == (
        "dyadprop: --board needs the package dyadprop_boards, which is not there; install the whole\n"
    )
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "dyadprop_boards.board_info", None)
    assert main(["info", saved(tmp_path, NET), "--board", "ulx3s-12f"]) == 2
    assert "is not installed; pip install 'dyadprop[boards]' brings it" in capsys.readouterr().err
