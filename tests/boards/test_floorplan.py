"""Places of cells in the netlist that place and route writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import dyadprop as dp
from dyadprop_boards.floorplan import Tile, keep_floorplan, parts_in_order, read_floorplan, read_placed


def cell(kind: str, bel: str | None) -> dict[str, Any]:
    return {"type": kind, "attributes": {} if bel is None else {"NEXTPNR_BEL": bel}}


PLACED = {
    "modules": {
        "top": {
            "cells": {
                "chip.core.network.stage_2.lane_1.sum_LUT4": cell("TRELLIS_COMB", "X7/Y12/SLICEA.COMB0"),
                "chip.core.network.stage_2.sum_FF": cell("TRELLIS_FF", "X7/Y12/SLICEA.FF0"),
                "chip.core.network.stage_2.lane_1.product": cell("MULT18X18D", "X4/Y46/MULT18_0"),
                "chip.core.network.head.count": cell("LUT4", "X3Y4/LUT0"),
                "chip.core.session.slots.0.0": cell("DP16KD", "X11/Y46/EBR0"),
                "chip.rate": cell("ICESTORM_LC", "X3/Y4/lc7"),
                "clocks.pll": cell("EHXPLLL", "X1/Y50/EHXPLL_LL"),
                "clocks.wait": cell("DFFRE", "X0Y9/DFF3"),
                "constant": cell("TRELLIS_COMB", None),
            }
        }
    }
}
TILES = [
    Tile("board", "logic", 0, 9, 1),
    Tile("head", "logic", 3, 4, 1),
    Tile("link", "block_rams", 11, 46, 1),
    Tile("link", "logic", 3, 4, 1),
    Tile("stage_2", "logic", 7, 12, 2),
    Tile("stage_2", "multipliers", 4, 46, 1),
]


def test_places() -> None:
    assert read_placed(json.dumps(PLACED), "placed.json") == TILES


def test_what_is_kept(tmp_path: Path) -> None:
    placed, floorplan = tmp_path / "placed.json", tmp_path / "floorplan.json"
    placed.write_text(json.dumps(PLACED))
    keep_floorplan(placed, floorplan)
    assert not placed.exists()
    assert read_floorplan(floorplan) == TILES
    keep_floorplan(placed, floorplan)
    assert read_floorplan(floorplan) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"modules": {"top": {"cells": {"a": {"type": "LUT4"}}}}}'])
def test_what_is_no_netlist(text: str) -> None:
    with pytest.raises(dp.BuildError, match=r"^places of cells are not in placed\.json: ."):
        read_placed(text, "placed.json")


def test_order_of_parts() -> None:
    names = {"board", "stage_10", "link", "stage_2", "head", "stage_1"}
    assert parts_in_order(names) == ["stage_1", "stage_2", "stage_10", "head", "link", "board"]
