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
    if platform.default_clk_constraint is None:
        raise RangeError(
            f"board {board.name}: clock {board.clock_pin!r} of its platform has no frequency; Clock({board.clock}) in "
            "its resource gives it one"
        )
    if round(platform.default_clk_frequency) != board.clock:
        raise RangeError(
            f"board {board.name} has a clock of {board.clock} Hz; its platform's, at {board.clock_pin!r}, has "
            f"{platform.default_clk_frequency:.0f} Hz"
        )
    parts = _parts(board, platform, "serial port", board.uart, 0)
    for pin, way in (("rx", "i"), ("tx", "o")):
        if pin not in parts:
            raise RangeError(f"board {board.name}: serial port {board.uart!r} of its platform has no {pin}")
        _check_direction(board, f"{pin} of the serial port {board.uart!r}", parts[pin], way)
    if board.led is not None:
        resource, number, *part = board.led
        parts = _parts(board, platform, "LED", resource, number)
        chosen = part[0] if part else ""
        if chosen not in parts:
            names = ", ".join(filter(None, parts)) or "none"
            wrong = f"has no part {chosen!r}; it has {names}" if chosen else f"has parts, of which one is lit: {names}"
            raise RangeError(f"board {board.name}: LED {resource!r} {number} of its platform {wrong}")
        _check_direction(board, f"LED {resource!r} {number}", parts[chosen], "o")


def _check_direction(board: Board, what: str, pins: Any, way: str) -> None:
    if pins.dir not in (way, "io"):
        raise RangeError(f"board {board.name}: {what} of its platform has the direction {pins.dir!r}; expected {way!r}")


def _parts(board: Board, platform: Any, what: str, name: str, number: int) -> dict[str, Any]:
    """Give the pins of a resource by the names of its parts; the name is empty where there are none."""
    try:
        resource = platform.lookup(name, number)
    except ResourceError as error:
        without = "; without an LED: led=None" if what == "LED" else ""
        raise RangeError(
            f"board {board.name} names the {what} {name!r} {number}, which its platform does not have{without}"
        ) from error
    return {getattr(part, "name", ""): part.ios[0] if hasattr(part, "ios") else part for part in resource.ios}
