"""Bench of the relaxation in hardware: arbitrary tokens in all links settle, flipped bits heal, as the theorem says.

A tick is one firing of each pass of each stage. The links are queues of this bench, with stalls at both ends; firing
``k`` of ``x_l`` is the ``k``-th vector that stage ``l`` sends, firing 0 the one that was placed in the link before.
"""

from typing import Any

import cocotb
import numpy as np

from dyadprop import Dense, Formats, Network, Q
from dyadprop.formats import Ints
from dyadprop.operations import Operation
from dyadprop.plan import plan_network
from dyadprop.widths import stage_numbers, target_format
from dyadprop_hw.layouts import activation_token, sensitivity_token, target_token
from dyadprop_hw.network import control_data_bits
from dyadprop_sim.benches.control import ControlHost, draw_words, items
from dyadprop_sim.benches.ports import Item
from dyadprop_sim.benches.testbench import Testbench, fill_weights
from dyadprop_sim.benches.variants import Variants, named
from dyadprop_sim.golden import Model
from dyadprop_sim.open_network import OpenNetwork

NETWORKS = {
    "two_layers": Network(2, [Dense(3, "tanh", lanes=3), Dense(2, "tanh", lanes=1)], input_gradient=True),
    "three_layers": Network(
        3,
        [Dense(2, "tanh", lanes=1), Dense(3, "tanh", lanes=2), Dense(2, "sigmoid", lanes=2)],
        formats=Formats(Q(3, 10), Q(3, 10), Q(1, 13)),
        input_gradient=True,
    ),
}
PLANS = {name: plan_network(net) for name, net in NETWORKS.items()}


def make_top() -> Variants:
    """Make each network with its links led outside."""
    return Variants({name: OpenNetwork(plan) for name, plan in PLANS.items()})


class Link:
    """The way from one stage to the next.

    Parameters
    ----------
    bench : OpenBench
    name : str
        Of the streams: ``activation_1``.
    token : StructLayout
    words : int
        Of a vector.
    """

    def __init__(self, bench: Testbench, name: str, token: Any, words: int) -> None:
        self.driver, _ = bench.source(f"{name}_in", token)
        _, monitor = bench.sink(f"{name}_out", token)
        monitor.call(self.arrived)
        self.words = words
        self.values: list[int] = []
        self.flips: dict[int, tuple[int, int]] = {}
        self.form = token["value"].shape.q

    def flip(self, firing: int, word: int, bit: int) -> None:
        """Flip a bit of a word of a vector to come."""
        self.flips[(firing - 1) * self.words + word] = (firing, bit)

    def arrived(self, item: Item) -> None:
        """Write down what a stage sends, and hand it on, flipped where that is asked for."""
        assert isinstance(item, dict)
        position = len(self.values)
        self.values.append(item["value"])
        if position in self.flips:
            width = self.form.width
            bits = (item["value"] ^ (1 << self.flips[position][1])) & ((1 << width) - 1)
            item = item | {"value": bits - (1 << width) if bits >> (width - 1) else bits}
        self.driver.send([item])

    @property
    def firings(self) -> int:
        """Whole vectors sent."""
        return len(self.values) // self.words

    def wrong(self, rest: Ints) -> list[int]:
        """List the firings whose vector is not the one at rest."""
        vectors = np.array(self.values[: self.firings * self.words]).reshape(-1, self.words)
        return [k for k, vector in enumerate(vectors, start=1) if (vector != rest).any()]


