"""Give each register of a Gowin netlist the LUT in front of it, without which place and route does not end."""

import json
from pathlib import Path
from typing import Any

from dyadprop_boards.netlist import lone_registers, top_module

_LUTS = ("LUT1", "LUT2", "LUT3", "LUT4")
_PASS = "10"  # of a LUT1: its output is its input


def feed_registers(module: dict[str, Any]) -> int:
    """Put a LUT that only passes its input on in front of each register that has no LUT of its own there.

    Parameters
    ----------
    module : dict
        A flat module of what yosys writes as JSON after ``synth_gowin``; changed in place.

    Returns
    -------
    int
        How many there are now.

    Notes
    -----
    In a slice of these FPGAs a register is fed by the LUT beside it and by nothing else, so place and route puts such a
    LUT in front of a register anyhow, behind placement, and needs a slice whose LUT is free for it. Its legaliser moves
    what lies in a register's way, but not what lies in that LUT's: when LUTs have spread over nearly all slices it
    searches for ever. A LUT and the register that it alone feeds are placed as one.
    """
    cells: dict[str, Any] = module["cells"]
    lone = lone_registers(module, _LUTS, "F", "DFF")
    nets = [net["bits"] for net in module["netnames"].values()]
    nets += [bits for cell in cells.values() for bits in cell["connections"].values()]
    wire = max((bit for bits in nets for bit in bits if isinstance(bit, int)), default=1)
    for name in lone:
        register = cells[name]["connections"]
        wire += 1
        cells[f"{name}_PASS"] = {
            "hide_name": 0,
            "type": "LUT1",
            "parameters": {"INIT": _PASS},
            "attributes": {},
            "port_directions": {"I0": "input", "F": "output"},
            "connections": {"I0": register["D"], "F": [wire]},
        }
        module["netnames"][f"{name}_PASS_F"] = {"hide_name": 0, "bits": [wire], "attributes": {}}
        register["D"] = [wire]
    return len(lone)


def feed_netlist(path: Path) -> int:
    """Do so in the top module of a netlist in a file (`feed_registers`)."""
    design = json.loads(path.read_text())
    top = top_module(design)
    fed = 0 if top is None else feed_registers(top)
    path.write_text(json.dumps(design))
    return fed
