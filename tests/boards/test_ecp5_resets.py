"""Copies of a reset that reaches everything: one for each part, with the first one's input."""

from __future__ import annotations

from typing import Any

import pytest

from dyadprop_boards.ecp5_resets import WIDE, copy_resets

CLOCK, HELD, SETTLED, RESET, ENABLE = 2, 3, 4, 5, 6
PARTS = (
    *(f"chip.core.crossing.network.{part}." for part in ("stage_1.lane_0", "stage_1.lane_10", "stage_1", "head")),
    *("chip.", ""),
)


def register(d: Any, q: int, lsr: Any = "0", enable: Any = None) -> dict[str, Any]:
    """Give a register."""
    return {
        "type": "TRELLIS_FF",
        "parameters": {"CEMUX": "1 " if enable is None else "CE", "CLKMUX": "CLK", "REGSET": "SET"},
        "port_directions": {"DI": "input", "CLK": "input", "LSR": "input", "CE": "input", "Q": "output"},
        "connections": {"DI": [d], "CLK": [CLOCK], "LSR": [lsr], "CE": ["1" if enable is None else enable], "Q": [q]},
    }


def netlist(count: int, last: dict[str, Any] | None = None) -> dict[str, Any]:
    """Give a synchronizer that resets so many registers in each of `PARTS`."""
    cells = {"top.clear.0": register(HELD, SETTLED), "top.clear.1": last or register(SETTLED, RESET)}
    wires = iter(range(100, 1_000_000))
    for part in PARTS:
        for k in range(count):
            cells[f"{part}x.y_{k}"] = register("0", next(wires), RESET)
    return {"ports": {}, "cells": cells}


def test_each_part_has_a_reset_of_its_own() -> None:
    count = WIDE // len(PARTS) + 1
    module = netlist(count)
    cells = module["cells"]
    before = {name for name in cells if not name.startswith("top.clear")}
    assert copy_resets(module) == len(PARTS) - 1
    drivers = {cell["connections"]["Q"][0]: name for name, cell in cells.items()}
    assert len(drivers) == len(cells)
    resets: dict[str, str] = {}
    for name in before:
        driver = drivers[cells[name]["connections"]["LSR"][0]]
        part, _, _ = name.rpartition("x.y_")
        assert resets.setdefault(part, driver) == driver
        assert cells[driver]["connections"]["DI"] == [SETTLED]
        assert cells[driver]["parameters"] == register(SETTLED, RESET)["parameters"]
    assert set(resets) == set(PARTS)
    assert len(set(resets.values())) == len(PARTS)
    assert all(driver.startswith(part) for part, driver in resets.items())
    assert "top.clear.1" not in cells


def test_the_first_one_stays_where_others_than_resets_read_it() -> None:
    module = netlist(WIDE)
    cells = module["cells"]
    cells["top.told"] = register(RESET, 50)
    assert copy_resets(module) == len(PARTS)
    assert cells["top.told"]["connections"]["DI"] == [RESET] == cells["top.clear.1"]["connections"]["Q"]


@pytest.mark.parametrize(
    ("count", "last"),
    [
        (WIDE // len(PARTS), None),
        (WIDE, register(HELD, RESET)),  # what feeds it is no register: a synchronizer's first rank
        (WIDE, register(SETTLED, RESET, lsr=HELD)),
        (WIDE, register(SETTLED, RESET, enable=ENABLE)),
    ],
)
def test_what_is_left_alone(count: int, last: dict[str, Any] | None) -> None:
    module, same = netlist(count, last), netlist(count, last)
    assert copy_resets(module) == 0
    assert module == same
