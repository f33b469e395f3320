"""Bench of a stage's control: each command's waves and replies, while the stage is quiet and while it is not."""

from collections import deque
from typing import Any

import cocotb
from amaranth.hdl import Module, Mux, signed, unsigned
from amaranth.lib import wiring
from cocotb.triggers import RisingEdge

from dyadprop import timing
from dyadprop.operations import COUNTER_BITS, STAGE_COUNTERS, Operation
from dyadprop.plan import StagePlan
from dyadprop_hw.control_port import StageControl
from dyadprop_hw.lane import LaneShape
from dyadprop_hw.layouts import BackwardOperation, control_token
from dyadprop_sim.benches.blocks.word_counter import words
from dyadprop_sim.benches.control import command
from dyadprop_sim.benches.numbers import make_numbers
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named

DATA_BITS = 36
WAIT = (Operation.WORD, Operation.CLEAR, Operation.WRITE_GRADIENT, Operation.RATE)
PLANS = {
    "groups": StagePlan(make_numbers("relu", inputs=3, outputs=5, index=2), 2),
    "tiny": StagePlan(make_numbers("relu", inputs=1, outputs=1), 1),
    "row": StagePlan(make_numbers("relu", inputs=2, outputs=4, index=9), 4),
    # More words than the queue of answers has places.
    "long": StagePlan(make_numbers("relu", inputs=9, outputs=5), 2),
}


class Decoded(wiring.Component):
    """A control whose commands are decoded, as a port's are.

    Parameters
    ----------
    plan : StagePlan
    """

    def __init__(self, plan: StagePlan) -> None:
        self._control = StageControl(LaneShape(plan), DATA_BITS)
        members = self._control.signature.members
        super().__init__({name: member for name, member in members.items() if name != "operations"})

    def elaborate(self, platform: object) -> Module:
        """Pass all other ports through."""
        m = Module()
        m.submodules.control = control = self._control
        ports = (self.signature.flatten(part) for part in (self, control))
        for (_, member, outer), (_, _, inner) in zip(*ports, strict=True):
            m.d.comb += inner.eq(outer) if member.flow == wiring.In else outer.eq(inner)
        command = control.command
        m.d.comb += control.operations.eq(Mux(command.valid, 1 << command.payload.operation, 0))
        return m


def make_top() -> Variants:
    """Make a control for each plan."""
    return Variants({name: Decoded(plan) for name, plan in PLANS.items()})


