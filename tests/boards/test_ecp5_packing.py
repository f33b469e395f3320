"""Registers and LUTs that move into block RAMs, multipliers and carry cells change no word of a network."""

from __future__ import annotations

import itertools
import json
import random
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.back import rtlil

from dyadprop.formats import Formats, Q
from dyadprop.network import Dense, Network
from dyadprop.plan import plan_network
from dyadprop_boards.ecp5_packing import absorb, pack_operands, pack_registers, top_module
from dyadprop_hw.network import DyadNetwork
from dyadprop_sim.gates import PACKAGE, run_yosys
from dyadprop_sim.library import BuildOptions
from dyadprop_sim.mutation.transcript import Script
from dyadprop_sim.verilator import NetworkSimulation
from tests.boards.ecp5_blocks import block_models

# Deep enough for block RAMs, which yosys takes from some 64 words on.
NET = Network(
    33,
    [Dense(3, "tanh", lanes=1), Dense(2, lanes=1)],
    input_gradient=True,
    formats=Formats(Q(3, 9), Q(3, 9), Q(2, 10)),
    max_batch=4,
)


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the netlist as yosys leaves it, as JSON."""
    folder = tmp_path_factory.mktemp("ecp5")
    (folder / "top.il").write_text(rtlil.convert(DyadNetwork(plan_network(NET)), name="top", emit_src=False))
    # No memory is read where it is written in the same cycle (claims of the gateware): no logic for that.
    prepare = "delete t:$check\nsetparam -set COLLISION_X_MASK 1'1 t:$memrd_v2\n"
    run_yosys(f"read_rtlil top.il\n{prepare}synth_ecp5 -top top -json top.json\n", folder)
    return (folder / "top.json").read_text()


def gates(folder: Path, design: dict[str, Any]) -> str:
    """Write a netlist as Verilog, with models of its cells."""
    (folder / "packed.json").write_text(json.dumps(design))
    run_yosys("read_json packed.json\nsplitnets\nopt_clean -purge\nwrite_verilog -noattr gates.v\n", folder)
    share = Path(str(files(PACKAGE))) / "share" / "ecp5"
    models = [re.sub(r"(?m)^`include.*$", "", (share / name).read_text()) for name in ("common_sim.vh", "ccu2c_sim.vh")]
    return "".join([(folder / "gates.v").read_text(), *models, block_models()])


def compare(text: str) -> int:
    """Run the whole script; give the number of words that were compared with the golden model's."""
    rtl = NetworkSimulation(plan_network(NET), options=BuildOptions("-O0"), patience=5000, verilog=text)
    words = 0
    for entry in Script(rtl, 1).run():
        if entry.expected is not None:
            np.testing.assert_array_equal(entry.got, entry.expected, entry.what)
            words += entry.got.size
    rtl.close()
    return words


def test_a_packed_network_is_bit_equal(tmp_path: Path, synthesized: str) -> None:
    design = json.loads(synthesized)
    packed = pack_registers(design)
    print(packed)
    # Stage 1: both ports of the weights and of the samples, gradients, the table, the queue of sensitivities whose wide
    # words have two halves with an enable; slopes, deltas and three products a lane, each with a rank inside and one
    # behind it.
    assert packed.memories == 7
    top = top_module(design)
    assert top is not None
    memories = [cell["connections"] for cell in top["cells"].values() if cell["type"] == "DP16KD"]
    assert sum(isinstance(memory.get(f"OCE{side}", ["0"])[0], int) for memory in memories for side in "AB") == 2
    assert packed.products == 16
    assert packed.operands > 8
    assert packed.registers > 200
    lost = pack_operands(design)
    print(lost)
    assert lost > 100
    assert compare(gates(tmp_path, design)) > 2000


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
        return {"modules": {"top": {"attributes": {"top": "1"}, "ports": ports, "cells": cells}}}

    design = module(9)
    assert pack_operands(design) == 0
    assert design == module(9)
    design = module()
    assert pack_operands(design) == 1  # both halves take it
    assert list(design["modules"]["top"]["cells"]) == ["sum"]


def test_a_lost_register_is_found(tmp_path: Path, synthesized: str) -> None:
    design = json.loads(synthesized)
    pack_registers(design)
    cells = [cell for module in design["modules"].values() for cell in module["cells"].values()]
    block = next(cell for cell in cells if cell["parameters"].get("REGMODE_B") == "OUTREG")
    block["parameters"]["REGMODE_B"] = "NOREG"
    with pytest.raises(AssertionError):
        compare(gates(tmp_path, design))
