"""Give a reset that reaches all of an ECP5 netlist a register in each part of it; one wire would be the slowest."""

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dyadprop_boards.netlist import OUTSIDE, next_wire, part_of, readers

WIDE = 500
"""Registers that one may reset; nextpnr gives its global wires to clocks alone."""
_PIN = "LSR"
_CONTROL = (_PIN, "CLK", "CE")
_LOGIC = ("LUT4", "PFUMX", "L6MUX21", "CCU2C")
_RANKS = 3  # of a synchronizer, up to the first that may be read at many places


def copy_resets(module: dict[str, Any]) -> int:
    """Copy registers that reset more than `WIDE` others, one for each lane and each other part, in place.

    The register in front of such a one is copied as well, one for each stage and each other part: lanes may lie half an
    FPGA away, and its copies halfway.

    Parameters
    ----------
    module : dict
        The flat top module of what yosys writes as JSON after ``synth_ecp5``.

    Returns
    -------
    int
        Registers that the netlist gained.

    Notes
    -----
    Copies have the input of the first one, so all carry the same value in every cycle; what reads the first one, logic
    too, reads that of its part. Only a register without reset and enable is copied, and only behind another one that is
    no synchronizer's first rank: that one may still be settling, and must not be read at two places. So the design has
    two ranks more there than it needs (`dyadprop_hw.clocked_network`).
    """
    cells: dict[str, Any] = module["cells"]
    before = len(cells)
    wide = [wire for wire, found in readers(module).items() if sum(pin == _PIN for _, pin in found) > WIDE]
    for wire in wide:
        drivers = _drivers(cells)  # anew, as copying one changes what drives what
        last = drivers.get(wire)
        if last is None or not _is_copy_allowed(last, cells, drivers):
            continue
        ahead = drivers[cells[last]["connections"]["DI"][0]]
        _copy(module, last, partial(_prefix, cells=cells, drivers=drivers))
        if _is_copy_allowed(ahead, cells, drivers):
            _copy(module, ahead, lambda name: part_of(name).prefix.partition("lane_")[0])
    return len(cells) - before


def _drivers(cells: Mapping[str, Any]) -> dict[Any, str]:
    """Name the cell that drives each wire."""
    return {
        bit: name
        for name, cell in cells.items()
        for pin, bits in cell["connections"].items()
        if cell["port_directions"][pin] == "output"
        for bit in bits
    }


def _copy(module: dict[str, Any], source: str, whose: Callable[[str], str]) -> None:
    """Give each part, told by what its cells' names begin with, a copy of a register."""
    cells: dict[str, Any] = module["cells"]
    found = readers(module)[cells[source]["connections"]["Q"][0]]
    parts: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, pin in found:
        if name != OUTSIDE:
            parts[whose(name)].append((name, pin))
    for wire, (prefix, read) in enumerate(parts.items(), next_wire(module)):
        twin = f"{prefix}reset_of_{source.rpartition('.')[2]}"
        if twin in cells:  # of another reset
            twin += f"_{wire}"
        cells[twin] = copy.deepcopy(cells[source])
        cells[twin]["connections"]["Q"] = [wire]
        for name, pin in read:
            cells[name]["connections"][pin] = [wire]
    if all(name != OUTSIDE for name, _ in found):
        del cells[source]


def _prefix(name: str, cells: Mapping[str, Any], drivers: Mapping[Any, str]) -> str:
    """Give what the names of a cell's part begin with.

    A wire between lanes is named after the stage. What drives it lies in a lane all the same: in the last of those that
    it is computed from. So does what a stage makes of its last lane's results.
    """
    part = part_of(name)
    if part.lane is not None or not part.name.startswith("stage") or "." in name.removeprefix(part.prefix):
        return part.prefix
    lanes: dict[int, str] = {}
    seen, ahead = {name}, [name]
    while ahead:
        cell = cells[ahead.pop()]
        for pin, bits in cell["connections"].items():
            source = drivers.get(bits[0])
            if cell["port_directions"][pin] == "output" or pin in _CONTROL or source is None or source in seen:
                continue
            seen.add(source)
            of = part_of(source)
            if of.lane is not None:
                lanes[of.lane] = of.prefix
            elif cells[source]["type"] in _LOGIC:
                ahead.append(source)
    return lanes[max(lanes)] if lanes else part.prefix


def _is_copy_allowed(name: str, cells: Mapping[str, Any], drivers: Mapping[Any, str]) -> bool:
    """Whether a cell is a register with neither reset nor enable, and has two others of its clock in front."""
    ranks: list[dict[str, Any]] = []
    while len(ranks) < _RANKS:
        cell = cells[name]
        if cell["type"] != "TRELLIS_FF" or (ranks and cell["connections"]["CLK"] != ranks[0]["connections"]["CLK"]):
            return False
        ranks.append(cell)
        name = drivers.get(cell["connections"]["DI"][0], "")
        if not name and len(ranks) < _RANKS:
            return False
    return ranks[0]["connections"].get(_PIN, ["0"]) == ["0"] and ranks[0]["parameters"]["CEMUX"].strip() == "1"
