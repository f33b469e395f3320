"""Say what a network becomes in hardware: lanes, cycles, multipliers, memory, from formulas.

Nothing is simulated or synthesised. Tests hold the formulas against the RTL, cycle for cycle. With --board also what it
takes of that board's FPGA, and how fast it is there.
"""

import argparse
from importlib.metadata import entry_points
from typing import Any

from dyadprop.checks import positive
from dyadprop.errors import PackageMissing
from dyadprop.network import Network
from dyadprop.plan import DEFAULT_MULTIPLIERS, plan_network, stage_rows
from dyadprop.report import Report

ENTRY_POINT_GROUP = "dyadprop.boards"

_COLUMNS = {
    "stage": "stage",
    "shape": "in x out",
    "activation": "activation",
    "lanes": "lanes",
    "row_groups": "row groups",
    "tick": "cycles a tick",
    "multipliers": "multipliers",
    "samples": "samples held",
    "forward_latency": "forward latency",
    "backward_latency": "backward latency",
    "memory_bits": "memory bits",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the network and the budget."""
    parser.add_argument("network", metavar="NET.TOML", help="a network that Network.save wrote")
    parser.add_argument(
        "--multipliers",
        type=positive,
        metavar="N",
        help="budget under which lanes are shared out where the layers name none "
        f"(default: {DEFAULT_MULTIPLIERS}, or what the board takes)",
    )
    parser.add_argument("--board", metavar="B", help="predict what it takes of a board, as `dyadprop build` names them")


def run(args: argparse.Namespace) -> int:
    """Print a table of the stages and the figures of the whole."""
    report = Report.of(args)
    net = Network.load(args.network)
    board_lines: list[str] = []
    board_document: dict[str, Any] = {}
    budget = DEFAULT_MULTIPLIERS if args.multipliers is None and args.board is None else args.multipliers
    if args.board is None:
        plan = plan_network(net, budget)
    else:
        plan, board_lines, board_document = _board_info()(net, args.board, args.multipliers)
    rows = list(stage_rows(plan))
    cells = [[*_COLUMNS.values()], *([_cell(row[key]) for key in _COLUMNS] for row in rows)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(_COLUMNS))]
    for line in cells:
        report.result("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))
    share = plan.products / (plan.multipliers * plan.interval)
    figures = {
        "cycles_a_sample": plan.interval,
        "output_latency": plan.output_latency,
        "gradient_latency": plan.gradient_latency,
        "multipliers": plan.multipliers,
        "memory_bits": sum(sum(stage.memory_bits.values()) for stage in plan.stages),
        "useful_products_a_sample": plan.products,
        "busy_share_of_multipliers": share,
    }
    report.result(
        f"\n{net!r}\n"
        f"{plan.interval} cycles a sample streaming; one alone: {plan.output_latency} cycles to its last output, "
        f"{plan.gradient_latency} to its last gradient\n"
        f"{plan.multipliers} multipliers{'' if budget is None else f' of at most {budget}'}, "
        f"{share:.1%} of their cycles useful; "
        f"{figures['memory_bits']:,} bits of memory; largest batch {net.max_batch}"
    )
    for told in board_lines:
        report.result(told)
    report.write({"network": net.hash, "stages": rows, **figures, **board_document})
    return 0


def _board_info() -> Any:
    """Find what knows boards; the host itself does not."""
    found = entry_points(group=ENTRY_POINT_GROUP, name="board_info")
    if not found:
        raise PackageMissing("--board needs the package dyadprop_boards, which is not there; install the whole")
    try:
        return next(iter(found)).load()
    except ImportError as error:
        raise PackageMissing(
            f"--board needs the package {error.name}, which is not installed; pip install 'dyadprop[boards]' brings it"
        ) from error


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
