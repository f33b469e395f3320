"""From a network to a board's bitstream: design, synthesis, place and route, packing."""

import gc
import hashlib
import importlib
import importlib.metadata
import json
import platform as python_platform
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dyadprop.baud import bit_period
from dyadprop.errors import BuildError, CapacityError, RangeError
from dyadprop.network import Network
from dyadprop.plan import Plan, plan_network
from dyadprop.report import write_json
from dyadprop_boards.ecp5_packing import pack_registers
from dyadprop_boards.fpgas import RESOURCES, Family, Resource
from dyadprop_boards.identity import identity
from dyadprop_boards.logs import check_clock, count_resources, read_cells, read_placement, slowest_path
from dyadprop_boards.pll import Pll, find_pll
from dyadprop_boards.progress import Progress
from dyadprop_boards.result import BuildResult, Placement, ToolRun
from dyadprop_boards.revision import gateware_revision
from dyadprop_boards.steps import Done, Step, run_step
from dyadprop_boards.table import Board
from dyadprop_boards.tools import TOOLS
from dyadprop_boards.top import BoardTop

REPORT = "report.json"
NETWORK = "net.toml"
WORK = "work"
TOP = "top"

# Each of these memories has one writer and readers that never look at a word while it is written: claimed in lane.py
# and sample_memory.py, proved by `make formal`. Without this, yosys builds what such a read would give out of logic.
PROVED_MEMORIES = (f"{TOP}.*.stage_*.lane_*", f"{TOP}.*.stage_*.memory")
# Outputs of multipliers. On an iCE40 yosys 0.70 would move the register and the adder behind one into the DSP block,
# and make the last bit of a 33-bit sum a copy of the one below: wrong as soon as a sum needs it. Behind a wire that is
# to be kept it packs nothing.
PRODUCTS = "t:$mul %co1:+[Y] w:* %i"
_PRODUCTS: dict[Family, tuple[str, str]] = {
    # What place and route writes, and what becomes the bitstream.
    "ecp5": (".config", ".bit"),
    "ice40": (".asc", ".bin"),
    "gowin": (".pnr.json", ".fs"),
}


@dataclass(frozen=True)
class BuildOptions:
    """How a bitstream is made.

    Attributes
    ----------
    seeds : tuple of int
        Of the placements; the fastest is taken.
    clock : int or None
        Hz; None: the board's.
    multipliers : int or None
        Under which lanes are shared out; None: the board's.
    synth_only : bool
        Stop behind synthesis.
    quiet : bool
        Show no progress.
    """

    seeds: tuple[int, ...] = (1,)
    clock: int | None = None
    multipliers: int | None = None
    synth_only: bool = False
    quiet: bool = False


class TimingMissed(BuildError):
    """No placement holds at the clock asked for.

    Attributes
    ----------
    result : BuildResult
    """

    def __init__(self, result: BuildResult) -> None:
        super().__init__(result.failure)
        self.result = result


@dataclass(frozen=True)
class Design:
    """What is built, and for what.

    Attributes
    ----------
    net : Network
    plan : Plan
    board : Board
    wanted : int
        Hz asked for.
    pll : Pll or None
    """

    net: Network
    plan: Plan
    board: Board
    wanted: int
    pll: Pll | None

    @property
    def clock(self) -> float:
        """Hz, exactly."""
        return float(self.board.clock if self.pll is None else self.pll.frequency)


def fit(net: Network, board: Board, options: BuildOptions) -> Design:
    """Give a network its lanes, and the board its clock.

    Raises
    ------
    CapacityError
        If the board has too few multipliers.
    RangeError
        If no PLL makes that clock, or its UART cannot have the board's rate.
    """
    wanted = board.design_clock if options.clock is None else options.clock
    pll = find_pll(board.fpga.family, board.speed, board.clock, wanted)
    budget = multiplier_budget(board) if options.multipliers is None else options.multipliers
    try:
        plan = plan_network(net, budget)
    except CapacityError as error:
        raise CapacityError(
            f"{error}: board {board.name} has {board.fpga.multipliers} multipliers ({board.device}); give layers fewer "
            "lanes or the network fewer layers, or take a larger board"
        ) from error
    design = Design(net, plan, board, wanted, pll)
    bit_period(design.clock, board.baud)
    return design


