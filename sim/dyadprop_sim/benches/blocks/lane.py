"""Bench of the dyad lane: all three products, steps and read-outs, with waves of other lanes passing through."""

from typing import Any

import cocotb
import numpy as np
from amaranth.hdl import signed

from dyadprop import timing
from dyadprop.formats import Q
from dyadprop.plan import StagePlan
from dyadprop_hw.lane import Lane, LaneShape
from dyadprop_hw.layouts import BackwardOperation
from dyadprop_sim import arithmetic
from dyadprop_sim.benches.numbers import make_numbers
from dyadprop_sim.benches.pipes import PipeMonitor
from dyadprop_sim.benches.ports import Codec, Item
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named

LANES = {
    # plan, index
    "first": (StagePlan(make_numbers("tanh", inputs=3, outputs=5), 2), 0),
    "second": (StagePlan(make_numbers("tanh", inputs=3, outputs=5), 2), 1),
    "no_lambda": (StagePlan(make_numbers("relu", inputs=2, outputs=6, has_sensitivity=False), 3), 2),
    "alone": (StagePlan(make_numbers("identity", inputs=4, outputs=1, weight=Q(1, 17), sensitivity=Q(0, 18)), 1), 0),
}
FORWARD, BACKWARD, DELTA, PARTIAL, RESULT, SATURATED = (
    *("forward_in", "backward_in", "delta_in", "partial_in"),
    *("result_in", "saturated_in"),
)
LEARN, WRITE, READ_WEIGHT, READ_GRADIENT = (
    BackwardOperation[name].value for name in ("LEARN", "WRITE_GRADIENT", "READ_WEIGHT", "READ_GRADIENT")
)


def make_top() -> Variants:
    """Make a lane for each place in a stage."""
    return Variants({name: Lane(LaneShape(plan), index) for name, (plan, index) in LANES.items()})


