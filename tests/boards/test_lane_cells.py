"""What the LUTs of lanes are for is told by what they drive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dyadprop.errors import BuildError
from dyadprop_boards import lane_cells
from dyadprop_boards.fpgas import Family

LANE = "chip.core.crossing.network.stage_{}.lane_{}."
TYPES: dict[Family, tuple[str, str, str]] = {
    "ecp5": ("LUT4", "TRELLIS_FF", "CCU2C"),
    "ice40": ("SB_LUT4", "SB_DFF", "SB_LUT4"),
    "gowin": ("LUT4", "DFF", "ALU"),
}


def netlist(family: Family) -> dict[str, Any]:
    """Give a design of two stages, whose first one has two lanes that differ."""
    lut, register, adder = TYPES[family]
    cells = {"chip.core.uart_TRELLIS_FF_Q": register, "chip.core.crossing.network.stage_1.port.x_LUT4_Z": lut}
    for lane in range(2):
        cells |= {f"{LANE.format(1, lane)}step.floor_q3_{register}_Q_{bit}": register for bit in range(3)}
        cells |= {f"{LANE.format(1, lane)}step.floor_q3_{register}_Q_{bit}_DI_{lut}_Z": lut for bit in range(2 + lane)}
        cells[f"{LANE.format(1, lane)}total$17{lane}_{register}_Q_DI_{adder}_S0"] = adder
    cells[f"{LANE.format(2, 0)}word_{register}_Q"] = register
    return {"modules": {"top": {"attributes": {"top": "1"}, "cells": {k: {"type": v} for k, v in cells.items()}}}}


@pytest.mark.parametrize("family", TYPES)
def test_cells_are_counted_by_what_they_drive(family: Family) -> None:
    found = lane_cells.lane_cells(netlist(family))
    assert list(found) == ["stage_1", "stage_2"]
    lanes, signals = found["stage_1"]
    assert lanes == 2
    assert signals["step.floor_q3"] == {"luts": 5, "flip_flops": 6}
    assert signals["total"] == {"luts": 4 if family == "ecp5" else 2}
    assert len(signals) == 2
    assert found["stage_2"] == (1, {"word": {"flip_flops": 1}})


@pytest.mark.parametrize(
    ("design", "told"),
    [
        ([], "no top module"),
        ({}, "no top module"),
        ({"modules": {"top": {"attributes": {"top": "1"}, "cells": {}}}}, "no lanes"),
    ],
)
def test_what_is_no_design_is_refused(design: Any, told: str) -> None:
    with pytest.raises(BuildError, match=f"^the netlist has {told}$"):
        lane_cells.lane_cells(design)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "top.json"
    monkeypatch.setattr("sys.argv", ["lane_cells", str(path), "--most", "1"])
    assert lane_cells.main() == 2
    assert capsys.readouterr().err == f"lane_cells: netlist {path} cannot be read: No such file or directory\n"
    path.write_text(json.dumps(netlist("ecp5")))
    assert lane_cells.main() == 0
    assert capsys.readouterr().out.splitlines() == [
        "stage_1, lanes: 2; each 4 LUTs, 3 flip-flops",
        "    2.5     3.0  step.floor_q3",
        "stage_2, lanes: 1; each 0 LUTs, 1 flip-flops",
        "    0.0     1.0  word",
    ]
