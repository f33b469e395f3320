"""Move registers and LUTs of an ECP5 netlist into the hard blocks beside them, which yosys does not do."""

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_RANKS = ("A", "B")
_WIDTH = {"A": 18, "B": 18, "P": 36}
_ALWAYS = ["1"]  # the enable of a register without one
_PINS = "ABCD"  # of a LUT, and of each half of a carry cell; lowest bit of the address of INIT first


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
        Flip-flops that the netlist lost.
    luts : int
        LUTs that the netlist lost: carry cells make what they made.
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
        self.register_of: dict[Any, str] = {}  # by the wire that it drives
        for name, port in module["ports"].items():
            if port["direction"] == "output":
                for bit in port["bits"]:
                    self.sinks[bit].add(f"port {name}")
        for name, cell in self.cells.items():
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "input":
                    for bit in bits:
                        self.sinks[bit].add(name)
            if _is_plain(cell):
                self.register_of[cell["connections"]["Q"][0]] = name

    def register_behind(self, bit: Any, clock: Any, enable: Any = _ALWAYS) -> str | None:
        """Name the register that alone takes a wire, with this enable (None: any)."""
        if len(self.sinks[bit]) != 1:
            return None
        (name,) = self.sinks[bit]
        cell = self.cells.get(name)
        if cell is None or cell["type"] != "TRELLIS_FF" or cell["connections"]["DI"] != [bit]:
            return None
        if not _clocked(cell, clock) or _enable(cell) is None or (enable is not None and _enable(cell) != enable):
            return None
        return name

    def drop(self, name: str) -> None:
        """Remove a register."""
        cell = self.cells.pop(name)
        for port in ("DI", "CLK", "CE"):
            for bit in cell["connections"].get(port, ()):
                self.sinks[bit].discard(name)
        self.register_of.pop(cell["connections"]["Q"][0], None)


def top_module(design: dict[str, Any]) -> dict[str, Any] | None:
    """Give the top module of what yosys writes as JSON, if it has one."""
    modules = design.get("modules", {}).values()
    return next((m for m in modules if int(m.get("attributes", {}).get("top", "0"), 2)), None)


def pack_registers(design: dict[str, Any]) -> Packed:
    """Pack the registers of a flat netlist in place.

    Parameters
    ----------
    design : dict
        What yosys writes as JSON after ``synth_ecp5``.

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
    top = top_module(design)
    if top is None:
        return packed
    netlist = _Netlist(top)
    before = len(netlist.cells)
    for name, cell in list(netlist.cells.items()):
        if cell["type"] == "DP16KD":
            packed.memories += _pack_memory(netlist, name, cell)
    for name, cell in list(netlist.cells.items()):
        if cell["type"] == "MULT18X18D":
            _pack_multiplier(netlist, name, cell, packed)
    packed.registers = before - len(netlist.cells)
    return packed


def pack_operands(design: dict[str, Any]) -> int:
    """Let the carry cells of a flat netlist make their operands themselves, in place.

    Parameters
    ----------
    design : dict
        What yosys writes as JSON after ``synth_ecp5``.

    Returns
    -------
    int
        LUTs that the netlist lost.

    Notes
    -----
    An adder of yosys' has two operands in a function of four inputs, and two inputs lie idle. A LUT goes if carry cells
    alone take it and each of them can do its work: every sum and carry is the same as before.
    """
    top = top_module(design)
    if top is None:
        return 0
    cells: dict[str, Any] = top["cells"]
    sinks: defaultdict[Any, list[tuple[str, str]]] = defaultdict(list)
    for port in top["ports"].values():
        if port["direction"] == "output":
            for bit in port["bits"]:
                sinks[bit].append(("", ""))
    for name, cell in cells.items():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] == "input":
                for bit in bits:
                    sinks[bit].append((name, pin))
    lost = 0
    for name, lut in list(cells.items()):
        if lut["type"] != "LUT4":
            continue
        wire = lut["connections"]["Z"][0]
        # A half may take it at several inputs.
        halves = {(sink, pin[-1]) for sink, pin in sinks[wire] if sink and cells[sink]["type"] == "CCU2C"}
        if not halves or any(not sink or cells[sink]["type"] != "CCU2C" or pin == "CIN" for sink, pin in sinks[wire]):
            continue
        made = {(sink, half): absorb(cells[sink], half, lut) for sink, half in halves}
        for (sink, half), found in made.items():
            if None in made.values() or found is None:
                break
            cell = cells[sink]
            for pin, bit in zip(_PINS, found[1], strict=True):
                sinks[cell["connections"][pin + half][0]].remove((sink, pin + half))
                sinks[bit].append((sink, pin + half))
                cell["connections"][pin + half] = [bit]
            cell["parameters"][f"INIT{half}"] = f"{found[0]:016b}"
        else:
            for pin in _PINS:
                sinks[lut["connections"][pin][0]].remove((name, pin))
            del cells[name]
            lost += 1
    return lost


def absorb(carry: dict[str, Any], half: str, lut: dict[str, Any]) -> tuple[int, tuple[Any, ...]] | None:
    """Give the INIT and the inputs with which a half of a carry cell does a LUT's work too, if there are any.

    Parameters
    ----------
    carry, lut : dict
        Cells of a netlist, CCU2C and LUT4.
    half : str
        ``0`` or ``1``.

    Notes
    -----
    A half is a function ``propagates`` of four inputs, and where that is 0 the carry is a function of A and B alone,
    which lies in those bits of INIT that are ``propagates`` where C and D are 0.
    """
    if carry["parameters"][f"INJECT1_{half}"] != "NO":
        return None
    init = int(carry["parameters"][f"INIT{half}"], 2)
    pins = [carry["connections"][pin + half][0] for pin in _PINS]
    inputs = [lut["connections"][pin][0] for pin in _PINS]
    table = int(lut["parameters"]["INIT"], 2)
    (made,) = lut["connections"]["Z"]
    wires = list(dict.fromkeys(bit for bit in (*pins, *inputs) if bit != made and isinstance(bit, int)))
    if len(wires) > len(_PINS):
        return None

    def half_at(values: Sequence[int]) -> tuple[int, int]:
        """Give whether the carry propagates, and what it is where it does not."""
        at: dict[Any, int] = {"0": 0, "1": 1, "x": 0, **dict(zip(wires, values, strict=True))}
        at[made] = _look_up(table, [at[bit] for bit in inputs])
        address = [at[bit] for bit in pins]
        return _look_up(init, address), _look_up(init, [*address[:2], 0, 0])

    return _fit_half(wires, half_at)


def _fit_half(
    wires: list[int], half_at: Callable[[Sequence[int]], tuple[int, int]]
) -> tuple[int, tuple[Any, ...]] | None:
    """Find INIT and inputs of a carry cell's half."""
    rows = [(values, *half_at(values)) for values in itertools.product((0, 1), repeat=len(wires))]
    for order in _orders(wires):
        fixed: dict[int, int] = {}
        fits = True
        for values, propagates, carry in rows:
            at: dict[Any, int] = {"0": 0, "1": 1, **dict(zip(wires, values, strict=True))}
            address = sum(at[bit] << place for place, bit in enumerate(order))
            fits &= fixed.setdefault(address, propagates) == propagates
            if not propagates:
                fits &= fixed.setdefault(address & 3, carry) == carry
        if fits:
            return sum(value << address for address, value in fixed.items()), order
    return None


