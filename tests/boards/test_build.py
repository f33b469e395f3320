# amaranth: UnusedElaboratable=no
"""From a network to a bitstream: with scripts in place of the tools for all that can go wrong, and once in earnest."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

import dyadprop as dp
from dyadprop.cli import main
from dyadprop_boards import build as build_module
from dyadprop_boards import passes
from dyadprop_boards.build import BuildOptions, TimingMissed, build
from dyadprop_boards.design import Design, fit
from dyadprop_boards.floorplan import read_floorplan
from dyadprop_boards.project import make_platform, write_project
from dyadprop_boards.revision import flow_revision, gateware_revision
from dyadprop_boards.table import find_board
from tests.boards.small_chip import SmallChip

ULX3S = find_board("ulx3s-12f")
NET = dp.Network(2, [dp.Dense(2, "relu"), dp.Dense(1)])

YOSYS = """
echo Info: synthesis >> yosys.runs
echo '{{"design": {{"num_cells_by_type": {cells}}}}}' > top.stat.json
echo '{{"modules": {{"top": {{"cells": {{}}}}}}}}' > top.json
"""
# Seed N reaches what the file beside it says for it.
NEXTPNR = """
while [ $# -gt 0 ]; do
  case $1 in --seed) seed=$2;; --textcfg) out=$2;; --report) report=$2;; esac; shift
done
echo Info: placing; echo placement $seed > $out
reached=$(sed -n ${{seed}}p {rates})
echo '{{"critical_paths": [], "utilization": {{"TRELLIS_COMB": {{"used": 7, "available": 24288}}}}, "fmax": {fmax}}}' |
  sed s/REACHED/$reached/ > $report
if [ ${{reached%.*}} -lt 80 ]; then
  echo "ERROR: Max frequency for clock 'clk': $reached MHz (FAIL at 80.00 MHz)"; exit 1
