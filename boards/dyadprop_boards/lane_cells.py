"""Show what the LUTs and registers of lanes are for: python -m dyadprop_boards.lane_cells NETLIST.

NETLIST is the synthesized design, top.json in a build's work folder (top.syn.json on a Gowin). A cell is told by what
it drives: a LUT in front of a register counts for that register. Means over the lanes of each stage, most LUTs first.
"""

import argparse
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from dyadprop.errors import BuildError, DyadpropError
from dyadprop_boards.fpgas import Family
from dyadprop_boards.logs import NETLIST_CELLS
from dyadprop_boards.long_paths import read_tool_json, signal_of
from dyadprop_boards.netlist import part_of, top_module

Counts = dict[str, Counter[str]]
"""By what cells drive: ``luts`` and ``flip_flops``."""


def lane_cells(design: Any) -> dict[str, tuple[int, Counts]]:
    """Count the cells of all lanes of each stage.

    Parameters
    ----------
    design : object
        What yosys writes as JSON.

    Returns
    -------
    dict of str to (int, Counts)
        Of each stage: its lanes, and their cells by the signal or block that they drive, together.

    Raises
    ------
    BuildError
        If it is no netlist, or has no lanes.
    """
    top = top_module(design) if isinstance(design, dict) else None
    if top is None:
        raise BuildError("the netlist has no top module")
    lanes: defaultdict[str, set[int]] = defaultdict(set)
    found: defaultdict[str, Counts] = defaultdict(lambda: defaultdict(Counter))
    used = NETLIST_CELLS[_family(top)]
    for name, cell in top["cells"].items():
        part = part_of(name)
        if part.lane is None:
            continue
        lanes[part.name].add(part.lane)
        signal = signal_of(name.removeprefix(part.prefix))
        for resource in ("luts", "flip_flops"):
            if count := used[resource].get(cell["type"], 0):
                found[part.name][re.sub(r"\$\d+", "", signal)][resource] += count
    if not found:
        raise BuildError("the netlist has no lanes")
    return {stage: (len(lanes[stage]), dict(found[stage])) for stage in sorted(found)}


def _family(top: dict[str, Any]) -> Family:
    """Say for which FPGAs a netlist is: the ones whose cells it has most of."""
    types = Counter(cell["type"] for cell in top["cells"].values())

    def known(family: Family) -> int:
        return sum(types[name] for name in NETLIST_CELLS[family]["flip_flops"])

    return max(NETLIST_CELLS, key=known)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m dyadprop_boards.lane_cells",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("netlist", metavar="NETLIST", type=Path)
    parser.add_argument("--most", type=int, default=20, metavar="N", help="lines a stage (default: %(default)s)")
    args = parser.parse_args()
    try:
        stages = lane_cells(read_tool_json(args.netlist, "netlist"))
    except DyadpropError as error:
        print(f"lane_cells: {error}", file=sys.stderr)
        return 2
    for stage, (lanes, signals) in stages.items():
        total = sum(signals.values(), Counter())
        luts, registers = (total[resource] / lanes for resource in ("luts", "flip_flops"))
        print(f"{stage}, lanes: {lanes}; each {luts:.0f} LUTs, {registers:.0f} flip-flops")
        most = sorted(signals.items(), key=lambda item: (-item[1]["luts"], -item[1]["flip_flops"], item[0]))
        for signal, counts in most[: args.most]:
            print(f"{counts['luts'] / lanes:7.1f} {counts['flip_flops'] / lanes:7.1f}  {signal}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
