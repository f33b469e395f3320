"""Turn a network from one kind of file into another: the endings decide.

From NET.TOML (with the parameters of --parameters, or of the file beside it with the same name), an ONNX file, a .keras
file, or a .pt file that torch.save wrote of a whole torch.nn.Sequential. Into Verilog, NET.TOML (and a parameter file
beside it) or ONNX. Only dense layers in a chain can be converted; anything else is refused by its name.

The Verilog needs nothing else: hierarchy and names are kept, the header says what each port carries, and Verilator
finds nothing to warn about beyond what the header lists. The top module is called like the file. It holds no
parameters: a device is given them when it runs.
"""

import argparse
from pathlib import Path
from typing import Any

from dyadprop.errors import RangeError
from dyadprop.exchange.files import READABLE, WRITABLE, Source, read_network, write_network
from dyadprop.network import COSTS
from dyadprop.plan import DEFAULT_MULTIPLIERS, plan_network, stage_rows
from dyadprop.report import Report
from dyadprop_hw.verilog import export_verilog


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add files and options."""
    parser.add_argument("network", metavar="FROM", help=f"what to read: {', '.join(READABLE)}")
    parser.add_argument(
        "output",
        metavar="TO",
        help=f"what to write: .v, {', '.join(WRITABLE)}; - is Verilog on standard output, module network",
    )
    parser.add_argument("--parameters", metavar="FILE", help="of the network in FROM, where that is a .toml")
    parser.add_argument(
        "--cost", choices=COSTS, help="of a network that comes from another framework (default: squared_error)"
    )
    parser.add_argument(
        "--multipliers",
        type=int,
        default=DEFAULT_MULTIPLIERS,
        metavar="N",
        help="of Verilog: budget under which lanes are shared out where the layers name none (default: %(default)s)",
    )
    parser.add_argument("--flat", action="store_true", help="of Verilog: one module instead of the hierarchy")


def run(args: argparse.Namespace) -> int:
    """Read, then write."""
    to_stdout = args.output == "-"
    if to_stdout and args.json == "-":
        raise RangeError("Verilog and --json cannot both go to standard output")
    ending = ".v" if to_stdout else Path(args.output).suffix
    if ending != ".v" and ending not in WRITABLE:
        raise RangeError(f"output file {args.output} ends in {ending!r}; allowed are .v, {', '.join(WRITABLE)}")
    # What is said would end up in the middle of the Verilog.
    report = Report(args.json, quiet=args.quiet or to_stdout)
    source = read_network(args.network, cost=args.cost, parameters=args.parameters)
    report.write(_verilog(args, source, report) if ending == ".v" else _network(args, source, report))
    return 0


def _network(args: argparse.Namespace, source: Source, report: Report) -> dict[str, Any]:
    written = [str(path) for path in write_network(args.output, source)]
    report.say(f"{', '.join(written)}: {source.net!r}")
    return {"network": source.net.hash, "written": written, "parameters": source.params is not None}


def _verilog(args: argparse.Namespace, source: Source, report: Report) -> dict[str, Any]:
    net = source.net
    plan = plan_network(net, args.multipliers)
    name = "network" if args.output == "-" else Path(args.output).stem
    text = export_verilog(plan, name, flat=args.flat)
    if args.output == "-":
        print(text, end="")
    else:
        try:
            Path(args.output).write_text(text, encoding="utf-8")
        except OSError as error:
            raise RangeError(f"Verilog file {args.output} cannot be written: {error.strerror}") from error
    report.say(
        f"{args.output}: module {name}, {net!r}, lanes {'/'.join(map(str, plan.lanes))}, "
        f"{plan.multipliers} multipliers, {plan.interval} cycles a sample"
    )
    return {
        "module": name,
        "network": net.hash,
        "lanes": plan.lanes,
        "multipliers": plan.multipliers,
        "interval": plan.interval,
        "lines": text.count("\n"),
        "stages": list(stage_rows(plan)),
    }
