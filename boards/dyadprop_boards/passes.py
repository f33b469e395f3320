"""The passes from the tools' input to a bitstream: synthesis, place and route, packing."""

import re
from collections.abc import Sequence
from pathlib import Path

from dyadprop.errors import BuildError
from dyadprop_boards.design import Design
from dyadprop_boards.ecp5_packing import pack_netlist
from dyadprop_boards.floorplan import keep_floorplan
from dyadprop_boards.fpgas import Family
from dyadprop_boards.gowin_packing import feed_netlist
from dyadprop_boards.logs import LONE_REGISTER, check_clocks, read_cells, read_parts, read_placement, slowest_path
from dyadprop_boards.progress import Progress
from dyadprop_boards.project import TOP
from dyadprop_boards.result import Parts, Placement, ToolRun, Used
from dyadprop_boards.steps import Done, Step, run_step
from dyadprop_boards.tools import TOOLS

PRODUCTS: dict[Family, tuple[str, str]] = {
    # What place and route writes, and what becomes the bitstream.
    "ecp5": (".config", ".bit"),
    "ice40": (".asc", ".bin"),
    "gowin": (".pnr.json", ".fs"),
}


def synthesize(
    design: Design, arguments: Sequence[str], work: Path, progress: Progress
) -> tuple[ToolRun, dict[str, int], tuple[Parts, Parts]]:
    """Make the netlist; give the run, the netlist's cells, and what parts of the chip and lanes take (`read_parts`).

    On ECP5 registers and LUTs are then moved into the blocks beside them, and lanes get their places; on Gowin each
    register gets a LUT in front of it. Cells and parts are counted behind that.
    """
    progress.step("synthesis")
    script = (work / f"{TOP}.ys").read_text()
    netlist = f"{TOP}.syn.json" if f"{TOP}.syn.json" in script else f"{TOP}.json"
    step = Step(
        TOOLS["yosys"],
        tuple(_without(arguments, flags=("-q",), options=("-l",))),
        inputs=(f"{TOP}.ys", f"{TOP}.il"),
        outputs=(netlist, f"{TOP}.stat.json"),
        log="synthesis.log",
    )
    done = run_step(step, work, progress.watch)
    log = work / step.log
    for line in log.read_text(errors="replace").splitlines():
        if "Driver-driver conflict" in line:  # only a warning to yosys, which then takes one of the two
            raise BuildError(f"synthesis made a netlist that contradicts itself: {line.strip()}; its log is {log}")
    stat = work / f"{TOP}.stat.json"
    cells = read_cells(stat.read_text(), str(stat))
    if design.board.fpga.family == "ecp5":
        packed = pack_netlist(work / netlist, design.board.fpga)
        for cell, lost in (("TRELLIS_FF", packed.registers), ("LUT4", packed.luts)):
            if lost:
                cells[cell] -= lost
    if design.board.fpga.family == "gowin" and (fed := feed_netlist(work / netlist)):
        cells["LUT1"] = cells.get("LUT1", 0) + fed
    parts, lanes, cells[LONE_REGISTER] = read_parts(
        (work / netlist).read_text(), str(work / netlist), design.board.fpga
    )
    return _run(done), cells, (parts, lanes)


