"""Load a bitstream onto a board, and let the board prove that it runs.

The FPGA at the cable is asked what it is first: on another one nothing is loaded. Behind loading, the board is asked
over its serial port who it is, which must be what was built, and for the verdict of its self-test. Exit code 1: another
device, or a self-test that failed, or that is not there although it was built in.

Without a bitstream's name, the only one that was built for the board is taken. It is loaded into the FPGA, until power
goes; with --permanent into the flash memory that the FPGA starts from. An iCE40 and an OrangeCrab are always loaded by
way of that memory: what was in it is lost.
"""

import argparse
import shlex

from dyadprop.checks import positive_number
from dyadprop.protocol import SelfTest
from dyadprop.report import Report
from dyadprop.verdicts import spell_verdict
from dyadprop_boards import flash
from dyadprop_boards.flash import LOG, Bitstream, WrongDevice
from dyadprop_boards.table import Board, find_board
from dyadprop_boards.tools import LOADER


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the board, the bitstream and the options."""
    parser.add_argument("bitstream", nargs="?", metavar="FILE", help="default: the only one built for the board")
    parser.add_argument("--board", required=True, metavar="B", help="as `dyadprop build` takes it")
    parser.add_argument("--out", default="build", metavar="DIR", help="folder of builds (default: %(default)s)")
    parser.add_argument("--permanent", action="store_true", help="write the flash memory that the FPGA starts from")
    parser.add_argument("--port", metavar="PORT", help="serial port of the board (default: all USB adapters are tried)")
    parser.add_argument(
        "--timeout", type=positive_number, default=10.0, metavar="S", help="for its answer (default: %(default)s)"
    )
    parser.add_argument("--no-identify", action="store_true", help="load only: no serial port is connected")
    parser.add_argument("--dry-run", action="store_true", help="only print what would be run")


def run(args: argparse.Namespace) -> int:
    """Check, load, identify."""
    report = Report.of(args)
    board = find_board(args.board)
    bitstream = flash.find_bitstream(board, args.bitstream, args.out)
    commands = [] if board.fpga.idcode is None or not board.jtag else [flash.detect_command(board)]
    commands.append(flash.load_command(board, bitstream.path, permanent=args.permanent))
    document: dict[str, object] = {
        "board": board.name,
        "bitstream": str(bitstream.path),
        "commands": [[LOADER.program, *command] for command in commands],
        "idcode": None,
        "port": None,
        "self_test": None,
        "passed": None,
    }
    if args.dry_run:
        for command in commands:
            report.result(shlex.join([LOADER.program, *command]))
        report.write(document)
        return 0
    try:
        document |= _flash(args, report, board, bitstream)
    except WrongDevice as error:
        report.write({**document, "passed": False})
        report.result(f"failed: {error}")
        return 1
    report.write(document)
    return 0 if document["passed"] else 1


def _flash(args: argparse.Namespace, report: Report, board: Board, bitstream: Bitstream) -> dict[str, object]:
    log = bitstream.path.parent / LOG
    found = flash.check_device(board, log)
    if found is None:
        report.say(f"board {board.name} cannot be asked what it is before it is loaded")
    else:
        report.say(f"board {board.name}: found a {board.device}, id 0x{found:08x}")
    flash.load(board, bitstream.path, log, permanent=args.permanent)
    report.say(f"{bitstream.path}: loaded")
    done: dict[str, object] = {"idcode": found, "passed": True}
    if args.no_identify:
        report.result("not asked who it is: nothing shows that it runs")
        return done
    address, verdict = flash.identify(bitstream, args.port, args.timeout)
    told = spell_verdict(verdict)
    passed = verdict == bitstream.wanted_verdict
    if not passed and verdict in (SelfTest.PASSED, SelfTest.NOT_BUILT_IN):
        told += f", although the bitstream was built {'with' if bitstream.self_test else 'without'} one"
    report.result(f"device on {address} is board {board.name} with network {bitstream.network}; its self-test {told}")
    return {**done, "port": address, "self_test": verdict, "passed": passed}