class Model:
    """A lane's memories, and what it answers to each wave; cycles count from the first one of the schedule.

    Parameters
    ----------
    variant : str
    rng : random.Random
    """

    def __init__(self, variant: str, rng: Any) -> None:
        self.plan, self.index = LANES[variant]
        self.n = self.plan.numbers
        self.shape = LaneShape(self.plan)
        self.rng = rng
        self.weights: dict[int, int] = {}
        self.gradients: dict[int, int] = {}
        self.deltas: dict[int, int] = {}
        self.settled: dict[int, int] = {}  # cycle from which on an address' gradient can be read
        self.shift = rng.randrange(self.n.gradient_bits)
        self.shapes = {
            FORWARD: self.shape.forward,
            BACKWARD: self.shape.backward,
            DELTA: self.shape.delta,
            RESULT: self.shape.result,
            PARTIAL: signed(self.shape.partial_bits),
            SATURATED: range(self.plan.lanes + 1),
        }
        self.codecs = {name: Codec(shape) for name, shape in self.shapes.items()}
        self.schedule: list[dict[str, int]] = []
        self.expected: list[tuple[int, str, Item]] = []

    # -- schedule -----------------------------------------------------------------------------------------------------

    def bits(self, cycle: int, name: str, item: Item) -> None:
        """Give an item to an input in a cycle."""
        while len(self.schedule) <= cycle:
            self.schedule.append({})
        assert name not in self.schedule[cycle]
        self.schedule[cycle][name] = self.codecs[name].encode(item)

    def random(self, name: str, **fields: int) -> dict[str, int]:
        """Make a valid wave: these fields, the others at random."""
        decoded = self.codecs[name].decode(self.rng.getrandbits(self.codecs[name].width))
        assert isinstance(decoded, dict)
        return decoded | fields | {"valid": 1}

    def give(self, cycle: int, name: str, wave: dict[str, int]) -> None:
        """Give a wave, and expect it at the next lane one cycle later."""
        self.bits(cycle, name, wave)
        self.expected.append((cycle + 1, name.replace("_in", "_out"), wave))

    def other(self) -> int:
        """Give a lane number that is not this lane's, if there is one."""
        lanes = [lane for lane in range(self.plan.lanes) if lane != self.index]
        return self.rng.choice(lanes) if lanes else self.index

    def draw(self, form: Q) -> int:
        """Draw a word."""
        return int(self.rng.choice([form.min_int, form.max_int, *(self.rng.randint(form.min_int, form.max_int),) * 4]))

    def partial(self) -> int:
        """Draw a sum of the previous lanes that leaves room for this lane's product."""
        if not self.n.has_sensitivity:
            return self.rng.randint(-(1 << self.shape.partial_bits - 1), (1 << self.shape.partial_bits - 1) - 1)
        limit = 1 << self.shape.partial_bits - 3
        return int(self.rng.randint(-limit, limit))

    # -- what a lane can be told --------------------------------------------------------------------------------------

    def load(self, cycle: int) -> int:
        """Store all weights and deltas, among words for other lanes; return the first cycle behind."""
        addresses, banks = list(range(self.shape.words)), list(range(self.shape.deltas))
        self.rng.shuffle(addresses)
        self.rng.shuffle(banks)
        for address in addresses:
            self.weights[address] = self.draw(self.n.weight)
            fields = {"write": 1, "address": address, "operand": self.weights[address], "last": 0}
            self.give(cycle, FORWARD, self.random(FORWARD, **fields, lane=self.index))
            cycle += 1
            if self.plan.lanes > 1:
                self.give(cycle, FORWARD, self.random(FORWARD, write=1, address=address, lane=self.other()))
                cycle += 1
        for delta in banks:
            self.deltas[delta] = self.draw(self.n.sensitivity)
            fields = {"delta": delta, "value": self.deltas[delta]}
            self.give(cycle, DELTA, self.random(DELTA, **fields, lane=self.index))
            cycle += 1
            if self.plan.lanes > 1:
                self.give(cycle, DELTA, self.random(DELTA, delta=delta, lane=self.other()))
                cycle += 1
        return cycle + 1

    def row(self, cycle: int) -> int:
        """Run one row forward; return the cycle behind its last column."""
        count = self.rng.randrange(1, self.shape.words + 1)
        learn, update = self.rng.getrandbits(1), self.rng.getrandbits(1)
        total = 0
        for column in range(count):
            address = self.rng.randrange(self.shape.words)
            operand = self.operand()
            total += self.weights[address] * operand
            fields = {"write": 0, "first": int(column == 0), "last": int(column == count - 1)}
            fields |= {"learn": learn, "update": update, "address": address, "operand": operand}
            self.give(cycle + column, FORWARD, self.random(FORWARD, **fields))
        result = {"valid": 1, "learn": learn, "update": update, "value": self.wrap(total, self.n.accumulator_bits)}
        self.expected.append((cycle + count - 1 + timing.RESULT, "result_out", result))
        return cycle + count

    def operand(self) -> int:
        """Draw an activation, or the bias column's 1.0."""
        return self.rng.choice([self.n.one, self.draw(self.n.input), self.draw(self.n.input)])

    def wrap(self, value: int, bits: int) -> int:
        """Limit a sum to its width: rows here may be longer than those of a layer."""
        return (value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)

    def backward(self, cycle: int, operation: int, *, update: int = 0, addresses: range | None = None) -> bool:
        """Give one backward wave with the partial sum that meets it; False if no address can be read yet."""
        choice = [
            address
            for address in (addresses or range(self.shape.words))
            if self.settled.get(address, 0) <= cycle and (address in self.gradients or operation != READ_GRADIENT)
        ]
        if not choice:
            return False
        address = self.rng.choice(choice)
        delta = self.rng.randrange(self.shape.deltas)
        operand = self.operand()
        fresh = int(address not in self.gradients or self.rng.random() < 0.2)
        lane = self.index if self.rng.random() < 0.6 else self.other()
        last = self.rng.getrandbits(1)
        fields = {"operation": operation, "address": address, "delta": delta, "operand": operand, "fresh": fresh}
        fields["last"] = last
        self.give(cycle, BACKWARD, self.random(BACKWARD, **fields, lane=lane, update=update))
        before = self.partial()
        saturated_before = self.rng.randrange(self.plan.lanes)
        own = 0
        after = before
        if operation == LEARN and last and not self.shape.is_full(self.index):
            pass  # a row that does not exist
        elif operation == LEARN:
            if self.n.has_sensitivity:
                after = before + self.weights[address] * self.deltas[delta]
            gradient = (0 if fresh else self.gradients[address]) + self.deltas[delta] * operand
            self.gradients[address] = self.wrap(gradient, self.n.gradient_bits)
            self.settled[address] = cycle + timing.GRADIENT
            if update:
                own = self.step(address)
                self.settled[address] = cycle + timing.UPDATE
        elif operation == WRITE:
            before = after = self.rng.randint(-(1 << self.n.gradient_bits - 1), (1 << self.n.gradient_bits - 1) - 1)
            if lane == self.index:
                self.gradients[address] = before
                self.settled[address] = cycle + timing.GRADIENT
        elif lane == self.index:
            word = self.weights[address] if operation == READ_WEIGHT else 0 if fresh else self.gradients[address]
            before, after = 0, word  # a read-out is alone on the chain
        # What the previous lane sends meets the wave one cycle before this lane's own sum leaves.
        self.bits(cycle + timing.PARTIAL - 1, PARTIAL, before)
        if self.n.has_sensitivity or operation != LEARN:  # without a sensitivity nobody looks at a wave that learns
            self.expected.append((cycle + timing.PARTIAL, "partial_out", after))
        if update:
            self.bits(cycle + timing.SATURATED - 1, SATURATED, saturated_before)
            self.expected.append((cycle + timing.SATURATED, "saturated_out", saturated_before + own))
        return True

    def peek(self, cycle: int, address: int, value: int) -> None:
        """Read this lane's gradient, and expect this value."""
        fields = {"operation": READ_GRADIENT, "address": address, "fresh": 0, "lane": self.index, "update": 0}
        self.give(cycle, BACKWARD, self.random(BACKWARD, **fields))
        self.bits(cycle + timing.PARTIAL - 1, PARTIAL, 0)
        self.expected.append((cycle + timing.PARTIAL, "partial_out", value))

    def step(self, address: int) -> int:
        """Step one weight; return whether it was limited."""
        weight, gradient = (np.array([memory[address]], np.int64) for memory in (self.weights, self.gradients))
        new, residual, limited = arithmetic.step(weight, gradient, self.shift, self.n.weight)
        self.weights[address] = int(new[0])
        self.gradients[address] = self.wrap(int(residual[0]), self.n.gradient_bits)
        return int(limited[0])


