"""Measure the RTL: cycles a gradient, latencies, and how busy its multipliers are."""

from dataclasses import dataclass

import numpy as np

from dyadprop import timing
from dyadprop.comparison import Comparison, compare_words
from dyadprop.formats import Ints
from dyadprop.network import RawParameters
from dyadprop.operations import Operation
from dyadprop.plan import Plan
from dyadprop.widths import target_format
from dyadprop_hw.layouts import StageStatus
from dyadprop_sim.golden import Model
from dyadprop_sim.library import BuildOptions
from dyadprop_sim.rtl_network import pack, unpack
from dyadprop_sim.transactions import DEFAULT_PATIENCE, Words
from dyadprop_sim.verilator import NetworkSimulation


@dataclass(frozen=True)
class Streaming:
    """Cycles of a network, measured in its RTL.

    Attributes
    ----------
    samples : int
        Of the stream that was measured as a whole.
    cycles : int
        Of that stream, from its first input word to the last gradient written: fill and drain included.
    interval : float
        Cycles a sample in steady state: what ``samples`` more cost a stream that is half as long.
    output_latency, gradient_latency : int
        Cycles from the first input word of one sample, alone, to its last output and to the last gradient written.
    compared : Comparison
        Outputs and gradients of all streams, word by word with the golden model's.
    """

    samples: int
    cycles: int
    interval: float
    output_latency: int
    gradient_latency: int
    compared: Comparison