class ControlBench(Testbench):
    """A control with the chain on one side and the lanes on the other."""

    def __init__(self, dut: Any, variant: str, seed: int, *, stalls: bool = True) -> None:
        super().__init__(dut, variant, seed, stalls=stalls)
        self.plan = plan = PLANS[variant]
        self.n = plan.numbers
        shape = LaneShape(plan)
        token = control_token(DATA_BITS)
        self.commands, self.command_times = self.source("command", token)
        self.taker, self.reply_times = self.sink("reply", token["data"].shape)
        self.replies = self.checker("reply")
        self.reply_times.call(self.replies.check)
        self.write, self.read = self.port("write", shape.forward), self.port("read", shape.backward)
        self.partial, self.rate = self.port("partial", signed(shape.partial_bits)), self.port("rate", shape.rate)
        self.fresh, self.learnt = self.port("fresh", unsigned(1)), self.input("learnt", unsigned(1))
        self.quiet_port = self.input("quiet", unsigned(1), 1)
        self.word_valid = self.input("word_valid", unsigned(1))
        self.word_data = self.input("word_data", token["data"].shape)
        counter = unsigned(COUNTER_BITS)
        self.counters = [self.rng.getrandbits(COUNTER_BITS) for _ in range(STAGE_COUNTERS)]
        for k, value in enumerate(self.counters):
            self.input(f"counters__{k}", counter, value)
        self.writes, self.reads = self.checker("write"), self.checker("read")
        self.partials = self.checker("partial")
        self.places = words(plan)
        self.position = 0
        self.counts = {"write": 0, "read": 0, "partial": 0, "reply": 0}
        self.read_times: list[int] = []
        self.busy = 0.3 if stalls else 0.0

    # -- commands, and what they are to cause -------------------------------------------------------------------------

    def send(self, operation: Operation, data: int = 0) -> None:
        """Send one command."""
        self.commands.send([command(self.n.index, operation, data)])

    def place(self) -> dict[str, int]:
        """Take the place of the next word."""
        place = self.places[self.position]
        self.position = (self.position + 1) % len(self.places)
        return {"lane": place["lane"], "address": place["address"]}

    def begin(self) -> None:
        """Go back to the first word."""
        self.send(Operation.BEGIN)
        self.position = 0

    def store(self, count: int) -> None:
        """Store some weights."""
        form = self.n.weight
        for _ in range(count):
            value = self.rng.randint(form.min_int, form.max_int)
            self.send(Operation.WORD, value)
            self.writes.expect([{**self.place(), "operand": value, "write": 1}])
            self.counts["write"] += 1

    def store_gradients(self) -> None:
        """Store all gradients."""
        limit = 1 << self.n.gradient_bits - 1
        for _ in self.places:
            value = self.rng.randint(-limit, limit - 1)
            self.send(Operation.WRITE_GRADIENT, value)
            self.reads.expect([{**self.place(), "operation": BackwardOperation.WRITE_GRADIENT.value}])
            self.partials.expect([value])
            self.counts["read"] += 1
            self.counts["partial"] += 1

    def read_out(self, operation: Operation) -> None:
        """Read all words, from the first one on."""
        kind = {
            Operation.READ_WEIGHT: BackwardOperation.READ_WEIGHT,
            Operation.READ_GRADIENT: BackwardOperation.READ_GRADIENT,
        }[operation]
        self.send(operation)
        for _ in self.places:
            place = self.place()
            self.reads.expect([{**place, "operation": kind.value}])
            self.replies.expect([answer(place, kind.value)])
            self.counts["read"] += 1
            self.counts["reply"] += 1

    def ask_counters(self) -> None:
        """Read the counters."""
        self.send(Operation.COUNTERS)
        self.replies.expect(self.counters)
        self.counts["reply"] += STAGE_COUNTERS

    # -- the lanes ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Check waves; answer read-outs after the latency of the lanes; be quiet only at times."""
        edge = RisingEdge(self.dut.clk)
        answers: dict[int, int] = {}
        stored: dict[int, bool] = {}
        fresh, quiet, learnt = 1, True, False
        stored_later = timing.ENTRY + timing.PARTIAL - 1  # behind its wave, where lane 0 adds to the partial sum
        was_quiet = deque([True] * timing.DECISION)  # first: when this cycle's wave was decided
        was_fresh = fresh
        while True:
            await edge
            now = self.now()
            moved = self.command_times.taken[-1:] == [now]
            taken = self.command_times.stream.payload.get() if moved else None
            assert self.fresh.get() == fresh
            if self.write.text()[-1] == "1":
                assert was_quiet[0]
                wave = self.write.get()
                assert isinstance(wave, dict)
                self.writes.check({name: wave[name] for name in ("lane", "address", "operand", "write")})
            text = self.read.text()
            assert text[-1] in "01"
            if text[-1] == "1":
                assert was_quiet[0]
                wave = self.read.get()
                assert isinstance(wave, dict)
                place = {"lane": wave["lane"], "address": wave["address"]}
                self.reads.check({**place, "operation": wave["operation"]})
                self.read_times.append(now)
                if wave["operation"] == BackwardOperation.WRITE_GRADIENT.value:
                    stored[now + stored_later] = True
                else:
                    assert wave["fresh"] == was_fresh or wave["operation"] != BackwardOperation.READ_GRADIENT.value
                    answers[now - timing.DECISION + self.plan.read_latency - timing.ANSWER] = answer(
                        place, wave["operation"]
                    )
            if stored.pop(now, False):
                self.partials.check(self.partial.get())
            elif now > 10 and self.read_times and now > self.read_times[0] + stored_later:
                assert self.partial.get() == 0
            # What has been learnt, cleared or stored in the cycle that ends now.
            operation = taken["operation"] if isinstance(taken, dict) else -1
            assert quiet or operation not in WAIT, f"operation {operation} did not wait for the samples in flight"
            was_fresh = fresh
            if operation == Operation.CLEAR:
                fresh = 1
            elif learnt or operation == Operation.WRITE_GRADIENT:
                fresh = 0
            was_quiet.append(quiet)
            was_quiet.popleft()
            learnt = not quiet and self.rng.random() < 0.1
            self.learnt.set(int(learnt))
            value = answers.pop(now + 1, None)
            self.word_valid.set(int(value is not None))
            self.word_data.set(self.rng.getrandbits(8) if value is None else value)
            if self.rng.random() < 0.2:
                quiet = self.rng.random() >= self.busy
                if not quiet:
                    learnt = False
                    self.learnt.set(0)
            self.quiet_port.set(int(quiet))


