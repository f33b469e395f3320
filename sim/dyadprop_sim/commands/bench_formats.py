"""The suite `formats` of `dyadprop bench`: what formats chosen from a float64 run cost, in gradients and in scores."""

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np

from dyadprop.data import DATASETS, Dataset
from dyadprop.device import Device, open_device
from dyadprop.errors import RangeError
from dyadprop.formats import Floats
from dyadprop.network import Dense, Network, Parameters
from dyadprop.profile import choose_formats
from dyadprop.relaxation.reals import Reals
from dyadprop.report import Report
from dyadprop.training import Learner, Momentum, right_answers

BITS = (16, 12, 8)
PROFILED = 500  # samples whose signals the formats are chosen from
COMPARED = 255  # samples over which gradients are summed: one go of the device
SCORE_GOALS = {16: 0.005, 12: 0.01, 8: 0.02}  # how far a mean score may fall below float64's
COSINE_GOALS = {16: 0.9999, 12: 0.99}  # at the start of training


@dataclass(frozen=True)
class Case:
    """A data set, a network, and how it learns.

    Attributes
    ----------
    data : str
        One of ``DATASETS``.
    hidden : int
        Units of the tanh layer.
    cost : str
    learning_rate : float
        Of a batch's mean gradient; momentum is 0.9.
    batch_size, epochs : int
    """

    data: str
    hidden: int
    cost: str
    learning_rate: float
    batch_size: int
    epochs: int

    def net(self, data: Dataset) -> Network:
        """Describe the network; its formats are chosen later."""
        layers = [Dense(self.hidden, "tanh"), Dense(data.train_y.shape[1])]
        return Network(data.train_x.shape[1], layers, self.cost)


CASES = (
    Case("digits", 32, "softmax_cross_entropy", 0.05, 32, 15),
    Case("mnist", 64, "softmax_cross_entropy", 0.05, 32, 4),
    Case("breast_cancer", 16, "softmax_cross_entropy", 0.02, 16, 20),
    Case("diabetes", 16, "squared_error", 0.005, 16, 20),
)


def run_formats(args: argparse.Namespace, report: Report) -> int:
    """Learn on each data set with each width, print the tables; return 1 where a goal is missed."""
    if args.runs < 1:
        raise RangeError(f"number of runs is {args.runs}; at least 1 is needed")
    documents, failures = [], []
    for case in CASES:
        documents.append(_case(case, range(args.seed, args.seed + args.runs), report))
        failures += documents[-1]["failures"]
    for failure in failures:
        report.result(f"failed: {failure}")
    report.write(
        {
            "suite": "formats",
            "seed": args.seed,
            "runs": args.runs,
            "cases": documents,
            "failures": failures,
            "passed": not failures,
        }
    )
    return 1 if failures else 0


def _case(case: Case, seeds: range, report: Report) -> dict[str, Any]:
    data = DATASETS[case.data]()
    net = case.net(data)
    runs = [_learn("float", net, case, data, seed) for seed in seeds]
    real = [score for score, _ in runs]
    snapshots = runs[0][1]
    kind = "test R^2" if data.test_y.shape[1] == 1 else "test accuracy"
    report.result(
        f"{case.data}, {'-'.join(map(str, net.widths))}, {case.cost}, {case.epochs} epochs of batch {case.batch_size}: "
        f"{kind} of float64 {np.mean(real):.4f}, mean of {len(seeds)}\n"
        f"  bits  {kind:>13}  - float64  limited  cosine of each layer's gradient: at the start, at the end, there "
        "with seeds scaled"
    )
    rows, failures = [], []
    for bits in BITS:
        chosen = choose_formats(net, snapshots, data.train_x[:PROFILED], data.train_y[:PROFILED], bits)
        learned = [_learn("golden", chosen, case, data, seed) for seed in seeds]
        scores = [score for score, _ in learned]
        first, last = (
            _cosines(chosen, params, data.train_x[:COMPARED], data.train_y[:COMPARED])
            for params in (snapshots[0], snapshots[-1])
        )
        below = float(np.mean(real) - np.mean(scores))
        row = {
            "bits": bits,
            "formats": [str(chosen.layer_formats(l)) for l in range(len(net.layers) + 1)],
            "scores": scores,
            "start": first["as they are"],
            "end": last["as they are"],
            "end_scaled": last["scaled"],
            "limited": last["limited"],
        }
        rows.append(row)
        texts = [" ".join(f"{cosine:.5f}" for cosine in row[key]) for key in ("start", "end", "end_scaled")]
        report.result(f"  {bits:4}  {np.mean(scores):13.4f}  {-below:+9.4f}  {row['limited']:7}  {'   '.join(texts)}")
        if below > SCORE_GOALS[bits]:
            goal = SCORE_GOALS[bits]
            failures.append(f"{case.data}: {kind} at {bits} bits is {below:.4f} below float64; allowed is {goal}")
        if bits in COSINE_GOALS and min(row["start"]) < COSINE_GOALS[bits]:
            goal, least = COSINE_GOALS[bits], min(row["start"])
            failures.append(f"{case.data}: cosine at {bits} bits is {least:.6f}; at least {goal} is expected")
    return {
        "data": case.data,
        "widths": net.widths,
        "cost": case.cost,
        "epochs": case.epochs,
        "batch_size": case.batch_size,
        "learning_rate": case.learning_rate,
        "float64": real,
        "rows": rows,
        "failures": failures,
    }


def _learn(kind: str, net: Network, case: Case, data: Dataset, seed: int) -> tuple[float, list[list[Parameters]]]:
    """Give the score on test data, and the parameters at the start and after each epoch."""
    with open_device(kind, net) as device:
        learner = Learner(device, net.init(seed), Momentum(case.learning_rate))
        snapshots = [learner.params]
        for _ in range(case.epochs):
            for _ in learner.epoch(data.train_x, data.train_y, case.batch_size, seed):
                pass
            snapshots.append(learner.params)
        device.load(learner.params)
        return score(device.predict(data.test_x).outputs, data.test_y), snapshots


def score(outputs: Floats, targets: Floats) -> float:
    """Give the part of right answers, or of the variance that is explained where there is one target."""
    if targets.shape[1] == 1:
        return float(1.0 - np.sum((outputs - targets) ** 2) / np.sum((targets - targets.mean()) ** 2))
    return right_answers(outputs, targets) / len(outputs)


def _cosines(net: Network, params: list[Parameters], x: Floats, y: Floats) -> dict[str, Any]:
    """Compare each layer's gradient with float64's, where nothing is rounded, the parameters neither.

    Returns
    -------
    dict
        ``"as they are"``: of the network's own cost. ``"scaled"``: of the same seeds, handed in as a framework does,
        with one power of two for the whole batch. ``"limited"``: values that the first one limited to their format.
    """

    def load(kind: str) -> Device:
        device = open_device(kind, net)
        device.load(params)
        return device

    with load("float") as real, load("golden") as words:
        wanted = real.gradients(x, y).gradients
        result = words.gradients(x, y)
        # Behind softmax_cross_entropy and squared_error a seed is dC/dx_L itself.
        scaled = words.vjp(x, Reals(net, params).seed(result.outputs, y)).gradients
    return {
        "as they are": [_cosine(a, b) for a, b in zip(result.gradients, wanted, strict=True)],
        "scaled": [_cosine(a, b) for a, b in zip(scaled, wanted, strict=True)],
        "limited": sum(entry.count for entry in result.stats.saturations),
    }


def _cosine(one: Parameters, other: Parameters) -> float:
    a, b = (np.concatenate([entry.weight.ravel(), entry.bias]) for entry in (one, other))
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else 0.0
