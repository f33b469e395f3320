"""The suite `learning` of `dyadprop bench`: what becomes of accuracy when weights are words of few bits."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dyadprop.data import Dataset, digits, mnist
from dyadprop.errors import RangeError
from dyadprop.network import Dense, Network, Parameters
from dyadprop.optional import optional_packages
from dyadprop.profile import choose_formats
from dyadprop.rates import FULL_SCALE, Rate
from dyadprop.report import Report
from dyadprop_sim.learning import ROUNDINGS, RealLearner, Recipe, WordLearner, learn

BITS = (16, 12, 8, 6)
GOALS = {8: 0.005, 6: 0.02}  # how far lossless may fall below float64
PROFILED = 500  # samples whose signals the formats are chosen from
DRIFT_STEPS = 10_000
DRIFT_BITS = (16, 12, 8, 6)
MOMENTUM_BITS = 3  # momentum 7/8
DECAY_BITS = 12


@dataclass(frozen=True)
class Case:
    """A data set, a network and how it learns.

    Attributes
    ----------
    data : Dataset
    hidden : int
        Units of the tanh layer between inputs and outputs.
    recipe : Recipe
    epochs : int
    """

    data: Dataset
    hidden: int
    recipe: Recipe
    epochs: int

    @property
    def net(self) -> Network:
        """Describe the network; its formats are chosen later."""
        inputs, outputs = self.data.train_x.shape[1], self.data.train_y.shape[1]
        return Network(inputs, [Dense(self.hidden, "tanh"), Dense(outputs)])

    @property
    def name(self) -> str:
        """Say which it is."""
        return f"{self.data.name}, {'-'.join(map(str, self.net.widths))}, batch {self.recipe.batch_size}"


def _recipe(exponent: int, batch_size: int, **options: int) -> Recipe:
    return Recipe(Rate(exponent, FULL_SCALE), batch_size, **options)


def run_learning(args: argparse.Namespace, report: Report) -> int:
    """Learn in each way, print the tables, draw; return 1 if lossless is further below float64 than its goal."""
    if args.runs < 1:
        raise RangeError(f"number of runs is {args.runs}; at least 1 is needed")
    with optional_packages("the picture of what learns"):
        from dyadprop.plots import rounding_picture
    seeds = range(args.seed, args.seed + args.runs)
    small, large = digits(), mnist()
    cases = [
        Case(small, 32, _recipe(6, 1), 12),
        Case(small, 32, _recipe(7, 16), 12),
        Case(large, 64, _recipe(7, 1), 6),
        Case(large, 64, _recipe(8, 16), 6),
    ]
    failures: list[str] = []
    documents = []
    for case in cases:
        documents.append(_case(case, seeds, report))
        failures += documents[-1]["failures"]
    drift = [_drift(cases[0], bits, weights_only, report) for weights_only in (False, True) for bits in DRIFT_BITS]
    extras = [
        _extra("momentum 7/8", Case(small, 32, _recipe(10, 16, momentum_bits=MOMENTUM_BITS), 12), seeds, report),
        _extra("weight decay 2^-12", Case(small, 32, _recipe(7, 16, decay_bits=DECAY_BITS), 12), seeds, report),
    ]
    rounding_picture(args.picture, documents)
    report.say(f"written to {args.picture}")
    for failure in failures:
        report.result(f"failed: {failure}")
    report.write(
        {
            "suite": "learning",
            "seed": args.seed,
            "runs": args.runs,
            "cases": documents,
            "drift": drift,
            "extras": extras,
            "failures": failures,
            "passed": not failures,
        }
    )
    return 1 if failures else 0


def _float_runs(case: Case, seeds: range) -> tuple[list[float], list[list[Parameters]]]:
    """Learn in float64; give the accuracies, and the parameters along the first run."""
    snapshots: list[list[Parameters]] = []
    accuracies = []
    for seed in seeds:
        learner = RealLearner(case.net, case.net.init(seed), case.recipe)
        watch = None if snapshots else lambda one: snapshots.append(one.params)
        accuracies.append(learn(learner, case.data, case.epochs, seed, watch=watch))
    return accuracies, snapshots


def _formats(case: Case, snapshots: list[list[Parameters]], bits: int) -> Network:
    return choose_formats(case.net, snapshots, case.data.train_x[:PROFILED], case.data.train_y[:PROFILED], bits)


def _word_runs(case: Case, net: Network, seeds: range, rounding: str) -> Iterator[float]:
    for seed in seeds:
        learner = WordLearner(net, net.init(seed), case.recipe, rounding, seed)
        yield learn(learner, case.data, case.epochs, seed)


def _case(case: Case, seeds: range, report: Report) -> dict[str, Any]:
    """Learn with each rounding and each width, print a line a width."""
    reals, snapshots = _float_runs(case, seeds)
    report.result(
        f"{case.name}, {case.epochs} epochs at learning rate 2^-{case.recipe.rate.exponent}: test accuracy, mean (and "
        f"deviation) of {len(seeds)} runs\n"
        f"  bits  {'float64':>15}" + "".join(f"  {rounding:>15}" for rounding in ROUNDINGS) + "  lossless - float64"
    )
    rows, failures = [], []
    for bits in BITS:
        net = _formats(case, snapshots, bits)
        accuracies = {"float64": reals}
        accuracies |= {rounding: list(_word_runs(case, net, seeds, rounding)) for rounding in ROUNDINGS}
        below = float(np.mean(reals) - np.mean(accuracies["lossless"]))
        cells = "".join(f"  {np.mean(a):.4f} ({np.std(a):.4f})" for a in accuracies.values())
        report.result(f"  {bits:4}{cells}  {-below:+.4f}")
        goal = GOALS.get(bits)
        if goal is not None and below > goal:
            failures.append(f"{case.name}: lossless at {bits} bits is {below:.4f} below float64; allowed is {goal}")
        rows.append({"bits": bits, "formats": _format_names(net), "accuracies": accuracies})
    return {
        "data": case.data.name,
        "name": case.name,
        "widths": case.net.widths,
        "batch_size": case.recipe.batch_size,
        "learning_rate": case.recipe.rate.value,
        "epochs": case.epochs,
        "rows": rows,
        "failures": failures,
    }


def _drift(case: Case, bits: int, weights_only: bool, report: Report) -> dict[str, Any]:
    """Say how far words and float64 are apart after many steps from the same start, and what part of it is the step."""
    _, snapshots = _float_runs(case, range(1))
    net = _formats(case, snapshots, bits)
    if weights_only:
        net = _with_weights_of(net, _formats(case, snapshots, 18))
    start = net.quantize(net.init(0)).parameters
    real, words = RealLearner(net, start, case.recipe), WordLearner(net, start, case.recipe)
    for learner in (real, words):
        learn(learner, case.data, 10**6, 0, steps=DRIFT_STEPS)
    found: dict[str, Any] = {"bits": bits, "others": 18 if weights_only else bits, "steps": DRIFT_STEPS, "stages": []}
    for l, (held, followed, exact) in enumerate(zip(words.params, words.followed, real.params, strict=True), start=1):
        lsb = net.layer_formats(l).weight.lsb
        apart = np.abs(held.weight - exact.weight) / lsb
        found["stages"].append(
            {
                "largest": float(apart.max()),
                "mean": float(apart.mean()),
                "of_the_step": float(np.max(np.abs(held.weight - followed.weight)) / lsb),
                "of_the_gradients": float(np.max(np.abs(followed.weight - exact.weight)) / lsb),
            }
        )
    text = "; ".join(
        f"stage {l}: at most {s['largest']:.2f} lsb, mean {s['mean']:.3f} (step {s['of_the_step']:.2f}, gradients "
        f"{s['of_the_gradients']:.2f})"
        for l, s in enumerate(found["stages"], start=1)
    )
    which = f"weights of {bits} bits, all else of 18" if weights_only else f"words of {bits} bits"
    report.result(f"{case.name}: {which} and float64 after {DRIFT_STEPS:,} steps: {text}")
    return found


def _with_weights_of(net: Network, wide: Network) -> Network:
    """Give the network ``wide`` with the weights of ``net``."""
    layers = []
    for l, layer in enumerate(wide.layers, start=1):
        formats = replace(wide.layer_formats(l), weight=net.layer_formats(l).weight)
        layers.append(replace(layer, formats=formats))
    return Network(wide.inputs, layers, wide.cost, formats=wide.formats)


def _extra(name: str, case: Case, seeds: range, report: Report) -> dict[str, Any]:
    """Learn with momentum or decay, lossless and in float64."""
    reals, snapshots = _float_runs(case, seeds)
    accuracies = {"float64": reals}
    for bits in (16, 8):
        accuracies[f"{bits} bits"] = list(_word_runs(case, _formats(case, snapshots, bits), seeds, "lossless"))
    cells = ", ".join(f"{key} {np.mean(a):.4f} ({np.std(a):.4f})" for key, a in accuracies.items())
    report.result(f"{case.name}, lossless with {name}: {cells}")
    return {"name": name, "case": case.name, "accuracies": accuracies}


def _format_names(net: Network) -> list[dict[str, str]]:
    names = []
    for l in range(len(net.layers) + 1):
        formats = net.layer_formats(l)
        names.append({name: str(getattr(formats, name)) for name in ("activation", "weight", "sensitivity")})
    return names
