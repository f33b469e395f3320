"""Bench of the cost head: seeds of each cost, a caller's own seeds, counters, scale, and its cycles."""

from typing import Any

import cocotb
import numpy as np

from dyadprop import Dense, Network
from dyadprop.formats import Ints, Q
from dyadprop.operations import SCALE_BITS, Operation
from dyadprop.plan import plan_network
from dyadprop_hw.cost_head import CostHead
from dyadprop_hw.layouts import activation_token, sensitivity_token, target_token
from dyadprop_sim import arithmetic
from dyadprop_sim.benches.control import ControlHost, draw_words, items
from dyadprop_sim.benches.numbers import make_numbers
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named

DATA_BITS = 33
INDEX = 3
HEADS = {
    # outputs, activation, target, sensitivity, softmax
    "squared": (3, Q(4, 8), Q(4, 8), Q(2, 10), False),
    "coarse": (2, Q(4, 3), Q(4, 3), Q(-1, 6), False),
    "one": (1, Q(1, 17), Q(1, 17), Q(1, 17), False),
    "softmax": (3, Q(6, 6), Q(2, 14), Q(2, 10), True),
    "softmax_fine": (2, Q(4, 12), Q(2, 14), Q(0, 18), True),
}


def make_top() -> Variants:
    """Make a head for each set of formats."""
    return Variants(
        {
            name: CostHead(INDEX, outputs, activation, target, sensitivity, softmax=softmax, data_bits=DATA_BITS)
            for name, (outputs, activation, target, sensitivity, softmax) in HEADS.items()
        }
    )


class HeadBench(Testbench):
    """A cost head with its neighbours, and the model of it."""

    def __init__(self, dut: Any, variant: str, seed: int, *, stalls: bool = True) -> None:
        super().__init__(dut, variant, seed, stalls=stalls)
        self.n, self.activation, self.target, self.sensitivity, softmax = HEADS[variant]
        self.numbers = make_numbers("identity", output=self.activation, sensitivity=self.sensitivity)
        self.cost = "softmax_cross_entropy" if softmax else "squared_error"
        self.words = np.random.default_rng(seed)
        self.scale = 1 << SCALE_BITS
        self.saturated = 0
        self.control = ControlHost(self, DATA_BITS)
        self.inputs, self.input_times = self.source("activation_in", activation_token(self.activation))
        self.targets, _ = self.source("target_in", target_token(self.target, self.sensitivity))
        self.outputs, self.output_times = self.checked("output", activation_token(self.activation))
        token = sensitivity_token(self.sensitivity, self.activation)
        self.seeds, self.seed_times = self.checked("sensitivity_out", token)
        self.sent = {"control_out": 0, "output": 0, "sensitivity_out": 0}

    def send_outputs(self, count: int, learn: Ints) -> Ints:
        """Draw and send outputs of the last stage."""
        x = draw_words(self.words, self.activation, (count, self.n), int(self.words.integers(0, 4)))
        update = self.words.integers(0, 2, (count, 1))
        sent = items(value=x, learn=learn[:, None], update=update)
        self.inputs.send(sent)
        self.outputs.expect(sent)
        self.sent["output"] += x.size
        return x

    def send_targets(self, x: Ints, own: Ints) -> None:
        """Draw and send targets of samples, or with ``own`` their seeds, and expect sensitivities."""
        for row, seed in zip(x, own, strict=True):
            form = self.sensitivity if seed else self.target
            target = draw_words(self.words, form, (1, self.n), int(self.words.integers(0, 3)))
            self.targets.send(items(value=target, seed=seed))
            answer = target
            if not seed:
                answer, limited = arithmetic.seed(self.numbers, self.cost, row[None], target, self.scale)
                self.saturated += int(limited.sum())
            self.seeds.expect(items(value=answer, activation=row[None]))
            self.sent["sensitivity_out"] += self.n

    async def end(self) -> None:
        """Finish, with all that was sent compared."""
        self.sent["control_out"] = self.control.expected
        await self.finish(**self.sent)


@cocotb.test()
@cocotb.parametrize(variant=named(HEADS), seed=[1, 2, 3])
async def samples(dut: Any, variant: str, seed: int) -> None:
    """Samples under stalls, some only passing through; words for other places pass the control port."""
    bench = HeadBench(dut, variant, seed)
    await bench.start()
    for scale in (256, int(bench.words.integers(1, 257)), 256):
        if scale != bench.scale:
            bench.control.send(INDEX, Operation.RATE, scale)
            bench.scale = scale
        bench.control.ask(INDEX, Operation.COUNTERS, [bench.saturated])
        await bench.drain()
        learn = bench.words.integers(0, 3, 12).clip(0, 1)
        x = bench.send_outputs(12, learn)
        chosen = x[learn == 1]
        bench.send_targets(chosen, bench.words.integers(0, 2, len(chosen)))
        await bench.drain()
    bench.control.ask(INDEX, Operation.COUNTERS, [bench.saturated])
    await bench.end()


@cocotb.test()
@cocotb.parametrize(variant=named(HEADS), seed=[1])
async def targets_may_follow(dut: Any, variant: str, seed: int) -> None:
    """A sample's outputs leave without its targets, which may depend on them."""
    bench = HeadBench(dut, variant, seed)
    await bench.start()
    x = bench.send_outputs(1, np.ones(1, np.int64))
    await bench.drain()
    await bench.cycles(50)
    assert not bench.seed_times.offered
    bench.send_targets(x, np.zeros(1, np.int64))
    await bench.end()


@cocotb.test()
@cocotb.parametrize(variant=named(HEADS), seed=[1])
async def cycles(dut: Any, variant: str, seed: int) -> None:
    """``Plan.head_latency`` from the last output accepted to the last seed offered; ``Plan.head_interval`` a sample."""
    bench = HeadBench(dut, variant, seed, stalls=False)
    n = bench.n
    plan = plan_network(Network(1, [Dense(n)], bench.cost))
    await bench.start()
    count = 8
    x = bench.send_outputs(1, np.ones(1, np.int64))
    bench.send_targets(x, np.zeros(1, np.int64))
    await bench.drain()
    latency = bench.seed_times.offered[-1] - bench.input_times.taken[-1]
    x = bench.send_outputs(count, np.ones(count, np.int64))
    bench.send_targets(x, np.zeros(count, np.int64))
    await bench.drain()
    intervals = np.diff(bench.seed_times.offered[n - 1 :: n])[-5:].tolist()
    assert latency == plan.head_latency, f"measured {latency}, predicted {plan.head_latency}"
    assert intervals == [plan.head_interval] * 5, f"measured {intervals}, predicted {plan.head_interval}"
    await bench.end()