fi
"""
ECPPACK = "while [ $# -gt 0 ]; do case $1 in --input) in=$2;; --bit) out=$2;; esac; shift; done; cat $in > $out"
FMAX = '{"clk": {"achieved": REACHED, "constraint": 80.0}, "link": {"achieved": 50.5, "constraint": 40.0}}'


class Tools:
    """Scripts in place of yosys, nextpnr and ecppack."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.make()

    def make(self, rates: tuple[float, ...] = (90.0,), cells: str = '{"LUT4": 5}', fmax: str = FMAX) -> None:
        path = self.folder / "rates"
        path.write_text("".join(f"{rate}\n" for rate in rates))
        self.script("YOSYS", YOSYS.format(cells=cells))
        self.script("NEXTPNR_ECP5", NEXTPNR.format(rates=path, fmax=fmax))
        self.script("ECPPACK", ECPPACK)

    def script(self, variable: str, text: str) -> None:
        path = self.folder / variable.lower()
        path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then cksum $0; exit; fi\n{text}\n')
        path.chmod(0o755)
        self.monkeypatch.setenv(variable, str(path))


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    monkeypatch.setenv("DYADPROP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return Tools(tmp_path, monkeypatch)


def small(design: Design) -> Any:
    return SmallChip(split=design.is_split)


def make(tools: Tools, **options: Any) -> Any:
    return build(NET, ULX3S, tools.folder / "out" / "xor", BuildOptions(**options), small)


def report(tools: Tools) -> Any:
    return json.loads((tools.folder / "out" / "xor" / "report.json").read_text())


def test_the_fastest_seed_is_packed(tools: Tools) -> None:
    tools.make((90.5, 99.25, 81.0))
    result = make(tools, seeds=(1, 2, 3))
    folder = tools.folder / "out" / "xor"
    assert (result.best, result.minimum, result.median) == (2, 81e6, 90.5e6)
    assert (folder / "xor.bit").read_text() == "placement 2\n"
    assert dp.Network.load(folder / "net.toml").hash == NET.hash
    document = report(tools)
    assert document["passed"] is True
    reached = {"best": 99.25e6, "best_seed": 2, "minimum": 81e6, "median": 90.5e6, "margin": 99.25 / 80 - 1}
    assert document["reached"] == reached
    assert {name: entry["clock"] for name, entry in document["speed"].items()} == {
        "built": 80e6,
        "best": 99.25e6,
        "median": 90.5e6,
        "minimum": 81e6,
    }
    assert document["speed"]["built"]["gradients_a_second"] == 80e6 / result.work.interval
    assert [(entry["baud"], entry["bound_by"]) for entry in document["line"]] == [(10**6, "link"), (3 * 10**6, "link")]
    for name in ("report.md", "report.html"):
        assert "99.25 MHz" in (folder / name).read_text()
    assert (folder / "utilisation.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "floorplan.png").exists(), "the script in place of nextpnr tells no places"
    assert document["clock"] == 80e6
    assert document["pll"] == {"reference": 25000000, "input": 1, "feedback": 1, "inner": 32, "output": 10}
    assert [entry["seed"] for entry in document["placements"]] == [1, 2, 3]
    assert document["placements"][0]["resources"]["luts"] == {"used": 7, "available": 24288}
    assert document["network"] == NET.hash
    assert document["lanes"] == list(result.lanes)
    assert document["parts"] == {}
    assert {"design", "bitstream"} == document["hashes"].keys()
    assert (document["gateware"], document["flow"]) == (gateware_revision(), flow_revision())
    assert {"amaranth", "numpy", "scipy"} <= document["versions"].keys()


def test_only_what_is_new_is_run(tools: Tools) -> None:
    tools.make((90.5, 85.0))
    assert not make(tools).synthesis.kept
    result = make(tools, seeds=(1, 2))
    assert result.synthesis.kept
    assert [placement.run.kept for placement in result.placements] == [True, False]
    assert result.packing.kept
    assert (tools.folder / "out" / "xor" / "work" / "yosys.runs").read_text().count("\n") == 1
    # Another clock is another design.
    assert not make(tools, clock=75_000_000, synth_only=True).synthesis.kept


def test_the_chip_is_built_with_or_without_its_self_test(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, self_test in (("make_chip", True), ("make_untested_chip", False)):
        chip = mock.Mock(side_effect=small)
        monkeypatch.setattr(build_module, name, chip)
        options = BuildOptions(synth_only=True, self_test=self_test)
        assert build(NET, ULX3S, tools.folder / "out" / "xor", options).self_test is self_test
        assert report(tools)["self_test"] is self_test
        chip.assert_called_once()


def test_steps_are_told_where_there_is_no_terminal(tools: Tools, capsys: pytest.CaptureFixture[str]) -> None:
    make(tools)
    steps = ["elaborating", "synthesis", "place and route, seed 1", "packing", "report"]
    assert capsys.readouterr().err.splitlines() == [f"xor for ulx3s-12f: {step}" for step in steps]
    make(tools, quiet=True)
    assert capsys.readouterr().err == ""


def test_what_may_be_too_large_is_built_with_a_warning(
    tools: Tools, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        make(tools, synth_only=True)
        assert caplog.text == ""
        monkeypatch.setattr(build_module, "say_doubts", lambda *_: "network 2-2-1 is large")
        make(tools, synth_only=True)
    assert [record.getMessage() for record in caplog.records] == ["board ulx3s-12f: network 2-2-1 is large"]


def test_missed_timing_fails(tools: Tools) -> None:
    tools.make((71.5, 79.5))
    with pytest.raises(TimingMissed) as caught:
        make(tools, seeds=(1, 2))
    assert str(caught.value).startswith(
        "board ulx3s-12f does not reach 80 MHz: the best of 2 placements, seed 2, reaches 79.50 MHz; ask for less with "
        "--clock or try more placements with --seeds; its log is "
    )
    assert Path(str(caught.value).rpartition(" ")[2]).read_text().startswith("Info: placing\n")
    assert not list((tools.folder / "out" / "xor").glob("*.bit"))
    document = report(tools)
    assert (document["passed"], document["best"], document["bitstream"]) == (False, None, "")
    assert document["failure"] == str(caught.value)
    assert document["reached"]["best"] == 79.5e6


def test_one_placement_that_holds_is_enough(tools: Tools) -> None:
    tools.make((71.5, 80.5))
    result = make(tools, seeds=(1, 2))
    assert (result.best, [placement.met for placement in result.placements]) == (2, [False, True])


def test_a_link_that_is_too_slow_is_told(tools: Tools) -> None:
    tools.make(fmax=FMAX.replace("50.5", "39.5"))
    with pytest.raises(dp.BuildError, match=r"MHz: it has a link of 39\.50 of 40 MHz and reaches 90\.00 MHz; ask for"):
        make(tools)


@pytest.mark.parametrize(
    ("fmax", "message"),
    [
        ("{}", r"^place and route reports no clock, so nothing says that 80 MHz hold; see .*/seed-1\.log$"),
        (
            '{"clk": {"achieved": 200.0, "constraint": 12.0}}',
            r"was placed for 12 MHz; asked for were 80 and 40 MHz; see .*log$",
        ),
        ('{"clk": {"achieved": 200.0}}', r"^timing and use are not in .*/seed-1\.report\.json: no 'constraint'$"),
    ],
)
def test_a_report_that_says_nothing_of_the_clock(tools: Tools, fmax: str, message: str) -> None:
    tools.make(fmax=fmax)
    with pytest.raises(dp.BuildError, match=message):
        make(tools)
    assert not list((tools.folder / "out" / "xor").glob("*.bit"))


def test_too_much_logic_is_refused_behind_synthesis(tools: Tools) -> None:
    tools.make(cells='{"LUT4": 30000, "DP16KD": 60}')
    message = (
        r"^network 2-2-1 with lanes 2/1 needs 30000 of 24288 LUTs, 60 of 56 block RAMs of board ulx3s-12f; fewer lanes"
    )
    with pytest.raises(dp.CapacityError, match=message):
        make(tools)
    assert report(tools)["passed"] is False
    assert not list((tools.folder / "out" / "xor" / "work").glob("seed*"))


def test_synthesis_only(tools: Tools) -> None:
    result = make(tools, synth_only=True)
    assert (result.passed, result.placements, result.bitstream) == (True, (), "")
    assert result.estimate["luts"].used == 5


def test_what_does_not_fit_is_refused_before_synthesis(tools: Tools) -> None:
    tools.script("YOSYS", "exit 1")
    net = dp.Network(784, [dp.Dense(128, "tanh"), dp.Dense(10)])
    with pytest.raises(dp.CapacityError, match=r"^network 784-128-10 with lanes 1/1 needs \d+ of 56 block RAMs: it"):
        build(net, ULX3S, tools.folder / "out" / "large", BuildOptions(), small)
    assert not (tools.folder / "out").exists()


def test_clocks_are_refused_at_once() -> None:
    with pytest.raises(dp.RangeError, match=r"^no PLL of ecp5 makes 900 MHz"):
        fit(NET, ULX3S, clock=900_000_000)
    with pytest.raises(dp.RangeError, match=r"^no seed was given"):
        build(NET, ULX3S, "unused", BuildOptions(seeds=()))


def test_a_clock_that_is_not_exact_is_told_as_it_is() -> None:
    design = fit(NET, ULX3S, clock=83_000_000)
    assert design.wanted == 83_000_000
    assert design.clock == 82_812_500.0


def test_a_tool_that_fails_names_its_log(tools: Tools) -> None:
    tools.script("NEXTPNR_ECP5", "echo Info: packing; echo ERROR: no cell of type X; exit 1")
    with pytest.raises(dp.BuildError, match=r"^nextpnr-ecp5 failed: ERROR: no cell of type X; its log is .*/seed-1"):
        make(tools)


def test_a_seed_that_fails_takes_no_other_with_it(tools: Tools) -> None:
    """Which seed fails does not matter; where all do the last one's error is told."""
    tools.make((90.5, 99.25, 81.0))
    for failing, best in ((1, 2), (2, 1), (3, 2)):
        fails = f'[ $seed = {failing} ] && echo "ERROR: no place" && exit 1\necho Info: placing;'
        rates = tools.folder / "rates"
        tools.script("NEXTPNR_ECP5", NEXTPNR.format(rates=rates, fmax=FMAX).replace("echo Info: placing;", fails))
        result = make(tools, seeds=(1, 2, 3))
        assert [placement.seed for placement in result.placements] == [seed for seed in (1, 2, 3) if seed != failing]
        assert list(result.unplaced) == [failing]
        assert result.unplaced[failing].startswith("nextpnr-ecp5 failed: ERROR: no place; its log is ")
        assert result.best == best
        assert report(tools)["unplaced"] == {str(failing): result.unplaced[failing]}
        assert (
            f"Seed {failing} has no placement: nextpnr-ecp5" in (tools.folder / "out" / "xor" / "report.md").read_text()
        )
    tools.script("NEXTPNR_ECP5", "echo ERROR: no place; exit 1")
    with pytest.raises(dp.BuildError, match=r"^nextpnr-ecp5 failed: ERROR: no place; its log is .*/seed-3\.log$"):
        make(tools, seeds=(1, 2, 3))


def test_a_board_that_is_none_of_its_platform(tools: Tools) -> None:
    board = replace(ULX3S, led=("lamp", 0))
    message = "which its platform does not have; without an LED: led=None$"
    with pytest.raises(dp.RangeError, match=rf"^board ulx3s-12f names the LED 'lamp' 0, {message}"):
        build(NET, board, tools.folder / "out" / "xor", BuildOptions(), small)
    assert not (tools.folder / "out").exists()


def test_a_netlist_that_contradicts_itself(tools: Tools) -> None:
    conflict = "Warning: Driver-driver conflict for sum [32] between cell a.O and constant 1'0 in top: Resolved"
    tools.script("YOSYS", f'echo "{conflict}"; echo one > top.json; echo two > top.stat.json')
    with pytest.raises(
        dp.BuildError, match=r"^synthesis made a netlist that contradicts itself: Warning: Driver-driver con"
    ):
        make(tools)


class Accumulator(wiring.Component):
    """A product, and a sum of 33 bits behind it."""

    rx: Signal
    tx: Signal

    def __init__(self) -> None:
        super().__init__({"rx": In(1), "tx": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        a, b = Signal(signed(16)), Signal(signed(16))
        product, total = Signal(signed(32)), Signal(signed(33))
        m.d.sync += [
            a.eq(Cat(self.rx, a)),
            b.eq(Cat(a[-1], b)),
            product.eq(a * b),
            total.eq(product + Cat(b, a, self.rx).as_signed()),
            self.tx.eq(total.xor()),
        ]
        return m


def test_an_ice40_gets_no_adder_in_its_dsp_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real yosys, which would make the sum's last bit a copy of the one below."""
    monkeypatch.setattr(build_module, "fit", partial(fit, checked=False))  # what is built is no chip
    icebreaker = find_board("icebreaker")
    net = dp.Network(2, [dp.Dense(1)])
    result = build(net, icebreaker, tmp_path / "sum", BuildOptions(synth_only=True), lambda design: Accumulator())
    assert result.estimate["multipliers"].used == 1
    assert result.synthesized["SB_CARRY"] >= 31
    log = (tmp_path / "sum" / "work" / "synthesis.log").read_text()
    inference = log.split("Executing ICE40_DSP pass")[1].split("Executing ALUMACC")[0]
    assert "for iCE40 DSP inference" in inference
    assert "adder" not in inference


def test_a_board_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    board = replace(ULX3S, platform="no_such_package.board:Platform")
    with pytest.raises(
        dp.BuildError, match=r"^board ulx3s-12f needs the package no_such_package, which is not installed$"
    ):
        make_platform(board)
    monkeypatch.setitem(sys.modules, "amaranth_boards.ulx3s", None)
    message = (
        r"^board ulx3s-12f needs the package amaranth_boards, which is not installed; pip install "
        r"'dyadprop\[boards\]' brings it$"
    )
    with pytest.raises(dp.BuildError, match=message):
        make_platform(ULX3S)
    monkeypatch.undo()
    board = replace(ULX3S, platform="amaranth_boards.ulx3s:NoPlatform")
    with pytest.raises(
        dp.BuildError, match=r"names the platform amaranth_boards\.ulx3s:NoPlatform, which is not there$"
    ):
        make_platform(board)


def test_the_command(tools: Tools, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tools.make((90.5, 85.0))
    monkeypatch.setattr(build_module.build, "__defaults__", (None, small))
    NET.save("xor.toml")
    arguments = ["build", "--board", "ulx3s-12f", "xor.toml", "--seeds", "2", "--json", "figures.json"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "seed 1 reaches 90.50 MHz, 2 placements at least 85.00, median 87.75 MHz" in out
    assert "written to build/ulx3s-12f/xor: xor.bit, report.json, report.md, report.html, utilisation.png\n" in out
    assert "gradients/s at 80 MHz; the line brings " in out
    assert json.loads(Path("figures.json").read_text())["best"] == 1
    assert main([*arguments, "--clock", "81"]) == 3, "the scripts place for 80 MHz"
    assert "asked for were 81.25 and 40.625 MHz" in capsys.readouterr().err
    assert main([*arguments[:4], "--seed", "1"]) == 0
    assert "seed 2 reaches 85.00 MHz\n" in capsys.readouterr().out
    tools.make((70.0,))
    tools.script("YOSYS", YOSYS.format(cells='{"LUT4": 1}').replace("{}", '{"clocks.a": {"type": "LUT4"}}'))
    assert main(arguments[:4]) == 1
    assert capsys.readouterr().out.startswith(
        "failed: board ulx3s-12f does not reach 80 MHz: it reaches 70.00 MHz; ask"
    )
    assert main(["build", "--board", "ulx3s", "xor.toml"]) == 2
    assert main(["build", "--board", "ulx3s-12f", "xor.toml", "--clock", "fast"]) == 2


def test_a_bitstream_in_earnest(tmp_path: Path) -> None:
    """The real tools, on a design small enough; place and route derives the clock from the PLL's settings itself."""
    result = build(NET, ULX3S, tmp_path / "small", BuildOptions(), small)
    (placement,) = result.placements
    assert placement.clock.asked == 80e6
    assert placement.clock.reached > 80e6
    assert placement.link_clock is not None
    assert placement.link_clock.asked == 40e6
    assert placement.critical_path is not None
    used = {name: entry.used for name, entry in placement.resources.items()}
    assert (used["multipliers"], used["block_rams"]) == (1, 1)
    assert 0 < used["luts"] < 200
    assert 0 < used["flip_flops"] < 200
    assert placement.cells["EHXPLLL"].used == 1
    assert {name: entry.available for name, entry in placement.resources.items()} == {
        "luts": placement.cells["TRELLIS_COMB"].available,
        "flip_flops": placement.cells["TRELLIS_FF"].available,
        "multipliers": placement.cells["MULT18X18D"].available,
        "block_rams": placement.cells["DP16KD"].available,
    }
    tiles = read_floorplan(tmp_path / "small" / "work" / placement.floorplan)
    places = Counter[str]()
    for tile in tiles:
        places[tile.block] += tile.cells
    assert (places["multipliers"], places["block_rams"]) == (1, 1)
    assert places["logic"] >= used["luts"] + used["flip_flops"]
    assert (tmp_path / "small" / "floorplan.png").stat().st_size > 10_000
    bitstream = (tmp_path / "small" / result.bitstream).read_bytes()
    assert bitstream[:64].find(b"LFE5U-12F") > 0


@pytest.mark.parametrize("name", ["ulx3s-12f", "icebreaker", "tang-nano-9k"])
def test_place_and_route_is_asked_once_for_its_netlist(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    design = fit(NET, find_board(name), checked=False)
    commands = write_project(design, SmallChip(split=design.is_split), tmp_path)
    router = next(tool for tool in commands if tool.startswith("nextpnr"))
    asked: list[Any] = []

    def ask(step: Any, *_: Any) -> None:
        asked.append(step)
        raise dp.BuildError("asked")

    monkeypatch.setattr(passes, "run_step", ask)
    with pytest.raises(dp.BuildError, match=r"^asked$"):
        passes.place(design, router, commands[router], 1, {}, tmp_path, mock.Mock())
    (step,) = asked
    assert step.arguments.count("--write") == 1
    # Where the bitstream is packed from that netlist it stays, elsewhere only the floorplan does.
    written = tmp_path / step.arguments[step.arguments.index("--write") + 1]
    written.write_text('{"modules": {}}')
    step.finish(tmp_path)
    assert written.exists() == (name == "tang-nano-9k") == (written.name in step.outputs)
    assert (tmp_path / "seed-1.floorplan.json").read_text() == "[]"
