"""Say which formats a network needs: the range of each signal in a float64 run, and words that keep most of it.

The network learns a data set in float64. From what its signals were on the way, each signal's format of --bits bits is
chosen: the one that rounding and clipping harm least, in the mean square. What the network's own formats and the chosen
ones take from each signal is told beside each other. The network with the chosen formats is written to --save; a
picture shows the sizes of each signal over both formats.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dyadprop.data import DATASETS
from dyadprop.device import open_device
from dyadprop.errors import RangeError
from dyadprop.network import Dense, Network, Parameters
from dyadprop.optional import optional_packages
from dyadprop.parameter_files import load_parameters
from dyadprop.profile import Signal, choose_formats, loss, signals
from dyadprop.rates import allowed_rates, nearest_rate
from dyadprop.report import Report

PROFILED = 500  # samples whose signals are recorded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run and the words."""
    parser.add_argument("--network", metavar="NET.TOML", help="default: 32 tanh units and the outputs")
    parser.add_argument("--load", metavar="FILE", help="parameters to start from (default: drawn from --seed)")
    parser.add_argument("--data", choices=sorted(DATASETS), default="digits", help="default: %(default)s")
    parser.add_argument("--bits", type=int, default=16, metavar="N", help="of a word, 4 to 18 (default: %(default)s)")
    parser.add_argument(
        "--epochs", type=int, default=5, metavar="N", help="of the float64 run, 0 for none (default: %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--learning-rate", type=float, default=2.0**-7, metavar="R", help="of the summed gradient (default: 2^-7)"
    )
    parser.add_argument("--save", metavar="NET.TOML", help="write the network with the chosen formats")
    parser.add_argument("--out", default="build/profile", metavar="DIR", help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Learn in float64, choose, draw."""
    report = Report.of(args)
    with optional_packages("the picture of the ranges"):
        from dyadprop.plots import ranges_picture
    if args.epochs < 0:
        raise RangeError(f"epochs are {args.epochs}; they must be at least 0")
    data = DATASETS[args.data]()
    inputs, outputs = data.train_x.shape[1], data.train_y.shape[1]
    net = Network.load(args.network) if args.network else Network(inputs, [Dense(32, "tanh"), Dense(outputs)])
    if (net.inputs, net.outputs) != (inputs, outputs):
        raise RangeError(
            f"network {args.network} has {net.inputs} inputs and {net.outputs} outputs; {data.name} has {inputs} and "
            f"{outputs}"
        )
    rate = nearest_rate(args.learning_rate).value
    snapshots: list[list[Parameters]] = [net.init(args.seed) if args.load is None else load_parameters(args.load, net)]
    with open_device("float", net) as device:
        device.load(snapshots[0])
        for _ in range(args.epochs):
            device.train(data.train_x, data.train_y, rate, args.batch_size)
            snapshots.append(device.parameters())
    x, y = data.train_x[:PROFILED], data.train_y[:PROFILED]
    chosen = choose_formats(net, snapshots, x, y, args.bits)
    rows = [_row(net, chosen, signal) for signal in signals(net, snapshots, x, y)]

    report.result(
        f"{'signal':14}  {'99.9 % below':>12}  {'largest':>9}  {'has':>7}  {'which':<38}  {'chosen':>7}  which"
    )
    for row in rows:
        report.result(
            f"{row['signal'] + ' ' + str(row['layer']):14}  {row['most']:12.4g}  {row['largest']:9.4g}  "
            f"{row['has'].format:>7}  {row['has']!s:<38}  {row['chosen'].format:>7}  {row['chosen']}"
        )
    report.result(f"learning rates on the device, batch 1: {allowed_rates(chosen, 1)}")
    path = Path(args.out) / "ranges.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    ranges_picture(path, rows, title=f"{data.name}: ranges in float64 over words of {args.bits} bits")
    report.say(f"written to {path}")
    if args.save is not None:
        chosen.save(args.save)
        report.say(f"network with these formats: {args.save}")
    report.write(
        {
            "data": data.name,
            "bits": args.bits,
            "seed": args.seed,
            "network": chosen.hash,
            "signals": [_document(row) for row in rows],
        }
    )
    return 0


def _row(net: Network, chosen: Network, signal: Signal) -> dict[str, Any]:
    """Describe a signal beside its formats."""
    sizes = np.abs(signal.values)
    return {
        "signal": signal.name,
        "layer": signal.layer,
        "sizes": sizes,
        "most": float(np.quantile(sizes, 0.999)),
        "largest": signal.largest,
        "has": loss(net, signal),
        "chosen": loss(chosen, signal),
    }


def _document(row: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in row.items() if key != "sizes"}
    return kept | {key: asdict(row[key]) for key in ("has", "chosen")}