async def play(bench: Testbench, model: Model, monitor: PipeMonitor, ports: dict[str, Any]) -> None:
    """Play the schedule, random bits with no ``valid`` where it says nothing, and compare all that is expected."""
    start = bench.now() + 1
    for entry in model.schedule + [{}] * 20:
        for name, port in ports.items():
            idle = bench.rng.getrandbits(port.codec.width)
            port.set_bits(entry.get(name, 0 if name in (PARTIAL, SATURATED) else idle & ~1))
        await bench.cycles(1)
    checker = bench.checker("wave")
    for cycle, name, item in sorted(model.expected, key=lambda entry: entry[0]):
        seen = monitor.seen[start + cycle][name]
        checker.expect([(cycle, name, item)])
        checker.check((cycle, name, seen))
    valid = dict.fromkeys(("forward_out", "backward_out", "delta_out", "result_out"), 0)
    for cycle, seen_then in monitor.seen.items():
        for name in valid:
            wave = seen_then[name]
            # Nothing else may be valid; before the first waves have come in, nothing is known to be.
            if isinstance(wave, dict) and cycle >= start:
                valid[name] += wave["valid"]
    expected = {name: sum(entry[1] == name for entry in model.expected) for name in valid}
    assert valid == expected, f"valid waves {valid}, expected {expected}"
    await bench.finish(wave=len(model.expected))