class OpenBench(Testbench):
    """A network with open links and one held sample."""

    def __init__(self, dut: Any, variant: str, seed: int) -> None:
        super().__init__(dut, variant, seed, patience=4000)
        plan, net = PLANS[variant], NETWORKS[variant]
        self.depth = len(net.layers)
        self.words = np.random.default_rng(seed)
        stages = stage_numbers(net)
        for stage in plan.stages:
            fill_weights(dut, f"{variant}_.stage_{stage.numbers.index}", stage, self.rng)
        self.control = ControlHost(self, control_data_bits(plan))
        self.inputs, _ = self.source("input", activation_token(net.formats.activation))
        self.targets, _ = self.source("target", target_token(target_format(net), stages[-1].sensitivity))
        self.sink("output", activation_token(stages[-1].output))
        _, back = self.sink("input_sensitivity", sensitivity_token(net.formats.sensitivity, net.formats.activation))
        self.back: list[int] = []
        back.call(lambda item: self.back.append(item["value"]))  # type: ignore[index]
        self.activations: dict[int, Link] = {}
        self.sensitivities: dict[int, Link] = {}
        for s in stages:
            self.activations[s.index] = Link(self, f"activation_{s.index}", activation_token(s.output), s.outputs)
            token = sensitivity_token(s.sensitivity, s.output)
            self.sensitivities[s.index] = Link(self, f"sensitivity_{s.index}", token, s.outputs)
        self.net = net
        self.stages = stages
        # Weights of a size that lets nearly every change through.
        self.params = net.quantize(
            [
                entry._replace(bias=self.words.uniform(-0.2, 0.2, entry.bias.shape))
                for entry in net.init(int(self.words.integers(1 << 16)))
            ]
        ).raw
        self.x = net.formats.activation.to_ints(self.words.uniform(-1, 1, (1, net.inputs))).words
        self.target = target_format(net).to_ints(self.words.uniform(-1, 1, (1, net.outputs))).words
        self.rest = Model(net, self.params).textbook(self.x, self.target)

    async def load(self) -> None:
        """Load parameters, then place an arbitrary vector in each link."""
        for index, entry in enumerate(self.params, start=1):
            self.control.load(index, entry)
            self.control.ask(index, Operation.COUNTERS, [0, 0, 0])
        await self.drain()
        for s in self.stages:
            x = draw_words(self.words, s.output, (s.outputs,))
            self.activations[s.index].driver.send(items(value=x, learn=1, update=0))
            sensitivity = draw_words(self.words, s.sensitivity, (s.outputs,))
            activation = draw_words(self.words, s.output, (s.outputs,))
            self.sensitivities[s.index].driver.send(items(value=sensitivity, activation=activation))

    async def hold(self, firings: int) -> None:
        """Show the sample as often as it takes for each pass of each stage to fire so many times."""
        self.inputs.send(items(value=np.tile(self.x, (firings, 1)), learn=1, update=0))
        self.targets.send(items(value=np.tile(self.target, (firings, 1)), seed=0))
        links = [*self.activations.values(), *self.sensitivities.values()]
        for _ in range(2000 * firings):
            await self.cycles(1)
            if min(link.firings for link in links) >= firings:
                return
        raise AssertionError(f"links fired {[link.firings for link in links]} times, expected {firings}")


@cocotb.test()
@cocotb.parametrize(variant=named(NETWORKS), seed=[1, 2])
async def settles(dut: Any, variant: str, seed: int) -> None:
    """From any tokens ``x_l`` is right from tick ``l`` on, ``lambda_l`` from ``2 L - l + 1`` on, and not before."""
    bench = OpenBench(dut, variant, seed)
    await bench.start()
    await bench.load()
    depth = bench.depth
    await bench.hold(2 * depth + 4)
    last = {f"x_{l}": max(link.wrong(bench.rest.activations[l][0]), default=0) for l, link in bench.activations.items()}
    last |= {
        f"lambda_{l}": max(link.wrong(bench.rest.sensitivities[l][0]), default=0)
        for l, link in bench.sensitivities.items()
    }
    bound = {f"x_{l}": l - 1 for l in bench.activations} | {f"lambda_{l}": 2 * depth - l for l in bench.sensitivities}
    assert last == bound, f"last wrong ticks are {last}, expected {bound}"


@cocotb.test()
@cocotb.parametrize(variant=named(NETWORKS), seed=[1, 2])
async def heals(dut: Any, variant: str, seed: int) -> None:
    """A bit flipped in ``x_l`` of the held sample is gone after ``2 L - l + 1`` ticks, in ``lambda_l`` after ``l``."""
    bench = OpenBench(dut, variant, seed)
    depth = bench.depth
    windows: dict[str, range] = {}
    tick = 2 * depth + 2
    for l in range(1, depth + 1):
        for name, link, heal in (
            (f"x_{l}", bench.activations[l], 2 * depth - l + 1),
            (f"lambda_{l}", bench.sensitivities[l], l),
        ):
            # A bit that counts: neither the sign nor one that rounding could hide.
            link.flip(tick, bench.rng.randrange(link.words), link.form.width - 4)
            windows[name] = range(tick, tick + heal)
            tick += 2 * depth + 3
    await bench.start()
    await bench.load()
    await bench.hold(tick)
    await bench.cycles(200)
    wrong: dict[str, list[int]] = {}
    for l in range(1, depth + 1):
        wrong[f"x_{l}"] = bench.activations[l].wrong(bench.rest.activations[l][0])
        wrong[f"lambda_{l}"] = bench.sensitivities[l].wrong(bench.rest.sensitivities[l][0])
    back = np.array(bench.back).reshape(-1, bench.net.inputs)
    assert bench.rest.inputs is not None
    # lambda_0 is no state of the relaxation: its firing k shows what the state was at tick k - 1.
    wrong["lambda_0"] = [k for k, vector in enumerate(back) if (vector != bench.rest.inputs[0]).any()]
    ticks = sorted({k for ks in wrong.values() for k in ks if k > 2 * depth})
    allowed = {k for window in windows.values() for k in window}
    assert set(ticks) <= allowed, f"wrong ticks {ticks}, windows {windows}"
    for name, window in windows.items():
        assert any(k in window for k in ticks), f"the flip of {name} in tick {window.start} was never seen"
