"""Places of lanes on an ECP5: those that place and route knows, neighbours beside neighbours."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dyadprop_boards import ecp5_packing
from dyadprop_boards.ecp5_layout import MEMORY, MULTIPLIER, place_lanes, sites
from dyadprop_boards.ecp5_packing import Packed, pack_netlist
from dyadprop_boards.fpgas import LFE5U_12F, LFE5U_25F, LFE5U_45F, LFE5U_85F, LFE5UM5G_45F, LFE5UM5G_85F, Fpga
from dyadprop_boards.tools import TOOLS

FPGAS = [LFE5U_12F, LFE5U_25F, LFE5U_45F, LFE5U_85F, LFE5UM5G_45F, LFE5UM5G_85F]
NETWORK = "chip.core.crossing.network"


def lanes(*stages: tuple[int, int, int]) -> dict[str, Any]:
    """Give a netlist: of each stage its lanes, and the multipliers and block RAMs of one."""
    cells: dict[str, Any] = {}
    for stage, (count, multipliers, memories) in enumerate(stages, start=1):
        for lane in range(count):
            prefix = f"{NETWORK}.stage_{stage}.lane_{lane}"
            for k in range(multipliers):
                cells[f"{prefix}.product_{k}_TRELLIS_FF_Q_DI_MULT18X18D_P0"] = block(MULTIPLIER)
            for k in range(memories):
                cells[f"{prefix}.weights.0.{k}"] = block(MEMORY)
    cells[f"{NETWORK}.stage_1.memory.words.0"] = block(MEMORY)
    cells[f"{NETWORK}.stage_1.loader.product"] = block(MULTIPLIER)
    return {"cells": cells}


def block(kind: str) -> dict[str, Any]:
    return {"type": kind, "attributes": {}, "parameters": {}, "connections": {}, "port_directions": {}}


def places(module: dict[str, Any]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Give columns and rows of each lane's blocks."""
    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for name, cell in module["cells"].items():
        if "BEL" in cell["attributes"] and ".lane_" in name:
            stage, lane = (int(part.rpartition("_")[2]) for part in name.split(".")[4:6])
            x, y, _ = cell["attributes"]["BEL"].split("/")
            found.setdefault((stage, lane), []).append((int(x[1:]), int(y[1:])))
    return found