def make(dut: Any, variant: str, seed: int) -> tuple[Testbench, Model, PipeMonitor, dict[str, Any]]:
    """Make a bench with its model."""
    bench = Testbench(dut, variant, seed)
    model = Model(variant, bench.rng)
    ports = {name: bench.input(name, shape) for name, shape in model.shapes.items()}
    bench.input("rate_in", model.shape.rate).set({"shift": model.shift, "mask": (1 << model.shift) - 1})
    outputs = {name.replace("_in", "_out"): shape for name, shape in model.shapes.items()}
    _, monitor = bench.pipe({}, outputs)
    return bench, model, monitor, ports


@cocotb.test()
@cocotb.parametrize(variant=named(LANES), seed=[1, 2, 3])
async def waves(dut: Any, variant: str, seed: int) -> None:
    """Random rows forward and random waves backward at once, then steps, then all words read out."""
    bench, model, monitor, ports = make(dut, variant, seed)
    rng = bench.rng
    cycle = model.load(0)
    for _ in range(2):
        # Both directions at once; results of other lanes come along where this lane has none.
        end = cycle + 120
        forward = cycle
        while forward < end:
            forward = model.row(forward) + rng.randrange(3)
        own = {entry[0] for entry in model.expected if entry[1] == "result_out"}
        for k in range(cycle, end):
            if rng.random() < 0.5 and k + 2 not in own:
                wave = model.random(RESULT)
                model.bits(k, RESULT, wave)
                model.expected.append((k + 2, "result_out", wave))
            if rng.random() < 0.7:
                model.backward(k, rng.choice([LEARN, LEARN, LEARN, READ_WEIGHT, READ_GRADIENT, WRITE]))
        cycle = max(end, forward) + timing.UPDATE
        # Steps: nothing runs forward, and all waves step.
        for k in range(cycle, cycle + 40):
            if rng.random() < 0.8:
                model.backward(k, LEARN, update=1)
        cycle += 40 + timing.UPDATE
        for address in range(model.shape.words):
            for operation in (READ_WEIGHT, READ_GRADIENT):
                model.backward(cycle, operation, addresses=range(address, address + 1))
                cycle += 1
    await bench.start()
    await play(bench, model, monitor, ports)


@cocotb.test()
@cocotb.parametrize(variant=named(LANES), seed=[1])
async def distances(dut: Any, variant: str, seed: int) -> None:
    """Reads see a gradient or a residual ``GRADIENT`` after its wave, a weight ``UPDATE``; not sooner."""
    bench, model, monitor, ports = make(dut, variant, seed)
    cycle = model.load(0)
    latency = timing.GRADIENT
    for update in (0, 0, 1, 1):
        before = model.gradients.get(1)
        assert model.backward(cycle, LEARN, update=update, addresses=range(1, 2))
        if before is not None:
            model.peek(cycle + latency - 1, 1, before)
        model.peek(cycle + latency, 1, model.gradients[1])
        # The next product is added to it as soon as it can be read.
        cycle += max(latency + 1, timing.UPDATE)
        assert model.backward(cycle, READ_WEIGHT, addresses=range(1, 2))
        cycle += 1
    assert model.backward(cycle, LEARN, addresses=range(1, 2))
    assert model.backward(cycle + timing.GRADIENT, LEARN, addresses=range(1, 2))
    model.peek(cycle + 2 * timing.GRADIENT, 1, model.gradients[1])
    await bench.start()
    await play(bench, model, monitor, ports)