LUTS_A_PRODUCT = 1000
"""Logic of a multiplier, with what goes with it, where an FPGA has none."""


def multiplier_budget(board: Board) -> int:
    """Give the multipliers that a plan for a board may have; where there are none, they are built out of LUTs."""
    return board.fpga.multipliers or board.fpga.luts // LUTS_A_PRODUCT


def make_chip(design: Design) -> Any:
    """Make the chip of a design."""
    from dyadprop_hw.chip import Chip

    board = design.board
    document = identity(design.plan, board, gateware_revision(), clock=design.clock)
    return Chip(design.plan, document, design.clock, board.baud)


def build(
    net: Network,
    board: Board,
    folder: str | Path,
    options: BuildOptions | None = None,
    chip: Callable[[Design], Any] = make_chip,
) -> BuildResult:
    """Build a bitstream.

    Parameters
    ----------
    net : Network
    board : Board
    folder : path
        Gets the bitstream, called like the folder, ``report.json``, ``net.toml``, and in ``work`` the tools' files and
        logs.
    options : BuildOptions, optional
    chip : callable
        Makes what is put on the board; the real one where not given.

    Returns
    -------
    BuildResult
        Also written to ``report.json``.

    Raises
    ------
    CapacityError
        If the network does not fit: before synthesis where multipliers tell, behind it where logic or memory do.
    RangeError
        If the clock cannot be made.
    TimingMissed
        If no placement holds at the clock; its report is written.
    BuildError
        If a tool is missing, fails, hangs, or reports another clock than the one asked for; the message names its log.
    """
    options = options if options is not None else BuildOptions()
    if not options.seeds:
        raise RangeError("no seed was given; a placement needs one")
    design = fit(net, board, options)
    folder = Path(folder)
    work = folder / WORK
    _make_folder(work)
    for _, packed in _PRODUCTS.values():
        (folder / f"{folder.name}{packed}").unlink(
            missing_ok=True
        )  # of an earlier build: not what the report will tell of
    net.save(folder / NETWORK)
    progress = Progress(f"{folder.name} for {board.name}", quiet=options.quiet)
    try:
        return _build(design, folder, options, chip, progress)
    finally:
        progress.end()


def _build(
    design: Design, folder: Path, options: BuildOptions, chip: Callable[[Design], Any], progress: Progress
) -> BuildResult:
    board, work = design.board, folder / WORK
    progress.step("elaborating")
    commands = _write_design(design, chip(design), work)
    done, cells = _synthesize(commands["yosys"], work, progress)
    if board.fpga.family == "ecp5":
        cells["TRELLIS_FF"] -= _pack_registers(work / f"{TOP}.json")
    estimate = count_resources(cells, board.fpga)
    result = BuildResult(
        board=board.name,
        device=board.device,
        package=board.package,
        speed=board.speed,
        name=folder.name,
        network=design.net.hash,
        widths=tuple(design.net.widths),
        lanes=design.plan.lanes,
        multipliers=design.plan.multipliers,
        interval=design.plan.interval,
        gateware=gateware_revision(),
        oscillator=float(board.clock),
        clock_wanted=float(design.wanted),
        clock=design.clock,
        pll=None if design.pll is None else asdict(design.pll),
        baud=board.baud,
        options={"synthesis": " ".join(synthesis_options(board)), "after_read": "; ".join(commands_after_read(board))},
        synthesis=_run(done),
        synthesized=cells,
        estimate=estimate,
        hashes={"design": _hash(work / f"{TOP}.il")},
        versions=_versions(),
    )
    short = [name for name in RESOURCES if estimate[name].used > estimate[name].available]
    if short:
        result = replace(result, failure=_too_large(design, result, short))
        write_json(folder / REPORT, result.document())
        raise CapacityError(result.failure)
    if not options.synth_only:
        result = _place(design, result, commands, folder, options, progress)
    write_json(folder / REPORT, result.document())
    if result.failure:
        raise TimingMissed(result)
    return result


