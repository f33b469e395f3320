"""Registers and LUTs that move into block RAMs, multipliers and carry cells change no word of a network."""

from __future__ import annotations

import copy
import json
import re
import sys
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.back import rtlil

from dyadprop.formats import Formats, Q
from dyadprop.network import Dense, Network
from dyadprop.plan import plan_network
from dyadprop_boards.ecp5_adders import absorb_operands
from dyadprop_boards.ecp5_choices import move_choices
from dyadprop_boards.ecp5_constants import wire_constants
from dyadprop_boards.ecp5_packing import pack_registers
from dyadprop_boards.netlist import top_module
from dyadprop_boards.project import FEWEST_REGISTERS, commands_after_read, synthesis_options
from dyadprop_boards.table import find_board
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

# More words than a block RAM has of their width: gradients take three blocks of 512 words of 36 bits.
DEEP = Network(40, [Dense(26, lanes=1)], formats=Formats(*(Q(4, 12),) * 3), max_batch=4)
WORDS_OF_DEEP = 20_000  # compared; its whole script takes minutes

BOARD = find_board("ulx3s-12f")


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the netlist as yosys leaves it, as JSON."""
    return synthesis_of(NET, tmp_path_factory.mktemp("ecp5"))


def synthesis_of(net: Network, folder: Path) -> str:
    """Give a network's netlist as yosys leaves it, as JSON."""
    (folder / "top.il").write_text(rtlil.convert(DyadNetwork(plan_network(net)), name="top", emit_src=False))
    # No memory is read where it is written in the same cycle (claims of the gateware): no logic for that.
    prepare = ["delete t:$check", "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2"]
    prepare += [command for command in commands_after_read(BOARD) if "COLLISION" not in command]
    synthesis = f"synth_ecp5 {' '.join(synthesis_options(BOARD))} -top top -json top.json"
    run_yosys("\n".join(["read_rtlil top.il", *prepare, synthesis, ""]), folder)
    return (folder / "top.json").read_text()


def gates(folder: Path, design: dict[str, Any]) -> str:
    """Write a netlist as Verilog, with models of its cells."""
    (folder / "packed.json").write_text(json.dumps(design))
    run_yosys("read_json packed.json\nsplitnets\nopt_clean -purge\nwrite_verilog -noattr gates.v\n", folder)
    share = Path(str(files(PACKAGE))) / "share" / "ecp5"
    models = [re.sub(r"(?m)^`include.*$", "", (share / name).read_text()) for name in ("common_sim.vh", "ccu2c_sim.vh")]
    return "".join([(folder / "gates.v").read_text(), *models, block_models()])


def compare(text: str, net: Network = NET, most: int = sys.maxsize) -> int:
    """Run the script, up to so many words; give the number of those that were compared with the golden model's."""
    rtl = NetworkSimulation(plan_network(net), options=BuildOptions("-O0"), patience=5000, verilog=text)
    words = 0
    for entry in Script(rtl, 1).run():
        if entry.expected is not None:
            np.testing.assert_array_equal(entry.got, entry.expected, entry.what)
            words += entry.got.size
        if words > most:
            break
    rtl.close()
    return words


def test_no_few_registers_share_an_enable_or_a_reset(synthesized: str) -> None:
    top = top_module(json.loads(synthesized))
    assert top is not None
    registers = [cell["connections"] for cell in top["cells"].values() if cell["type"] == "TRELLIS_FF"]
    for pin, none in (("CE", "1"), ("LSR", "0")):
        shared = Counter(register.get(pin, [none])[0] for register in registers)
        assert len(shared) > 5
        # Some of those that shared one are found to be needless behind that.
        few = sum(count for count in shared.values() if count < FEWEST_REGISTERS)
        print(pin, few)
        assert few < 30


def test_a_packed_network_is_bit_equal(tmp_path: Path, synthesized: str) -> None:
    design = json.loads(synthesized)
    top = top_module(design)
    assert top is not None
    packed = pack_registers(top)
    print(packed)
    # Stage 1: both ports of the weights and of the samples, gradients, the table, the queue of sensitivities whose wide
    # words have two halves with an enable; slopes, deltas and three products a lane, each with a rank inside and one
    # behind it.
    assert packed.memories == 7
    memories = [cell["connections"] for cell in top["cells"].values() if cell["type"] == "DP16KD"]
    assert sum(isinstance(memory.get(f"OCE{side}", ["0"])[0], int) for memory in memories for side in "AB") == 2
    assert packed.products == 16
    assert packed.operands > 8
    assert packed.registers > 200
    lost = absorb_operands(top)
    print(lost)
    assert lost > 100
    assert wire_constants(top) == 2  # it is all one part here
    assert compare(gates(tmp_path, design)) > 2000


def test_a_lost_register_is_found(tmp_path: Path, synthesized: str) -> None:
    design = json.loads(synthesized)
    top = top_module(design)
    assert top is not None
    pack_registers(top)
    block = next(cell for cell in top["cells"].values() if cell["parameters"].get("REGMODE_B") == "OUTREG")
    block["parameters"]["REGMODE_B"] = "NOREG"
    with pytest.raises(AssertionError):
        compare(gates(tmp_path, design))


def test_a_wrong_constant_is_found(tmp_path: Path, synthesized: str) -> None:
    design = json.loads(synthesized)
    top = top_module(design)
    assert top is not None
    pack_registers(top)
    wire_constants(top)
    pins = next(cell["connections"] for cell in top["cells"].values() if "CE0" in cell["connections"])
    pins["CE0"], pins["RST0"] = pins["RST0"], pins["CE0"]
    with pytest.raises(AssertionError):
        compare(gates(tmp_path, design))


def test_a_network_whose_memories_take_several_block_rams_is_bit_equal(tmp_path: Path) -> None:
    design = json.loads(synthesis_of(DEEP, tmp_path))
    top = top_module(design)
    assert top is not None
    without = pack_registers(copy.deepcopy(top))
    gained = move_choices(top)
    packed = pack_registers(top)
    print(f"{gained} registers in front of choices; {packed}")
    # Three blocks of gradients give 36 bits each, and which of them was read is told by three registers or fewer.
    assert packed.memories == without.memories + 3
    assert not [name for name in top["cells"] if name.endswith("_register")]
    chosen = [name for name in top["cells"] if "_chosen_" in name]
    assert 0 < len(chosen) <= 3
    assert all(name.startswith("stage_1.lane_0.gradient_read_q") for name in chosen)
    assert packed.registers - gained > without.registers
    assert compare(gates(tmp_path, design), DEEP, WORDS_OF_DEEP) > WORDS_OF_DEEP
