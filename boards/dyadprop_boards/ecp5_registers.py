"""What the registers of an ECP5 netlist do besides holding a bit."""

from typing import Any

ALWAYS = ["1"]
"""The enable of a register without one."""


def enable_of(cell: dict[str, Any]) -> Any:
    """Give the enable of a register without reset on a rising edge; nothing for another."""
    parameters, connections = cell["parameters"], cell["connections"]
    if (
        parameters["CLKMUX"] != "CLK"
        or connections.get("LSR", ["0"]) != ["0"]
        or not isinstance(connections["Q"][0], int)
        or not isinstance(connections["DI"][0], int)
    ):
        return None
    return {"1": ALWAYS, "CE": connections.get("CE")}.get(parameters["CEMUX"].strip())


def is_plain(cell: dict[str, Any]) -> bool:
    """Whether a cell is a register without enable and reset, on a rising edge."""
    return cell["type"] == "TRELLIS_FF" and enable_of(cell) == ALWAYS
