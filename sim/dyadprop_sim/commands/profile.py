"""Say which formats a network needs: the range of each signal in a float64 run, and words that keep most of it.

The network learns the handwritten digits (or MNIST) in float64. From what its signals were on the way, each signal's
format of --bits bits is chosen: the one that rounding and clipping harm least, in the mean square. The network with
these formats is written to --save; a picture shows each range over the format.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from dyadprop.data import DATASETS
from dyadprop.errors import RangeError
from dyadprop.formats import Q
from dyadprop.network import Dense, Network, Parameters
from dyadprop.optional import optional_packages
from dyadprop.rates import allowed_rates, nearest_rate
from dyadprop.report import Report
from dyadprop.training import DIVERGED
from dyadprop_sim import reference
from dyadprop_sim.profile import Signal, choose_formats, signals

PROFILED = 500  # samples whose signals are recorded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run and the words."""
    parser.add_argument("--network", metavar="NET.TOML", help="default: 32 tanh units and the outputs")
    parser.add_argument("--data", choices=sorted(DATASETS), default="digits", help="default: %(default)s")
    parser.add_argument("--bits", type=int, default=16, metavar="N", help="of a word, 4 to 18 (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=5, metavar="N", help="of the float64 run (default: %(default)s)")
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
    if args.epochs < 1 or args.batch_size < 1:
        raise RangeError(f"epochs are {args.epochs} and batch size is {args.batch_size}; both must be at least 1")
    data = DATASETS[args.data]()
    inputs, outputs = data.train_x.shape[1], data.train_y.shape[1]
    net = Network.load(args.network) if args.network else Network(inputs, [Dense(32, "tanh"), Dense(outputs)])
    if (net.inputs, net.outputs) != (inputs, outputs):
        raise RangeError(
            f"network {args.network} has {net.inputs} inputs and {net.outputs} outputs; {data.name} has {inputs} and "
            f"{outputs}"
        )
    rate = nearest_rate(args.learning_rate).value
    snapshots: list[list[Parameters]] = [net.init(args.seed)]
    for _ in range(args.epochs):
        params, _ = reference.train(
            net, snapshots[-1], data.train_x, data.train_y, batch_size=args.batch_size, learning_rate=rate
        )
        if not all(np.all(np.abs(values) < DIVERGED) for entry in params for values in entry):
            raise RangeError(f"the float64 run diverged; try a smaller learning rate than {rate:g}")
        snapshots.append(params)
    x, y = data.train_x[:PROFILED], data.train_y[:PROFILED]
    chosen = choose_formats(net, snapshots, x, y, args.bits)
    rows = [_row(chosen, signal) for signal in signals(net, snapshots, x, y)]

    report.result(f"{'signal':24}  {'99.9 % below':>12}  {'largest':>9}  {'format':>7}  {'reaches':>9}  advice")
    for row in rows:
        report.result(
            f"{row['signal'] + ' ' + str(row['layer']):24}  {row['most']:12.4g}  {row['largest']:9.4g}  "
            f"{row['format']:>7}  {row['reaches']:9.4g}  {row['advice']}"
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
            "signals": [{key: value for key, value in row.items() if key != "sizes"} for row in rows],
        }
    )
    return 0


def _row(chosen: Network, signal: Signal) -> dict[str, Any]:
    """Describe a signal beside its format."""
    form: Q = getattr(chosen.layer_formats(signal.layer), signal.name)
    sizes = np.abs(signal.values)
    words, clipped = form.to_ints(signal.values)
    lost = int(np.count_nonzero((words == 0) & (signal.values != 0)))
    count = len(sizes)
    advice = []
    if clipped:
        wider = Q(form.integer_bits + 1, form.fraction_bits - 1) if form.fraction_bits else None
        advice.append(f"{clipped / count:.2%} are limited" + (f", fewer in {wider}" if wider else ""))
    if lost > 0.01 * count:
        advice.append(f"{lost / count:.0%} become zero")
    if not advice:
        advice.append("fits")
    return {
        "signal": signal.name,
        "layer": signal.layer,
        "sizes": sizes,
        "most": float(np.quantile(sizes, 0.999)),
        "largest": signal.largest,
        "format": str(form),
        "lsb": form.lsb,
        "reaches": form.max,
        "clipped": clipped / count,
        "zeroed": lost / count,
        "advice": ", ".join(advice),
    }
