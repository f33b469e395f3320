"""Bench of the whole network: batches under stalls against the golden model, and the cycles that its plan promises."""

from collections import Counter
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from dyadprop import Dense, Formats, Network, Q
from dyadprop.formats import Ints
from dyadprop.network import RawParameters
from dyadprop.operations import SCALE_BITS, Operation
from dyadprop.plan import Plan, plan_network
from dyadprop.widths import stage_numbers, target_format
from dyadprop_hw.layouts import activation_token, sensitivity_token, target_token
from dyadprop_hw.network import DyadNetwork, control_data_bits
from dyadprop_sim.benches.control import ControlHost, draw_words, items
from dyadprop_sim.benches.testbench import Testbench, fill_weights, inside
from dyadprop_sim.benches.variants import Variants, named
from dyadprop_sim.golden import Model
from dyadprop_sim.random_networks import random_case

NETWORKS = {
    "two_layers": Network(3, [Dense(4, "tanh", lanes=2), Dense(2, lanes=1)], input_gradient=True),
    "softmax": Network(2, [Dense(3, "relu", lanes=2), Dense(4, lanes=1)], "softmax_cross_entropy"),
    "three_layers": Network(
        4,
        [
            Dense(2, "leaky_relu", lanes=1),
            Dense(5, "tanh", lanes=3, formats=Formats(Q(2, 9), Q(3, 7), Q(1, 11))),
            Dense(2, "sigmoid", lanes=2, formats=Formats(Q(3, 6), Q(4, 6), Q(2, 8))),
        ],
        "sigmoid_cross_entropy",
        formats=Formats(Q(3, 7), Q(3, 5), Q(2, 10)),
    ),
    "one_layer": Network(3, [Dense(2, "tanh", lanes=1)], max_batch=6),
    "random": random_case(5, layers=2, max_width=4, batch=3).net,
}
TRAINABLE = tuple(NETWORKS)  # one learning rate fits all stages of each
PLANS = {name: plan_network(net) for name, net in NETWORKS.items()}
INTERNAL = ("*gradient_write*en", "*weight_write*en")


def make_top() -> Variants:
    """Make each network."""
    return Variants({name: DyadNetwork(plan) for name, plan in PLANS.items()})


class NetworkModel:
    """The golden model, sample by sample: some only go forward, some bring their own seed, some are followed by a step.

    Parameters
    ----------
    net : Network
    rng : np.random.Generator

    Attributes
    ----------
    gradients : list of RawParameters
        What the accumulators hold: residuals and what was added since the last step.
    exponent : int or None
        Of the learning rate; None where no rate fits all stages.
    scale : int
        Of the cost head.
    """

    def __init__(self, net: Network, rng: np.random.Generator) -> None:
        self.net = net
        self.rng = rng
        self.stages = stage_numbers(net)
        self.counters: Counter[tuple[int, str]] = Counter()
        self.scale = 1 << SCALE_BITS
        self.batch_size = min(2, net.max_batch)
        allowed = [
            exponent
            for exponent in range(-20, 40)
            if all(0 <= s.step_shift(exponent) <= s.largest_step_shift(self.batch_size) for s in self.stages)
        ]
        self.exponent = int(rng.choice(allowed)) if allowed else None
        self.redraw()
        self.clear()

    def redraw(self) -> None:
        """Take new parameters."""
        params = []
        for s in self.stages:
            shrink = int(self.rng.integers(0, 3))
            weight = draw_words(self.rng, s.weight, (s.outputs, s.inputs), shrink)
            bias = draw_words(self.rng, s.weight, (s.outputs,), shrink)
            params.append(RawParameters(weight, bias, s.weight.fraction_bits))
        self.model = Model(self.net, params)

    @property
    def params(self) -> list[RawParameters]:
        """The present parameters."""
        return self.model.params

    def clear(self) -> None:
        """Start gradients from zero."""
        self.gradients = [
            RawParameters(np.zeros((s.outputs, s.inputs), np.int64), np.zeros(s.outputs, np.int64), s.gradient_fraction)
            for s in self.stages
        ]

    def sample(self, x: Ints, target: Ints, learn: int, seed: int, update: int) -> tuple[Ints, Ints | None]:
        """Give one sample's outputs and input sensitivities; add to gradients and counters, and step."""
        if not learn:
            trace = self.model.predict(x[None])
            self.counters += trace.saturations
            return trace.outputs[0], None
        trace = self.model.scaled(self.scale).textbook(x[None], target[None], seeds=bool(seed))
        self.counters += trace.saturations
        for total, entry in zip(self.gradients, trace.gradients, strict=True):
            total.weight[:] += entry.weight
            total.bias[:] += entry.bias
        if update:
            assert self.exponent is not None
            zeros = [entry._replace(weight=0 * entry.weight, bias=0 * entry.bias) for entry in self.gradients]
            self.model.residuals[:] = self.gradients
            self.counters += self.model.step(zeros, self.exponent)
            self.gradients = list(self.model.residuals)
        return trace.outputs[0], None if trace.inputs is None else trace.inputs[0]


