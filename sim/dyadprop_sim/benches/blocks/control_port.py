"""Bench of a place on the control chain: words for others pass, own commands are answered in order."""

import itertools
from typing import Any

import cocotb
from amaranth.hdl import unsigned
from cocotb.triggers import RisingEdge

from dyadprop import timing
from dyadprop.operations import Operation
from dyadprop_hw.control_port import ControlPort
from dyadprop_hw.layouts import control_token
from dyadprop_sim.benches.control import command, reply
from dyadprop_sim.benches.ports import Item
from dyadprop_sim.benches.streams import Stalls
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named

DATA_BITS = 12
PLACES = {"first": 1, "fifth": 5, "last": 127}


def make_top() -> Variants:
    """Make a port for each place."""
    return Variants({name: ControlPort(index, DATA_BITS) for name, index in PLACES.items()})


class Servant:
    """Whoever carries out the commands of this place: gives so many replies to each, then lets it go.

    Parameters
    ----------
    bench : Testbench
    """

    def __init__(self, bench: Testbench) -> None:
        token = control_token(DATA_BITS)
        self.bench = bench
        self.command = bench.stream("command", token)
        self.operations = bench.port("operations", unsigned(len(Operation)))
        self.reply = bench.stream("reply", token["data"].shape)
        self.stalls = Stalls(bench.rng, 0.4)
        self.checker = bench.checker("command")
        self.plans: list[list[int]] = []
        self.quiet()

    def quiet(self) -> None:
        """Do nothing."""
        self.command.ready.value = 0
        self.reply.valid.value = 0

    async def run(self) -> None:
        """Serve for ever. The command is let go with its last reply, or later, or at once where there is none."""
        edge = RisingEdge(self.bench.dut.clk)
        answers: list[int] = []
        held = offered = released = False
        while True:
            await edge
            valid = self.command.flag(self.command.valid)
            word = self.command.payload.get() if valid else None
            assert self.operations.get() == (1 << word["operation"] if isinstance(word, dict) else 0)
            if offered and self.reply.flag(self.reply.ready):
                answers.pop(0)
                offered = False
            if released and valid:
                self.checker.check(self.command.payload.get())
                held = released = False
                valid = False  # the next one, if any, is looked at in the next cycle
            self.quiet()
            if valid and not held:
                answers = self.plans.pop(0)
                held = True
            if held and (offered or not self.stalls()):
                if answers:
                    self.reply.payload.set(answers[0])
                    self.reply.valid.value = 1
                    offered = True
                else:
                    self.command.ready.value = 1
                    released = True


@cocotb.test()
@cocotb.parametrize(variant=named(PLACES), seed=[1, 2, 3])
async def words(dut: Any, variant: str, seed: int) -> None:
    """Words for others, replies of others, and own commands with none to three replies, under stalls."""
    bench = Testbench(dut, variant, seed)
    index = PLACES[variant]
    driver, _ = bench.source("control_in", control_token(DATA_BITS))
    checker, _ = bench.checked("control_out", control_token(DATA_BITS))
    servant = Servant(bench)
    rng = bench.rng
    low, high = -(1 << DATA_BITS - 1), (1 << DATA_BITS - 1) - 1
    count = own = 0
    for _ in range(150):
        operation, data = rng.randrange(8), rng.randint(low, high)
        place = rng.choice([index, index, rng.randrange(128)])
        word: Item = command(place, operation, data)
        if rng.random() < 0.2:
            word = reply(place, operation, data)  # a reply from the same place passes too
        driver.send([word])
        if word == command(index, operation, data):
            answers = [rng.randint(low, high) for _ in range(rng.randrange(4))]
            servant.plans.append(answers)
            servant.checker.expect([word])
            expected: list[Item] = [reply(index, operation, answer) for answer in answers]
            own += 1
        else:
            expected = [word]
        checker.expect(expected)
        count += len(expected)
    await bench.start(servant.run())
    await bench.finish(control_out=count, command=own)


@cocotb.test()
@cocotb.parametrize(variant=named(PLACES), seed=[1])
async def latency(dut: Any, variant: str, seed: int) -> None:
    """Words for others pass at one a cycle, ``timing.QUEUE`` later."""
    bench = Testbench(dut, variant, seed, stalls=False)
    driver, before = bench.source("control_in", control_token(DATA_BITS))
    checker, after = bench.checked("control_out", control_token(DATA_BITS))
    Servant(bench)
    words = [command(PLACES[variant] - 1, k % 8, k) for k in range(30)]
    driver.send(words)
    checker.expect(words)
    await bench.start()
    await bench.finish(control_out=30, command=0)
    assert [b - a for a, b in zip(before.taken, after.offered, strict=True)] == [timing.QUEUE] * 30
    assert before.taken[-1] - before.taken[0] == 29


@cocotb.test()
@cocotb.parametrize(variant=named(PLACES), seed=[1])
async def own_latency(dut: Any, variant: str, seed: int) -> None:
    """Own commands are offered ``timing.COMMAND`` cycles later, one in three cycles where each is taken at once."""
    bench = Testbench(dut, variant, seed, stalls=False)
    driver, before = bench.source("control_in", control_token(DATA_BITS))
    checker, _ = bench.checked("control_out", control_token(DATA_BITS))
    Servant(bench)
    kept, times = bench.checked("command", control_token(DATA_BITS))
    words = [command(PLACES[variant], k % 8, k) for k in range(10)]
    driver.send(words)
    kept.expect(words)
    checker.expect([])
    await bench.start()
    await bench.finish(control_out=0, command=10)
    assert times.offered[0] - before.taken[0] == timing.COMMAND
    assert {b - a for a, b in itertools.pairwise(times.taken)} == {3}
