"""Each register of a Gowin netlist gets a LUT in front of it, and nothing else changes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from dyadprop_boards.gowin_packing import feed_netlist, feed_registers
from dyadprop_sim.gates import run_yosys

# Registers behind a LUT of their own, a LUT that others read too, a carry chain, a register, a pin and a constant.
SOURCE = """
module top(input clk, input en, input [7:0] a, input [7:0] b, output reg [7:0] alone, output reg [7:0] shared,
           output [7:0] seen, output reg [7:0] sum, output reg [7:0] later, output reg [7:0] sampled, output reg one);
    assign seen = a & ~b;
    initial one = 0;
    always @(posedge clk) begin
        alone <= a | b;
        shared <= seen;
        if (en) sum <= a + b;
        later <= sum;
        sampled <= a;
        one <= 1;
    end
endmodule
"""


@pytest.fixture(scope="module")
def netlist(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("gowin")
    (folder / "top.v").write_text(SOURCE)
    run_yosys("read_verilog top.v\nsynth_gowin -family gw1n -top top -json top.json\n", folder)
    design: dict[str, Any] = json.loads((folder / "top.json").read_text())
    return design


def registers(module: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in module["cells"].values() if cell["type"].startswith("DFF")]


def test_each_register_has_a_lut_of_its_own(netlist: dict[str, Any]) -> None:
    module = copy.deepcopy(netlist["modules"]["top"])
    before = len(module["cells"])
    fed = feed_registers(module)
    assert fed == 33, "shared, sum, later and sampled of 8 bits each, and one"
    assert len(module["cells"]) == before + fed
    for register in registers(module):
        (wire,) = register["connections"]["D"]
        drivers = [cell for cell in module["cells"].values() if wire in cell["connections"].get("F", ())]
        assert [cell["type"].startswith("LUT") for cell in drivers] == [True]
        readers = [
            cell
            for cell in module["cells"].values()
            for port, bits in cell["connections"].items()
            if cell["port_directions"][port] == "input" and wire in bits
        ]
        assert readers == [register]
    assert feed_registers(module) == 0


def test_without_its_new_luts_it_is_what_it_was(netlist: dict[str, Any]) -> None:
    before = netlist["modules"]["top"]
    module = copy.deepcopy(before)
    feed_registers(module)
    new = {name: module["cells"].pop(name) for name in set(module["cells"]) - set(before["cells"])}
    source = {cell["connections"]["F"][0]: cell["connections"]["I0"] for cell in new.values()}
    assert len(source) == len(new)
    assert all(cell["type"] == "LUT1" and cell["parameters"] == {"INIT": "10"} for cell in new.values())
    for register in registers(module):
        register["connections"]["D"] = source.get(register["connections"]["D"][0], register["connections"]["D"])
    assert module["cells"] == before["cells"]
    assert module["ports"] == before["ports"]


def test_a_new_lut_is_of_its_registers_part(netlist: dict[str, Any]) -> None:
    module = copy.deepcopy(netlist["modules"]["top"])
    feed_registers(module)
    new = [name for name in module["cells"] if name.endswith("_PASS")]
    assert len(new) == 33
    for name in new:
        register = module["cells"][name.removesuffix("_PASS")]
        assert register["connections"]["D"] == module["cells"][name]["connections"]["F"]


def test_a_file_is_changed_in_place(tmp_path: Path, netlist: dict[str, Any]) -> None:
    path = tmp_path / "top.json"
    path.write_text(json.dumps(netlist))
    assert feed_netlist(path) == 33
    assert len(json.loads(path.read_text())["modules"]["top"]["cells"]) == len(netlist["modules"]["top"]["cells"]) + 33
