# amaranth: UnusedElaboratable=no
"""Each board with the real chip and the real tools: minutes a board, so only `make boards` runs them."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import pytest

import dyadprop as dp
from dyadprop_boards import build as build_module
from dyadprop_boards.build import WORK, BuildOptions, TimingMissed, build
from dyadprop_boards.design import fit
from dyadprop_boards.fpgas import RESOURCES, Resource
from dyadprop_boards.project import PROVED_MEMORIES, TOP
from dyadprop_boards.sample_designs import BYTES
from dyadprop_boards.table import BOARDS, find_board
from dyadprop_sim.gates import run_yosys
from tests.boards.small_chip import SmallChip

pytestmark = [pytest.mark.boards, pytest.mark.timeout(3600)]

OUT = Path("build/boards")
UNMATCHED = r"Selection .* did not match any \w+"
"""What yosys says of a pattern that no object of the design has."""
NET = dp.Network(2, [dp.Dense(2, "relu"), dp.Dense(1)])
SMALLEST = dp.Network(2, [dp.Dense(1)], max_batch=4)
TINY = dp.Network(2, [dp.Dense(1)], formats=BYTES, max_batch=4)

# One of each family is placed, routed and packed, with the network that fits, and the self-test where that does.
BUILT = {
    "ulx3s-12f": (NET, True),
    "hx8k-breakout": (dp.Network(4, [dp.Dense(3)], formats=BYTES, max_batch=8), False),
    "tang-nano-9k": (TINY, True),
}
TOO_SMALL = [board.name for board in BOARDS if board.device == "iCE40UP5K"]  # for words of 16 bits, docs/boards.md


@pytest.mark.parametrize("name", [board.name for board in BOARDS if board.name not in (*BUILT, *TOO_SMALL)])
def test_synthesis(name: str) -> None:
    board = find_board(name)
    result = build(NET, board, OUT / board.name / "smallest", BuildOptions(synth_only=True))
    for name in RESOURCES:
        assert result.estimate[name].used <= result.estimate[name].available
    if board.fpga.multipliers:
        assert result.estimate["multipliers"].used == result.work.multipliers
    check_memories(OUT / board.name / "smallest")


@pytest.mark.parametrize("name", TOO_SMALL)
def test_the_smallest_network_is_refused(name: str) -> None:
    board = find_board(name)
    with pytest.raises(
        dp.CapacityError, match=rf"needs \d+ of {board.fpga.luts} LUTs.*: it does not fit board {name} "
    ):
        build(SMALLEST, board, OUT / name / "smallest", BuildOptions(synth_only=True))


@pytest.mark.parametrize("name", BUILT)
def test_bitstream(name: str) -> None:
    board = find_board(name)
    folder = OUT / name / "bitstream"
    net, self_test = BUILT[name]
    result = build(net, board, folder, BuildOptions(self_test=self_test))
    assert result.self_test is self_test
    (placement,) = result.placements
    assert placement.met
    assert placement.clock.asked == pytest.approx(board.design_clock, rel=1e-3)
    # Where an FPGA has no multipliers they are LUTs.
    assert placement.resources["multipliers"].used == (result.work.multipliers if board.fpga.multipliers else 0)
    assert (folder / result.bitstream).stat().st_size > 10_000
    check_memories(folder)


# What place and route calls a LUT, a register, a multiplier and a block RAM; an iCE40's cell is the first two.
SITES: dict[str, dict[str, Resource]] = {
    "ecp5": {
        "TRELLIS_COMB": "luts",
        "TRELLIS_FF": "flip_flops",
        "MULT18X18D": "multipliers",
        "DP16KD": "block_rams",
    },
    "ice40": {"ICESTORM_LC": "luts", "ICESTORM_DSP": "multipliers", "ICESTORM_RAM": "block_rams"},
    "gowin": {"LUT4": "luts", "DFF": "flip_flops", "MULT18X18": "multipliers", "BSRAM": "block_rams"},
}


@pytest.mark.parametrize(
    "name", ["ulx3s-85f", "ecpix5-45", "icebreaker", "hx8k-breakout", "tang-nano-9k", "tang-primer-20k"]
)
def test_bitstream_of_a_stand_in(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "fit", partial(fit, checked=False))  # the stand-in is smaller than any network
    board = find_board(name)
    folder = OUT / name / "stand-in"
    result = build(SMALLEST, board, folder, BuildOptions(), lambda design: SmallChip(split=design.is_split))
    (placement,) = result.placements
    assert placement.met
    assert placement.clock.asked == pytest.approx(board.design_clock, rel=1e-3)
    assert placement.resources["block_rams"].used == 1
    assert (folder / result.bitstream).stat().st_size > 10_000
    # What the table says that there is, is what place and route has.
    utilization = json.loads((folder / WORK / "seed-1.report.json").read_text())["utilization"]
    compared = 0
    for site, resource in SITES[board.fpga.family].items():
        assert utilization.get(site, {"available": 0})["available"] == board.fpga.has(resource), site
        compared += 1
    assert compared >= 3


def test_a_missed_timing_is_a_result() -> None:
    """Place and route fails then, but writes its report."""
    with pytest.raises(TimingMissed) as caught:
        build(
            SMALLEST,
            find_board("ulx3s-12f"),
            OUT / "ulx3s-12f" / "too-fast",
            BuildOptions(clock=300_000_000),
            lambda design: SmallChip(split=design.is_split),
        )
    (placement,) = caught.value.result.placements
    assert not placement.met
    assert placement.clock.asked == pytest.approx(300e6, rel=1e-3)
    assert 50e6 < placement.clock.reached < 300e6
    assert placement.critical_path is not None
    assert placement.critical_path.nanoseconds == pytest.approx(1e9 / placement.clock.reached, rel=1e-3)


def check_memories(folder: Path) -> None:
    """Synthesis found the memories that are proved to have no collisions: their names are patterns in project.py."""
    assert (folder / WORK / f"{TOP}.ys").read_text().count("COLLISION_X_MASK") == len(PROVED_MEMORIES)
    log = (folder / WORK / "synthesis.log").read_text(errors="replace")
    assert re.findall(UNMATCHED, log) == []


def test_yosys_says_so_of_a_pattern_that_matches_nothing(tmp_path: Path) -> None:
    (tmp_path / "top.il").write_text("module \\top\nend\n")
    log = run_yosys(f"read_rtlil top.il\nsetparam -set A 1'1 {PROVED_MEMORIES[0]}/t:$memrd_v2\n", tmp_path)
    assert len(re.findall(UNMATCHED, log)) == 1
