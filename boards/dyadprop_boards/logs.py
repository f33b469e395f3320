"""Reading what the tools report: cells, clocks, the slowest path. What is not there is an error, never a zero."""

import json
import math
from collections.abc import Mapping
from typing import Any

from dyadprop.errors import BuildError
from dyadprop_boards.fpgas import RESOURCES, Family, Fpga
from dyadprop_boards.netlist import lone_registers, part_of
from dyadprop_boards.result import ClockTiming, Hop, Parts, Path, Used

CLOCK_TOLERANCE = 1e-3
"""Place and route counts in whole picoseconds: the clock that it reports is the one asked for but for that."""

LONE_REGISTER = "register without a LUT"
"""What `read_parts` counts besides cells: on an iCE40 such a register takes a logic cell, as a LUT does."""

# How many of a resource one cell takes, in a netlist and behind place and route; what is not named takes none.
NETLIST_CELLS: dict[Family, dict[str, dict[str, int]]] = {
    "ecp5": {
        "luts": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4},
        "flip_flops": {"TRELLIS_FF": 1},
        "multipliers": {"MULT18X18D": 1},
        "block_rams": {"DP16KD": 1, "PDPW16KD": 1},
    },
    "ice40": {
        "luts": {"SB_LUT4": 1, LONE_REGISTER: 1},  # logic cells
        "flip_flops": {f"SB_DFF{kind}": 1 for kind in ("", "E", "SR", "R", "SS", "S", "ESR", "ER", "ESS", "ES")},
        "multipliers": {"SB_MAC16": 1},
        "block_rams": {"SB_RAM40_4K": 1},
    },
    "gowin": {
        "luts": {"LUT1": 1, "LUT2": 1, "LUT3": 1, "LUT4": 1, "ALU": 1, "RAM16SDP4": 8},
        "flip_flops": {f"DFF{kind}": 1 for kind in ("", "E", "S", "SE", "R", "RE", "P", "PE", "C", "CE")},
        "multipliers": {"MULT9X9": 1, "MULT18X18": 1, "MULT36X36": 4},
        "block_rams": {
            "SDPB": 1,
            "DPB": 1,
            "SPB": 1,
            "SP": 1,
            "SDPX9B": 1,
            "DPX9B": 1,
            "SPX9": 1,
            "pROM": 1,
            "pROMX9": 1,
        },
    },
}
_PLACED: dict[Family, dict[str, dict[str, int]]] = {
    "ecp5": {
        "luts": {"TRELLIS_COMB": 1},
        "flip_flops": {"TRELLIS_FF": 1},
        "multipliers": {"MULT18X18D": 1},
        "block_rams": {"DP16KD": 1},
    },
    "ice40": {
        "luts": {"ICESTORM_LC": 1},
        "multipliers": {"ICESTORM_DSP": 1},
        "block_rams": {"ICESTORM_RAM": 1},
    },
    "gowin": {
        "luts": {"LUT4": 1, "ALU": 1, "RAM16SDP4": 8},
        "flip_flops": {"DFF": 1},
        "multipliers": {"MULT9X9": 1, "MULT18X18": 1, "MULT36X36": 4},
        "block_rams": {"BSRAM": 1},
    },
}


def read_cells(text: str, where: str) -> dict[str, int]:
    """Read how many cells of each type a netlist has, from ``stat -json`` of yosys.

    Parameters
    ----------
    text : str
    where : str
        How messages call the file.

    Raises
    ------
    BuildError
        If it is no such report.
    """
    try:
        counts = json.loads(text)["design"]["num_cells_by_type"]
        return {str(name): int(count) for name, count in counts.items() if not name.startswith("$")}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"cells of the netlist are not in {where}: {_reason(error)}") from error


def count_resources(cells: dict[str, int], fpga: Fpga) -> dict[str, Used]:
    """Give what a netlist takes of an FPGA; place and route may need a few more LUTs for what it cannot pack."""
    weights = NETLIST_CELLS[fpga.family]
    return {
        resource: Used(
            sum(cells.get(name, 0) * weight for name, weight in weights[resource].items()), fpga.has(resource)
        )
        for resource in RESOURCES
    }


