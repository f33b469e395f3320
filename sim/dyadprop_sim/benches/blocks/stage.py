"""Bench of a stage: samples under stalls against the golden arithmetic, and the cycles that its plan promises."""

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from dyadprop import timing
from dyadprop.formats import Ints, Q
from dyadprop.network import RawParameters
from dyadprop.operations import Operation
from dyadprop.plan import StagePlan
from dyadprop_hw.layouts import StageStatus, activation_token, sensitivity_token
from dyadprop_hw.stage import Stage
from dyadprop_sim import arithmetic
from dyadprop_sim.benches.control import ControlHost, draw_words, items
from dyadprop_sim.benches.numbers import make_numbers
from dyadprop_sim.benches.testbench import Testbench, fill_weights, inside
from dyadprop_sim.benches.variants import Variants, named

DATA_BITS = 40

PLANS = {
    # name: numbers, lanes, samples, output vectors, sensitivity vectors
    "tanh": StagePlan(make_numbers("tanh", inputs=3, outputs=5, output=Q(2, 6), index=2), 2, 8, 5, 5),
    "first": StagePlan(make_numbers("relu", inputs=2, outputs=5, has_sensitivity=False), 3, 2, 1, 1),
    "tiny": StagePlan(make_numbers("identity", inputs=1, outputs=1, index=3), 1, 9, 6, 9),
    "narrow": StagePlan(make_numbers("leaky_relu", inputs=5, outputs=3), 1, 1, 1, 1),
    "lanes": StagePlan(make_numbers("sigmoid", inputs=1, outputs=6, output=Q(3, 8), sensitivity=Q(0, 9)), 6, 9, 6, 6),
    "last": StagePlan(make_numbers("sigmoid", inputs=4, outputs=3, matched=True, weight=Q(2, 9)), 3, 4, 3, 3),
}
DEEP = ("tanh", "tiny", "lanes")  # with room for as many samples as a full pipeline holds
INTERNAL = ("*gradient_write*en", "*weight_write*en")


def make_top() -> Variants:
    """Make a stage for each plan."""
    return Variants({name: Stage(plan, DATA_BITS) for name, plan in PLANS.items()})


class Model:
    """What a stage holds and answers.

    Parameters
    ----------
    plan : StagePlan
    rng : np.random.Generator
    """

    def __init__(self, plan: StagePlan, rng: np.random.Generator) -> None:
        self.numbers = n = plan.numbers
        self.rng = rng
        self.params = self._draw()
        self.gradients = RawParameters(
            np.zeros((n.outputs, n.inputs), np.int64), np.zeros(n.outputs, np.int64), n.gradient_fraction
        )
        self.counters = [0, 0, 0]
        self.shift = 0

    def _draw(self) -> RawParameters:
        n = self.numbers
        shrink = int(self.rng.integers(0, 4))
        weight = draw_words(self.rng, n.weight, (n.outputs, n.inputs), shrink)
        return RawParameters(weight, draw_words(self.rng, n.weight, (n.outputs,), shrink), n.weight.fraction_bits)

    def redraw(self) -> RawParameters:
        """Take new parameters."""
        self.params = self._draw()
        return self.params

    def clear(self) -> None:
        """Start gradients from zero."""
        self.gradients.weight[:] = 0
        self.gradients.bias[:] = 0

    def forward(self, x: Ints) -> Ints:
        """Give the activations of samples, (count, n_out)."""
        words, saturated = arithmetic.forward(self.numbers, self.params, x)
        self.counters[0] += int(saturated.sum())
        return words

    def backward(self, x: Ints, sensitivity: Ints, activation: Ints) -> Ints | None:
        """Give the sensitivities sent back, (count, n_in), if any; add to the gradients."""
        delta = arithmetic.delta(self.numbers, sensitivity, activation)
        gradient = arithmetic.gradient(self.numbers, delta, x)
        self.gradients.weight[:] += gradient.weight
        self.gradients.bias[:] += gradient.bias
        if not self.numbers.has_sensitivity:
            return None
        words, saturated = arithmetic.backward(self.numbers, self.params, delta)
        self.counters[1] += int(saturated.sum())
        return words

    def step(self) -> None:
        """Take the step out of the gradients."""
        weight, bias = (
            arithmetic.step(words, sums, self.shift, self.numbers.weight)
            for words, sums in zip(self.params[:2], self.gradients[:2], strict=True)
        )
        self.params = self.params._replace(weight=weight.words, bias=bias.words)
        self.gradients.weight[:] = weight.residual
        self.gradients.bias[:] = bias.residual
        self.counters[2] += int(weight.saturated.sum() + bias.saturated.sum())


