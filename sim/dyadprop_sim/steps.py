"""Measure online learning: how long one step at batch 1 takes, in the RTL and in software on this machine."""

import ctypes
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dyadprop import timing
from dyadprop.network import Network, Parameters
from dyadprop.operations import Operation
from dyadprop.plan import Plan
from dyadprop.widths import target_format
from dyadprop_sim.builds import run_tool
from dyadprop_sim.library import find_compiler
from dyadprop_sim.measure import last_wave
from dyadprop_sim.rtl_network import pack
from dyadprop_sim.transactions import Words
from dyadprop_sim.verilator import NetworkSimulation

EXPONENT = 4  # of the learning rate; cycles do not depend on it
REPEATS = 20  # of each software figure; their median counts


@dataclass(frozen=True)
class StepCycles:
    """Cycles of steps at batch 1, measured in the RTL.

    Attributes
    ----------
    update_latency : int
        From the first input word to the last new weight written, alone in an idle network.
    interval : float
        Between samples of a stream, each of which waits for the step of the one before.
    """

    update_latency: int
    interval: float


def measure_steps(plan: Plan, samples: int = 20, seed: int = 0) -> StepCycles:
    """Stream batches of one through the RTL.

    Parameters
    ----------
    plan : Plan
    samples : int
        Of the stream, 3 or more.
    seed : int
        Of parameters and samples.
    """
    net = plan.net
    rng = np.random.default_rng(seed)
    rtl = NetworkSimulation(plan)
    try:
        rtl.load(net.quantize(net.init(seed)).raw)
        rates = [rtl.command(s.numbers.index, Operation.RATE, s.numbers.step_shift(EXPONENT)) for s in plan.stages]
        rtl.counters(rates)

        def stream(count: int) -> Words:
            x = net.formats.activation.to_ints(rng.uniform(-1, 1, (count, net.inputs))).words
            y = target_format(net).to_ints(rng.uniform(-1, 1, (count, net.outputs))).words
            times: dict[str, Words] = {}
            expected = {"output": count * net.outputs}
            if net.input_gradient:
                expected["input_sensitivity"] = count * net.inputs
            rtl.run(
                {
                    "input": pack(rtl.input_token, value=x.ravel(), learn=1, update=1),
                    "target": pack(rtl.target_token, value=y.ravel(), seed=0),
                },
                expected,
                cycles=times,
            )
            return times["output"][net.outputs - 1 :: net.outputs]

        start = rtl.simulation.cycle
        stream(1)
        stepped = last_wave(rtl) + timing.UPDATE
        ends = stream(samples)
        interval = float(ends[-1] - ends[0]) / (samples - 1)
        return StepCycles(stepped - start, interval)
    finally:
        rtl.close()


def software_seconds(net: Network, seed: int = 0) -> dict[str, float]:
    """Time one step of SGD at batch 1 in software, median of several runs, in seconds.

    Parameters
    ----------
    net : Network
        tanh layers, the last one identity, squared error.
    seed : int

    Returns
    -------
    dict of str to float
        ``numpy`` (float64), ``torch`` (eager, float32, one thread; only where it is installed), ``c++`` (float32,
        ``-O3 -march=native -ffast-math``).
    """
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-1, 1, net.inputs), rng.uniform(-1, 1, net.outputs)
    params = net.init(seed)
    timings = {"numpy": _median_seconds(_numpy_steps(params, x, y), 200)}
    if find_spec("torch") is not None:
        timings["torch"] = _median_seconds(_torch_steps(params, x, y), 100)
    timings["c++"] = _median_seconds(_cpp_steps(net, params, x, y), 5000)
    return timings


def _median_seconds(steps: Callable[[int], None], count: int) -> float:
    steps(count)  # caches, clocks, lazy set-up
    runs = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        steps(count)
        runs.append((time.perf_counter() - start) / count)
    return statistics.median(runs)


def _numpy_steps(params: list[Parameters], x: Any, y: Any) -> Callable[[int], None]:
    weights = [p.weight.copy() for p in params]
    biases = [p.bias.copy() for p in params]
    last = len(weights) - 1
    rate = 2.0**-EXPONENT * 0.01

    def steps(count: int) -> None:
        for _ in range(count):
            activations = [x]
            for l, (w, b) in enumerate(zip(weights, biases, strict=True)):
                a = w @ activations[-1] + b
                activations.append(np.tanh(a) if l < last else a)
            sensitivity = activations[-1] - y
            for l in range(last, -1, -1):
                out = activations[l + 1]
                delta = sensitivity if l == last else (1.0 - out * out) * sensitivity
                if l:
                    sensitivity = delta @ weights[l]
                weights[l] -= np.outer(rate * delta, activations[l])
                biases[l] -= rate * delta

    return steps


def _torch_steps(params: list[Parameters], x: Any, y: Any) -> Callable[[int], None]:
    import torch

    torch.set_num_threads(1)
    layers: list[Any] = []
    for index, entry in enumerate(params):
        layer = torch.nn.Linear(entry.weight.shape[1], entry.weight.shape[0])
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(entry.weight))
            layer.bias.copy_(torch.tensor(entry.bias))
        layers.append(layer)
        if index < len(params) - 1:
            layers.append(torch.nn.Tanh())
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs, targets = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            loss = 0.5 * ((model(inputs) - targets) ** 2).sum()
            loss.backward()
            optimizer.step()

    return steps


def _cpp_steps(net: Network, params: list[Parameters], x: Any, y: Any) -> Callable[[int], None]:
    folder = Path(tempfile.mkdtemp(prefix="dyadprop-steps-"))
    try:
        source = folder / "latency_loop.cpp"
        source.write_text(files("dyadprop_sim").joinpath("latency_loop.cpp").read_text())
        flags = ["-std=c++17", "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC"]
        run_tool(folder, [find_compiler()[0], *flags, "-o", "latency.so", source.name])
        library = ctypes.CDLL(str(folder / "latency.so"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    tables = [np.ascontiguousarray(np.hstack([p.weight, p.bias[:, None]]), dtype=np.float32) for p in params]
    pointers = (ctypes.c_void_p * len(tables))(*(table.ctypes.data for table in tables))
    sizes = (ctypes.c_int * len(net.widths))(*net.widths)
    inputs, targets = x.astype(np.float32), y.astype(np.float32)

    def steps(count: int) -> None:
        library.latency_steps(
            sizes,
            ctypes.c_int(len(tables)),
            pointers,
            ctypes.c_void_p(inputs.ctypes.data),
            ctypes.c_void_p(targets.ctypes.data),
            ctypes.c_float(1e-3),
            ctypes.c_int(count),
        )
        assert tables[0].size  # the arrays live as long as the loop that uses them

    return steps
