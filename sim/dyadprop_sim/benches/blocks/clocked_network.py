"""Bench of a network with a clock of its own: a reset leaves nothing in it. The chip's bench looks at its words."""

from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from dyadprop.network import Dense, Network
from dyadprop.plan import plan_network
from dyadprop_hw.clocked_network import HOLD, ClockedNetwork
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants

PLAN = plan_network(Network(2, [Dense(2, "relu", lanes=1), Dense(1, lanes=1)], input_gradient=True, max_batch=4))
QUIET = 300  # cycles in which nothing moves: it is full, or empty


def make_top() -> Variants:
    """Make one."""
    return Variants({"network": ClockedNetwork(PLAN)})


async def held(dut: Any) -> int:
    """Count the cycles in which the streams are nobody's."""
    cycles = 0
    while dut.network__restarting.value == 1:
        cycles += 1
        assert cycles < 1000, "the reset does not end"
        await FallingEdge(dut.clk)
    return cycles


async def fill(dut: Any) -> int:
    """Give input words while they are taken; count them."""
    words = quiet = 0
    dut.network__input__valid.value = 1
    while quiet < QUIET:
        await FallingEdge(dut.clk)
        taken = dut.network__input__ready.value == 1
        words, quiet = words + taken, 0 if taken else quiet + 1
        assert words < 1000, "it is never full"
    dut.network__input__valid.value = 0
    return words


@cocotb.test()
@cocotb.parametrize(period=[900, 1998, 5000])
async def begins_anew(dut: Any, period: int) -> None:
    """Full of samples whose outputs nobody takes, then reset: no output comes, and as many words have room again."""
    bench = Testbench(dut, "network", period)
    for name in ("input", "target", "control_in"):
        for member in ("valid", "payload"):
            bench.input(f"{name}__{member}", 1)
    for name in ("output", "control_out", "input_sensitivity"):
        bench.input(f"{name}__ready", 1)
    bench.input("restart", 1)
    Clock(dut.network_clk, period, unit="ps").start(start_high=bool(bench.rng.getrandbits(1)))
    await bench.start()
    await FallingEdge(dut.clk)
    await held(dut)
    room = await fill(dut)
    assert room > PLAN.stages[0].samples
    assert dut.network__output__valid.value == 1
    for _ in range(3):
        dut.network__restart.value = 1
        await FallingEdge(dut.clk)
        dut.network__restart.value = 0
        assert await held(dut) == 2 * HOLD
        for _ in range(QUIET):
            assert dut.network__output__valid.value == 0
            await FallingEdge(dut.clk)
        assert await fill(dut) == room
        assert dut.network__output__valid.value == 1
