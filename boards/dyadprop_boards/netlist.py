"""What yosys writes of a design as JSON: its top module, who reads a wire, registers without a LUT of their own."""

from collections import defaultdict
from collections.abc import Collection
from typing import Any

OUTSIDE = ""
"""Reader of a wire that leaves the module."""


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
