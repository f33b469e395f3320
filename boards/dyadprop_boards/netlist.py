"""What yosys writes of a design as JSON: its top module, whose a cell is, who reads a wire, registers without a LUT."""

import re
from collections import defaultdict
from collections.abc import Collection
from typing import Any, NamedTuple

OUTSIDE = ""
"""Reader of a wire that leaves the module."""

_PART = re.compile(r"(?:(chip\.)(?:core\.(?:crossing\.)?network\.(?:(stage_\d+)\.(?:lane_(\d+)\.)?|(head)\.))?)?")


class Part(NamedTuple):
    """Whose a cell is.

    Attributes
    ----------
    name : str
        ``stage_1`` and so on, ``head``, ``link`` (the rest of the chip) or ``board`` (clock and pins).
    lane : int or None
        Which of the stage's lanes it is in; None: in none.
    prefix : str
        What the names of all cells of the part begin with, those of a lane with the lane.
    """

    name: str
    lane: int | None
    prefix: str


def part_of(cell: str) -> Part:
    """Say which part of the chip a cell is of, by its name: it is named after what it drives."""
    match = _PART.match(cell)
    assert match is not None
    name = match[2] or match[4] or ("link" if match[1] else "board")
    return Part(name, None if match[3] is None else int(match[3]), match[0])


def top_module(design: dict[str, Any]) -> dict[str, Any] | None:
    """Give the top module, if there is one."""
    modules = design.get("modules", {}).values()
    return next((m for m in modules if int(m.get("attributes", {}).get("top", "0"), 2)), None)


def readers(module: dict[str, Any]) -> defaultdict[Any, list[tuple[str, str]]]:
    """Give cell and pin, or `OUTSIDE` and port, of each reader of each wire of a flat module."""
    found: defaultdict[Any, list[tuple[str, str]]] = defaultdict(list)
    for name, port in module.get("ports", {}).items():
        if port["direction"] == "output":
            for bit in port["bits"]:
                found[bit].append((OUTSIDE, name))
    for name, cell in module["cells"].items():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] == "input":
                for bit in bits:
                    found[bit].append((name, pin))
    return found


def next_wire(module: dict[str, Any]) -> int:
    """Give the first of the numbers that no wire of a module has."""
    wires = (bit for cell in module["cells"].values() for bits in cell["connections"].values() for bit in bits)
    return 1 + max((wire for wire in wires if isinstance(wire, int)), default=0)


def lone_registers(module: dict[str, Any], luts: Collection[str], output: str, registers: str) -> list[str]:
    """Name the registers of a flat module whose input no LUT drives, or one that others read too.

    Parameters
    ----------
    module : dict
    luts : collection of str
        Types of LUTs, with ``output`` as the name of their output.
    output : str
    registers : str
        What types of registers begin with; their input is ``D``.
    """
    cells, read = module["cells"], readers(module)
    outputs = (cell["connections"][output][0] for cell in cells.values() if cell["type"] in luts)
    private = {wire for wire in outputs if len(read[wire]) == 1}
    return [
        name
        for name, cell in cells.items()
        if cell["type"].startswith(registers) and cell["connections"]["D"][0] not in private
    ]
