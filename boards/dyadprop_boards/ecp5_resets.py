"""Give a reset that reaches all of an ECP5 netlist a register in each part of it; one wire would be the slowest."""

import copy
from collections import defaultdict
from collections.abc import Collection
from typing import Any

from dyadprop_boards.netlist import part_of, readers

WIDE = 500
"""Registers that one may reset; nextpnr gives its global wires to clocks alone."""
_PIN = "LSR"


def copy_resets(module: dict[str, Any]) -> int:
    """Copy registers that reset more than `WIDE` others, one for each lane and each other part, in place.

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
    and enable that another one feeds directly is copied: one that a synchronizer would still be settling in must not
    be read at two places, so the design has one rank more there than it needs (`dyadprop_hw.clocked_network`).
    """
    cells: dict[str, Any] = module["cells"]
    registers = {cell["connections"]["Q"][0]: name for name, cell in cells.items() if cell["type"] == "TRELLIS_FF"}
    wires = (bit for cell in cells.values() for bits in cell["connections"].values() for bit in bits)
    free = 1 + max((wire for wire in wires if isinstance(wire, int)), default=0)
    gained = 0
    for wire, found in readers(module).items():
        reset = [name for name, pin in found if pin == _PIN]
        source = registers.get(wire)
        if len(reset) <= WIDE or source is None or not _is_copy_allowed(cells[source], registers):
            continue
        parts: defaultdict[str, list[str]] = defaultdict(list)
        for name in reset:
            parts[part_of(name).prefix].append(name)
        for prefix, names in parts.items():
            twin = cells[f"{prefix}reset_of_{source.rpartition('.')[2]}"] = copy.deepcopy(cells[source])
            twin["connections"]["Q"] = [free]
            for name in names:
                cells[name]["connections"][_PIN] = [free]
            free += 1
        gained += len(parts)
        if len(reset) == len(found):
            del cells[source]
            gained -= 1
    return gained


def _is_copy_allowed(cell: dict[str, Any], registers: Collection[Any]) -> bool:
    connections = cell["connections"]
    return (
        connections["DI"][0] in registers
        and connections.get(_PIN, ["0"]) == ["0"]
        and cell["parameters"]["CEMUX"].strip() == "1"
    )