# -- the steps -------------------------------------------------------------------------------------------------------


def _write_design(design: Design, chip: Any, work: Path) -> dict[str, list[str]]:
    """Elaborate, write the tools' files, and give the arguments that Amaranth's platform runs each tool with."""
    board = design.board
    platform = make_platform(board)
    top = BoardTop(chip, board, design.pll)
    # Millions of small objects that all live until the end: searching them for garbage takes 40 % of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        plan = platform.build(
            top,
            name=TOP,
            do_build=False,
            emit_src=False,
            script_after_read="\n".join(commands_after_read(board)),
            synth_opts=synthesis_options(board),
            script_after_synth=f"tee -o {TOP}.stat.json stat -json",
        )
    finally:
        if collecting:
            gc.enable()
    plan.extract(str(work))
    commands = {}
    for words in json.loads(plan.files[f"build_{TOP}.json"])["commands"]:
        if words[0] in TOOLS:  # OrangeCrab's dfu-suffix is for another loader
            commands[words[0]] = words[1:]
    return commands


def commands_after_read(board: Board) -> list[str]:
    """Give yosys' commands between the design and its synthesis."""
    commands = ["delete t:$check"]  # claims are checked in simulation and by proofs
    commands += [f"setparam -set COLLISION_X_MASK 1'1 {module}/t:$memrd_v2" for module in PROVED_MEMORIES]
    if board.fpga.family == "ice40" and board.fpga.multipliers:
        commands.append(f"setattr -set keep 1 {PRODUCTS}")
    return commands


def synthesis_options(board: Board) -> list[str]:
    """Give what yosys is told of a board's FPGA beyond its family."""
    match board.fpga.family:
        case "ecp5":
            return []
        case "ice40":
            device = "u" if "UP" in board.device else "hx"
            return ["-device", device, *(["-dsp"] if board.fpga.multipliers else [])]
        case "gowin":
            return ["-family", "gw2a" if board.device.startswith("GW2A") else "gw1n"]


def _synthesize(arguments: list[str], work: Path, progress: Progress) -> tuple[Done, dict[str, int]]:
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
    return done, read_cells(stat.read_text(), str(stat))


def _pack_registers(netlist: Path) -> int:
    """Move registers into the blocks beside them; give how many flip-flops that saves."""
    design = json.loads(netlist.read_text())
    packed = pack_registers(design)
    netlist.write_text(json.dumps(design))
    return packed.registers


def _place(
    design: Design,
    result: BuildResult,
    commands: dict[str, list[str]],
    folder: Path,
    options: BuildOptions,
    progress: Progress,
) -> BuildResult:
    """Try the seeds, and pack the fastest placement if it holds."""
    board, work = design.board, folder / WORK
    placed, packed = _PRODUCTS[board.fpga.family]
    router = next(name for name in commands if name.startswith("nextpnr"))
    placements = []
    for seed in options.seeds:
        progress.step(f"place and route, seed {seed}")
        placements.append(_place_once(design, result, router, commands[router], work, seed, progress))
        result = replace(result, placements=tuple(placements))
    best = result.best_placement
    assert best is not None
    if not best.met:
        return replace(result, failure=_missed(result, best, work))
    progress.step("packing")
    packer = next(name for name in commands if "pack" in name)
    source = f"seed-{best.seed}{placed}"
    bitstream = f"{folder.name}{packed}"
    renamed = {f"{TOP}{placed}": source, f"{TOP}{packed}": bitstream}
    arguments = [renamed.get(word, word) for word in _without(commands[packer], options=("--svf",))]
    step = Step(TOOLS[packer], tuple(arguments), inputs=(source,), outputs=(bitstream,), log="packing.log")
    done = run_step(step, work, progress.watch)
    shutil.move(work / bitstream, folder / bitstream)
    return replace(
        result,
        best=best.seed,
        packing=_run(done),
        bitstream=bitstream,
        hashes={**result.hashes, "bitstream": _hash(folder / bitstream)},
    )


