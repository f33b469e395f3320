"""Constants that take a wire on an ECP5: one LUT of each value in each part that needs it."""

from __future__ import annotations

import copy
from typing import Any

from dyadprop_boards.ecp5_constants import wire_constants

NETWORK = "chip.core.crossing.network."
LANES = [f"{NETWORK}stage_1.lane_0.", f"{NETWORK}stage_1.lane_1."]


def cell(kind: str, **inputs: list[Any]) -> dict[str, Any]:
    """Give a cell with these inputs."""
    return {
        "type": kind,
        "parameters": {},
        "port_directions": dict.fromkeys(inputs, "input"),
        "connections": dict(inputs),
    }


def netlist() -> dict[str, Any]:
    """Give what each part has: a multiplier a lane, a RAM in LUTs and an adder in a queue of the link."""
    cells = {}
    for k, lane in enumerate(LANES):
        cells[f"{lane}product"] = cell(
            "MULT18X18D", A0=["0"], B0=[10 + k], CLK0=[2], CE0=["1"], RST0=["0"], SOURCEA=["0"], SIGNEDA=["1"]
        )
    cells["chip.queue.ram"] = cell("TRELLIS_DPR16X4", DI=["0", 20], RAD=[21, "0"], WAD=[22, "0"], WRE=["1"])
    cells["chip.queue.count"] = cell("CCU2C", A0=[23], B0=["0"], CIN=["0"], D1=["1"])
    cells["chip.queue.next"] = cell("CCU2C", A0=[24], B0=["0"], CIN=[25], D1=["1"])
    return {"ports": {}, "cells": cells}


def test_each_part_has_constants_of_its_own() -> None:
    module, before = netlist(), netlist()["cells"]
    cells = module["cells"]
    assert wire_constants(module) == 2 * len(LANES) + 1
    made = sorted(cells.keys() - before.keys())
    assert made == sorted(
        ["chip.constant_0", *(f"{lane}constant_{value}" for lane in LANES for value in "01")], key=str
    )
    outputs = {name: cells[name]["connections"]["Z"] for name in made}
    assert len({wire for (wire,) in outputs.values()}) == len(made)
    assert all(wire > 25 for (wire,) in outputs.values())
    for name in made:
        assert cells[name]["type"] == "LUT4"
        assert cells[name]["parameters"] == {"INIT": name[-1] * 16}
    for k, lane in enumerate(LANES):
        zero, one = outputs[f"{lane}constant_0"], outputs[f"{lane}constant_1"]
        assert cells[f"{lane}product"]["connections"] == {
            **{"A0": ["0"], "B0": [10 + k], "CLK0": [2]},
            **{"CE0": one, "RST0": zero, "SOURCEA": zero, "SIGNEDA": one},
        }
    (zero,) = outputs["chip.constant_0"]
    assert cells["chip.queue.ram"]["connections"] == {
        **{"DI": ["0", 20], "RAD": [21, zero], "WAD": [22, zero], "WRE": ["1"]}
    }
    assert cells["chip.queue.count"]["connections"] == {"A0": [23], "B0": ["0"], "CIN": [zero], "D1": ["1"]}
    assert cells["chip.queue.next"] == before["chip.queue.next"]


def test_a_design_that_needs_none() -> None:
    module = {"ports": {}, "cells": {"chip.a": cell("LUT4", A=["0"], B=["1"]), "chip.b": cell("DP16KD", RSTA=["0"])}}
    same = copy.deepcopy(module)
    assert wire_constants(module) == 0
    assert module == same
