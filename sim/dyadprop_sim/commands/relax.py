"""Watch a network settle: from arbitrary register contents, tick by tick, to the textbook gradient.

A sample is held at the input of a deep network whose links are full of random words. After tick l the activations of
layer l must be right and stay right, after tick 2L - l + 1 its sensitivities, to the last bit. Exit code 1 if one is
late. theorem.png, written to --out, shows tick against layer.

With --figures every claim of docs/theorem.md is measured instead, and its pictures are drawn, an animation among them;
--page writes its tables again. Exit code 1 if a claim does not hold.
"""

import argparse
from pathlib import Path

import numpy as np

from dyadprop.errors import RangeError
from dyadprop.network import Dense, Network
from dyadprop.optional import optional_packages
from dyadprop.plan import plan_network
from dyadprop.relaxation.trajectory import settling
from dyadprop.report import Report
from dyadprop.widths import target_format
from dyadprop_sim.probe import held_sample, rtl_trajectory

DEFAULT_DEVICE = "verilator"
STALLS = 0.2
EXTRA_TICKS = 3  # beyond 2L, to see that nothing changes any more


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the relaxation."""
    parser.add_argument("--network", metavar="NET.TOML", help="default: eight tanh layers of width 6")
    parser.add_argument("--figures", metavar="DIR", help="measure every claim and draw its pictures there")
    parser.add_argument("--page", metavar="FILE", help="with --figures: write the tables of this page again")
    parser.add_argument("--out", default="build/relax", metavar="DIR", help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Relax, compare with the state at rest, draw."""
    report = Report.of(args)
    if args.figures is not None:
        return _figures(args, report)
    if args.page is not None:
        raise RangeError("--page is given without --figures DIR, whose measurements it needs")
    with optional_packages("the picture of the relaxation"):
        from dyadprop.plots import settling_picture
    kind = args.device.partition("?")[0]
    if kind not in ("golden", "verilator"):
        raise RangeError(f"device {args.device!r} cannot be probed; allowed are golden and verilator")
    # One lane a stage: what is shown does not depend on lanes, and few of them build fast.
    net = Network.load(args.network) if args.network else Network(6, [Dense(6, "tanh", lanes=1) for _ in range(8)])
    depth = len(net.layers)
    rng = np.random.default_rng(args.seed)
    params = net.quantize(net.init(args.seed)).raw
    x = net.formats.activation.to_ints(rng.uniform(-1, 1, net.inputs)).words
    target = target_format(net).to_ints(rng.uniform(0, 1, net.outputs)).words
    relaxation, rest = held_sample(net, params, x, target)
    start = relaxation.system.random_state(1, rng)
    ticks = 2 * depth + EXTRA_TICKS
    if kind == "golden":
        states = relaxation.trajectory(start, ticks)
    else:
        states = rtl_trajectory(plan_network(net), params, x, target, start, ticks, seed=args.seed, stalls=STALLS)
    found = settling(states, rest)
    late = found.late()
    activations, sensitivities = found.first_exact()

    path = Path(args.out) / "theorem.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    where = "in the RTL, under random stalls" if kind == "verilator" else "in the golden model"
    title = f"{'-'.join(map(str, net.widths))}: a held sample settles from random words, {where}"
    settling_picture(path, found.activations, found.sensitivities, title=title)
    report.say("layer  x exact from tick (bound)  lambda exact from tick (bound)")
    for l in range(1, depth + 1):
        report.say(f"{l:5}  {activations[l - 1]:17} ({l})  {sensitivities[l - 1]:21} ({2 * depth - l + 1})")
    report.result(
        f"{kind}: all exact after tick {max(*activations, *sensitivities)} of at most 2L = {2 * depth}, unchanged "
        f"until tick {ticks}; {path}"
        if not late
        else f"{kind}: late: {', '.join(late)}; {path}"
    )
    report.write(
        {
            "device": args.device,
            "network": net.hash,
            "seed": args.seed,
            "ticks": ticks,
            "activations_exact_from": activations,
            "sensitivities_exact_from": sensitivities,
            "late": late,
        }
    )
    return 1 if late else 0


def _figures(args: argparse.Namespace, report: Report) -> int:
    if args.network is not None:
        raise RangeError(f"network is {args.network!r}; the claims have networks of their own, so none can be chosen")
    from dyadprop_sim.theorem.report import measure_all

    return measure_all(Path(args.figures), args.page, args.seed, report)
