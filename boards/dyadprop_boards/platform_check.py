"""Whether a board's description and its Amaranth platform tell of the same board."""

from typing import Any

from amaranth.build import ResourceError

from dyadprop.errors import RangeError
from dyadprop_boards.table import Board


def check_platform(board: Board, platform: Any) -> None:
    """Refuse a board whose platform is another one, or lacks a pin that the design is put on.

    Parameters
    ----------
    board : Board
    platform : amaranth.build.plat.Platform

    Raises
    ------
    RangeError
        If FPGA, package, speed grade or clock differ, or there is no such clock, serial port or LED.
    """
    # On a Gowin a platform calls the FPGA's family what tools call the device.
    device = getattr(platform, "family" if board.fpga.family == "gowin" else "device", None)
    told = {
        "FPGA": (board.device, device),
        "package": (board.package, getattr(platform, "package", None)),
        "speed grade": (board.speed, getattr(platform, "speed", "")),
        "clock pin": (board.clock_pin, getattr(platform, "default_clk", None)),
    }
    for what, (named, there) in told.items():
        if named != there:
            raise RangeError(f"board {board.name} names the {what} {named!r}; its platform has {there!r}")
    _parts(board, platform, "clock pin", board.clock_pin, 0)
    if platform.default_clk_frequency != board.clock:
        raise RangeError(
            f"board {board.name} has a clock of {board.clock} Hz; its platform's, at {board.clock_pin!r}, has "
            f"{platform.default_clk_frequency:.0f} Hz"
        )
    parts = _parts(board, platform, "serial port", board.uart, 0)
    missing = [part for part in ("rx", "tx") if part not in parts]
    if missing:
        raise RangeError(f"board {board.name}: serial port {board.uart!r} of its platform has no {missing[0]}")
    if board.led is not None:
        resource, number, *part = board.led
        parts = _parts(board, platform, "LED", resource, number)
        if part and part[0] not in parts:
            raise RangeError(
                f"board {board.name}: LED {resource!r} {number} of its platform has no part {part[0]!r}; it has "
                f"{', '.join(parts) or 'none'}"
            )


def _parts(board: Board, platform: Any, what: str, name: str, number: int) -> list[str]:
    """Give the parts of a resource."""
    try:
        resource = platform.lookup(name, number)
    except ResourceError as error:
        without = "; without an LED: led=None" if what == "LED" else ""
        raise RangeError(
            f"board {board.name} names the {what} {name!r} {number}, which its platform does not have{without}"
        ) from error
    return [part.name for part in resource.ios if hasattr(part, "name")]