class StageBench(Testbench):
    """A stage with its four neighbours."""

    def __init__(self, dut: Any, variant: str, seed: int, *, stalls: bool = True) -> None:
        super().__init__(dut, variant, seed, stalls=stalls)
        self.plan = PLANS[variant]
        n = self.numbers = self.plan.numbers
        self.words = np.random.default_rng(seed)
        self.model = Model(self.plan, self.words)
        self.control = ControlHost(self, DATA_BITS)
        self.inputs, self.input_times = self.source("activation_in", activation_token(n.input))
        self.outputs, self.output_times = self.checked("activation_out", activation_token(n.output))
        self.back, self.back_times = self.source("sensitivity_in", sensitivity_token(n.sensitivity, n.output))
        if n.has_sensitivity:
            token = sensitivity_token(n.input_sensitivity, n.input)
            self.sensitivities, self.sensitivity_times = self.checked("sensitivity_out", token)
        fill_weights(dut, f"{variant}_", self.plan, self.rng)
        self.status = self.port("status", StageStatus)
        self.sent = {"control_out": 0, "activation_out": 0, "sensitivity_out": 0}

    async def load(self) -> None:
        """Load the model's parameters and wait until they are there."""
        self.control.load(self.numbers.index, self.model.params)
        self.counters()
        await self.drain()

    def counters(self) -> None:
        """Read the counters."""
        self.control.ask(self.numbers.index, Operation.COUNTERS, self.model.counters)

    def draw(self, count: int) -> tuple[Ints, Ints, Ints]:
        """Draw inputs of samples, sensitivities and their activations."""
        n = self.numbers
        shrink = int(self.words.integers(0, 3))
        return (
            draw_words(self.words, n.input, (count, n.inputs), shrink),
            draw_words(self.words, n.sensitivity, (count, n.outputs), shrink),
            draw_words(self.words, n.output, (count, n.outputs)),
        )

    def send_forward(self, x: Ints, learn: Ints, update: int = 0) -> None:
        """Send samples and expect their outputs; ``update``: a step follows the last of them."""
        flags = np.zeros_like(learn)
        flags[-1] = update
        self.inputs.send(items(value=x, learn=learn[:, None], update=flags[:, None]))
        self.outputs.expect(items(value=self.model.forward(x), learn=learn[:, None], update=flags[:, None]))
        self.sent["activation_out"] += len(x) * self.numbers.outputs

    async def rate(self, shift: int) -> None:
        """Set the learning rate."""
        self.model.shift = shift
        self.control.send(self.numbers.index, Operation.RATE, shift)
        self.counters()
        await self.drain()

    def send_back(self, x: Ints, sensitivity: Ints, activation: Ints) -> None:
        """Send sensitivities of learnt samples and expect those of the stage below."""
        self.back.send(items(value=sensitivity, activation=activation))
        answer = self.model.backward(x, sensitivity, activation)
        if answer is not None:
            self.sensitivities.expect(items(value=answer, activation=x))
            self.sent["sensitivity_out"] += answer.size

    async def end(self) -> None:
        """Finish, with all that was sent compared."""
        self.sent["control_out"] = self.control.expected
        if not self.numbers.has_sensitivity:
            del self.sent["sensitivity_out"]
        await self.finish(**self.sent)


