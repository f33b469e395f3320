"""Draw the streams of a network as its hardware moves them, cycle by cycle: wave.png in --out.

A few samples go up through the stages as activations and come back as sensitivities; the picture shows in which cycle
each word is transferred and when each stage's two passes run, and where the plan says that the first sample's outputs
and gradients are there. The RTL is run in Amaranth's own simulator: nothing is compiled.
"""

import argparse
from pathlib import Path

import numpy as np

from dyadprop.errors import RangeError
from dyadprop.network import Dense, Network
from dyadprop.optional import optional_packages
from dyadprop.plan import plan_network
from dyadprop.report import Report
from dyadprop.widths import target_format
from dyadprop_sim.waves import watch

MAX_SAMPLES = 20  # more of them could not be told apart


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the picture."""
    parser.add_argument("--network", metavar="NET.TOML", help="default: a 3-4-2 network")
    parser.add_argument("--samples", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--out", default="build/wave", metavar="DIR", help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Simulate, draw."""
    report = Report.of(args)
    with optional_packages("the picture of a wave"):
        from dyadprop.plots import wave_picture
    if not 1 <= args.samples <= MAX_SAMPLES:
        raise RangeError(f"number of samples is {args.samples}; allowed are 1 to {MAX_SAMPLES}")
    default = Network(3, [Dense(4, "tanh", lanes=2), Dense(2, lanes=1)])
    net = Network.load(args.network) if args.network else default
    plan = plan_network(net)
    rng = np.random.default_rng(args.seed)
    x = net.formats.activation.to_ints(rng.uniform(-1, 1, (args.samples, net.inputs))).words
    targets = target_format(net).to_ints(rng.uniform(0, 1, (args.samples, net.outputs))).words
    rows = watch(plan, net.quantize(net.init(args.seed)).raw, x, targets)

    path = Path(args.out) / "wave.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = "-".join(map(str, net.widths))
    lanes = "/".join(map(str, plan.lanes))
    wave_picture(
        path,
        [(row.name, row.words, row.waits) for row in rows],
        marks=[
            (plan.output_latency, f"cycle {plan.output_latency}: sample 1's outputs are out (predicted)"),
            (plan.gradient_latency, f"cycle {plan.gradient_latency}: its gradients are written (predicted)"),
        ],
        title=f"{shape}, lanes {lanes}: {args.samples} samples go up and come back, one every {plan.interval} cycles",
    )
    report.result(f"{args.samples} samples of {shape} in {rows[-1].words[-1][0] + 1} cycles; {path}")
    report.write({"picture": str(path), "cycles": rows[-1].words[-1][0] + 1, "interval": plan.interval})
    return 0
