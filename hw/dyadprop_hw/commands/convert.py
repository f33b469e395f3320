"""Write a network as Verilog.

The text needs nothing else: hierarchy and names are kept, the header says what each port carries, and Verilator finds
nothing to warn about beyond what the header lists. The top module is called like the file.
"""

import argparse
from pathlib import Path

from dyadprop.errors import RangeError
from dyadprop.network import Network
from dyadprop.plan import DEFAULT_MULTIPLIERS, plan_network, stage_rows
from dyadprop.report import Report
from dyadprop_hw.verilog import export_verilog


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add files and options."""
    parser.add_argument("network", metavar="NET.TOML", help="the network, as Network.save writes it")
    parser.add_argument("verilog", metavar="FILE.v", help="where to write; - is standard output, module network")
    parser.add_argument(
        "--multipliers",
        type=int,
        default=DEFAULT_MULTIPLIERS,
        metavar="N",
        help="budget under which lanes are shared out where the layers name none (default: %(default)s)",
    )
    parser.add_argument("--flat", action="store_true", help="one module instead of the hierarchy")


def run(args: argparse.Namespace) -> int:
    """Plan, export, write."""
    to_stdout = args.verilog == "-"
    if to_stdout and args.json == "-":
        raise RangeError("Verilog and --json cannot both go to standard output")
    # What is said would end up in the middle of the Verilog.
    report = Report(args.json, quiet=args.quiet or to_stdout)
    net = Network.load(args.network)
    plan = plan_network(net, args.multipliers)
    name = "network" if to_stdout else Path(args.verilog).stem
    text = export_verilog(plan, name, flat=args.flat)
    if to_stdout:
        print(text, end="")
    else:
        try:
            Path(args.verilog).write_text(text, encoding="utf-8")
        except OSError as error:
            raise RangeError(f"Verilog file {args.verilog} cannot be written: {error.strerror}") from error
    report.say(
        f"{args.verilog}: module {name}, {net!r}, lanes {'/'.join(map(str, plan.lanes))}, "
        f"{plan.multipliers} multipliers, {plan.interval} cycles a sample"
    )
    report.write(
        {
            "module": name,
            "network": net.hash,
            "lanes": plan.lanes,
            "multipliers": plan.multipliers,
            "interval": plan.interval,
            "lines": text.count("\n"),
            "stages": list(stage_rows(plan)),
        }
    )
    return 0