@cocotb.test()
@cocotb.parametrize(variant=named(PLANS), seed=[1, 2, 3])
async def samples(dut: Any, variant: str, seed: int) -> None:
    """Batches under stalls: outputs, sensitivities, gradients, weights and counters are the golden arithmetic's."""
    bench = StageBench(dut, variant, seed)
    n, model, control = bench.numbers, bench.model, bench.control
    await bench.start()
    # What the memories held before reset must not be seen.
    control.read(n.index, Operation.READ_GRADIENT, model.gradients)
    await bench.load()
    learnt = 0
    for batch in range(3):
        count = int(bench.words.integers(1, 5))
        if learnt + count > n.max_batch or bench.rng.random() < 0.3:
            control.send(n.index, Operation.CLEAR)
            model.clear()
            learnt = 0
        if batch == 2:
            model.redraw()
            control.load(n.index, model.params)
        bench.counters()
        await bench.drain()
        learn = bench.words.integers(0, 4, count).clip(0, 1)
        x, sensitivity, activation = bench.draw(count)
        bench.send_forward(x, learn)
        chosen = learn == 1
        bench.send_back(x[chosen], sensitivity[chosen], activation[chosen])
        learnt += int(learn.sum())
        await bench.drain()
        control.read(n.index, Operation.READ_GRADIENT, model.gradients)
        bench.counters()
        control.read(n.index, Operation.READ_WEIGHT, model.params)
        await bench.drain()
    await bench.end()


@cocotb.test()
@cocotb.parametrize(variant=named(PLANS), seed=[1, 2])
async def steps(dut: Any, variant: str, seed: int) -> None:
    """Batches one behind the other, each with a step: the next samples go forward with the new weights."""
    bench = StageBench(dut, variant, seed)
    n, model = bench.numbers, bench.model
    await bench.start()
    await bench.load()
    size = 3
    for _ in range(2):
        # Residuals of another rate may be too large to add to: they are cleared.
        bench.control.send(n.index, Operation.CLEAR)
        model.clear()
        await bench.rate(int(bench.words.integers(0, n.largest_step_shift(size) + 1)))
        for _ in range(4):
            count = int(bench.words.integers(1, size + 1))
            learn = bench.words.integers(0, 4, count).clip(0, 1)
            learn[-1] = 1
            x, sensitivity, activation = bench.draw(count)
            bench.send_forward(x, learn, update=1)
            chosen = learn == 1
            bench.send_back(x[chosen], sensitivity[chosen], activation[chosen])
            model.step()
        await bench.drain()
        bench.control.read(n.index, Operation.READ_WEIGHT, model.params)
        bench.control.read(n.index, Operation.READ_GRADIENT, model.gradients)
        bench.counters()
        await bench.drain()
    # Residuals go back in, and are added to.
    limit = 1 << n.gradient_bits - 3
    residual = bench.words.integers(-limit, limit, (n.outputs, n.columns))
    model.gradients.weight[:], model.gradients.bias[:] = residual[:, :-1], residual[:, -1]
    bench.control.send(n.index, Operation.BEGIN)
    bench.control.send(n.index, Operation.WRITE_GRADIENT, residual)
    bench.control.read(n.index, Operation.READ_GRADIENT, model.gradients)
    bench.counters()
    await bench.drain()
    x, sensitivity, activation = bench.draw(1)
    bench.send_forward(x, np.ones(1, np.int64))
    bench.send_back(x, sensitivity, activation)
    await bench.drain()
    bench.control.read(n.index, Operation.READ_GRADIENT, model.gradients)
    bench.control.read(n.index, Operation.READ_WEIGHT, model.params)
    await bench.end()


