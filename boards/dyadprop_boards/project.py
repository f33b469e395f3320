"""The tools' input: what Amaranth's platform writes of a design, and what yosys is told besides."""

import gc
import importlib
import json
from pathlib import Path
from typing import Any

from dyadprop.errors import BuildError, RangeError
from dyadprop_boards.design import Design
from dyadprop_boards.table import Board
from dyadprop_boards.tools import EXTRA, TOOLS
from dyadprop_boards.top import BoardTop

TOP = "top"
"""Name of the design, and of the files that it becomes."""
_PACKAGES = ("amaranth", "amaranth_boards")  # that platforms come from

# Each of these memories has one writer and readers that never look at a word while it is written, or read it again
# before they use it. Without this, yosys builds what such a read would give out of logic, two registers a bit on an
# iCE40. Stages: claimed in lane.py and sample_memory.py, proved by `make formal`. Queues: one that is empty is not
# read, one that is full is not written. Windows: the slot that is read is whole, the one that is written is not; a
# length that is read while it is written is read once more. The others never read and write in the same cycle.
PROVED_MEMORIES = (
    f"{TOP}.*.stage_*.lane_*",
    f"{TOP}.*.stage_*.memory",
    f"{TOP}.*.fifo",
    f"{TOP}.*.inbox",
    f"{TOP}.*.outbox",
    f"{TOP}.*.encoder",
    f"{TOP}.*.commands",
    f"{TOP}.*.registers",
)
# Outputs of multipliers. On an iCE40 yosys 0.70 would move the register and the adder behind one into the DSP block,
# and make the last bit of a 33-bit sum a copy of the one below: wrong as soon as a sum needs it. Behind a wire that is
# to be kept it packs nothing.
MULTIPLIED = "t:$mul %co1:+[Y] w:* %i"
FEWEST_REGISTERS = 8
"""ECP5: registers that share an enable or a reset, or do it in logic. The eight registers of a tile have two resets and
few enables between them, so a register with its own is placed where there is one left, far from what it works with."""
_ECP5_REGISTERS = " ".join(
    f"-cell {cell}"
    for cell in (
        *("$_DFF_?_ 01", "$_DFF_?P?_ r", "$_SDFF_?P?_ r"),
        *("$_DFFE_??_ 01", "$_DFFE_?P??_ r", "$_SDFFE_?P??_ r"),
    )
)
"""What yosys' own script for ECP5 takes."""


def write_project(design: Design, chip: Any, work: Path) -> dict[str, list[str]]:
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


def make_platform(board: Board) -> Any:
    """Make a board's Amaranth platform.

    Raises
    ------
    BuildError
        If its package is not installed, or has no such platform.
    RangeError
        If its module or its class raises.
    """
    make = board.platform
    if isinstance(make, str):
        module, _, name = make.partition(":")
        try:
            make = getattr(importlib.import_module(module), name)
        except ImportError as error:
            package = (error.name or str(error)).partition(".")[0]
            brought = f"; {EXTRA}" if package in _PACKAGES else ""
            raise BuildError(
                f"board {board.name} needs the package {package}, which is not installed{brought}"
            ) from error
        except AttributeError as error:
            raise BuildError(f"board {board.name} names the platform {make}, which is not there") from error
        except Exception as error:  # whatever a user's module does
            raise RangeError(f"platform {make} of board {board.name}: {type(error).__name__}: {error}") from error
    try:
        return make()
    except Exception as error:  # whatever a user's class does
        raise RangeError(f"platform of board {board.name} cannot be made: {type(error).__name__}: {error}") from error


def commands_after_read(board: Board) -> list[str]:
    """Give yosys' commands between the design and its synthesis."""
    commands = ["delete t:$check"]  # claims are checked in simulation and by proofs
    commands += [f"setparam -set COLLISION_X_MASK 1'1 {module}/t:$memrd_v2" for module in PROVED_MEMORIES]
    if board.fpga.family == "ice40" and board.fpga.multipliers:
        commands.append(f"setattr -set keep 1 {MULTIPLIED}")
    if board.fpga.family == "ecp5":
        commands += [
            f"synth_ecp5 -run begin:map_ffs -top {TOP}",
            "opt_clean",
            f"dfflegalize {_ECP5_REGISTERS} -mince {FEWEST_REGISTERS} -minsrst {FEWEST_REGISTERS}",
        ]
    return commands


def synthesis_options(board: Board) -> list[str]:
    """Give what yosys is told of a board's FPGA beyond its family."""
    match board.fpga.family:
        case "ecp5":
            return ["-run", "map_ffs:"]  # from there on: see `commands_after_read`
        case "ice40":
            device = "u" if "UP" in board.device else "hx"
            return ["-device", device, *(["-dsp"] if board.fpga.multipliers else [])]
        case "gowin":
            return ["-family", "gw2a" if board.device.startswith("GW2A") else "gw1n"]
