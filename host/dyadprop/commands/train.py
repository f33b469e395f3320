"""Train a network on handwritten digits with gradients from a device.

With --update host, the device computes outputs and gradients; this program does gradient descent with momentum in
float64 and loads the parameters again before each batch. With --update device, the device takes the steps too (lossless
SGD), and nothing crosses the link but samples and outputs. Each answer is compared with the golden model's, word by
word, what the device learnt included, and a float64 network learns beside it from the same start and in the same order.

It fails (exit code 1) at the first word that differs, and at the end if the test accuracy is too low or too far from
float64's. loss.png, history.json, parameters.npz and net.toml are written to --out; checkpoint.npz too, with what a
device goes on learning from.
"""

import argparse
import math
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dyadprop.checkpoints import save_checkpoint
from dyadprop.checks import positive
from dyadprop.comparison import Comparison, Difference, locate
from dyadprop.data import Dataset, digits
from dyadprop.device import Device, open_device
from dyadprop.device_training import DeviceLearner
from dyadprop.errors import RangeError
from dyadprop.files import check_writable
from dyadprop.network import Dense, Network, Parameters
from dyadprop.optional import optional_packages
from dyadprop.parameter_files import check_parameter_path, load_parameters, save_parameters
from dyadprop.report import Report, write_json
from dyadprop.training import EpochFigures, Learner, Momentum, Step

DEFAULT_DEVICE = "verilator"
REQUIRED_ACCURACY = 0.95  # of the default network
CLOSENESS = 0.01  # to float64: 3.6 of the 360 test samples

HOST_DEFAULTS = {"batch_size": 32, "learning_rate": 0.05, "momentum": 0.9}
DEVICE_DEFAULTS = {"batch_size": 1, "learning_rate": 2.0**-6, "momentum": 0.0}

_Learner = Learner | DeviceLearner

