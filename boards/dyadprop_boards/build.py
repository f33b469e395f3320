"""From a network to a board's bitstream: design, synthesis, place and route, packing."""

import hashlib
import importlib.metadata
import logging
import platform as python_platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dyadprop.errors import BuildError, CapacityError, RangeError
from dyadprop.network import Network
from dyadprop_boards.design import Design, fit, make_chip, make_untested_chip
from dyadprop_boards.fpgas import RESOURCE_NAMES, RESOURCES, Resource
from dyadprop_boards.logs import count_resources
from dyadprop_boards.passes import PRODUCTS, pack, place, synthesize
from dyadprop_boards.platform_check import check_platform
from dyadprop_boards.progress import Progress
from dyadprop_boards.project import TOP, commands_after_read, make_platform, synthesis_options, write_project
from dyadprop_boards.refusal import say_doubts, spell_advice, what_may_help
from dyadprop_boards.report_files import FILES, write_report
from dyadprop_boards.report_page import PAGES
from dyadprop_boards.resources import predict
from dyadprop_boards.result import BuildResult, Placement
from dyadprop_boards.revision import flow_revision, gateware_revision
from dyadprop_boards.speed import Work
from dyadprop_boards.table import Board
from dyadprop_boards.tools import ToolFailure

_log = logging.getLogger(__name__)

