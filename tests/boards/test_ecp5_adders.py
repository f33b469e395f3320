"""Carry cells that do the work of the LUTs in front of them give the same sums and carries."""

from __future__ import annotations

import itertools
import random
from typing import Any

from dyadprop_boards.ecp5_adders import absorb, absorb_operands


def look_up(table: int, *address: int) -> int:
    return table >> sum(bit << place for place, bit in enumerate(address)) & 1


def half(init: int, carry: int, *address: int) -> tuple[int, int]:
    """Give sum and carry of half a CCU2C."""
    propagates = look_up(init, *address)
    return propagates ^ carry, carry if propagates else look_up(init, *address[:2])


def adder(a: Any, b: Any, subtract: str = "0") -> dict[str, Any]:
    """Give a carry cell as yosys maps an addition or a subtraction, with its first half."""
    pins = {"A0": [a], "B0": [b], "C0": [subtract], "D0": ["1"]}
    return {"parameters": {"INIT0": f"{0x96AA:016b}", "INJECT1_0": "NO"}, "connections": pins}


def function(table: int, *inputs: Any) -> dict[str, Any]:
    """Give a LUT that drives wire 9."""
    return {
        "parameters": {"INIT": f"{table:016b}"},
        "connections": {**{p: [i] for p, i in zip("ABCD", inputs, strict=True)}, "Z": [9]},
    }


def assert_absorbed(carry: dict[str, Any], lut: dict[str, Any], expected: bool | None = None) -> bool:
    """Compare sum and carry for all values of the wires; give whether the LUT was absorbed."""
    found = absorb(carry, "0", lut)
    assert expected in (None, found is not None), (carry, lut)
    if found is None:
        return False
    init, order = found
    pins = [carry["connections"][pin][0] for pin in ("A0", "B0", "C0", "D0")]
    for *values, carried in itertools.product((0, 1), repeat=6):
        at: dict[Any, int] = {"0": 0, "1": 1, **dict(enumerate(values, 1))}
        at[9] = look_up(int(lut["parameters"]["INIT"], 2), *(at[lut["connections"][pin][0]] for pin in "ABCD"))
        before = half(0x96AA, carried, *(at[pin] for pin in pins))
        assert half(init, carried, *(at[pin] for pin in order)) == before, (carry, lut, found)
    return True


def test_an_adder_makes_its_operands_itself() -> None:
    for subtract, swapped in itertools.product("01", (False, True)):
        carry = adder(9, 1, subtract) if swapped else adder(1, 9, subtract)
        for table in range(16):
            assert_absorbed(carry, function(0x1111 * table, 2, 3, "0", "0"), expected=True)
        absorbed = sum(assert_absorbed(carry, function(0x0101 * table, 2, 3, 4, "0")) for table in range(256))
        assert absorbed > 100
    select, gated_or, parity = 0xCACA, 0xF8F8, 0x9696
    for table, expected in ((select, True), (gated_or, True), (0xFFFF ^ parity, False)):
        assert_absorbed(adder(1, 9), function(table, 2, 3, 4, "0"), expected=expected)


def test_a_lut_with_more_inputs_goes_only_beside_its_own() -> None:
    choose = random.Random(1)
    absorbed = 0
    for _ in range(2000):
        table = choose.randrange(1 << 16)
        assert_absorbed(adder(1, 9), function(table, 2, 3, 4, 5), expected=False)
        absorbed += assert_absorbed(adder(1, 9), function(table, 2, 1, 4, 3))
        assert_absorbed(adder(9, 9), function(table, 2, 1, 4, 3))
    assert 0 < absorbed < 2000


def test_a_lut_that_others_need_stays() -> None:
    def module(*outputs: int) -> dict[str, Any]:
        cells = {
            "sum": adder(1, 9) | {"type": "CCU2C"},
            "or": function(0xEEEE, 2, 3, "0", "0") | {"type": "LUT4"},
        }
        cells["sum"]["connections"] |= {"A1": [9], "B1": ["0"], "C1": ["0"], "D1": ["1"], "CIN": ["0"], "S0": [20]}
        cells["sum"]["parameters"] |= {"INIT1": f"{0x96AA:016b}", "INJECT1_1": "NO"}
        for cell in cells.values():
            cell["port_directions"] = {p: "output" if p in ("S0", "Z") else "input" for p in cell["connections"]}
        ports = {"y": {"direction": "output", "bits": [20, *outputs]}}
        return {"ports": ports, "cells": cells}

    design = module(9)
    assert absorb_operands(design) == 0
    assert design == module(9)
    design = module()
    assert absorb_operands(design) == 1  # both halves take it
    assert list(design["cells"]) == ["sum"]