# Kinds of device that are not compared with the golden model, and why.
_NOT_COMPARED = {
    "golden": "it is the golden model itself, nothing is compared",
    "float": "it has no words, nothing is compared",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of training."""
    parser.add_argument(
        "--update", choices=("host", "device"), default="host", help="who takes the steps (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=positive, default=15, metavar="N", help="default: %(default)s")
    parser.add_argument("--batch-size", type=positive, metavar="N", help="default: 32; on the device 1")
    parser.add_argument(
        "--learning-rate",
        type=float,
        metavar="R",
        help="of a batch's mean gradient, default 0.05; on the device of its sum, default 2^-6",
    )
    parser.add_argument("--momentum", type=float, metavar="M", help="default: 0.9; there is none on the device")
    parser.add_argument(
        "--network", metavar="NET.TOML", help="a network of 64 inputs and 10 outputs (default: 64-32-10, tanh)"
    )
    parser.add_argument("--load", metavar="FILE", help="parameters to start from (default: drawn from --seed)")
    parser.add_argument("--save", metavar="FILE", help="write the parameters here too, .npz or .safetensors")
    parser.add_argument("--out", default="build/train", metavar="DIR", help="default: %(default)s")
    parser.add_argument("--no-compare", action="store_true", help="do not compare with the golden model")
    parser.add_argument(
        "--require-accuracy",
        type=float,
        metavar="A",
        help=f"fail below this test accuracy, or more than {CLOSENESS} away from float64's; 0 switches both off "
        f"(default: {REQUIRED_ACCURACY} for the default network, else 0)",
    )


def run(args: argparse.Namespace) -> int:
    """Train, compare, test, draw."""
    report = Report.of(args)
    with optional_packages("the picture of the learning curve"):
        from dyadprop.plots import learning_curves
    data = digits()
    net = _network(args.network, data)
    start = net.init(args.seed) if args.load is None else load_parameters(args.load, net)
    _set_defaults(args)
    out = _directory(args.out)
    written = ["loss.png", "history.json", "parameters.npz", "net.toml"]
    if args.update == "device":
        written.append("checkpoint.npz")
    for name in written:
        check_writable("file", out / name)
    if args.save is not None:
        check_parameter_path(args.save)

    report.say(f"{net!r}; {data.name}: {len(data.train_x)} samples to train, {len(data.test_x)} to test")
    report.say(f"opening device {args.device}")  # which may mean to build it
    clock = time.perf_counter()
    with ExitStack() as stack:
        device = stack.enter_context(open_device(args.device, net))
        reference = stack.enter_context(open_device("float", net))
        not_compared = "nothing is compared, as asked for" if args.no_compare else _NOT_COMPARED.get(device.info.kind)
        golden = None if not_compared else stack.enter_context(open_device("golden", net))
        opening = time.perf_counter() - clock
        report.say(f"device {args.device}: " + (not_compared or "each word is compared with the golden model's"))
        learner = _learner(args, device, start, golden)
        beside = _learner(args, reference, start, None)
        words, mismatch = _train(args, report, data, learner, beside)
    total = time.perf_counter() - clock

    accuracy, float_accuracy = (
        history[-1].test_accuracy if history else math.nan for history in (learner.history, beside.history)
    )
    failures = [mismatch["text"]] if mismatch else _failures(args, accuracy, float_accuracy)
    document = {
        "device": args.device,
        "seed": args.seed,
        "data": data.name,
        "network": net.hash,
        "widths": net.widths,
        "epochs": args.epochs,
        "batch_size": args.batch_size,
        "update": args.update,
        "learning_rate": args.learning_rate,
        "momentum": args.momentum,
        "accuracy": accuracy,
        "float_accuracy": float_accuracy,
        "words": words.words,
        "mismatches": words.different,
        "first_mismatch": mismatch,
        "passed": not failures,
        "seconds": _seconds(total, opening, learner, beside),
        "history": [_document(figures) for figures in learner.history],
        "float_history": [_document(figures) for figures in beside.history],
    }
    write_json(out / "history.json", document)
    report.write(document)
    if mismatch:
        report.result(f"mismatch: {mismatch['text']}")
        return 1

    net.save(out / "net.toml")
    save_parameters(out / "parameters.npz", net, learner.params)
    if isinstance(learner, DeviceLearner):
        save_checkpoint(out / "checkpoint.npz", learner.state)
    what = "learnt on" if args.update == "device" else "gradients from"
    title = f"{data.name}, {'-'.join(str(width) for width in net.widths)}: {what} {args.device} and in float64"
    learning_curves(out / "loss.png", learner.history, beside.history, name=args.device, title=title)
    if args.save is not None:
        save_parameters(args.save, net, learner.params)
    report.result(
        f"test accuracy: {args.device} {accuracy:.4f}, float {float_accuracy:.4f}, "
        f"difference {accuracy - float_accuracy:+.4f}"
    )
    report.result(f"words compared: {words.words:,}" + (f" ({not_compared})" if not_compared else ", all equal"))
    report.say("time: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in document["seconds"].items()))
    report.say(f"written to {out}: {', '.join(written)}")
    for failure in failures:
        report.result(f"failed: {failure}")
    return 1 if failures else 0


def _train(
    args: argparse.Namespace, report: Report, data: Dataset, learner: _Learner, beside: _Learner
) -> tuple[Comparison, dict[str, Any] | None]:
    """Run all epochs of both learners; give what was compared, and the first mismatch, which ends it."""
    total = Comparison()
    for epoch in range(1, args.epochs + 1):
        steps = learner.epoch(data.train_x, data.train_y, args.batch_size, args.seed)
        title = f"epoch {epoch}/{args.epochs}"
        samples = len(data.train_x)
        with tqdm(None, title, samples, unit="sample", leave=False, disable=report.bar_disabled) as bar:
            for step in steps:
                bar.update(len(step.samples))
                total += step.comparison
                if step.comparison.first is not None:
                    return total, _step_mismatch(epoch, step, step.comparison.first, learner, data)
        for _ in beside.epoch(data.train_x, data.train_y, args.batch_size, args.seed):
            pass
        _, comparison = learner.test(data.test_x, data.test_y)
        total += comparison
        if comparison.first is not None:
            first = comparison.first
            return total, _mismatch(first, first.sample, f"test after epoch {epoch}: {first}")
        beside.test(data.test_x, data.test_y)
        report.say(_epoch_line(args.epochs, learner.history[-1], beside.history[-1]))
    return total, None


def _step_mismatch(epoch: int, step: Step, first: Difference, learner: _Learner, data: Dataset) -> dict[str, Any]:
    if isinstance(learner, DeviceLearner):
        # The device has learnt on: no sample can be asked for again.
        return _mismatch(first, first.sample, f"epoch {epoch}, from batch {step.batch} on: {first}")
    assert learner.golden is not None
    x, y = data.train_x[step.samples], data.train_y[step.samples]
    sample, text = locate(
        first, learner.device, learner.golden, len(x), lambda device, part: device.gradients(x[part], y[part])
    )
    return _mismatch(first, sample, f"epoch {epoch}, batch {step.batch}: {text}")


def _mismatch(first: Difference, sample: int | None, text: str) -> dict[str, Any]:
    return {**asdict(first), "sample": sample, "text": text}


def _epoch_line(epochs: int, device: EpochFigures, reference: EpochFigures) -> str:
    parts = [
        f"epoch {device.epoch:{len(str(epochs))}}/{epochs}",
        f"cost {device.cost:.4f} (float {reference.cost:.4f})",
        f"train {device.train_accuracy:.4f}",
        f"test {device.test_accuracy:.4f} (float {reference.test_accuracy:.4f})",
        f"{device.gradients_per_second:.0f} gradients/s",
    ]
    if device.cycles:
        parts.append(f"{device.cycles_per_gradient:.1f} cycles/gradient")
    parts.append(f"{device.saturations} saturated")
    return "  ".join(parts)


def _failures(args: argparse.Namespace, accuracy: float, float_accuracy: float) -> list[str]:
    required = args.require_accuracy
    if required is None:
        required = REQUIRED_ACCURACY if args.network is None else 0.0
    if required <= 0.0:
        return []
    failures = []
    if accuracy < required:
        failures.append(f"test accuracy is {accuracy:.4f}; at least {required:g} is required (--require-accuracy)")
    if abs(accuracy - float_accuracy) > CLOSENESS:
        failures.append(
            f"test accuracy is {accuracy:.4f} and float64's {float_accuracy:.4f}; allowed is {CLOSENESS} between"
        )
    return failures


def _seconds(total: float, opening: float, learner: _Learner, beside: _Learner) -> dict[str, float]:
    """Split the time: the device, what is done for comparison, and everything else."""
    seconds = {
        "opening": opening,
        "device": learner.device_seconds,
        "golden": learner.golden_seconds,
        "float": beside.device_seconds,
    }
    return {**seconds, "other": total - sum(seconds.values()), "total": total}


def _set_defaults(args: argparse.Namespace) -> None:
    """Fill in what depends on who takes the steps."""
    device = args.update == "device"
    if device and args.momentum:
        raise RangeError(f"momentum is {args.momentum}; with --update device there is none")
    defaults = DEVICE_DEFAULTS if device else HOST_DEFAULTS
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def _learner(args: argparse.Namespace, device: Device, start: list[Parameters], golden: Device | None) -> _Learner:
    if args.update == "device":
        return DeviceLearner(device, start, args.learning_rate, golden)
    return Learner(device, start, Momentum(args.learning_rate, args.momentum), golden)


def _document(figures: EpochFigures) -> dict[str, Any]:
    return {
        **asdict(figures),
        "gradients_per_second": figures.gradients_per_second,
        "cycles_per_gradient": figures.cycles_per_gradient,
    }


def _network(path: str | None, data: Dataset) -> Network:
    inputs, outputs = data.train_x.shape[1], data.train_y.shape[1]
    if path is None:
        return Network(inputs, [Dense(32, "tanh"), Dense(outputs)], cost="squared_error")
    net = Network.load(path)
    if (net.inputs, net.outputs) != (inputs, outputs):
        raise RangeError(
            f"network {path} has {net.inputs} inputs and {net.outputs} outputs; {data.name} has {inputs} and {outputs}"
        )
    return net


def _directory(path: str) -> Path:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RangeError(f"directory {path} cannot be made: {error.strerror}") from error
    return Path(path)
