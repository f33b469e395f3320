"""Loading a bitstream onto a board, and the proof that it runs there."""

import hashlib
import json
import re
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyadprop.connection import RATES, Connection, connect, find_boards
from dyadprop.errors import DeviceLost, DeviceTimeout, DyadpropError, RangeError
from dyadprop.link import SessionLost
from dyadprop.protocol import SelfTest
from dyadprop.verdicts import ask_verdict
from dyadprop_boards.report_files import REPORT
from dyadprop_boards.table import Board
from dyadprop_boards.tools import LOADER, ToolFailure, failure, run_tool

LOG = "flash.log"
_TOLD = {"board", "device", "network", "gateware", "lanes", "self_test"}
"""What a report has to say of a bitstream that is loaded."""
LIBRARIES = "on Debian: apt-get install libusb-1.0-0 libftdi1-2"


class WrongDevice(DyadpropError):
    """What is at the other end of a cable, or answers there, is not what the bitstream was made for."""


@dataclass(frozen=True)
class Bitstream:
    """A bitstream and what its build said of it.

    Attributes
    ----------
    path : path
    board, network, gateware : str
    lanes : tuple of int
    self_test : bool
        Whether it tests itself at power-on.
    """

    path: Path
    board: str
    network: str
    gateware: str
    lanes: tuple[int, ...]
    self_test: bool

    @property
    def wanted_verdict(self) -> SelfTest:
        """What a healthy board says of its self-test."""
        return SelfTest.PASSED if self.self_test else SelfTest.NOT_BUILT_IN


def find_bitstream(board: Board, path: str | None, out: str) -> Bitstream:
    """Give a bitstream, and check that it is the one that its report tells of.

    Parameters
    ----------
    board : Board
    path : str or None
        None: the only one that was built for the board.
    out : str
        Folder of builds.

    Raises
    ------
    RangeError
        If there is none or more than one, its report is not beside it, or tells of another board, FPGA or bitstream.
    """
    if path is None:
        built = sorted(report for report in (Path(out) / board.name).glob(f"*/{REPORT}") if _bitstream_of(report))
        if len(built) != 1:
            names = ", ".join(report.parent.name for report in built) or "none"
            raise RangeError(
                f"bitstreams for board {board.name} in {out} are: {names}; name the one to load, or build one: "
                f"dyadprop build --board {board.name} NET.TOML"
            )
        chosen = built[0].parent / _bitstream_of(built[0])
    else:
        chosen = Path(path)
    try:
        content = chosen.read_bytes()
    except OSError as error:
        raise RangeError(f"bitstream {chosen} cannot be read: {error.strerror}") from error
    report = _read_report(chosen.parent / REPORT)
    if (report["board"], report["device"]) != (board.name, board.device):
        raise RangeError(
            f"bitstream {chosen} was built for board {report['board']!r} with a {report['device']}; --board names "
            f"{board.name!r} with a {board.device}"
        )
    hashes = report.get("hashes")
    if not isinstance(hashes, dict) or hashes.get("bitstream") != hashlib.sha256(content).hexdigest():
        raise RangeError(f"bitstream {chosen} is not the one that {chosen.parent / REPORT} tells of; build it again")
    lanes = report["lanes"]
    if not isinstance(lanes, list) or not all(type(number) is int for number in lanes):
        raise RangeError(f"lanes in {chosen.parent / REPORT} are {lanes!r}; expected a list of whole numbers")
    return Bitstream(
        path=chosen,
        board=board.name,
        network=str(report["network"]),
        gateware=str(report["gateware"]),
        lanes=tuple(lanes),
        self_test=bool(report["self_test"]),
    )