def answer(place: dict[str, int], operation: int) -> int:
    """Give what the lanes hold at a place: a number that no other place and operation has."""
    return ((place["lane"] << 12 | place["address"]) << 2 | operation) - 5000


@cocotb.test()
@cocotb.parametrize(variant=named(PLANS), seed=[1, 2, 3])
async def commands(dut: Any, variant: str, seed: int) -> None:
    """Commands in random order, replies under stalls, samples in flight in between."""
    bench = ControlBench(dut, variant, seed)
    await bench.start(bench.run())
    for _ in range(12):
        choice = bench.rng.randrange(6)
        bench.begin()
        if choice == 0:
            bench.store(bench.rng.choice([len(bench.places), bench.rng.randrange(1, len(bench.places) + 1)]))
        elif choice == 1:
            bench.store_gradients()
        elif choice == 2:
            bench.read_out(Operation.READ_WEIGHT)
        elif choice == 3:
            # Behind the last word comes the first one, without being told.
            for _ in range(2):
                bench.read_out(Operation.READ_GRADIENT)
        elif choice == 4:
            bench.send(Operation.CLEAR)
        else:
            shift = bench.rng.randrange(bench.n.gradient_bits)
            bench.send(Operation.RATE, shift)
            await bench.drain()
            await bench.cycles(2)
            assert bench.rate.get() == {"shift": shift, "mask": (1 << shift) - 1}
        bench.ask_counters()
    await bench.drain()
    await bench.cycles(10)
    await bench.finish(**bench.counts)


@cocotb.test()
@cocotb.parametrize(variant=named(PLANS), seed=[1])
async def closed(dut: Any, variant: str, seed: int) -> None:
    """Nobody takes an answer for a long time: no more read-outs begin than there are places, and none is lost."""
    bench = ControlBench(dut, variant, seed, stalls=False)
    await bench.start(bench.run())
    bench.begin()
    bench.taker.stalls.share = 1.0
    bench.read_out(Operation.READ_WEIGHT)
    await bench.cycles(200)
    bench.taker.stalls.share = 0.0
    await bench.drain()
    await bench.finish(**bench.counts)


@cocotb.test()
@cocotb.parametrize(variant=named(PLANS), seed=[1])
async def cycles(dut: Any, variant: str, seed: int) -> None:
    """A word a cycle in; ``words + latency`` cycles out, once the stage is quiet."""
    bench = ControlBench(dut, variant, seed, stalls=False)
    await bench.start(bench.run())
    bench.begin()
    bench.store(len(bench.places))
    await bench.drain()
    taken = bench.command_times.taken
    assert taken[-1] - taken[0] == len(bench.places)
    await bench.cycles(10)
    bench.read_out(Operation.READ_WEIGHT)
    await bench.drain()
    assert bench.read_times[0] == bench.command_times.offered[-1] + timing.DECISION
    offered = bench.reply_times.offered
    latency = offered[0] - bench.command_times.offered[-1]
    assert latency == bench.plan.read_latency + timing.queue(bench.plan.answer_words), latency
    assert offered[-1] - offered[0] == len(bench.places) - 1
    await bench.finish(**bench.counts)