def read_parts(text: str, where: str, fpga: Fpga) -> tuple[Parts, Parts, int]:
    """Read what each part of the chip takes, from the netlist that yosys writes as JSON.

    Parameters
    ----------
    text : str
    where : str
        How messages call the file.
    fpga : Fpga

    Returns
    -------
    parts : dict of str to dict of str to int
        Resources of each part (`part_of`); a cell that two parts share counts for one of them.
    lanes : dict of str to dict of str to int
        Of each stage, the share of its lanes.
    lone : int
        Registers that take a logic cell of an iCE40 of their own; their cells are in ``luts`` too.

    Raises
    ------
    BuildError
        If it is no netlist.
    """
    weights = NETLIST_CELLS[fpga.family]
    parts: Parts = {}
    lanes: Parts = {}
    try:
        module = json.loads(text)["modules"]["top"]
        # On an iCE40 these take a logic cell: no LUT feeds them and nothing else.
        lone = set(lone_registers(module, ("SB_LUT4",), "O", "SB_DFF") if fpga.family == "ice40" else ())
        for name, cell in module["cells"].items():
            part = part_of(name)
            for use in (parts, lanes) if part.lane is not None else (parts,):
                found = use.setdefault(part.name, dict.fromkeys(RESOURCES, 0))
                for resource in RESOURCES:
                    found[resource] += weights[resource].get(cell["type"], 0)
                found["luts"] += name in lone
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"cells are not in {where}: {_reason(error)}") from error
    return parts, lanes, len(lone)


def read_placement(text: str, where: str, fpga: Fpga, netlist: dict[str, Used]) -> dict[str, Any]:
    """Read the report of place and route.

    Parameters
    ----------
    text : str
        JSON, as ``--report`` of nextpnr writes it.
    where : str
        How messages call the file.
    fpga : Fpga
    netlist : dict
        Of `count_resources`: an iCE40's logic cell holds a LUT and a register, and only the netlist tells of both.

    Returns
    -------
    dict
        ``clocks``: tuple of ClockTiming; ``resources``, ``cells``: dict of Used; ``paths``: tuple of Path.

    Raises
    ------
    BuildError
        If the report has no clocks, or cannot be read.
    """
    try:
        report = json.loads(text)
        clocks = tuple(
            ClockTiming(name, float(entry["constraint"]) * 1e6, float(entry["achieved"]) * 1e6)
            for name, entry in report["fmax"].items()
        )
        cells = {name: Used(int(e["used"]), int(e["available"])) for name, e in report["utilization"].items()}
        paths = tuple(_path(entry) for entry in report["critical_paths"] if entry["path"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"timing and use are not in {where}: {_reason(error)}") from error
    resources = {}
    for resource in RESOURCES:
        weights = _PLACED[fpga.family].get(resource)
        if weights is None:
            resources[resource] = netlist[resource]
            continue
        used = sum(cells[name].used * weight for name, weight in weights.items() if name in cells)
        resources[resource] = Used(used, fpga.has(resource))
    return {"clocks": clocks, "resources": resources, "cells": cells, "paths": paths}


def _path(entry: dict[str, Any]) -> Path:
    hops = tuple(
        Hop(
            str(hop["type"]),
            float(hop["delay"]),
            f"{hop['from']['cell']}.{hop['from']['port']}",
            f"{hop['to']['cell']}.{hop['to']['port']}",
            str(hop.get("net", "")),
        )
        for hop in entry["path"]
    )
    return Path(str(entry["to"]).removeprefix("posedge "), hops)


def check_clocks(clocks: tuple[ClockTiming, ...], asked: Mapping[str, float], where: str) -> dict[str, ClockTiming]:
    """Give the design's clocks by their names, if place and route worked towards what was asked for.

    Parameters
    ----------
    clocks : tuple of ClockTiming
    asked : mapping of str to float
        Hz by name; no two alike.
    where : str
        How messages call the log.

    Raises
    ------
    BuildError
        If a clock is not reported, if one is without a finite fmax, or if one has another target: a constraint that got
        lost means 12 MHz to place and route, and it would pass.
    """
    targets = " and ".join(f"{clock / 1e6:g}" for clock in asked.values())
    result: dict[str, ClockTiming] = {}
    for found in clocks:
        if not (found.reached > 0 and math.isfinite(found.reached)):
            raise BuildError(
                f"place and route reports an fmax of {found.reached!r} for clock {found.name!r}; see {where}"
            )
        name = next((name for name, hz in asked.items() if abs(found.asked - hz) <= CLOCK_TOLERANCE * hz), None)
        if name is None:
            raise BuildError(
                f"clock {found.name!r} was placed for {found.asked / 1e6:g} MHz; asked for were {targets} MHz; "
                f"see {where}"
            )
        if name not in result or found.reached < result[name].reached:
            result[name] = found
    missing = [hz for name, hz in asked.items() if name not in result]
    if missing:
        raise BuildError(
            f"place and route reports no clock, so nothing says that {missing[0] / 1e6:g} MHz hold; see {where}"
        )
    return result


def slowest_path(paths: tuple[Path, ...], clock: str) -> Path | None:
    """Give the slowest path that ends at a register of a clock and begins at one."""
    inside = [path for path in paths if path.clock == clock and path.hops[0].kind == "clk-to-q"]
    return max(inside, key=lambda path: path.nanoseconds, default=None)


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)