def place(
    design: Design,
    router: str,
    arguments: Sequence[str],
    seed: int,
    netlist: dict[str, Used],
    work: Path,
    progress: Progress,
) -> Placement:
    """Place and route once.

    Parameters
    ----------
    design : Design
    router : str
        Name of the tool.
    arguments : sequence of str
        Amaranth's.
    seed : int
    netlist : dict of str to Used
        What the netlist takes of the FPGA.
    work : path
    progress : Progress
    """
    progress.step(f"place and route, seed {seed}")
    fpga = design.board.fpga
    placed, _ = PRODUCTS[fpga.family]
    report, log = f"seed-{seed}.report.json", f"seed-{seed}.log"
    floorplan = f"seed-{seed}.floorplan.json"
    words = _without(arguments, flags=("--quiet",), options=("--log",))
    words = [f"seed-{seed}{placed}" if word == f"{TOP}{placed}" else word for word in words]
    packs_netlist = fpga.family == "gowin"  # what place and route gives there is the placed netlist itself
    netlist_placed = f"seed-{seed}{placed}" if packs_netlist else f"seed-{seed}.placed.json"
    if packs_netlist:
        words = _himbaechel(words, design.clock)
    else:
        words += ["--write", netlist_placed]
    step = Step(
        TOOLS[router],
        (*words, "--seed", str(seed), "--report", report),
        inputs=tuple(sorted({word for word in words if word.startswith(f"{TOP}.")} | _named_inputs(words))),
        outputs=(f"seed-{seed}{placed}", report, floorplan),
        log=log,
        verdict=_timing_missed,
        finish=lambda folder: keep_floorplan(folder / netlist_placed, folder / floorplan, wanted=packs_netlist),
    )
    done = run_step(step, work, progress.watch)
    where = work / report
    read = read_placement(where.read_text(), str(where), fpga, netlist)
    clocks = check_clocks(read["clocks"], design.clocks, str(work / log))
    slowest = min(clocks.values(), key=lambda found: found.reached / found.asked)
    return Placement(
        seed=seed,
        clock=clocks["network"],
        # As place and route counts: its target is rounded to whole picoseconds.
        met=done.passed and all(found.reached >= found.asked for found in clocks.values()),
        link_clock=clocks.get("link"),
        resources=read["resources"],
        cells={name: used for name, used in read["cells"].items() if used.used},
        critical_path=slowest_path(read["paths"], slowest.name),
        run=_run(done),
        log=log,
        floorplan=floorplan,
    )


def pack(
    design: Design, packer: str, arguments: Sequence[str], seed: int, name: str, work: Path, progress: Progress
) -> tuple[ToolRun, str]:
    """Make the bitstream of a placement; give the run, and the file's name in the folder of work."""
    placed, packed = PRODUCTS[design.board.fpga.family]
    source, bitstream = f"seed-{seed}{placed}", f"{name}{packed}"
    renamed = {f"{TOP}{placed}": source, f"{TOP}{packed}": bitstream}
    words = [renamed.get(word, word) for word in _without(arguments, options=("--svf",))]
    progress.step("packing")
    step = Step(TOOLS[packer], tuple(words), inputs=(source,), outputs=(bitstream,), log="packing.log")
    return _run(run_step(step, work, progress.watch)), bitstream


def _himbaechel(words: Sequence[str], clock: float) -> list[str]:
    """Turn the retired nextpnr-gowin's arguments, which Amaranth still gives, into those of what took its place.

    It derives no clock through a PLL: the target is given for all clocks, and there is but one.
    """
    moved = {"--family": "family", "--cst": "cst"}
    result: list[str] = []
    for word in words:
        if result and result[-1] in moved:
            result[-1:] = ["--vopt", f"{moved[result[-1]]}={word}"]
        else:
            result.append(word)
    return [*result, "--freq", f"{clock / 1e6:.6f}"]


def _named_inputs(words: Sequence[str]) -> set[str]:
    """Files that are named behind an equals sign."""
    return {word.partition("=")[2] for word in words if word.startswith(f"cst={TOP}.")}


def _timing_missed(log: str) -> bool:
    """Say whether all that place and route had to complain of is a clock too fast; its results are there then."""
    return re.search(r"Max frequency for clock .*\(FAIL at", log) is not None


def _without(words: Sequence[str], flags: Sequence[str] = (), options: Sequence[str] = ()) -> list[str]:
    """Leave out flags, and options with the word behind them."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip or word in flags:
            skip = False
        elif word in options:
            skip = True
        else:
            kept.append(word)
    return kept


def _run(done: Done) -> ToolRun:
    return ToolRun(done.tool, done.version, done.seconds, done.kept)
