"""Compare a device with the golden model, word by word, on random networks.

For each network the device is opened, loaded, and asked for its parameters, for gradients, for outputs alone, and for
gradients of a random seed at its output; then it learns, in batches of one and of more, at a random rate. Outputs,
exact costs, gradients, input gradients, saturation counts, and parameters and residuals that were learnt must be the
golden model's to the last bit. Exit code 1 if a word differs; then a command line is printed that repeats just that
network.
"""

import argparse
import shlex
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from tqdm import tqdm

from dyadprop.comparison import (
    Comparison,
    compare_checkpoints,
    compare_parameters,
    compare_results,
    compare_saturations,
    compare_training,
    locate,
)
from dyadprop.device import Device, open_device
from dyadprop.errors import DyadpropError, RangeError
from dyadprop.formats import Floats
from dyadprop.network import Network
from dyadprop.rates import Rate
from dyadprop.report import Report
from dyadprop.results import Result
from dyadprop.widths import target_format
from dyadprop_sim.random_networks import Case, random_case, random_rate

DEFAULT_DEVICE = "verilator"
SHOWN = 5  # networks that differ, of which the first word is printed
EPOCHS = 2  # of each training run

_Ask = Callable[[Device, slice], Result]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of verification."""
    parser.add_argument(
        "--networks", type=int, default=10, metavar="N", help="networks, of seeds --seed, --seed + 1, ... (default: 10)"
    )


def run(args: argparse.Namespace) -> int:
    """Compare on each network, print what differs, and say how many words agree."""
    report = Report.of(args)
    if args.networks < 1:
        raise RangeError(f"number of networks is {args.networks}; at least 1 must be compared")
    if args.device.partition("?")[0] == "golden":
        report.say("device golden is compared with another copy of itself")
    total = Comparison()
    failures: list[dict[str, Any]] = []
    seeds = range(args.seed, args.seed + args.networks)
    title = f"verify {args.device}"
    with tqdm(seeds, title, unit="network", leave=False, disable=report.bar_disabled) as bar:
        for seed in bar:
            again = f"dyadprop verify --device {shlex.quote(args.device)} --networks 1 --seed {seed}"
            try:
                comparison, failure = compare_network(args.device, seed)
            except DyadpropError as error:
                error.add_note(f"this was network {seed}; again: {again}")
                raise
            total += comparison
            if failure is not None:
                failures.append({"seed": seed, **failure, "again": again})
                if len(failures) <= SHOWN:
                    with bar.external_write_mode():
                        report.result(f"mismatch in network {seed}: {failure['text']}\n  again: {again}")
    if not total.words:
        raise DyadpropError(f"no word of device {args.device!r} was compared, so nothing is verified")
    report.write(
        {
            "device": args.device,
            "seed": args.seed,
            "networks": args.networks,
            "words": total.words,
            "mismatches": total.different,
            "failures": failures,
        }
    )
    words = f"{total.words:,} words of {args.networks} network{'s' if args.networks > 1 else ''}"
    if failures:
        report.result(f"{args.device}: {total.different:,} of {words} differ, in {len(failures)} of the networks")
        return 1
    report.result(f"{args.device}: {words} compared with the golden model, all equal")
    return 0


def compare_network(name: str, seed: int, **sizes: Any) -> tuple[Comparison, dict[str, Any] | None]:
    """Compare a device with the golden model on one random network.

    Parameters
    ----------
    name : str
        Of the device.
    seed : int
        Of the network, its parameters and its data (`random_case`).
    **sizes : int
        ``layers``, ``max_width``, ``batch`` of `random_case`.

    Returns
    -------
    Comparison
        Over all calls.
    dict or None
        The first difference: ``call``, ``stage``, ``signal``, ``sample``, ``index``, ``got``, ``expected``, ``text``.
    """
    case = random_case(seed, **sizes)
    total = Comparison()
    failure: dict[str, Any] | None = None
    with open_device(name, case.net) as device, open_device("golden", case.net) as golden:
        for call, comparison, ask in _calls(case, device, golden, seed):
            total += comparison
            first = comparison.first
            if failure is None and first is not None:
                samples = 0 if ask is None else len(case.x)
                sample, text = (
                    (first.sample, str(first)) if ask is None else locate(first, device, golden, samples, ask)
                )
                failure = {"call": call, **asdict(first), "sample": sample, "text": f"{call}: {text}"}
    return total, failure


def _calls(case: Case, device: Device, golden: Device, seed: int) -> Iterator[tuple[str, Comparison, _Ask | None]]:
    """Make each call on both; give its name, what was found, and how to repeat it for a part of the batch."""
    net = case.net
    x = net.formats.activation.to_floats(case.x)
    y = target_format(net).to_floats(case.targets)
    # Seeds are words too, any that fit: scale 1 hands them on as they are.
    form = net.layer_formats(len(net.layers)).sensitivity
    drawn = np.random.default_rng([seed, 1]).integers(form.min_int, form.max_int, y.shape, endpoint=True)
    dy = form.to_floats(drawn)

    params = [entry.decode() for entry in case.params]
    yield "load", compare_saturations(net, device.load(params), golden.load(params)), None
    yield "parameters", compare_parameters(net, device.parameters(), golden.parameters()), None

    calls: dict[str, _Ask] = {
        "gradients": lambda one, part: one.gradients(x[part], y[part]),
        "predict": lambda one, part: one.predict(x[part]),
        "vjp": lambda one, part: one.vjp(x[part], dy[part], scale=1.0),
        # Nothing may be left over from the calls before.
        "gradients again": lambda one, part: one.gradients(x[part], y[part]),
    }
    for call, ask in calls.items():
        yield call, compare_results(net, ask(device, slice(None)), ask(golden, slice(None))), ask
    yield "parameters again", compare_parameters(net, device.parameters(), golden.parameters()), None
    yield from _training(case, device, golden, seed, x, y)


def training_runs(net: Network, seed: int) -> list[tuple[int, Rate]]:
    """Give batch size and rate of each training run: single samples, and more; none that does not fit."""
    rng = np.random.default_rng([seed, 2])
    sizes = (1, int(rng.integers(1, net.max_batch, endpoint=True)))
    drawn = [(size, random_rate(rng, net, size)) for size in sizes]
    return [(size, rate) for size, rate in drawn if rate is not None]


def _training(
    case: Case, device: Device, golden: Device, seed: int, x: Floats, y: Floats
) -> Iterator[tuple[str, Comparison, None]]:
    """Learn on both, with a call for gradients behind each run, which borrows the accumulators with the residuals."""
    net = case.net
    params = [entry.decode() for entry in case.params]
    for batch_size, rate in training_runs(net, seed):
        # What an earlier run left in the accumulators may be too much for this one's batches: start from none.
        for one_device in (device, golden):
            one_device.load(params)
        call = f"train in batches of {batch_size} at {rate.scale}/256 * 2^{-rate.exponent}"
        one, other = (
            d.train(x, y, rate.value, batch_size, epochs=EPOCHS, shuffle=True, seed=seed) for d in (device, golden)
        )
        yield call, compare_training(net, one, other), None
        yield f"state after {call}", compare_checkpoints(net, device.checkpoint(), golden.checkpoint()), None
        between = compare_results(net, device.gradients(x, y), golden.gradients(x, y))
        yield f"gradients after {call}", between, None
        yield "state after these", compare_checkpoints(net, device.checkpoint(), golden.checkpoint()), None
