"""Measure what boards reach, and write the table of docs/boards.md: python -m dyadprop_boards.clock_table.

Builds each design of clock_cases.py with five placements. That takes hours, one of a large design ten minutes and more.
It can be stopped and started again: each placement is kept beside the page, and the page is written behind it, so that
several days or machines can add to them; those of other gateware than the present one, or built in another way, are
left out.
--only takes a part of a design's name, such as ulx3s-85f or 4-8-3@.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dyadprop.errors import BuildError, DyadpropError, RangeError
from dyadprop.files import write_atomically
from dyadprop.report import write_json
from dyadprop_boards.build import BuildOptions, TimingMissed, build
from dyadprop_boards.clock_cases import Case, cases
from dyadprop_boards.docs_page import PAGE, read_page, rewritten
from dyadprop_boards.fpgas import RESOURCES
from dyadprop_boards.result import BuildResult
from dyadprop_boards.revision import flow_revision, gateware_revision
from dyadprop_boards.tools import ToolFailure

COMMAND = "python -m dyadprop_boards.clock_table"
BEGIN = f"<!-- clocks, written by {COMMAND} -->\n"
ROWS = ".clocks.json"
"""Ending of the file beside the page that keeps the rows."""
_HEADER = (
    "network",
    "board",
    "lanes",
    "MHz asked",
    "seeds",
    "minimum",
    "median",
    "link",
    "LUT",
    "FF",
    "DSP",
    "RAM",
    "LUT a lane",
    "gradients/s",
    "GOPS",
    "useful",
    "tools, min",
)


def measure(case: Case, folder: Path, seed: int) -> dict[str, Any]:
    """Build a design with one placement; give its row, or why there is none."""
    options = BuildOptions(seeds=(seed,), clock=case.clock)
    try:
        result = build(case.net, case.board, folder / case.board.name / case.network, options)
    except TimingMissed as missed:
        result = missed.result
    except DyadpropError as error:
        if isinstance(error, BuildError):  # a tool failed: nothing is known of the design
            raise
        return {"failure": str(error)}
    return _row(result)


def _row(result: BuildResult) -> dict[str, Any]:
    (placement,) = result.placements
    link = placement.link_clock
    return {
        "lanes": list(result.lanes),
        "asked": result.clock,
        "luts_a_lane": sum(used["luts"] for used in result.lane_parts.values()) / sum(result.lanes),
        "gradients_a_cycle": result.work.gradients(1.0),
        "operations_a_cycle": result.work.operations(1.0),
        "useful": result.work.useful,
        "predicted": {name: result.predicted_total(name) for name in RESOURCES},
        "synthesis": result.synthesis.seconds,
        "placements": {
            str(placement.seed): {
                "reached": placement.clock.reached,
                "link": link.reached if link is not None else None,
                "path": str(placement.critical_path or ""),
                "resources": {name: placement.resources[name].used for name in RESOURCES},
                "seconds": placement.run.seconds,
            }
        },
    }


def markdown(gateware: str, rows: dict[str, dict[str, Any]], order: Sequence[Case]) -> str:
    """Give the table, and below it each placement's clock, slowest paths, and why some designs have no row."""
    lines = [f"Gateware `{gateware}`:", ""]
    lines += [f"| {' | '.join(_HEADER)} |", "|" + "---|" * len(_HEADER)]
    each, slow, missing = [], [], []
    for case in order:
        row = rows.get(case.name)
        if row is None:
            continue
        told = f"- {case.network} on `{case.board.name}`: "
        if "failure" in row:
            missing.append(told + row["failure"])
            continue
        placements = list(row["placements"].values())
        reached = [placement["reached"] for placement in placements]
        median = statistics.median(reached)
        clocks = (f"{row['placements'][seed]['reached'] / 1e6:.1f}" for seed in sorted(row["placements"], key=int))
        each.append(told + ", ".join(clocks))
        best = max(placements, key=lambda placement: float(placement["reached"]))
        links = [placement["link"] for placement in placements if placement["link"] is not None]
        seconds = row["synthesis"] + sum(placement["seconds"] for placement in placements)
        if median < row["asked"]:
            slow.append(told + best["path"])
        cells = (
            case.network,
            f"`{case.board.name}`",
            "/".join(map(str, row["lanes"])),
            f"{row['asked'] / 1e6:.0f}",
            str(len(reached)),
            f"{min(reached) / 1e6:.1f}",
            f"**{median / 1e6:.1f}**",
            f"{min(links) / 1e6:.1f}" if links else "",
            *(f"{best['resources'][name]:,}" for name in RESOURCES),
            f"{row['luts_a_lane']:.0f}",
            f"{row['gradients_a_cycle'] * median:,.0f}",
            f"{row['operations_a_cycle'] * median / 1e9:.1f}",
            f"{row['useful']:.2f}",
            f"{seconds / 60:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    if each:
        lines += ["", "Clocks of the placements, by seed, in MHz:", "", *each]
    if slow:
        lines += ["", "Slowest path of the fastest placement, where the median is below what was asked for:", "", *slow]
    if missing:
        lines += ["", "No row:", "", *missing]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the designs that are asked for; write the page after each."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="TEXT", default="", help="designs whose name contains it")
    parser.add_argument("--list", action="store_true", help="only print the designs' names")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="placements each (default: %(default)s)")
    parser.add_argument("--page", default=PAGE, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--out", default="build/clocks", metavar="DIR", help="of builds (default: %(default)s)")
    args = parser.parse_args(argv)
    every = cases()
    chosen = [case for case in every if args.only in case.name]
    if args.list:
        print("\n".join(case.name for case in chosen))
        return 0
    try:
        return _measure_all(every, chosen, Path(args.out), Path(args.page), args.seeds)
    except DyadpropError as error:
        print(f"clock_table: {error}", file=sys.stderr)
        return 2 if isinstance(error, RangeError) else 3
    except KeyboardInterrupt:
        print("clock_table: interrupted; what was done is kept", file=sys.stderr)
        return 130


def _measure_all(every: Sequence[Case], chosen: Sequence[Case], out: Path, page: Path, seeds: int) -> int:
    if not chosen:
        raise RangeError("no design has such a name; --list prints the names")
    if seeds < 1:
        raise RangeError(f"seeds are {seeds}; at least 1 is needed")
    text = read_page(page)
    rewritten(text, BEGIN, "")  # a page without a place for the table is told now, not after hours
    out.mkdir(parents=True, exist_ok=True)
    kept = page.with_suffix(ROWS)
    made_of = {"gateware": gateware_revision(), "flow": flow_revision()}
    failed = 0
    for number, case in enumerate(chosen, start=1):
        for seed in range(1, seeds + 1):
            rows = _rows(kept, made_of)
            row = rows.get(case.name, {})
            if "failure" in row or str(seed) in row.get("placements", ()):
                continue
            print(f"{number} of {len(chosen)}: {case.name}, seed {seed}", flush=True)
            try:
                row = measure(case, out, seed)
            except BuildError as error:
                print(f"  {error}", flush=True)
                failed += 1
                if isinstance(error, ToolFailure) and error.tool.startswith("nextpnr"):
                    continue  # another placement may do
                break
            rows = _rows(kept, made_of)  # another process may have written in between
            if "placements" in row:
                row["placements"] = rows.get(case.name, {}).get("placements", {}) | row["placements"]
            rows[case.name] = row
            write_json(kept, {**made_of, "rows": rows})
            write_atomically(
                "page", page, rewritten(read_page(page), BEGIN, markdown(made_of["gateware"], rows, every))
            )
            print(f"  {_told(row, seed)}", flush=True)
    rows = _rows(kept, made_of)
    print(f"written to {page}: {len(rows)} of {len(every)} designs")
    return 1 if failed else 0


def _rows(kept: Path, made_of: dict[str, str]) -> dict[str, dict[str, Any]]:
    document: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    return dict(document["rows"]) if made_of.items() <= document.items() else {}


def _told(row: dict[str, Any], seed: int) -> str:
    if "failure" in row:
        return str(row["failure"])
    reached = row["placements"][str(seed)]["reached"]
    return f"{reached / 1e6:.2f} MHz of {row['asked'] / 1e6:.2f} MHz asked for"


if __name__ == "__main__":
    sys.exit(main())