class NetworkBench(Testbench):
    """A network with its host on all streams."""

    def __init__(self, dut: Any, variant: str, seed: int, plan: Plan, *, stalls: bool = True) -> None:
        super().__init__(dut, variant, seed, stalls=stalls, patience=4000)
        self.plan = plan
        net = self.net = plan.net
        last = net.layer_formats(len(net.layers))
        self.words = np.random.default_rng(seed)
        self.model = NetworkModel(net, self.words)
        self.control = ControlHost(self, control_data_bits(plan))
        self.inputs, self.input_times = self.source("input", activation_token(net.formats.activation))
        self.targets, _ = self.source("target", target_token(target_format(net), last.sensitivity))
        self.outputs, self.output_times = self.checked("output", activation_token(last.activation))
        for stage in plan.stages:
            fill_weights(dut, f"{variant}_.stage_{stage.numbers.index}", stage, self.rng)
        self.sent = {"control_out": 0, "output": 0}
        if net.input_gradient:
            token = sensitivity_token(net.formats.sensitivity, net.formats.activation)
            self.sensitivities, _ = self.checked("input_sensitivity", token)
            self.sent["input_sensitivity"] = 0

    async def load(self) -> None:
        """Load the model's parameters and wait until they are there."""
        for index, entry in enumerate(self.model.params, start=1):
            self.control.load(index, entry)
        self.counters()
        await self.drain()

    def counters(self) -> None:
        """Read all counters."""
        last = len(self.net.layers)
        counts = self.model.counters
        for l in range(1, last + 1):
            answers = [counts[l, "activation"], counts[l - 1, "sensitivity"], counts[l, "weight"]]
            self.control.ask(l, Operation.COUNTERS, answers)
        self.control.ask(last + 1, Operation.COUNTERS, [counts[last, "sensitivity"]])

    def read(self) -> None:
        """Read gradients, counters and weights."""
        for index, entry in enumerate(self.model.gradients, start=1):
            self.control.read(index, Operation.READ_GRADIENT, entry)
        self.counters()
        for index, entry in enumerate(self.model.params, start=1):
            self.control.read(index, Operation.READ_WEIGHT, entry)

    async def clear(self) -> None:
        """Clear the gradients of all stages, and wait until they are: a sample must not overtake the command."""
        for index in range(1, len(self.net.layers) + 1):
            self.control.send(index, Operation.CLEAR)
        self.model.clear()
        self.counters()
        await self.drain()

    async def rate(self, scale: int) -> None:
        """Set the learning rate of all stages and the cost head's scale, and wait until they are set."""
        assert self.model.exponent is not None
        for s in self.model.stages:
            self.control.send(s.index, Operation.RATE, s.step_shift(self.model.exponent))
        self.control.send(len(self.net.layers) + 1, Operation.RATE, scale)
        self.model.scale = scale
        self.counters()
        await self.drain()

    def send(self, count: int, learn: Ints, seed: Ints, update: Ints | None = None) -> None:
        """Draw and send samples, and expect what comes of them."""
        steps = np.zeros(count, np.int64) if update is None else update
        net = self.net
        shrink = int(self.words.integers(0, 3))
        last = net.layer_formats(len(net.layers))
        for k in range(count):
            form = last.sensitivity if seed[k] else target_format(net)
            x = draw_words(self.words, net.formats.activation, (net.inputs,), shrink)
            target = draw_words(self.words, form, (net.outputs,), shrink)
            outputs, back = self.model.sample(x, target, int(learn[k]), int(seed[k]), int(steps[k]))
            self.inputs.send(items(value=x, learn=learn[k], update=steps[k]))
            self.outputs.expect(items(value=outputs, learn=learn[k], update=steps[k]))
            self.sent["output"] += net.outputs
            if learn[k]:
                self.targets.send(items(value=target, seed=seed[k]))
            if back is not None:
                self.sensitivities.expect(items(value=back, activation=x))
                self.sent["input_sensitivity"] += net.inputs

    async def end(self) -> None:
        """Finish, with all that was sent compared."""
        self.sent["control_out"] = self.control.expected
        await self.finish(**self.sent)


@cocotb.test()
@cocotb.parametrize(variant=named(NETWORKS), seed=[1, 2])
async def batches(dut: Any, variant: str, seed: int) -> None:
    """Batches under stalls: outputs, input sensitivities, gradients, weights and counters are the golden model's."""
    bench = NetworkBench(dut, variant, seed, PLANS[variant])
    await bench.start()
    # What the memories held before reset must not be seen.
    for index, entry in enumerate(bench.model.gradients, start=1):
        bench.control.read(index, Operation.READ_GRADIENT, entry)
    await bench.load()
    learnt = 0
    for batch in range(3):
        count = int(bench.words.integers(1, min(5, bench.net.max_batch + 1)))
        if learnt + count > bench.net.max_batch or bench.rng.random() < 0.3:
            await bench.clear()
            learnt = 0
        if batch == 2:
            bench.model.redraw()
            await bench.load()
        learn = bench.words.integers(0, 4, count).clip(0, 1)
        bench.send(count, learn, bench.words.integers(0, 2, count))
        learnt += int(learn.sum())
        await bench.drain()
        bench.read()
        await bench.drain()
    await bench.end()