NETWORK = "net.toml"
WORK = "work"


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
        Budget under which lanes are shared out; None: as many lanes as can be placed.
    synth_only : bool
        Stop behind synthesis.
    quiet : bool
        Show no progress.
    self_test : bool
        Whether the chip tests itself at power-on.
    """

    seeds: tuple[int, ...] = (1,)
    clock: int | None = None
    multipliers: int | None = None
    synth_only: bool = False
    quiet: bool = False
    self_test: bool = True


class TimingMissed(BuildError):
    """No placement holds at the clock asked for.

    Attributes
    ----------
    result : BuildResult
    """

    def __init__(self, result: BuildResult) -> None:
        super().__init__(result.failure)
        self.result = result


def build(
    net: Network,
    board: Board,
    folder: str | Path,
    options: BuildOptions | None = None,
    chip: Callable[[Design], Any] | None = None,
) -> BuildResult:
    """Build a bitstream.

    Parameters
    ----------
    net : Network
    board : Board
    folder : path
        Gets the bitstream, called like the folder, the report (`dyadprop_boards.report_files.FILES`), ``net.toml``, and
        in ``work`` the tools' files and logs.
    options : BuildOptions, optional
    chip : callable, optional
        Makes what is put on the board in place of the real one.

    Returns
    -------
    BuildResult
        Also written as the report.

    Raises
    ------
    CapacityError
        If the network does not fit: before synthesis by prediction, behind it by what synthesis made.
    RangeError
        If the clock cannot be made, or the board is none that its platform is.
    TimingMissed
        If no placement holds at the clock; its report is written.
    BuildError
        If a tool is missing, fails, hangs, or reports another clock than the one asked for; the message names its log.
        Of several placements one may fail: the result tells of it.
    """
    options = options if options is not None else BuildOptions()
    if not options.seeds:
        raise RangeError("no seed was given; a placement needs one")
    design = fit(net, board, options.clock, options.multipliers)
    check_platform(board, make_platform(board))
    doubts = say_doubts(design.plan, board, design.clock)
    if doubts:
        _log.warning("board %s: %s", board.name, doubts)
    if chip is None:
        chip = make_chip if options.self_test else make_untested_chip
    folder = Path(folder)
    work = folder / WORK
    _make_folder(work)
    # What an earlier build left is no result of this one.
    for name in (*FILES, *(f"{folder.name}{packed}" for _, packed in PRODUCTS.values())):
        (folder / name).unlink(missing_ok=True)
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
    commands = write_project(design, chip(design), work)
    run, cells, (parts, lanes) = synthesize(design, commands["yosys"], work, progress)
    estimate = count_resources(cells, board.fpga)
    predicted = predict(design.plan, board, design.clock)
    result = BuildResult(
        board=board.name,
        device=board.device,
        package=board.package,
        speed=board.speed,
        name=folder.name,
        network=design.net.hash,
        widths=tuple(design.net.widths),
        lanes=design.plan.lanes,
        work=Work.of(design.plan),
        gateware=gateware_revision(),
        flow=flow_revision(),
        self_test=options.self_test and chip is make_chip,
        oscillator=float(board.clock),
        clock_wanted=float(design.wanted),
        clock=design.clock,
        link_clock=design.link_clock,
        pll=None if design.pll is None else asdict(design.pll),
        baud=board.baud,
        options={"synthesis": " ".join(synthesis_options(board)), "after_read": "; ".join(commands_after_read(board))},
        synthesis=run,
        synthesized=cells,
        parts=parts,
        lane_parts=lanes,
        predicted=predicted.parts,
        predicted_lanes=predicted.lanes,
        estimate=estimate,
        hashes={"design": _hash(work / f"{TOP}.il")},
        versions=_versions(),
        grid=board.fpga.grid,
    )
    short = [name for name in RESOURCES if estimate[name].used > estimate[name].available]
    if short:
        result = replace(result, failure=_too_large(design, result, short, folder / PAGES[0]))
        write_report(result, folder, work)
        raise CapacityError(result.failure)
    if not options.synth_only:
        result = _place(design, result, commands, folder, options, progress)
    progress.step("report")
    write_report(result, folder, work)
    if result.failure:
        raise TimingMissed(result)
    return result


def _place(
    design: Design,
    result: BuildResult,
    commands: dict[str, list[str]],
    folder: Path,
    options: BuildOptions,
    progress: Progress,
) -> BuildResult:
    """Try the seeds, and pack the fastest placement if it holds."""
    work = folder / WORK
    router = next(name for name in commands if name.startswith("nextpnr"))
    for seed in options.seeds:
        try:
            placement = place(design, router, commands[router], seed, result.estimate, work, progress)
        except ToolFailure as error:
            if seed == options.seeds[-1] and not result.placements:
                raise
            result = replace(result, unplaced={**result.unplaced, seed: str(error)})
        else:
            result = replace(result, placements=(*result.placements, placement))
    best = result.best_placement
    assert best is not None
    if not best.met:
        return replace(result, failure=_missed(result, best, work))
    packer = next(name for name in commands if "pack" in name)
    run, bitstream = pack(design, packer, commands[packer], best.seed, folder.name, work, progress)
    shutil.move(work / bitstream, folder / bitstream)
    return replace(
        result,
        best=best.seed,
        packing=run,
        bitstream=bitstream,
        hashes={**result.hashes, "bitstream": _hash(folder / bitstream)},
    )


# -- messages --------------------------------------------------------------------------------------------------------


def _too_large(design: Design, result: BuildResult, short: Sequence[Resource], report: Path) -> str:
    needs = ", ".join(
        f"{result.estimate[name].used} of {result.estimate[name].available} {RESOURCE_NAMES[name]}" for name in short
    )
    net = "-".join(map(str, design.net.widths))
    return (
        f"network {net} with lanes {'/'.join(map(str, design.plan.lanes))} needs {needs} of board {design.board.name}; "
        f"{spell_advice([*what_may_help(design.plan, short), 'a larger board'])}; what takes them is in {report}"
    )


def _missed(result: BuildResult, best: Placement, work: Path) -> str:
    asked, reached = best.clock.asked / 1e6, best.clock.reached / 1e6
    tried = (
        f"the best of {len(result.placements)} placements, seed {best.seed}," if len(result.placements) > 1 else "it"
    )
    slow = best.link_clock
    if slow is not None and slow.reached < slow.asked:
        tried = f"{tried} has a link of {slow.reached / 1e6:.2f} of {slow.asked / 1e6:g} MHz and"
    path = f"; its slowest path: {best.critical_path}" if best.critical_path is not None else ""
    return (
        f"board {result.board} does not reach {asked:g} MHz: {tried} reaches {reached:.2f} MHz{path}; ask for less "
        f"with --clock or try more placements with --seeds; its log is {work / best.log}"
    )


# -- small things ----------------------------------------------------------------------------------------------------


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _versions() -> dict[str, str]:
    found = {"python": python_platform.python_version()}
    for name in ("amaranth", "amaranth-boards", "dyadprop", "numpy", "scipy"):
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
