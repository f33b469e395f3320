"""Build a network's bitstream for a board, with open tools.

Lanes are shared out to what the board has, then yosys synthesises, nextpnr places and routes. It fails (exit code
1) if the design does not hold at the clock, and says by how much. In build/BOARD/NAME: the bitstream, the report
(report.html; .md and .json say the same), and the tools' logs in work/. What has not changed is not made a second time.

With --seeds N, placements 1 to N are tried (with --seed S: S + 1 to S + N) and the fastest is taken. $YOSYS,
$NEXTPNR_ECP5 and so on name other programs than those from PyPI.
"""

import argparse
from pathlib import Path

from dyadprop.checks import positive
from dyadprop.network import Network
from dyadprop.report import Report
from dyadprop_boards.build import BuildOptions, TimingMissed, build
from dyadprop_boards.fpgas import RESOURCE_NAMES, RESOURCES
from dyadprop_boards.report_files import FILES
from dyadprop_boards.result import BuildResult
from dyadprop_boards.table import BOARDS, find_board


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the network, the board and the options."""
    parser.add_argument("network", metavar="NET.TOML", help="a network that Network.save wrote")
    parser.add_argument(
        "--board",
        required=True,
        metavar="B",
        help=f"{', '.join(board.name for board in BOARDS)}, or a file my_board.py (docs/boards.md)",
    )
    parser.add_argument(
        "--seeds", type=positive, default=1, metavar="N", help="placements to try (default: %(default)s)"
    )
    parser.add_argument("--clock", type=_megahertz, metavar="MHZ", help="default: the board's")
    parser.add_argument(
        "--multipliers", type=positive, metavar="N", help="budget for lanes (default: as many as can be placed)"
    )
    parser.add_argument("--synth-only", action="store_true", help="stop behind synthesis: what the design takes")
    parser.add_argument("--no-self-test", action="store_true", help="leave the self-test at power-on out")
    parser.add_argument("--out", default="build", metavar="DIR", help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Build, and say what came of it."""
    report = Report.of(args)
    board = find_board(args.board)
    net = Network.load(args.network)
    folder = Path(args.out) / board.name / Path(args.network).stem
    options = BuildOptions(
        seeds=tuple(range(args.seed + 1, args.seed + args.seeds + 1)),
        clock=args.clock,
        multipliers=args.multipliers,
        synth_only=args.synth_only,
        quiet=args.quiet,
        self_test=not args.no_self_test,
    )
    try:
        result = build(net, board, folder, options)
    except TimingMissed as missed:
        report.write(missed.result.document())
        report.result(f"failed: {missed}")
        return 1
    for line in _lines(result, folder):
        report.result(line)
    report.write(result.document())
    return 0


def _lines(result: BuildResult, folder: Path) -> list[str]:
    best, work = result.best_placement, result.work
    resources = best.resources if best else result.estimate
    use = ", ".join(
        f"{resources[name].used} of {resources[name].available} {RESOURCE_NAMES[name]}" for name in RESOURCES
    )
    lines = [
        f"{'-'.join(map(str, result.widths))} for {result.board} ({result.device}): lanes "
        f"{'/'.join(map(str, result.lanes))}, {work.multipliers} multipliers, {work.interval} cycles a sample",
        f"{'uses' if best else 'after synthesis'} {use}",
    ]
    runs = [result.synthesis, *(placement.run for placement in result.placements)]
    runs += [result.packing] if result.packing else []
    if best is not None and result.minimum is not None and result.median is not None:
        lines.append(
            f"clock {result.clock / 1e6:g} MHz; seed {best.seed} reaches {best.clock.reached / 1e6:.2f} MHz"
            + (
                f", {len(result.placements)} placements at least {result.minimum / 1e6:.2f}, "
                f"median {result.median / 1e6:.2f} MHz"
                if len(result.placements) > 1
                else ""
            )
        )
    lines += [f"seed {seed} has no placement: {why}" for seed, why in result.unplaced.items()]
    lines.append(
        f"{work.gradients(result.clock):,.0f} gradients/s at {result.clock / 1e6:g} MHz; the line brings "
        f"{work.line_rate(result.baud):,.0f} samples/s at {result.baud:,} baud"
    )
    seconds = ", ".join(f"{run.tool} {run.seconds:.0f} s{' (kept)' if run.kept else ''}" for run in runs)
    lines.append(f"tools: {seconds}")
    written = [name for name in (result.bitstream, *FILES) if name and (folder / name).is_file()]
    return [*lines, f"written to {folder}: {', '.join(written)}"]


def _megahertz(text: str) -> int:
    try:
        clock = round(float(text) * 1e6)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of megahertz") from error
    if not 1_000_000 <= clock <= 1_000_000_000:
        raise argparse.ArgumentTypeError(f"clock is {text} MHz; allowed are 1 to 1000")
    return clock
