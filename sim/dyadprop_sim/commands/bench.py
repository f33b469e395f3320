"""Measure cycles in the RTL, and speed on this machine.

The suite `simulation` streams samples through the RTL of two networks and holds cycles a gradient, latencies and the
busy share of the multipliers against their predictions and goals; then it measures simulated gradients a second through
the device verilator, and the golden model's beside plain NumPy float64's. All words that come back are compared with
the golden model's. Cycles and shares are the same on every machine; seconds are not, and their ratios nearly.

The suite `learning` trains two networks with words of 16 to 6 bits, whose formats are chosen from a float64 run:
lossless as the device does, with steps rounded to nearest or stochastically, and in float64. It tells their accuracies
on test data, how far lossless and float64 drift apart, and what momentum and weight decay would give.

The suite `formats` holds chosen formats against the truth: it trains networks on four data sets with gradients from the
golden model, in words of 16, 12 and 8 bits, and tells the scores on test data beside float64's, and the cosine of each
layer's gradient to float64's at the start and at the end.

The suite `faults` sends batches to the simulated RTL of a chip through a cable that loses, flips, doubles and delays
bytes, pulls the plug and takes the power away. The suite `wire` measures the share of a serial line that samples and
gradients use, and the suite `driver` what the driver adds to a call.

Exit code 1 if a word differs, a count of cycles is not the predicted one, a share is below its goal, or a score or a
cosine falls further below float64 than its goal.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from dyadprop.comparison import Comparison, compare_results
from dyadprop.device import open_device
from dyadprop.errors import RangeError
from dyadprop.formats import Floats
from dyadprop.network import Dense, Network, Parameters
from dyadprop.plan import plan_network
from dyadprop.report import Report
from dyadprop_sim.commands.bench_faults import run_faults
from dyadprop_sim.commands.bench_formats import run_formats
from dyadprop_sim.commands.bench_latency import run_latency
from dyadprop_sim.commands.bench_learning import run_learning
from dyadprop_sim.commands.bench_wire import run_driver, run_wire
from dyadprop_sim.measure import measure_streaming, shares_of_multipliers


@dataclass(frozen=True)
class StreamCase:
    """A network that is streamed through.

    Attributes
    ----------
    widths : tuple of int
        ``n_0 .. n_L``; tanh, the last layer identity.
    multipliers : int
        Budget.
    goal : float
        Least busy share of the multipliers in steady state.
    """

    widths: tuple[int, ...]
    multipliers: int
    goal: float

    @property
    def net(self) -> Network:
        """Describe it."""
        hidden = [Dense(width, "tanh") for width in self.widths[1:-1]]
        return Network(self.widths[0], [*hidden, Dense(self.widths[-1])])


STREAMS = (StreamCase((64, 32, 10), 90, 0.93), StreamCase((16, 64, 32, 32, 5), 110, 0.85))
SPEED = (64, 32, 10)  # of the network whose seconds are measured
SPEED_GOAL = 5000  # simulated gradients a second on the machine that the project was begun on; others differ: no check

_SHARES = {
    "useful": "useful: products of weights",
    "bias": "bias column, whose operand is 1.0",
    "padding": "rows that do not exist",
    "pitch": "more lanes than columns",
    "waiting": "waiting for the slowest stage",
    "slopes": "slopes and deltas",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the suite and its sizes."""
    parser.add_argument("suite", nargs="?", choices=sorted(_SUITES), default="simulation", help="default: %(default)s")
    parser.add_argument(
        "--samples", type=int, default=1000, metavar="N", help="of the longest stream, 2 or more (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=10, metavar="N", help="in which each speed is measured (default: %(default)s)"
    )
    parser.add_argument(
        "--runs",
        type=int,
        default=3,
        metavar="N",
        help="seeds that the suites learning and formats average (default: %(default)s)",
    )
    parser.add_argument(
        "--batches", type=int, default=50, metavar="N", help="of each row of the suite faults (default: %(default)s)"
    )
    parser.add_argument("--fault", metavar="KIND", help="the only kind of the suite faults (default: all)")
    parser.add_argument(
        "--picture", default="build/learning.png", metavar="FILE", help="of the suite learning (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the suite."""
    if args.device is not None:
        raise RangeError(f"device is {args.device!r}; bench opens its own devices, so none can be chosen")
    if args.samples < 2:
        raise RangeError(f"number of samples is {args.samples}; at least 2 are needed to see a steady state")
    if args.rounds < 1:
        raise RangeError(f"number of rounds is {args.rounds}; at least 1 is needed")
    return _SUITES[args.suite](args, Report.of(args))


def _simulation(args: argparse.Namespace, report: Report) -> int:
    failures: list[str] = []
    compared = Comparison()
    streams = []
    for case in STREAMS:
        document, found = _stream(case, args, report)
        streams.append(document)
        compared += found
        failures += document["failures"]
    speed, found = _speed(args, report)
    compared += found
    if compared.different:
        failures.append(f"{compared.different} words differ from the golden model's; the first: {compared.first}")
    report.result(
        f"words compared with the golden model: {compared.words:,}, "
        + (f"{compared.different:,} differ" if compared.different else "all equal")
    )
    for failure in failures:
        report.result(f"failed: {failure}")
    report.write(
        {
            "suite": "simulation",
            "seed": args.seed,
            "machine": _machine(),
            "streams": streams,
            "speed": speed,
            "words": compared.words,
            "mismatches": compared.different,
            "failures": failures,
            "passed": not failures,
        }
    )
    return 1 if failures else 0


def _stream(case: StreamCase, args: argparse.Namespace, report: Report) -> tuple[dict[str, Any], Comparison]:
    """Stream through one network, print its table, and say what is not as predicted."""
    name = "-".join(map(str, case.widths))
    plan = plan_network(case.net, case.multipliers)
    report.say(f"{name}: building its RTL, streaming {args.samples:,} samples")
    got = measure_streaming(plan, args.samples, args.seed)
    shares = shares_of_multipliers(plan, got.interval)
    whole = plan.products * got.samples / (plan.multipliers * got.cycles)
    pairs = {
        "cycles a gradient, steady state": (got.interval, plan.interval),
        "cycles from the first input to the last output, one sample alone": (got.output_latency, plan.output_latency),
        "cycles from the first input to the last gradient, one sample alone": (
            got.gradient_latency,
            plan.gradient_latency,
        ),
    }
    lanes = "/".join(map(str, plan.lanes))
    report.result(f"\n{name}: lanes {lanes}, {plan.multipliers} multipliers of at most {case.multipliers}")
    rows = [("", "measured", "predicted"), *((what, f"{m:,.10g}", f"{p:,}") for what, (m, p) in pairs.items())]
    rows.append(
        (f"cycles a gradient, {got.samples:,} samples, fill and drain too", f"{got.cycles / got.samples:.2f}", "")
    )
    rows.append(
        ("multipliers busy with useful products, steady state", f"{shares['useful']:.1%}", f"goal {case.goal:.0%}")
    )
    rows.append((f"multipliers busy with useful products, {got.samples:,} samples", f"{whole:.1%}", ""))
    _table(report, rows)
    report.result("  where the multipliers' cycles go, steady state:")
    _table(report, [(f"  {_SHARES[key]}", f"{share:.1%}") for key, share in shares.items() if share])
    failures = [f"{name}: {what}: measured {m}, predicted {p}" for what, (m, p) in pairs.items() if m != p]
    if shares["useful"] < case.goal:
        failures.append(f"{name}: multipliers are busy {shares['useful']:.3f} of the time; the goal is {case.goal}")
    return {
        "network": name,
        "lanes": plan.lanes,
        "multipliers": plan.multipliers,
        "budget": case.multipliers,
        "samples": got.samples,
        "cycles": got.cycles,
        "cycles_a_gradient": got.cycles / got.samples,
        "interval": got.interval,
        "predicted_interval": plan.interval,
        "output_latency": got.output_latency,
        "predicted_output_latency": plan.output_latency,
        "gradient_latency": got.gradient_latency,
        "predicted_gradient_latency": plan.gradient_latency,
        "busy_share": shares["useful"],
        "busy_share_goal": case.goal,
        "busy_share_with_fill_and_drain": whole,
        "shares": shares,
        "failures": failures,
    }, got.compared


def _speed(args: argparse.Namespace, report: Report) -> tuple[dict[str, Any], Comparison]:
    """Measure gradients a second: the RTL's, the golden model's, and plain NumPy's, in turns."""
    net = StreamCase(SPEED, 90, 0.0).net
    batch = net.max_batch
    rng = np.random.default_rng(args.seed)
    x, y = rng.uniform(-1, 1, (batch, net.inputs)), rng.uniform(0, 1, (batch, net.outputs))
    params = net.init(args.seed)
    report.say(f"\n{'-'.join(map(str, SPEED))}: measuring speed, batches of {batch}")
    with open_device("verilator", net) as rtl, open_device("golden", net) as golden:
        rtl.load(params)
        golden.load(params)
        contestants: dict[str, Callable[[], Any]] = {
            "verilator": lambda: rtl.gradients(x, y),
            "golden": lambda: golden.gradients(x, y),
            "numpy": lambda: plain_gradients(params, x, y),
        }
        compared = compare_results(net, contestants["verilator"](), contestants["golden"]())
        outside: list[float] = []
        rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
        repeats = {name: max(1, round(0.05 / _time(work, 1)[0])) for name, work in contestants.items()}
        # In turns, so that a machine that slows down slows all of them down.
        for _ in tqdm(range(args.rounds), "speed", unit="round", leave=False, disable=report.bar_disabled):
            for name, work in contestants.items():
                rounds[name].append(_time(work, repeats[name]))
            stats = rtl.gradients(x, y).stats
            outside.append(1 - stats.device_seconds / stats.seconds)
        cycles = (stats.cycles + stats.transfer_cycles) / batch
    # The fastest round is the one that other programs have disturbed least.
    best = {name: min(times) for name, times in rounds.items()}
    rate = {name: batch / wall for name, (wall, _) in best.items()}
    used = {name: cpu / wall for name, (wall, cpu) in best.items()}
    golden_share = rate["golden"] / rate["numpy"]
    _table(
        report,
        [
            ("", "gradients/s", "processors used"),
            *(
                (what, f"{rate[name]:,.0f}", f"{used[name]:.2f}")
                for name, what in (
                    ("verilator", "RTL, device verilator"),
                    ("golden", "golden model, integers"),
                    ("numpy", "plain NumPy, float64"),
                )
            ),
        ],
    )
    _table(
        report,
        [
            ("golden model against plain NumPy", f"{golden_share:.3f}"),
            ("RTL: time outside the simulation", f"{np.median(outside):.1%}"),
            ("RTL: cycles a gradient, read-out of gradients too", f"{cycles:.1f}"),
            ("RTL: simulated cycles/s", f"{rate['verilator'] * cycles:,.0f}"),
        ],
    )
    return {
        "network": "-".join(map(str, SPEED)),
        "batch": batch,
        "rounds": args.rounds,
        "gradients_per_second": rate,
        "processors_used": used,
        "verilator_goal": SPEED_GOAL,
        "golden_over_numpy": golden_share,
        "share_outside_simulation": float(np.median(outside)),
        "cycles_a_gradient_with_read_out": cycles,
        "simulated_cycles_per_second": rate["verilator"] * cycles,
    }, compared


def plain_gradients(params: Sequence[Parameters], x: Floats, y: Floats) -> list[Parameters]:
    """Backpropagate as anybody would in NumPy: tanh layers, the last one identity, squared error.

    Returns
    -------
    list of Parameters
        Summed over the batch.
    """
    activations = [x]
    for layer, (weight, bias) in enumerate(params, start=1):
        a = activations[-1] @ weight.T + bias
        activations.append(a if layer == len(params) else np.tanh(a))
    delta = activations[-1] - y
    gradients: list[Parameters] = []
    for layer in range(len(params), 0, -1):
        before = activations[layer - 1]
        gradients.insert(0, Parameters(delta.T @ before, delta.sum(axis=0)))
        if layer > 1:
            delta = (delta @ params[layer - 1].weight) * (1.0 - before * before)
    return gradients


def _time(work: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Give wall-clock and processor seconds of one call, of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats


def _table(report: Report, rows: Sequence[tuple[str, ...]]) -> None:
    width = max(len(row[0]) for row in rows)
    for what, *cells in rows:
        report.result(
            "  " + what.ljust(max(width, 66)) + "".join(cell.rjust(16 if k else 13) for k, cell in enumerate(cells))
        )


def _machine() -> dict[str, Any]:
    model = ""
    try:
        with open("/proc/cpuinfo") as lines:
            model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        pass
    return {
        "processor": model or platform.machine(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


_SUITES: dict[str, Callable[[argparse.Namespace, Report], int]] = {
    "driver": run_driver,
    "faults": run_faults,
    "formats": run_formats,
    "latency": run_latency,
    "learning": run_learning,
    "simulation": _simulation,
    "wire": run_wire,
}
