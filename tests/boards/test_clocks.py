# amaranth: UnusedElaboratable=no
"""Reset at power-on: it waits for the PLL, and comes again when the PLL loses its lock."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from dyadprop_boards.board_link import is_split, link_clock
from dyadprop_boards.clocks import PowerOnReset
from dyadprop_boards.pll import Pll, find_pll
from dyadprop_boards.project import make_platform
from dyadprop_boards.table import BOARDS, Board, find_board
from dyadprop_boards.top import BoardTop
from tests.boards.small_chip import SmallChip

CYCLES = 9
LATENCY = 4  # two of the synchronizer, two of the registers behind the counter


def simulate(lock: list[int]) -> list[int]:
    """Give reset in each cycle."""
    m = Module()
    m.domains.power_on = ClockDomain(reset_less=True)
    m.submodules.dut = dut = PowerOnReset(CYCLES)
    seen: list[int] = []

    async def bench(ctx: Any) -> None:
        for level in lock:
            ctx.set(dut.locked, level)
            seen.append(ctx.get(dut.reset))
            await ctx.tick("power_on")

    sim = Simulator(m)
    sim.add_clock(1e-6, domain="power_on")
    sim.add_testbench(bench)
    sim.run()
    assert len(seen) == len(lock)
    return seen


def test_reset_waits_for_the_lock() -> None:
    waited = 20
    seen = simulate([0] * waited + [1] * 30)
    end = waited + CYCLES + LATENCY
    assert seen == [1] * end + [0] * (waited + 30 - end)


def test_a_lock_that_is_lost_resets_again() -> None:
    lock = [1] * 20 + [0] + [1] * 25
    seen = simulate(lock)
    first = CYCLES + LATENCY
    again = 20 + LATENCY + 1
    assert seen[first:again] == [0] * (again - first)
    assert seen[again : again + CYCLES] == [1] * CYCLES
    assert seen[again + CYCLES :] == [0] * (len(lock) - again - CYCLES)


def test_a_short_lock_is_none() -> None:
    assert simulate(([1] * (CYCLES - 1) + [0]) * 5) == [1] * (5 * CYCLES)


def rtlil(board: Board, pll: Pll | None) -> str:
    split = is_split(board, float(board.clock if pll is None else pll.frequency))
    top = BoardTop(SmallChip(split=split), board, pll)
    return str(make_platform(board).build(top, name="top", do_build=False, emit_src=False).files["top.il"])


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_each_board_gets_its_pll(board: Board) -> None:
    pll = find_pll(board.fpga.family, board.speed, board.clock, board.design_clock)
    design = rtlil(board, pll)
    primitive = {"ecp5": "EHXPLLL", "gowin": "rPLL", "ice40": "SB_PLL40_PAD" if board.pll_pad else "SB_PLL40_CORE"}
    assert design.count(f"cell \\{primitive[board.fpga.family]} ") == (pll is not None)


def test_an_ice40_gets_its_divisors_less_one() -> None:
    board = find_board("icebreaker")
    pll = find_pll("ice40", "", board.clock, 48_000_000)
    design = rtlil(board, pll)
    for line in ("DIVR 4'0000", "DIVF 7'0111111", "DIVQ 3'100", "FILTER_RANGE 3'001"):
        assert f"parameter \\{line}\n" in design


@pytest.mark.parametrize(
    ("clock", "settings"),
    [
        # What is fed back is the network's clock, or a clock of the PLL's own.
        (100_000_000, {"CLKOP_DIV": 8, "CLKOS_DIV": 16, "CLKOS_CPHASE": 15}),
        (101_000_000, {"CLKOP_DIV": 57, "CLKOS_DIV": 7, "CLKOS2_DIV": 14, "CLKOS2_CPHASE": 13}),
    ],
)
def test_the_link_s_clock_is_half_the_network_s(clock: int, settings: dict[str, int]) -> None:
    board = find_board("ulx3s-85f")
    pll = find_pll("ecp5", "6", board.clock, clock)
    assert pll is not None
    design = rtlil(board, pll)
    for name, value in settings.items():
        assert f"parameter \\{name} {value}\n" in design
    assert is_split(board, float(pll.frequency))
    assert link_clock(board, float(pll.frequency)) == float(pll.frequency) / 2


def test_an_oscillator_is_the_clock_of_both() -> None:
    board = find_board("ecpix5-85")
    assert not is_split(board, board.clock)
    assert link_clock(board, board.clock) == board.clock
    assert not is_split(find_board("tang-nano-9k"), 54e6)