@cocotb.test()
@cocotb.parametrize(variant=named(TRAINABLE), seed=[1, 2])
async def training(dut: Any, variant: str, seed: int) -> None:
    """Batches one behind the other, each with a step, samples that only go forward in between; then other rates."""
    bench = NetworkBench(dut, variant, seed, PLANS[variant])
    model = bench.model
    await bench.start()
    await bench.load()
    for scale in (int(bench.words.integers(129, 256)), 1 << SCALE_BITS):
        await bench.rate(scale)
        count = 7
        learn = bench.words.integers(0, 5, count).clip(0, 1)
        learn[-1] = 1
        # A step behind every second sample that is learnt from: no batch is longer than the rate allows.
        update = learn * (np.cumsum(learn) % model.batch_size == 0)
        update[-1] = 1
        bench.send(count, learn, bench.words.integers(0, 2, count), update)
        await bench.drain()
        bench.read()
        await bench.drain()
    await bench.end()


@cocotb.test()
@cocotb.parametrize(variant=named(NETWORKS), seed=[1])
async def latencies(dut: Any, variant: str, seed: int) -> None:
    """One sample alone, and one with a step: what the plan promises, cycle for cycle."""
    bench = NetworkBench(dut, variant, seed, PLANS[variant], stalls=False)
    plan = bench.plan
    lane = f"{variant}_.stage_1.lane_{plan.stages[0].lanes - 1}"
    signals = dict(inside(dut, f"{variant}_"))
    written: dict[str, int] = {}

    async def watch() -> None:
        edge = RisingEdge(dut.clk)
        while True:
            await edge
            for name in ("gradient", "weight"):
                if str(signals[f"{lane}.{name}_write__en"].value) == "1":
                    written[name] = bench.now() + 1  # a read sees it in the cycle after the write

    await bench.start(watch())
    await bench.load()
    await bench.cycles(20)
    bench.send(1, np.ones(1, np.int64), np.zeros(1, np.int64))
    await bench.drain()
    await bench.cycles(plan.gradient_latency + 50)
    first = bench.input_times.taken[0]
    predicted = {"output_latency": plan.output_latency, "gradient_latency": plan.gradient_latency}
    measured = {
        "output_latency": bench.output_times.offered[-1] - first,
        "gradient_latency": written["gradient"] - first,
    }
    if bench.model.exponent is not None:
        await bench.rate(1 << SCALE_BITS)
        start = len(bench.input_times.taken)
        bench.send(1, np.ones(1, np.int64), np.zeros(1, np.int64), np.ones(1, np.int64))
        await bench.drain()
        await bench.cycles(plan.gradient_latency + 50)
        predicted["update_latency"] = plan.update_latency
        measured["update_latency"] = written["weight"] - bench.input_times.taken[start]
    assert measured == predicted, f"measured {measured}, predicted {predicted}"
    await bench.end()


@cocotb.test()
@cocotb.parametrize(variant=named(NETWORKS), seed=[1])
async def interval(dut: Any, variant: str, seed: int) -> None:
    """Samples without a gap: one every ``Plan.interval`` cycles, with the memories and queues of the plan."""
    bench = NetworkBench(dut, variant, seed, PLANS[variant], stalls=False)
    plan = bench.plan
    await bench.start()
    await bench.load()
    count = (
        3 * max(stage.samples for stage in plan.stages) + 10
    )  # more than the network holds; their gradients are not read
    bench.send(count, np.ones(count, np.int64), np.zeros(count, np.int64))
    await bench.drain()
    intervals = np.diff(bench.output_times.taken[:: bench.net.outputs])[-8:].tolist()
    samples = [stage.samples for stage in plan.stages]
    assert intervals == [plan.interval] * 8, f"measured {intervals}, predicted {plan.interval}, samples {samples}"
    await bench.end()


@cocotb.test()
@cocotb.parametrize(variant=named(TRAINABLE), seed=[1])
async def step_interval(dut: Any, variant: str, seed: int) -> None:
    """Batches of one: a sample every ``Plan.step_interval`` cycles."""
    bench = NetworkBench(dut, variant, seed, PLANS[variant], stalls=False)
    await bench.start()
    await bench.load()
    await bench.rate(1 << SCALE_BITS)
    ones = np.ones(6, np.int64)
    bench.send(6, ones, 0 * ones, ones)
    await bench.drain()
    intervals = np.diff(bench.output_times.taken[:: bench.net.outputs]).tolist()
    assert intervals == [bench.plan.step_interval] * 5, f"measured {intervals}, predicted {bench.plan.step_interval}"
    await bench.end()
