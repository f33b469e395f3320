"""The boards that the gateware is built for: what decides a design, as data."""

import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from dyadprop.baud import bit_period
from dyadprop.checks import whole_number
from dyadprop.errors import RangeError
from dyadprop_boards import fpgas
from dyadprop_boards.fpgas import Fpga

BAUD = 1_000_000  # every USB bridge on these boards can, and 12 cycles a bit are left at the slowest clock
"""Bits a second at power-on; the driver raises it."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PLATFORM = re.compile(r"\w+(\.\w+)*:\w+")


@dataclass(frozen=True)
class Board:
    """A board.

    Attributes
    ----------
    name : str
        As commands call it.
    fpga : Fpga
    package, speed : str
        As the platform names them.
    clock : int
        Hz of its oscillator, at the clock pin.
    design_clock : int
        Hz that a PLL makes of it where nothing else is asked for: what networks that fill the FPGA reach.
    platform : str or callable
        Makes the Amaranth platform: ``"module:Class"``, or the class. It has the resources that are named below.
    cable : tuple of str
        Arguments with which openFPGALoader finds the board; empty where it does not load it.
    baud : int
        Bits a second of its serial port at power-on.
    clock_pin : str
        Resource of the oscillator.
    uart : str
        Resource of the serial port, number 0, with ``rx`` and ``tx``.
    led : tuple or None
        Resource, number and, where the resource has several, the part of it that shows the self-test's verdict.
    jtag : bool
        Whether openFPGALoader can ask the FPGA over the cable what it is.
    pll_pad : bool
        On iCE40: whether the oscillator is at the pin that feeds the PLL, which then can be fed by no other way.
    """

    name: str
    fpga: Fpga
    package: str
    speed: str
    clock: int
    design_clock: int
    platform: str | Callable[[], Any]
    cable: tuple[str, ...]
    baud: int = BAUD
    clock_pin: str = "clk25"
    uart: str = "uart"
    led: tuple[str, int] | tuple[str, int, str] | None = ("led", 0)
    jtag: bool = True
    pll_pad: bool = False

    @property
    def device(self) -> str:
        """Name of the FPGA."""
        return self.fpga.name


def _ulx3s(size: str, fpga: Fpga) -> Board:
    return Board(
        name=f"ulx3s-{size}f",
        fpga=fpga,
        package="BG381",
        speed="6",
        clock=25_000_000,
        design_clock=80_000_000,
        platform=f"amaranth_boards.ulx3s:ULX3S_{size}F_Platform",
        cable=("-b", "ulx3s"),
    )


def _ecpix5(size: str, fpga: Fpga) -> Board:
    return Board(
        name=f"ecpix5-{size}",
        fpga=fpga,
        package="BG554",
        speed="8",
        clock=100_000_000,
        design_clock=100_000_000,
        platform=f"amaranth_boards.ecpix5:ECPIX5{size}Platform",
        cable=("-b", "ecpix5"),
        clock_pin="clk100",
        led=("rgb_led", 0, "g"),
    )


def _orangecrab(size: str, fpga: Fpga) -> Board:
    return Board(
        name=f"orangecrab-{size}f",
        fpga=fpga,
        package="MG285",
        speed="8",
        clock=48_000_000,
        design_clock=96_000_000,
        platform=f"dyadprop_boards.platforms:OrangeCrab{size}FPlatform",
        cable=("-b", "orangeCrab"),
        clock_pin="clk",
        led=("rgb_led", 0, "g"),
        jtag=False,  # loaded by its boot loader, over USB
    )


BOARDS = (
    _ulx3s("12", fpgas.LFE5U_12F),
    _ulx3s("25", fpgas.LFE5U_25F),
    _ulx3s("45", fpgas.LFE5U_45F),
    _ulx3s("85", fpgas.LFE5U_85F),
    Board(
        name="colorlight-5a-75b-r7.0",
        fpga=fpgas.LFE5U_25F,
        package="BG256",
        speed="6",
        clock=25_000_000,
        design_clock=80_000_000,
        platform="amaranth_boards.colorlight_5a75b_r7_0:Colorlight_5A75B_R70Platform",
        cable=("-c", "ft232"),  # there is no USB on it: any adapter at its JTAG pins
        led=None,  # its only LED is the serial port's pin
    ),
    Board(
        name="colorlight-i5",
        fpga=fpgas.LFE5U_25F,
        package="BG381",
        speed="6",
        clock=25_000_000,
        design_clock=80_000_000,
        platform="dyadprop_boards.platforms:ColorlightI5Platform",
        cable=("-b", "colorlight-i5"),
    ),
    _ecpix5("45", fpgas.LFE5UM5G_45F),
    _ecpix5("85", fpgas.LFE5UM5G_85F),
    _orangecrab("25", fpgas.LFE5U_25F),
    _orangecrab("85", fpgas.LFE5U_85F),
    Board(
        name="icebreaker",
        fpga=fpgas.ICE40UP5K,
        package="SG48",
        speed="",
        clock=12_000_000,
        design_clock=18_000_000,
        platform="amaranth_boards.icebreaker:ICEBreakerPlatform",
        cable=("-b", "ice40_generic"),
        clock_pin="clk12",
        led=("led_g", 0),
        jtag=False,  # loaded over SPI, as all iCE40
        pll_pad=True,
    ),
    Board(
        name="icesugar",
        fpga=fpgas.ICE40UP5K,
        package="SG48",
        speed="",
        clock=12_000_000,
        design_clock=18_000_000,
        platform="amaranth_boards.icesugar:ICESugarPlatform",
        cable=(),  # loaded by copying to its USB drive, or by icesprog
        clock_pin="clk12",
        led=("led_g", 0),
        jtag=False,
        pll_pad=True,
    ),
    Board(
        name="hx8k-breakout",
        fpga=fpgas.ICE40HX8K,
        package="CT256",
        speed="",
        clock=12_000_000,
        design_clock=36_000_000,
        platform="amaranth_boards.ice40_hx8k_b_evn:ICE40HX8KBEVNPlatform",
        cable=("-b", "ice40_generic"),
        clock_pin="clk12",
        jtag=False,
    ),
    Board(
        name="tang-nano-9k",
        fpga=fpgas.GW1NR_9C,
        package="QN88P",
        speed="C6/I5",
        clock=27_000_000,
        design_clock=54_000_000,
        platform="amaranth_boards.tang_nano_9k:TangNano9kPlatform",
        cable=("-b", "tangnano9k"),
        clock_pin="clk27",
    ),
    Board(
        name="tang-primer-20k",
        fpga=fpgas.GW2A_18C,
        package="PG256",
        speed="C8/I7",
        clock=27_000_000,
        design_clock=81_000_000,
        platform="amaranth_boards.tang_primer_20k:TangPrimer20kDockPlatform",
        cable=("-b", "tangprimer20k"),
        clock_pin="clk27",
    ),
)


def find_board(name: str) -> Board:
    """Give a board of the table, or the one that a file of the user's describes.

    Parameters
    ----------
    name : str
        Name in the table, or the path of a Python file that sets ``BOARD`` (docs/boards.md has an example).

    Raises
    ------
    RangeError
        If there is no such board, or the file gives none that can be.
    """
    for board in BOARDS:
        if board.name == name:
            return board
    if name.endswith(".py"):
        return _board_of_file(Path(name))
    known = ", ".join(board.name for board in BOARDS)
    raise RangeError(f"board is {name!r}; known are {known}")


def _board_of_file(path: Path) -> Board:
    spec = importlib.util.spec_from_file_location(f"dyadprop_user_board_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise RangeError(f"board file {path} is not there")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's file does
        raise RangeError(f"board file {path} cannot be run: {type(error).__name__}: {error}") from error
    board = getattr(module, "BOARD", None)
    if not isinstance(board, Board):
        raise RangeError(f"board file {path} sets BOARD to {board!r}; expected a dyadprop_boards.table.Board")
    check_board(board)
    if any(board.name == other.name for other in BOARDS):
        raise RangeError(f"board file {path} calls its board {board.name!r}, as one of the table is called")
    return board


def check_board(board: Board) -> None:
    """Refuse what no board can be.

    Raises
    ------
    RangeError
        If its name is no file name, an attribute is of another kind than `Board` says, or its clocks and its baud rate
        do not fit.
    """
    if not _is_name(board.name):
        raise RangeError(
            f"board name is {board.name!r}; allowed are letters, digits and - _ ., first a letter or digit"
        )
    for what, given, fine, expected in (
        ("FPGA", board.fpga, isinstance(board.fpga, Fpga), "a dyadprop_boards.fpgas.Fpga"),
        ("platform", board.platform, _is_platform(board.platform), "a class, or 'module:Class'"),
        ("cable", board.cable, _is_words(board.cable), "a tuple of str, as ('-b', 'ulx3s')"),
        (
            "LED",
            board.led,
            board.led is None or _is_led(board.led),
            "(resource, number), a part's name behind, or None",
        ),
        ("package", board.package, isinstance(board.package, str), "a str"),
        ("speed grade", board.speed, isinstance(board.speed, str), "a str"),
        ("clock pin", board.clock_pin, isinstance(board.clock_pin, str), "a str"),
        ("serial port", board.uart, isinstance(board.uart, str), "a str"),
        ("jtag", board.jtag, isinstance(board.jtag, bool), "a bool"),
        ("pll_pad", board.pll_pad, isinstance(board.pll_pad, bool), "a bool"),
    ):
        if not fine:
            raise RangeError(f"{what} of board {board.name} is {given!r}; expected {expected}")
    _check_fpga(board.name, board.fpga)
    whole_number(f"clock of board {board.name}", board.clock, 1_000_000, 400_000_000)
    whole_number(f"design clock of board {board.name}", board.design_clock, 1_000_000, 400_000_000)
    whole_number(f"baud rate of board {board.name}", board.baud, 1, board.design_clock)
    bit_period(board.design_clock, board.baud)


def _check_fpga(board: str, fpga: Fpga) -> None:
    families = get_args(fpgas.Family)
    if fpga.family not in families:
        raise RangeError(
            f"family of FPGA {fpga.name} of board {board} is {fpga.family!r}; known are {', '.join(families)}"
        )
    for name, low in (
        *(("luts", 1), ("flip_flops", 1), ("multipliers", 0), ("block_rams", 0), ("block_ram_bits", 0)),
        ("multiplier_bits", 2 if fpga.multipliers else 0),
    ):
        whole_number(f"{name} of FPGA {fpga.name} of board {board}", getattr(fpga, name), low, 2**31 - 1)
    if fpga.idcode is not None:
        whole_number(f"idcode of FPGA {fpga.name} of board {board}", fpga.idcode, 0, 2**32 - 1)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _is_platform(platform: object) -> bool:
    return _PLATFORM.fullmatch(platform) is not None if isinstance(platform, str) else callable(platform)


def _is_words(words: object) -> bool:
    return isinstance(words, tuple) and all(isinstance(word, str) for word in words)


def _is_led(led: object) -> bool:
    return isinstance(led, tuple) and [type(part) for part in led] in ([str, int], [str, int, str])
