"""Show all slow paths of a placed design, not just the slowest: python -m dyadprop_boards.placed_paths REPORT.

REPORT is what nextpnr writes with --report REPORT --detailed-timing-report: when a signal arrives at each register. Run
it in a build's work folder with the arguments that build_top.sh there has. Registers with the same names, numbers
apart, are one line: arrival of the latest, how many they are, who drives them.
"""

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyadprop.errors import BuildError, DyadpropError
from dyadprop_boards.long_paths import read_tool_json, without_numbers


@dataclass(frozen=True)
class Arrivals:
    """Registers of one clock at which signals arrive late.

    Attributes
    ----------
    clock : str
        nextpnr's name of it.
    latest : float
        ns behind the clock's edge.
    endpoints : int
    driver, register : str
        Last cell before the registers, and they themselves, without numbers.
    """

    clock: str
    latest: float
    endpoints: int
    driver: str
    register: str


def late_arrivals(report: Any, limit: float) -> list[Arrivals]:
    """Give the groups of registers that a signal reaches ``limit`` ns after the edge or later, latest first.

    Raises
    ------
    BuildError
        If the report is without arrivals.
    """
    nets = report.get("detailed_net_timings") if isinstance(report, dict) else None
    if nets is None:
        raise BuildError("the report has no arrivals; nextpnr writes them with --detailed-timing-report")
    found: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    for net in nets:
        for end in net["endpoints"]:
            if end["event"] == net["event"] and max(end["delay"]) >= limit:  # not what crosses from clock to clock
                clock = end["event"].rpartition(" ")[2]
                names = (f"{cell}.{port}" for cell, port in ((net["driver"], net["port"]), (end["cell"], end["port"])))
                found[clock, *map(without_numbers, names)].append(max(end["delay"]))
    groups = [Arrivals(clock, max(times), len(times), *names) for (clock, *names), times in found.items()]
    return sorted(groups, key=lambda group: (-group.latest, group.register))


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m dyadprop_boards.placed_paths",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("report", metavar="REPORT", type=Path)
    parser.add_argument("--limit", type=float, default=6.0, metavar="NS", help="default: %(default)s")
    parser.add_argument("--most", type=int, default=40, metavar="N", help="lines (default: %(default)s)")
    parser.add_argument("--clock", default="", metavar="TEXT", help="only clocks whose names contain it")
    args = parser.parse_args()
    try:
        groups = [
            group
            for group in late_arrivals(read_tool_json(args.report, "report"), args.limit)
            if args.clock in group.clock
        ]
    except DyadpropError as error:
        print(f"placed_paths: {error}", file=sys.stderr)
        return 2
    print(f"{sum(group.endpoints for group in groups)} registers at {args.limit:g} ns or more; latest first")
    for group in groups[: args.most]:
        print(f"{group.latest:6.2f} ns x{group.endpoints:5}  {group.driver} -> {group.register}  ({group.clock})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