def _read_report(path: Path, told: Set[str] = _TOLD) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text())
    except OSError as error:
        raise RangeError(f"report {path} of the bitstream cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RangeError(f"report {path} of the bitstream cannot be read: {error}") from error
    missing = told - report.keys() if isinstance(report, dict) else told
    if missing:
        raise RangeError(
            f"report {path} of the bitstream does not tell {', '.join(sorted(missing))}: it is none of this version's "
            "builds; build it again"
        )
    return dict(report)


def _bitstream_of(report: Path) -> str:
    try:
        return str(_read_report(report, {"bitstream"})["bitstream"])
    except RangeError:
        return ""


def detect_command(board: Board) -> list[str]:
    """Give openFPGALoader's arguments that ask the FPGA what it is."""
    return [*board.cable, "--detect"]


def load_command(board: Board, bitstream: Path, *, permanent: bool) -> list[str]:
    """Give openFPGALoader's arguments that load a bitstream, into the FPGA or into the flash that it starts from.

    Raises
    ------
    RangeError
        If openFPGALoader does not load such a board.
    """
    if not board.cable:
        raise RangeError(
            f"board {board.name} is none that openFPGALoader loads; use the program that came with it, for {bitstream}"
        )
    target = ["--write-flash"] if permanent else []
    return [*board.cable, *target, str(bitstream.absolute())]  # the loader runs beside its log


def check_device(board: Board, log: Path) -> int | None:
    """Ask the FPGA at the cable what it is.

    Returns
    -------
    int or None
        Its id; None where it cannot be asked.

    Raises
    ------
    WrongDevice
        If it is another one.
    BuildError
        If openFPGALoader is missing, fails, or finds nothing.
    """
    wanted = board.fpga.idcode
    if wanted is None or not board.jtag:
        return None
    _load(detect_command(board), log)
    found = read_idcodes(log.read_text(errors="replace"))
    if not found:
        raise WrongDevice(f"no FPGA answered at the cable of board {board.name}; see {log}")
    if wanted not in found:
        listed = ", ".join(f"0x{code:08x}" for code in found)
        raise WrongDevice(
            f"device at the cable of board {board.name} has id {listed}; a {board.device} has 0x{wanted:08x}; nothing "
            "was loaded"
        )
    return wanted


def read_idcodes(text: str) -> list[int]:
    """Read the ids that openFPGALoader's ``--detect`` tells of."""
    return [int(code, 16) for code in re.findall(r"(?m)^\s*idcode\s+(?:0x)?([0-9a-fA-F]{1,8})\s*$", text)]


def load(board: Board, bitstream: Path, log: Path, *, permanent: bool) -> None:
    """Load a bitstream.

    Raises
    ------
    BuildError
        If openFPGALoader is missing or fails; the message names its log.
    """
    _load(load_command(board, bitstream, permanent=permanent), log)


def _load(arguments: Sequence[str], log: Path) -> None:
    status, _ = run_tool(LOADER, arguments, log.parent, log)
    if status:
        error = failure(LOADER, status, log)
        if "shared libraries" in log.read_text(errors="replace"):
            raise ToolFailure(LOADER.name, f"{error}; {LIBRARIES}")
        raise error


def identify(bitstream: Bitstream, address: str | None, seconds: float) -> tuple[str, int]:
    """Ask the board who it is until it answers, and wait for its self-test.

    Parameters
    ----------
    bitstream : Bitstream
    address : str or None
        Serial port; None: all USB adapters are looked at.
    seconds : float
        To give up after.

    Returns
    -------
    tuple of str and int
        Where it answered, and what the self-test says: a `SelfTest`, never RUNNING.

    Raises
    ------
    DeviceLost, DeviceTimeout
        If nothing answers.
    WrongDevice
        If what answers was built of something else.
    """
    end = time.monotonic() + seconds
    connection = _connect(bitstream, address, seconds)
    try:
        who = connection.identity
        told = (who.board, who.network, who.gateware, who.lanes)
        wanted = (bitstream.board, bitstream.network, bitstream.gateware, bitstream.lanes)
        if told != wanted:
            raise WrongDevice(
                f"device on {connection.address} says that it is board {who.board!r} with network {who.network}, "
                f"gateware {who.gateware}, lanes {who.lanes}; the bitstream is of {wanted}"
            )
        while True:
            verdict = ask_verdict(connection.link, seconds)
            if verdict != SelfTest.RUNNING:
                return connection.address, verdict
            if time.monotonic() > end:
                raise DeviceTimeout(f"self-test of the device on {connection.address} did not end within {seconds:g} s")
            time.sleep(0.05)
    except SessionLost as error:
        raise DeviceLost(f"device on {connection.address} was lost: {error}") from error
    finally:
        connection.link.port.close()


def _connect(bitstream: Bitstream, address: str | None, seconds: float) -> Connection:
    if address is not None:
        return connect(address, RATES, timeout=seconds, seconds=seconds)
    end = time.monotonic() + seconds
    while True:  # the adapter that loads a board is often its serial port too, and comes back a while later
        seen = find_boards()
        for candidate in seen:
            if candidate.identity is not None and candidate.identity.network == bitstream.network:
                return connect(candidate.address, RATES, timeout=seconds, seconds=seconds)
        if time.monotonic() > end:
            listing = "; ".join(candidate.describe() for candidate in seen) or "there is no USB serial adapter"
            raise DeviceLost(f"no board with network {bitstream.network} answered within {seconds:g} s: {listing}")
        time.sleep(0.2)
