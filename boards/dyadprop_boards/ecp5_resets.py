"""Give a reset that reaches all of an ECP5 netlist a register in each part of it; one wire would be the slowest."""

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from dyadprop_boards.ecp5_registers import next_wire
from dyadprop_boards.netlist import part_of, readers

WIDE = 500
"""Registers that one may reset; nextpnr gives its global wires to clocks alone."""
_PIN = "LSR"
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
    Copies have the input of the first one, so all carry the same value in every cycle. Only a register without reset
    and enable is copied, and only behind another one that is no synchronizer's first rank: that one may still be
    settling, and must not be read at two places. So the design has two ranks more there than it needs
    (`dyadprop_hw.clocked_network`).
    """
    cells: dict[str, Any] = module["cells"]
    registers = {cell["connections"]["Q"][0]: name for name, cell in cells.items() if cell["type"] == "TRELLIS_FF"}
    before = len(cells)
    for wire, found in readers(module).items():
        last = registers.get(wire)
        if last is None or sum(pin == _PIN for _, pin in found) <= WIDE or not _is_copy_allowed(last, cells, registers):
            continue
        ahead = registers[cells[last]["connections"]["DI"][0]]
        _copy(module, last, _PIN, lambda cell: part_of(cell).prefix)
        if _is_copy_allowed(ahead, cells, registers):
            _copy(module, ahead, "DI", lambda cell: part_of(cell).prefix.partition("lane_")[0])
    return len(cells) - before


def _copy(module: dict[str, Any], source: str, pin: str, whose: Callable[[str], str]) -> None:
    """Give each part, told by what its cells' names begin with, a copy of a register for its pins of one kind."""
    cells: dict[str, Any] = module["cells"]
    found = readers(module)[cells[source]["connections"]["Q"][0]]
    parts: defaultdict[str, list[str]] = defaultdict(list)
    for name, read in found:
        if read == pin:
            parts[whose(name)].append(name)
    for wire, (prefix, names) in enumerate(parts.items(), next_wire(module)):
        twin = cells[f"{prefix}reset_of_{source.rpartition('.')[2]}"] = copy.deepcopy(cells[source])
        twin["connections"]["Q"] = [wire]
        for name in names:
            cells[name]["connections"][pin] = [wire]
    if all(read == pin for _, read in found):
        del cells[source]


def _is_copy_allowed(name: str, cells: Mapping[str, Any], registers: Mapping[Any, str]) -> bool:
    """Whether a register has neither reset nor enable, and two others of its clock in front."""
    ranks = [cells[name]]
    while len(ranks) < _RANKS:
        source = registers.get(ranks[-1]["connections"]["DI"][0])
        if source is None or cells[source]["connections"]["CLK"] != ranks[0]["connections"]["CLK"]:
            return False
        ranks.append(cells[source])
    return ranks[0]["connections"].get(_PIN, ["0"]) == ["0"] and ranks[0]["parameters"]["CEMUX"].strip() == "1"