def _orders(wires: list[int]) -> Iterator[tuple[Any, ...]]:
    """Give all ways to connect wires to the four inputs; D is 1 if it is left, so that the carry's bits are free."""
    idle = ["1"] if len(wires) < len(_PINS) else []
    zeros = ["0"] * (len(_PINS) - len(wires) - len(idle))
    for order in itertools.permutations([*wires, *zeros]):
        yield (*order, *idle)


def _look_up(table: int, address: Sequence[int]) -> int:
    return table >> sum(bit << place for place, bit in enumerate(address)) & 1


def pack_netlist(path: Path) -> Packed:
    """Pack the registers and the adders' operands of a netlist in a file (`pack_registers`, `pack_operands`)."""
    design = json.loads(path.read_text())
    packed = pack_registers(design)
    packed.luts = pack_operands(design)
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
    netlist: _Netlist, cell: dict[str, Any], ports: list[str], clock: list[Any], enable: Any = _ALWAYS
) -> Any:
    """Move the registers behind all outputs of a block into it, or none: give their enable, or nothing."""
    connections = cell["connections"]
    used = [port for port in ports for bit in connections.get(port, []) if isinstance(bit, int) and netlist.sinks[bit]]
    registers = [netlist.register_behind(connections[port][0], clock, enable) for port in used]
    if not used or None in registers:
        return None
    (enable, *others) = {tuple(_enable(netlist.cells[register])) for register in registers if register is not None}
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


def _is_plain(cell: dict[str, Any]) -> bool:
    """Whether a cell is a register without enable and reset, on a rising edge."""
    return cell["type"] == "TRELLIS_FF" and _enable(cell) == _ALWAYS


def _enable(cell: dict[str, Any]) -> Any:
    """Give the enable of a register without reset on a rising edge; nothing for another."""
    parameters, connections = cell["parameters"], cell["connections"]
    if (
        parameters["CLKMUX"] != "CLK"
        or connections.get("LSR", ["0"]) != ["0"]
        or not isinstance(connections["Q"][0], int)
        or not isinstance(connections["DI"][0], int)
    ):
        return None
    return {"1": _ALWAYS, "CE": connections.get("CE")}.get(parameters["CEMUX"].strip())


def _clocked(cell: dict[str, Any], clock: Any) -> bool:
    return clock is None or cell["connections"]["CLK"] == clock
