"""Say with which lanes each board takes its network, and write the table of docs/boards.md.

python -m dyadprop_boards.lane_table takes seconds: it is what `dyadprop info --board` predicts, for the designs of
clock_cases.py. Exit code 2 if the page cannot be read or has no place for the table.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dyadprop.errors import CapacityError, RangeError
from dyadprop.files import write_atomically
from dyadprop_boards.clock_cases import Case, cases
from dyadprop_boards.design import fit
from dyadprop_boards.docs_page import PAGE, read_page, rewritten
from dyadprop_boards.fpgas import RESOURCE_NAMES, RESOURCES
from dyadprop_boards.resources import predict

COMMAND = "python -m dyadprop_boards.lane_table"
BEGIN = f"<!-- lanes, written by {COMMAND} -->\n"
_HEADER = (
    *("network", "board", "lanes", "cycles a sample"),
    *(RESOURCE_NAMES[resource] for resource in RESOURCES),
)


def markdown() -> str:
    """Give the table: lanes, and what is predicted of what there is; below it what is refused, and why."""
    lines = [f"| {' | '.join(_HEADER)} |", "|" + "---|" * len(_HEADER)]
    refused = []
    for case in cases():
        try:
            lines.append(_row(case))
        except CapacityError as error:
            refused.append(f"- {case.network} on `{case.board.name}`: {error}")
    if refused:
        lines += ["", "Refused before any tool runs:", "", *refused]
    return "\n".join(lines)


def _row(case: Case) -> str:
    design = fit(case.net, case.board, case.clock)
    fpga = case.board.fpga
    total = predict(design.plan, case.board, design.clock).total
    uses = [f"{total[resource]:,} of {fpga.has(resource):,}" for resource in RESOURCES]
    cells = (
        *(case.network, f"`{case.board.name}`", "/".join(map(str, design.plan.lanes))),
        *(f"{design.plan.interval:,}", *uses),
    )
    return f"| {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", default=PAGE, metavar="FILE", help="default: %(default)s")
    args = parser.parse_args(argv)
    page = Path(args.page)
    try:
        write_atomically("page", page, rewritten(read_page(page), BEGIN, markdown()))
    except RangeError as error:
        print(f"lane_table: {error}", file=sys.stderr)
        return 2
    print(f"written to {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