def _place_once(
    design: Design,
    result: BuildResult,
    router: str,
    arguments: list[str],
    work: Path,
    seed: int,
    progress: Progress,
) -> Placement:
    fpga = design.board.fpga
    placed, _ = _PRODUCTS[fpga.family]
    report, log = f"seed-{seed}.report.json", f"seed-{seed}.log"
    words = _without(arguments, flags=("--quiet",), options=("--log",))
    words = [f"seed-{seed}{placed}" if word == f"{TOP}{placed}" else word for word in words]
    if fpga.family == "gowin":
        words = _himbaechel(words, design.clock)
    step = Step(
        TOOLS[router],
        (*words, "--seed", str(seed), "--report", report),
        inputs=tuple(sorted({word for word in words if word.startswith(f"{TOP}.")} | _named_inputs(words))),
        outputs=(f"seed-{seed}{placed}", report),
        log=log,
        verdict=_timing_missed,
    )
    done = run_step(step, work, progress.watch)
    where = work / report
    read = read_placement(where.read_text(), str(where), fpga, result.estimate)
    clock = check_clock(read["clocks"], design.clock, str(work / log))
    return Placement(
        seed=seed,
        clock=clock,
        # As place and route counts: its target is rounded to whole picoseconds.
        met=done.passed and clock.reached >= clock.asked,
        resources=read["resources"],
        cells={name: used for name, used in read["cells"].items() if used.used},
        critical_path=slowest_path(read["paths"], clock.name),
        run=_run(done),
        log=f"{WORK}/{log}",
    )


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


def make_platform(board: Board) -> Any:
    """Make a board's Amaranth platform.

    Raises
    ------
    BuildError
        If its package is not installed, or has no such platform.
    """
    if not isinstance(board.platform, str):
        return board.platform()
    module, _, name = board.platform.partition(":")
    try:
        return getattr(importlib.import_module(module), name)()
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise BuildError(
            f"board {board.name} needs the package {package}, which is not installed; pip install 'dyadprop[boards]' "
            "brings it"
        ) from error
    except AttributeError as error:
        raise BuildError(f"board {board.name} names the platform {board.platform}, which is not there") from error


# -- messages --------------------------------------------------------------------------------------------------------


def _too_large(design: Design, result: BuildResult, short: Sequence[Resource]) -> str:
    needs = ", ".join(
        f"{result.estimate[name].used} of {result.estimate[name].available} {name.replace('_', ' ')}" for name in short
    )
    net = "-".join(map(str, design.net.widths))
    return (
        f"network {net} with lanes {'/'.join(map(str, design.plan.lanes))} needs {needs} of board {design.board.name}; "
        "fewer lanes (--multipliers), a smaller max_batch or a larger board would do"
    )


def _missed(result: BuildResult, best: Placement, work: Path) -> str:
    asked, reached = best.clock.asked / 1e6, best.clock.reached / 1e6
    tried = (
        f"the best of {len(result.placements)} placements, seed {best.seed}," if len(result.placements) > 1 else "it"
    )
    path = f"; its slowest path: {best.critical_path}" if best.critical_path is not None else ""
    return (
        f"board {result.board} does not reach {asked:g} MHz: {tried} reaches {reached:.2f} MHz{path}; ask for less "
        f"with --clock or try more placements with --seeds; its log is {work / Path(best.log).name}"
    )


# -- small things ----------------------------------------------------------------------------------------------------


def _run(done: Done) -> ToolRun:
    return ToolRun(done.tool, done.version, done.seconds, done.kept)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _versions() -> dict[str, str]:
    found = {"python": python_platform.python_version()}
    for name in ("amaranth", "amaranth-boards", "dyadprop"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # a user's board may do without amaranth-boards
            continue
    return found


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RangeError(f"directory {path} cannot be made: {error.strerror}") from error
