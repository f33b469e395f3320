"""Move registers of an ECP5 netlist into the hard blocks beside them, which yosys does not do."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyadprop_boards.ecp5_adders import absorb_operands
from dyadprop_boards.ecp5_choices import move_choices
from dyadprop_boards.ecp5_constants import wire_constants
from dyadprop_boards.ecp5_layout import place_lanes
from dyadprop_boards.ecp5_registers import ALWAYS, enable_of, is_plain
from dyadprop_boards.ecp5_resets import copy_resets
from dyadprop_boards.fpgas import Fpga
from dyadprop_boards.netlist import readers, top_module

_RANKS = ("A", "B")
_WIDTH = {"A": 18, "B": 18, "P": 36}


@dataclass
class Packed:
    """What was moved.

    Attributes
    ----------
    memories : int
        Read ports of block RAMs that got their output register.
    operands, products : int
        Ranks of registers that went into multipliers: in front of them; inside and behind.
    registers : int
        Flip-flops that the netlist lost, those apart that it gained behind choices and as copies of resets.
    luts : int
        LUTs that the netlist lost, as carry cells make what they made, those apart that it gained as constants.
    """

    memories: int = 0
    operands: int = 0
    products: int = 0
    registers: int = 0
    luts: int = 0


class _Netlist:
    """One module of a yosys netlist, with the sinks and the register behind each wire."""

    def __init__(self, module: dict[str, Any]) -> None:
        self.cells: dict[str, Any] = module["cells"]
        self.sinks: defaultdict[Any, set[str]] = defaultdict(set)
        for bit, found in readers(module).items():
            self.sinks[bit] = {cell for cell, _ in found}
        self.register_of = {  # by the wire that it drives
            cell["connections"]["Q"][0]: name for name, cell in self.cells.items() if is_plain(cell)
        }

    def register_behind(self, bit: Any, clock: Any, enable: Any = ALWAYS) -> str | None:
        """Name the register that alone takes a wire, with this enable (None: any)."""
        if len(self.sinks[bit]) != 1:
            return None
        (name,) = self.sinks[bit]
        cell = self.cells.get(name)
        if cell is None or cell["type"] != "TRELLIS_FF" or cell["connections"]["DI"] != [bit]:
            return None
        if not _clocked(cell, clock) or enable_of(cell) is None or (enable is not None and enable_of(cell) != enable):
            return None
        return name

    def drop(self, name: str) -> None:
        """Remove a register."""
        cell = self.cells.pop(name)
        for port in ("DI", "CLK", "CE"):
            for bit in cell["connections"].get(port, ()):
                self.sinks[bit].discard(name)
        self.register_of.pop(cell["connections"]["Q"][0], None)


def pack_registers(module: dict[str, Any]) -> Packed:
    """Pack registers in place.

    Parameters
    ----------
    module : dict
        The flat top module of what yosys writes as JSON after ``synth_ecp5``.

    Returns
    -------
    Packed

    Notes
    -----
    A register is moved only if it has no reset, and if only the block sees the wire between them; one with an enable
    only behind a memory. So each cycle every other wire of the design carries the same value as before; the first value
    after power-on of a register that moves is not defined, which the gateware's data registers are anyway.
    """
    packed = Packed()
    netlist = _Netlist(module)
    before = len(netlist.cells)
    for name, cell in list(netlist.cells.items()):
        if cell["type"] == "DP16KD":
            packed.memories += _pack_memory(netlist, name, cell)
    for name, cell in list(netlist.cells.items()):
        if cell["type"] == "MULT18X18D":
            _pack_multiplier(netlist, name, cell, packed)
    packed.registers = before - len(netlist.cells)
    return packed


def pack_netlist(path: Path, fpga: Fpga) -> Packed:
    """Pack the top module of a netlist in a file: `move_choices`, `pack_registers`, `absorb_operands`.

    Then `copy_resets` and `wire_constants` give each part its own of what would reach all of the FPGA, and
    `place_lanes` says where the lanes' blocks are to lie.
    """
    design = json.loads(path.read_text())
    top = top_module(design)
    if top is None:
        return Packed()
    chosen = move_choices(top)
    packed = pack_registers(top)
    packed.registers -= chosen
    packed.luts = absorb_operands(top)
    packed.registers -= copy_resets(top)
    packed.luts -= wire_constants(top)
    place_lanes(top, fpga)
    path.write_text(json.dumps(design))
    return packed


def _pack_memory(netlist: _Netlist, name: str, cell: dict[str, Any]) -> int:
    connections, parameters = cell["connections"], cell["parameters"]
    wide = int(parameters["DATA_WIDTH_B"], 2) == 36  # then both halves are the one read port
    moved = 0
    for sides in (("A", "B"),) if wide else (("A",), ("B",)):
        outputs = [f"DO{side}{bit}" for side in sides for bit in range(18)]
        enable = _pack_outputs(netlist, cell, outputs, connections[f"CLK{sides[-1]}"], enable=None)
        if enable:
            for side in sides:
                parameters[f"REGMODE_{side}"] = "OUTREG"
                connections[f"OCE{side}"] = enable
                netlist.sinks[enable[0]].add(name)
            moved += 1
    return moved


def _pack_multiplier(netlist: _Netlist, name: str, cell: dict[str, Any], packed: Packed) -> None:
    connections, parameters = cell["connections"], cell["parameters"]
    clock: Any = None
    for port in _RANKS:
        wires = [connections[f"{port}{bit}"][0] for bit in range(_WIDTH[port])]
        found = [netlist.register_of.get(wire) for wire in wires if isinstance(wire, int)]
        if not found or None in found:
            continue
        registers = {register: netlist.cells[register] for register in found if register is not None}
        clocks = {tuple(register["connections"]["CLK"]) for register in registers.values()}
        if len(clocks) != 1 or (clock is not None and list(*clocks) != clock):
            continue
        clock = list(*clocks)
        source = {cell["connections"]["Q"][0]: cell["connections"]["DI"][0] for cell in registers.values()}
        for bit in range(_WIDTH[port]):
            wire = connections[f"{port}{bit}"][0]
            if wire in source:
                connections[f"{port}{bit}"] = [source[wire]]
                netlist.sinks[source[wire]].add(name)
        for wire in source:
            if not any(wire in wires for wires in connections.values()):  # a square has it at both operands
                netlist.sinks[wire].discard(name)
        for register_name, register in registers.items():
            if not netlist.sinks[register["connections"]["Q"][0]]:
                netlist.drop(register_name)
        _use_rank(parameters, f"INPUT{port}")
        packed.operands += 1
    products = [f"P{bit}" for bit in range(_WIDTH["P"])]
    for rank in ("OUTPUT", "PIPELINE"):
        if clock is None:
            first = next(
                (
                    netlist.register_behind(bit, None)
                    for p in products
                    for bit in connections.get(p, [])
                    if netlist.sinks[bit]
                ),
                None,
            )
            clock = netlist.cells[first]["connections"]["CLK"] if first else None
        if clock is None or not _pack_outputs(netlist, cell, products, clock):
            break
        _use_rank(parameters, rank)
        packed.products += 1
    if parameters:
        connections |= {"CLK0": clock, "CE0": ["1"], "RST0": ["0"]}
        cell["port_directions"] |= {"CLK0": "input", "CE0": "input", "RST0": "input"}


def _pack_outputs(
    netlist: _Netlist, cell: dict[str, Any], ports: list[str], clock: list[Any], enable: Any = ALWAYS
) -> Any:
    """Move the registers behind all outputs of a block into it, or none: give their enable, or nothing."""
    connections = cell["connections"]
    used = [port for port in ports for bit in connections.get(port, []) if isinstance(bit, int) and netlist.sinks[bit]]
    registers = [netlist.register_behind(connections[port][0], clock, enable) for port in used]
    if not used or None in registers:
        return None
    (enable, *others) = {tuple(enable_of(netlist.cells[register])) for register in registers if register is not None}
    if others:
        return None
    for port, register in zip(used, registers, strict=True):
        assert register is not None
        wire = netlist.cells[register]["connections"]["Q"][0]
        netlist.drop(register)
        connections[port] = [wire]
    return list(enable)


def _use_rank(parameters: dict[str, Any], rank: str) -> None:
    parameters |= {f"REG_{rank}_CLK": "CLK0", f"REG_{rank}_CE": "CE0", f"REG_{rank}_RST": "RST0"}


def _clocked(cell: dict[str, Any], clock: Any) -> bool:
    return clock is None or cell["connections"]["CLK"] == clock
