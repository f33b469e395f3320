"""Measure what boards reach, and write the table of docs/boards.md: python -m dyadprop_boards.clock_table.

Builds each design of clock_cases.py with five placements. That takes hours, a large design half an hour; it can be
stopped and started again: steps that were done are kept, and the page is written after each design. --only takes a part
of a design's name, such as ulx3s-85f or 4-8-3@. Rows are kept beside the page, so that several days or machines can add
to them; those of other gateware than the present one are left out.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dyadprop.errors import BuildError, DyadpropError, RangeError
from dyadprop.files import write_atomically
from dyadprop.report import write_json
from dyadprop_boards.build import BuildOptions, TimingMissed, build
from dyadprop_boards.clock_cases import Case, cases
from dyadprop_boards.fpgas import RESOURCES
from dyadprop_boards.result import BuildResult
from dyadprop_boards.revision import gateware_revision

COMMAND = "python -m dyadprop_boards.clock_table"
BEGIN = f"<!-- clocks, written by {COMMAND} -->\n"
END = "<!-- end -->"
PAGE = "docs/boards.md"
ROWS = ".clocks.json"
"""Ending of the file beside the page that keeps the rows."""
_HEADER = (
    "network",
    "board",
    "lanes",
    "MHz asked",
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


def measure(case: Case, folder: Path, seeds: int) -> dict[str, Any]:
    """Build a design; give its row, or why there is none."""
    options = BuildOptions(seeds=tuple(range(1, seeds + 1)), clock=case.clock)
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
    best = result.best_placement
    assert best is not None
    assert result.minimum is not None
    assert result.median is not None
    lanes = sum(result.lanes)
    runs = [result.synthesis, *(placement.run for placement in result.placements)]
    return {
        "lanes": list(result.lanes),
        "asked": result.clock,
        "seeds": len(result.placements),
        "minimum": result.minimum,
        "median": result.median,
        "link": min((p.link_clock.reached for p in result.placements if p.link_clock is not None), default=None),
        "path": str(best.critical_path or ""),
        "resources": {name: best.resources[name].used for name in RESOURCES},
        "luts_a_lane": sum(used["luts"] for used in result.lane_parts.values()) / lanes,
        "gradients_a_second": result.work.gradients(result.median),
        "operations_a_second": result.work.operations(result.median),
        "useful": result.work.useful,
        "seconds": sum(run.seconds for run in runs),
        "predicted": {name: result.predicted_total(name) for name in RESOURCES},
    }


def markdown(rows: dict[str, dict[str, Any]], order: Sequence[Case]) -> str:
    """Give the table, and below it why some designs have no row."""
    lines = [f"| {' | '.join(_HEADER)} |", "|" + "---|" * len(_HEADER)]
    missing = []
    for case in order:
        row = rows.get(case.name)
        if row is None:
            continue
        if "failure" in row:
            missing.append(f"- {case.network} on `{case.board.name}`: {row['failure']}")
            continue
        cells = (
            case.network,
            f"`{case.board.name}`",
            "/".join(map(str, row["lanes"])),
            f"{row['asked'] / 1e6:.0f}",
            f"{row['minimum'] / 1e6:.1f}",
            f"**{row['median'] / 1e6:.1f}**",
            f"{row['link'] / 1e6:.1f}" if row["link"] else "",
            *(f"{row['resources'][name]:,}" for name in RESOURCES),
            f"{row['luts_a_lane']:.0f}",
            f"{row['gradients_a_second']:,.0f}",
            f"{row['operations_a_second'] / 1e9:.1f}",
            f"{row['useful']:.2f}",
            f"{row['seconds'] / 60:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    slow = [case for case in order if "median" in rows.get(case.name, {}) and rows[case.name]["median"] < case.clock]
    if slow:
        lines += ["", "Slowest path of the fastest placement, where the median is below what was asked for:", ""]
        lines += [f"- {case.network} on `{case.board.name}`: {rows[case.name]['path']}" for case in slow]
    if missing:
        lines += ["", "No row:", "", *missing]
    return "\n".join(lines)


def rewritten(text: str, table: str) -> str:
    """Give a page with another table between its marks.

    Raises
    ------
    RangeError
        If it has no such marks.
    """
    begin = text.find(BEGIN)
    end = text.find(END, begin)
    if begin < 0 or end < 0:
        raise RangeError(f"page has no place for the table: expected {BEGIN.strip()!r} and {END!r}")
    return f"{text[: begin + len(BEGIN)]}{table}\n{text[end:]}"


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
    text = _read(page)
    rewritten(text, "")  # a page without a place for the table is told now, not after hours
    out.mkdir(parents=True, exist_ok=True)
    kept = page.with_suffix(ROWS)
    gateware = gateware_revision()
    rows = _rows(kept, gateware)
    failed = 0
    for number, case in enumerate(chosen, start=1):
        print(f"{number} of {len(chosen)}: {case.name}", flush=True)
        try:
            row = measure(case, out, seeds)
        except BuildError as error:
            print(f"  {error}", flush=True)
            failed += 1
            continue
        rows = _rows(kept, gateware) | {case.name: row}  # another process may have written in between
        write_json(kept, {"gateware": gateware, "rows": rows})
        write_atomically("page", page, rewritten(_read(page), markdown(rows, every)))
        print(f"  {_told(row)}", flush=True)
    print(f"written to {page}: {len(rows)} of {len(every)} designs")
    return 1 if failed else 0


def _rows(kept: Path, gateware: str) -> dict[str, dict[str, Any]]:
    document: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    return dict(document["rows"]) if document.get("gateware") == gateware else {}


def _told(row: dict[str, Any]) -> str:
    if "failure" in row:
        return str(row["failure"])
    return (
        f"{row['seeds']} seeds: minimum {row['minimum'] / 1e6:.2f}, median {row['median'] / 1e6:.2f} MHz of "
        f"{row['asked'] / 1e6:.2f} MHz asked for; {row['gradients_a_second']:,.0f} gradients/s"
    )


def _read(page: Path) -> str:
    try:
        return page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RangeError(f"page {page} cannot be read: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