def measure_streaming(plan: Plan, samples: int, seed: int = 0, options: BuildOptions | None = None) -> Streaming:
    """Stream random samples through the RTL and note when outputs leave and gradients are written.

    Parameters
    ----------
    plan : Plan
        Of a network without input gradient: what it waits for is the last gradient.
    samples : int
        At least 2. Streams of 1, half as many, as many, and half as many more are run.
    seed : int
        Of parameters and samples.
    options : BuildOptions, optional
    """
    net = plan.net
    assert samples >= 2
    assert not net.input_gradient
    rng = np.random.default_rng(seed)
    params = net.quantize(net.init(seed)).raw
    longest = samples + samples // 2
    x = net.formats.activation.to_ints(rng.uniform(-1, 1, (longest, net.inputs))).words
    targets = target_format(net).to_ints(rng.uniform(0, 1, (longest, net.outputs))).words
    rtl = NetworkSimulation(plan, options=options)
    try:
        rtl.load(params)
        run = _Streams(rtl, Model(net, params), x, targets)
        output_latency, gradient_latency = run.cycles(1)
        half, whole, more = (run.cycles(count)[1] for count in (samples // 2, samples, longest))
    finally:
        rtl.close()
    return Streaming(
        samples=samples,
        cycles=whole,
        interval=(more - half) / (longest - samples // 2),
        output_latency=output_latency,
        gradient_latency=gradient_latency,
        compared=run.compared,
    )


def shares_of_multipliers(plan: Plan, interval: float) -> dict[str, float]:
    """Say what the cycles of all multipliers go into, at a measured interval: parts of 1.

    Parameters
    ----------
    plan : Plan
    interval : float
        Cycles a sample.

    Returns
    -------
    dict of str to float
        ``useful``: products of weights. ``bias``: the column whose operand is 1.0. ``padding``: rows that do not exist,
        where lanes do not divide the outputs. ``pitch``: waits inside a tick, where lanes outnumber columns.
        ``waiting``: for the slowest stage. ``slopes``: the two multipliers that turn a sensitivity into a delta.
    """
    spent = dict.fromkeys(("useful", "bias", "padding", "pitch", "waiting", "slopes"), 0.0)
    for stage in plan.stages:
        n = stage.numbers
        kinds = 3 if n.has_sensitivity else 2
        rows = stage.groups * stage.lanes
        spent["useful"] += kinds * n.outputs * n.inputs
        spent["bias"] += kinds * n.outputs
        spent["padding"] += kinds * (rows - n.outputs) * n.columns
        spent["pitch"] += kinds * stage.lanes * (stage.tick - stage.groups * n.columns)
        spent["waiting"] += kinds * stage.lanes * (interval - stage.tick)
        spent["slopes"] += 2 * interval if n.has_slope_product else 0.0
    return {name: cycles / (plan.multipliers * interval) for name, cycles in spent.items()}


def last_wave(rtl: NetworkSimulation) -> int:
    """Wait until stage 1 is idle; give the cycle in which its last lane has met the last wave of a backward pass.

    What follows is a lane's own, ``timing.WRITTEN`` cycles to the last gradient and ``timing.UPDATE`` to the last new
    weight; the benches of lane, stage and network look at the memories themselves.
    """
    simulation = rtl.simulation
    stage = rtl.plan.stages[0]
    limit = simulation.cycle + DEFAULT_PATIENCE
    while (status := StageStatus.from_bits(simulation.status()[0])).stored or status.backward:
        assert simulation.cycle < limit, rtl.describe()
        simulation.wait(1)
    # The pass has shown its last column in the cycle before its place was free, in tiny layers one that does not exist.
    shown = simulation.cycle - 1 - timing.RELEASE - (stage.backward_cycles - stage.groups * stage.numbers.columns)
    return shown + timing.ISSUE + stage.lanes - 1


class _Streams:
    """Runs streams of the first samples of a set, and compares all that comes back."""

    def __init__(self, rtl: NetworkSimulation, model: Model, x: Ints, targets: Ints) -> None:
        self._rtl = rtl
        self._model = model
        self._x = x
        self._targets = targets
        self.compared = Comparison()

    def cycles(self, count: int) -> tuple[int, int]:
        """Run ``count`` samples; give the cycles from the first input word to the last output and last gradient."""
        rtl, net = self._rtl, self._rtl.net
        x, targets = self._x[:count], self._targets[:count]
        start = rtl.simulation.cycle
        times: dict[str, Words] = {}
        answer = rtl.run(
            {
                "input": pack(rtl.input_token, value=x.ravel(), learn=1),
                "target": pack(rtl.target_token, value=targets.ravel(), seed=0),
            },
            {"output": count * net.outputs},
            cycles=times,
        )
        last_output = int(times["output"][-1]) - start
        last_gradient = last_wave(rtl) + timing.WRITTEN - start
        gradients = self._read()

        last = len(rtl.plan.stages)
        outputs = unpack(rtl.output_token, "value", answer["output"]).reshape(count, -1)
        wanted_outputs, wanted = self._golden(x, targets)
        self.compared += compare_words(last, "output", outputs, wanted_outputs, by_sample=True)
        for stage, (got, right) in enumerate(zip(gradients, wanted, strict=True), start=1):
            self.compared += compare_words(stage, "weight gradient", got.weight, right.weight)
            self.compared += compare_words(stage, "bias gradient", got.bias, right.bias)
        return last_output, last_gradient

    def _read(self) -> list[RawParameters]:
        """Read all gradients out, and clear them."""
        rtl = self._rtl
        stages = [stage.numbers for stage in rtl.plan.stages]
        _, answers = rtl.control(
            [(n.index, Operation.READ_GRADIENT, n.outputs * n.columns) for n in stages],
            [rtl.command(n.index, Operation.CLEAR) for n in stages],
        )
        return [rtl.stage_words(n.index, v, n.gradient_fraction) for n, v in zip(stages, answers, strict=True)]

    def _golden(self, x: Ints, targets: Ints) -> tuple[Ints, list[RawParameters]]:
        """Give the golden model's outputs and sums, in parts that its accumulators are made for.

        A longer stream has no bound that holds for all data; where accumulators run over, words differ.
        """
        size = self._rtl.net.max_batch
        traces = [self._model.textbook(x[i : i + size], targets[i : i + size]) for i in range(0, len(x), size)]
        return np.concatenate([trace.outputs for trace in traces]), [
            RawParameters(
                np.sum([part.weight for part in layer], axis=0),
                np.sum([part.bias for part in layer], axis=0),
                layer[0].fraction_bits,
            )
            for layer in zip(*(trace.gradients for trace in traces), strict=True)
        ]