@cocotb.test()
@cocotb.parametrize(variant=named(PLANS), seed=[1])
async def latencies(dut: Any, variant: str, seed: int) -> None:
    """One sample alone: what the plan promises, cycle for cycle."""
    bench = StageBench(dut, variant, seed, stalls=False)
    plan, n = bench.plan, bench.numbers
    last_lane = f"lane_{plan.lanes - 1}"
    signals = dict(inside(dut, f"{variant}_"))
    busy: list[int] = []
    written: dict[str, int] = {}

    async def watch() -> None:
        edge = RisingEdge(dut.clk)
        while True:
            await edge
            status = bench.status.get()
            assert isinstance(status, dict)
            if status["backward"]:
                busy.append(bench.now())
            for name in ("gradient", "weight"):
                if str(signals[f"{variant}_.{last_lane}.{name}_write__en"].value) == "1":
                    written[name] = bench.now() + 1  # a read sees it in the cycle after the write

    await bench.start(watch())
    await bench.load()
    await bench.cycles(20)
    bench.control.read(n.index, Operation.READ_WEIGHT, bench.model.params)
    asked, answered = len(bench.control.commands.offered), len(bench.control.replies.offered)
    await bench.drain()
    x, sensitivity, activation = bench.draw(1)
    bench.send_forward(x, np.ones(1, np.int64))
    await bench.drain()
    await bench.cycles(20)
    bench.send_back(x, sensitivity, activation)
    await bench.drain()
    await bench.cycles(100)
    gradient_written = written["gradient"]
    accepted, returned = bench.input_times.taken[-1], bench.back_times.taken[-1]
    first, last = bench.output_times.offered[0], bench.output_times.offered[-1]
    started, busy_cycles = busy[0] - 1, len(busy)
    last_back = bench.sensitivity_times.offered[-1] if n.has_sensitivity else 0
    await bench.rate(1)
    x, sensitivity, activation = bench.draw(1)
    bench.send_forward(x, np.ones(1, np.int64), update=1)
    await bench.drain()
    bench.send_back(x, sensitivity, activation)
    await bench.drain()
    await bench.cycles(100)
    updated = bench.back_times.taken[-1]
    control = bench.control
    predicted = {
        "first_output": plan.first_output,
        "forward_latency": plan.forward_latency,
        "output_span": plan.output_span,
        "load_latency": plan.load_latency,
        "backward_cycles": plan.backward_cycles,
        "gradient_latency": plan.gradient_latency,
        "update_latency": plan.update_latency,
        "read_latency": plan.read_latency,
    }
    measured = {
        "first_output": first - accepted,
        "forward_latency": last - accepted,
        "output_span": last - first,
        "load_latency": started - returned,
        "backward_cycles": busy_cycles,
        "gradient_latency": gradient_written - returned,
        "update_latency": written["weight"] - updated,
        # between command and reply there are the port and a queue of answers
        "read_latency": control.replies.offered[answered]
        - control.commands.offered[asked]
        - timing.COMMAND
        - timing.queue(plan.answer_words),
    }
    if n.has_sensitivity:
        predicted |= {"backward_latency": plan.backward_latency, "backward_tail": plan.backward_tail}
        measured |= {"backward_latency": last_back - returned, "backward_tail": last_back - started}
    assert measured == predicted, f"measured {measured}, predicted {predicted}"
    await bench.end()


@cocotb.test()
@cocotb.parametrize(variant=named(DEEP), seed=[1])
async def tick(dut: Any, variant: str, seed: int) -> None:
    """Samples without a gap: one every ``StagePlan.tick`` cycles, in both directions."""
    bench = StageBench(dut, variant, seed, stalls=False)
    plan, n = bench.plan, bench.numbers
    await bench.start()
    await bench.load()
    count = 6 * plan.samples  # full long before, though forward passes may be shorter; gradients overflow, unread
    x, sensitivity, activation = bench.draw(count)
    bench.send_forward(x, np.ones(count, np.int64))
    bench.send_back(x, sensitivity, activation)
    await bench.drain()
    await bench.end()
    intervals = {"forward": np.diff(bench.output_times.taken[:: n.outputs])[-3:].tolist()}
    if n.has_sensitivity:
        intervals["backward"] = np.diff(bench.sensitivity_times.taken[:: n.inputs])[-3:].tolist()
    assert all(cycles == [plan.tick] * 3 for cycles in intervals.values()), (
        f"measured {intervals}, predicted {plan.tick}"
    )
