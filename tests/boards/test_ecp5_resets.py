"""Copies of a reset that reaches everything: one for each part, with the first one's input."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from dyadprop_boards.ecp5_resets import WIDE, copy_resets

CLOCK, OTHER, HELD, RESET, ENABLE = 2, 3, 4, 9, 10
RANKS = [HELD, 5, 6, 7, RESET]
"""What goes into each rank of a synchronizer, and comes out of the last one."""
NETWORK = "chip.core.crossing.network."
LANES = [f"{NETWORK}stage_1.lane_0.", f"{NETWORK}stage_1.lane_10."]
OTHERS = [f"{NETWORK}stage_1.", f"{NETWORK}stage_2.", f"{NETWORK}head.", "chip.", ""]
PARTS = [*LANES, *OTHERS]


def register(d: Any, q: int, lsr: Any = "0", enable: Any = None, clock: int = CLOCK) -> dict[str, Any]:
    """Give a register."""
    return {
        "type": "TRELLIS_FF",
        "parameters": {"CEMUX": "1 " if enable is None else "CE", "CLKMUX": "CLK", "REGSET": "SET"},
        "port_directions": {"DI": "input", "CLK": "input", "LSR": "input", "CE": "input", "Q": "output"},
        "connections": {"DI": [d], "CLK": [clock], "LSR": [lsr], "CE": ["1" if enable is None else enable], "Q": [q]},
    }


def netlist(count: int, ranks: int = 4, last: dict[str, Any] | None = None) -> dict[str, Any]:
    """Give a synchronizer that resets so many registers in each of `PARTS`."""
    wires = [HELD, *RANKS[-ranks:]]
    cells = {f"top.clear.{k}": register(wires[k], wires[k + 1]) for k in range(ranks)}
    cells["top.held"] = register("1", HELD, clock=OTHER)
    if last:
        cells[f"top.clear.{ranks - 1}"] = last
    free = iter(range(100, 1_000_000))
    for part in PARTS:
        for k in range(count):
            cells[f"{part}x.y_{k}"] = register("0", next(free), RESET)
    return {"ports": {}, "cells": cells}


COUNT = WIDE // len(PARTS) + 1


def test_each_part_has_a_reset_of_its_own_and_each_stage_what_feeds_it() -> None:
    module = netlist(COUNT)
    cells = module["cells"]
    before = {name for name in cells if not name.startswith("top.")}
    # Both lanes of stage 1 share what feeds its own registers' reset.
    assert copy_resets(module) == (len(PARTS) - 1) + (len(OTHERS) - 1)
    drivers = {cell["connections"]["Q"][0]: name for name, cell in cells.items()}
    assert len(drivers) == len(cells)
    resets: dict[str, str] = {}
    for name in before:
        driver = drivers[cells[name]["connections"]["LSR"][0]]
        part, _, _ = name.rpartition("x.y_")
        assert resets.setdefault(part, driver) == driver
    assert set(resets) == set(PARTS)
    assert len(set(resets.values())) == len(PARTS)
    feeders = {part: drivers[cells[reset]["connections"]["DI"][0]] for part, reset in resets.items()}
    assert {feeders[lane] for lane in LANES} == {feeders[f"{NETWORK}stage_1."]}
    assert len(set(feeders.values())) == len(OTHERS)
    for part in OTHERS:
        assert feeders[part].startswith(part)
    for part, reset in resets.items():
        assert reset.startswith(part)
        assert cells[reset]["parameters"] == register(0, 0)["parameters"] == cells[feeders[part]]["parameters"]
        assert cells[feeders[part]]["connections"]["DI"] == cells["top.clear.1"]["connections"]["Q"]
    assert not {"top.clear.2", "top.clear.3"} & set(cells)


@pytest.mark.parametrize("in_front_first", [True, False])
def test_a_reset_whose_rank_in_front_resets_as_many(in_front_first: bool) -> None:
    module = netlist(COUNT)
    cells = module["cells"]
    names = [f"{part}x.z_{k}" for part in PARTS for k in range(COUNT)]
    users = {name: register("0", wire, RANKS[-2]) for wire, name in enumerate(names, 10_000_000)}
    module["cells"] = {**users, **cells} if in_front_first else {**cells, **users}
    copy_resets(module)
    driven = {cell["connections"]["Q"][0] for cell in module["cells"].values()}
    resets = Counter(cell["connections"]["LSR"][0] for cell in module["cells"].values())
    del resets["0"]
    assert resets.total() == 2 * len(PARTS) * COUNT
    assert resets.keys() <= driven
    assert max(resets.values()) <= 2 * COUNT < WIDE


def test_what_may_still_be_settling_is_read_at_one_place() -> None:
    module = netlist(COUNT, ranks=3)
    assert copy_resets(module) == len(PARTS) - 1
    settling = module["cells"]["top.clear.0"]["connections"]["Q"]
    assert [name for name, cell in module["cells"].items() if cell["connections"]["DI"] == settling] == ["top.clear.1"]


def lut(*inputs: Any, z: int) -> dict[str, Any]:
    """Give a LUT."""
    pins = dict(zip("ABCD", ([bit] for bit in inputs), strict=False))
    return {
        "type": "LUT4",
        "parameters": {},
        "port_directions": {**dict.fromkeys(pins, "input"), "Z": "output"},
        "connections": {**pins, "Z": [z]},
    }


def test_logic_and_registers_that_read_it_read_the_one_of_their_part() -> None:
    module = netlist(COUNT)
    cells = module["cells"]
    for part in PARTS:
        cells[f"{part}x.told"] = register(RESET, len(cells) + 1_000_000)
        cells[f"{part}x.logic"] = lut(50, RESET, z=len(cells) + 1_000_000)
    assert copy_resets(module) == (len(PARTS) - 1) + (len(OTHERS) - 1)
    for part in PARTS:
        own = cells[f"{part}x.y_0"]["connections"]["LSR"]
        assert own == cells[f"{part}x.told"]["connections"]["DI"] == cells[f"{part}x.logic"]["connections"]["B"]
        assert cells[f"{part}x.logic"]["connections"]["A"] == [50]
    assert "top.clear.3" not in cells


def test_the_first_one_stays_where_the_module_s_port_is_it() -> None:
    module = netlist(COUNT)
    module["ports"]["reset"] = {"direction": "output", "bits": [RESET]}
    assert copy_resets(module) == len(PARTS) + len(OTHERS) - 1
    assert module["cells"]["top.clear.3"]["connections"]["Q"] == [RESET]
    assert [RESET] not in [cell["connections"]["LSR"] for cell in module["cells"].values()]


def test_what_lies_between_two_lanes_has_the_reset_of_the_one_that_drives_it() -> None:
    """As `count_out` of a lane, which adds what it counts to what comes from the lane before it."""
    module = netlist(COUNT)
    cells = module["cells"]
    stage, before, behind = f"{NETWORK}stage_1.", *LANES
    cells[f"{before}step.limited"] = register("0", 60)
    cells[f"{behind}step.limited"] = register("0", 61)
    for name, source, limited, wire in (("count_out$7", "0", 60, 70), ("count_out$8", 70, 61, 71)):
        cells[f"{stage}{name}_TRELLIS_FF_Q_DI_LUT4_Z"] = lut(source, limited, z=wire + 10)
        cells[f"{stage}{name}_TRELLIS_FF_Q"] = register(wire + 10, wire, RESET)
    # What a lane lets it do does not make it part of the lane.
    cells[f"{stage}idle_TRELLIS_FF_Q"] = register("0", 75, RESET, enable=60)
    copy_resets(module)
    for name, part in (("count_out$7", before), ("count_out$8", behind), ("idle", stage)):
        own = cells[f"{part}x.y_0"]["connections"]["LSR"]
        assert cells[f"{stage}{name}_TRELLIS_FF_Q"]["connections"]["LSR"] == own


@pytest.mark.parametrize(
    ("count", "ranks", "last"),
    [
        (WIDE // len(PARTS), 4, None),
        (WIDE, 2, None),  # what feeds it is a synchronizer's first rank
        (WIDE, 4, register("1", RESET)),
        (WIDE, 4, register(RANKS[-2], RESET, lsr=HELD)),
        (WIDE, 4, register(RANKS[-2], RESET, enable=ENABLE)),
    ],
)
def test_what_is_left_alone(count: int, ranks: int, last: dict[str, Any] | None) -> None:
    module, same = netlist(count, ranks, last), netlist(count, ranks, last)
    assert copy_resets(module) == 0
    assert module == same
