"""Constants that an ECP5 takes over a wire: each part has its own, as one for the whole FPGA does not let routing end.

Most pins have their constants in the bitstream. Resets, enables and modes of multipliers, addresses of RAMs in LUTs and
the first carry of a chain have not. nextpnr drives all of them from one LUT in a corner of the FPGA: thousands of arcs
that it routes last, as none of them has to be fast, each through half the FPGA, when nearly every wire is taken.
"""

from collections import defaultdict
from typing import Any

from dyadprop_boards.netlist import next_wire, part_of

_TABLES = {"0": "0" * 16, "1": "1" * 16}
_PINS = {
    # What the names of those pins begin with.
    "MULT18X18D": ("CE", "RST", "SOURCE", "SIGNED"),
    "TRELLIS_DPR16X4": ("RAD", "WAD"),
    "CCU2C": ("CIN",),
}


def wire_constants(module: dict[str, Any]) -> int:
    """Connect constants that need a wire to a LUT of the part they are in, a lane or another, in place.

    Parameters
    ----------
    module : dict
        The flat top module of what yosys writes as JSON after ``synth_ecp5``.

    Returns
    -------
    int
        LUTs that the netlist gained: one for each constant of a part.
    """
    cells: dict[str, Any] = module["cells"]
    found: defaultdict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for name, cell in cells.items():
        for pin, bits in cell["connections"].items():
            if pin.startswith(_PINS.get(cell["type"], ())):
                for value in _TABLES.keys() & set(bits):
                    found[part_of(name).prefix, value].append((name, pin))
    for wire, ((prefix, value), pins) in enumerate(sorted(found.items()), next_wire(module)):
        cells[f"{prefix}constant_{value}"] = _lut(_TABLES[value], wire)
        for name, pin in pins:
            connections = cells[name]["connections"]
            connections[pin] = [wire if bit == value else bit for bit in connections[pin]]
    return len(found)


def _lut(table: str, output: int) -> dict[str, Any]:
    return {
        "hide_name": 0,
        "type": "LUT4",
        "parameters": {"INIT": table},
        "attributes": {},
        "port_directions": {**dict.fromkeys("ABCD", "input"), "Z": "output"},
        "connections": {**{pin: ["0"] for pin in "ABCD"}, "Z": [output]},
    }