@pytest.mark.parametrize(("fpga", "option"), [(LFE5U_25F, "--25k"), (LFE5U_45F, "--45k"), (LFE5U_85F, "--85k")])
def test_sites_are_those_of_place_and_route(fpga: Fpga, option: str, tmp_path: Path) -> None:
    """All of them are taken at once: a place that is not there, or is named twice, is an error to nextpnr."""
    cells: dict[str, Any] = {}
    bit = 2
    for kind, output, count in ((MULTIPLIER, "P0", fpga.multipliers), (MEMORY, "DOA0", fpga.block_rams)):
        found = [site for row in sites(fpga, kind) for site in row]
        assert len(set(found)) == len(found) == count
        for site in found:
            cells[f"{kind}_{site.bel}"] = {
                **block(kind),
                "attributes": {"BEL": site.bel, "keep": "1"},
                "connections": {output: [bit]},
                "port_directions": {output: "output"},
            }
            bit += 1
    top = {"attributes": {"top": "1"}, "ports": {}, "cells": cells, "netnames": {}}
    (tmp_path / "all.json").write_text(json.dumps({"modules": {"top": top}}))
    words = [*TOOLS["nextpnr-ecp5"].command(), option, "--package", "CABGA381", "--json", "all.json", "--no-route"]
    done = subprocess.run([*words, "--write", "placed.json"], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    placed = json.loads((tmp_path / "placed.json").read_text())["modules"]["top"]["cells"]
    assert {name: placed[name]["attributes"]["NEXTPNR_BEL"] for name in cells} == {
        name: name.partition("_")[2] for name in cells
    }


@pytest.mark.parametrize("fpga", FPGAS, ids=lambda fpga: str(fpga.name))
@pytest.mark.parametrize(
    "stages",
    [((8, 2, 3), (2, 3, 2)), ((3, 2, 3), (3, 3, 1), (2, 3, 1)), ((7, 2, 2),), ((1, 2, 1), (1, 3, 1))],
    ids=str,
)
def test_neighbours_lie_beside_neighbours(fpga: Fpga, stages: Sequence[tuple[int, int, int]]) -> None:
    module = lanes(*stages)
    assert place_lanes(module, fpga) == sum(count * (m + r) for count, m, r in stages)
    found = places(module)
    assert len(found) == sum(count for count, *_ in stages)
    every = [cell["attributes"]["BEL"] for cell in module["cells"].values() if "BEL" in cell["attributes"]]
    assert len(set(every)) == len(every)
    known = {site.bel for kind in (MULTIPLIER, MEMORY) for row in sites(fpga, kind) for site in row}
    assert set(every) <= known
    for stage, (count, multipliers, _) in enumerate(stages, start=1):
        middles, rows = [], []
        for lane in range(count):
            columns = [x for x, _ in found[stage, lane][:multipliers]]
            middles.append(sum(columns) / multipliers)
            rows.append(found[stage, lane][0][1])
        assert all(abs(a - b) <= 24 for a, b in pairwise(rows)), "to the next row of multipliers, never past one"
        # Once away and once back; where rows differ, neighbours may be half a group of columns apart.
        walk = sum(abs(a - b) for a, b in pairwise(middles))
        assert walk <= 2 * (max(middles) - min(middles)) + 5 * count, (stage, middles)


def test_both_ends_of_a_chain_are_at_its_stage_s_edge() -> None:
    module = lanes((32, 2, 3), (10, 3, 1))
    assert place_lanes(module, LFE5U_85F) == 32 * 5 + 10 * 4
    found = places(module)
    columns = {lane: blocks[0][0] for lane, blocks in found.items()}
    first = [columns[1, lane] for lane in range(32)]
    second = [columns[2, lane] for lane in range(10)]
    assert max(first) <= min(second) + 12, "stage 1 lies left of stage 2"
    assert all(column >= max(first) - 9 for column in (first[0], first[31]))
    assert all(column <= min(second) + 12 for column in (second[0], second[9]))
    assert min(first) == first[10] == 4, "and the chain turns where the FPGA ends"
    for chain in (first[10:], second[3:]):
        steps = [abs(a - b) for a, b in pairwise(chain)]
        assert not any((steps[0], *steps[1::2])), "from one row straight to the next, then a step along it"
        assert max(steps) <= 14


def test_a_stage_s_own_memories_get_their_places_where_lanes_take_the_others() -> None:
    """`lanes` gives stage 1 a memory of its own; 48 lanes with four each leave places only far from it."""
    for memories, first in ((1, False), (4, True)):
        module = lanes((32, 2, memories), (16, 3, memories))
        placed = place_lanes(module, LFE5U_85F)
        assert placed == 32 * (2 + memories) + 16 * (3 + memories) + first
        own = module["cells"][f"{NETWORK}.stage_1.memory.words.0"]["attributes"]
        assert ("BEL" in own) == first
        if first:
            x, y, _ = own["BEL"].split("/")
            ends = [columns for lane in (0, 31) for columns in places(module)[1, lane][:2]]
            assert abs(int(x[1:]) - sum(column for column, _ in ends) / len(ends)) <= 9
            assert int(y[1:]) in (22, 46)


def test_block_rams_lie_near_their_lanes_where_all_lanes_want_more_than_lie_beside_them() -> None:
    """Nearest first, lane by lane, the mean way is 23.4: those that come last get what is left."""
    stages = ((32, 2, 3), (16, 3, 3), (5, 3, 3))
    module = lanes(*stages)
    assert place_lanes(module, LFE5U_85F) > 53 * 5
    ways = []
    for (stage, _), blocks in places(module).items():
        own = blocks[: stages[stage - 1][1]]
        column = sum(x for x, _ in own) / len(own)
        ways += [abs(x - column) + abs(y - own[0][1]) for x, y in blocks[len(own) :]]
    assert len(ways) == 53 * 3
    assert sum(ways) / len(ways) < 19


def test_nothing_is_placed_where_there_is_no_room() -> None:
    for stages in (((20, 2, 1),), ((9, 2, 7),)):
        module = lanes(*stages)
        assert place_lanes(module, LFE5U_12F) == 0
        assert not places(module)


def test_a_build_s_netlist_gets_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pack_netlist` is what a build calls behind synthesis; these cells have no pins for its other passes."""
    monkeypatch.setattr(ecp5_packing, "pack_registers", lambda module: Packed())
    monkeypatch.setattr(ecp5_packing, "absorb_operands", lambda module: 0)
    monkeypatch.setattr(ecp5_packing, "copy_resets", lambda module: 0)
    path = tmp_path / "top.json"
    module = lanes((4, 2, 3))
    path.write_text(json.dumps({"modules": {"top": {"attributes": {"top": "1"}, "ports": {}, **module}}}))
    pack_netlist(path, LFE5U_45F)
    assert place_lanes(module, LFE5U_45F) == 20
    assert places(json.loads(path.read_text())["modules"]["top"]) == places(module)


def test_an_fpga_of_the_user_s_is_left_to_the_placer() -> None:
    module = lanes((4, 2, 3))
    assert place_lanes(module, replace(LFE5U_25F, luts=12_000)) == 0
    assert not places(module)


def test_a_design_without_lanes() -> None:
    assert place_lanes({"cells": {"chip.receiver.timer": block(MEMORY)}}, LFE5U_25F) == 0
