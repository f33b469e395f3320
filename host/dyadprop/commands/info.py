"""Say what a network becomes in hardware: lanes, cycles, multipliers, memory, from formulas.

Nothing is simulated or synthesised. Tests hold the formulas against the RTL, cycle for cycle.
"""

import argparse

from dyadprop.network import Network
from dyadprop.plan import DEFAULT_MULTIPLIERS, plan_network, stage_rows
from dyadprop.report import Report

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
        type=int,
        default=DEFAULT_MULTIPLIERS,
        metavar="N",
        help="budget under which lanes are shared out where the layers name none (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Print a table of the stages and the figures of the whole."""
    report = Report.of(args)
    net = Network.load(args.network)
    plan = plan_network(net, args.multipliers)
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
        f"{plan.multipliers} multipliers of at most {args.multipliers}, {share:.1%} of their cycles useful; "
        f"{figures['memory_bits']:,} bits of memory; largest batch {net.max_batch}"
    )
    report.write({"network": net.hash, "stages": rows, **figures})
    return 0


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
