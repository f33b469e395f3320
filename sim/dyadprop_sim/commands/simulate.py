"""Simulate a chip behind a serial port, for a driver in another program.

The RTL of the whole chip runs at a board's clock, and answers at a pseudo-terminal (--port NAME makes a link of that
name) or at a TCP socket (--port socket://localhost:0 takes any free port). Without --bits, bytes go in and out as fast
as the chip takes and gives them; with --bits its UART is simulated too, and the host's side of the line is made and
sampled at the rate that the driver sets. Simulated time stands still while there is nothing to do. Ctrl-C ends it.
"""

import argparse
import signal
import threading

from dyadprop.errors import RangeError
from dyadprop.network import Network
from dyadprop.plan import DEFAULT_MULTIPLIERS, plan_network
from dyadprop.report import Report
from dyadprop_boards.table import BOARDS, find_board
from dyadprop_sim.chip import ChipOptions, simulate_chip
from dyadprop_sim.chip_server import ChipServer
from dyadprop_sim.fault_proxy import KINDS, FaultProxy
from dyadprop_sim.library import BuildOptions
from dyadprop_sim.ports import PairPort, Port, open_port
from dyadprop_sim.wire import WireSimulation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the chip is and where it answers."""
    parser.add_argument("--network", metavar="NET.TOML", required=True, help="the network that it is built for")
    parser.add_argument(
        "--board",
        default="ulx3s-85f",
        metavar="BOARD",
        help=f"whose clock it has: {', '.join(board.name for board in BOARDS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--port", metavar="PORT", help="link to make, or socket://HOST:PORT (default: the pseudo-terminal's own name)"
    )
    parser.add_argument("--bits", action="store_true", help="simulate the UART too")
    parser.add_argument("--paced", action="store_true", help="without --bits: bytes keep the driver's rate")
    parser.add_argument("--baud", type=int, default=0, metavar="N", help="rate at power-on (default: the board's)")
    parser.add_argument(
        "--baud-error", type=float, default=0.0, metavar="E", help="how wrong the host's rate is: 0.02 is 2 %% too fast"
    )
    parser.add_argument(
        "--multipliers", type=int, default=DEFAULT_MULTIPLIERS, metavar="N", help="budget (default: %(default)s)"
    )
    parser.add_argument(
        "-O", dest="optimize", type=int, choices=(0, 1, 2), default=2, help="of the C++ compiler (default: %(default)s)"
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND=RATE",
        help=f"spoil the line: {', '.join(KINDS)}, each with its chance a byte; more than one is allowed",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    report = Report.of(args)
    if args.device is not None:
        raise RangeError(f"device is {args.device!r}; simulate makes one, so none can be chosen")
    net, board = Network.load(args.network), find_board(args.board)
    if not -0.1 <= args.baud_error <= 0.1:
        raise RangeError(f"baud error is {args.baud_error:g}; allowed are -0.1 to 0.1")
    rates = _rates(args.fault)
    plan = plan_network(net, args.multipliers)
    options = ChipOptions(
        bits=args.bits,
        baud=args.baud,
        paced=args.paced,
        baud_error=args.baud_error,
        seed=args.seed,
        build=BuildOptions(optimize=f"-O{args.optimize}", random_start=True),
    )
    port = open_port(args.port)  # what is wrong with it is told now, not after the build
    try:
        report.say(f"{net!r}: building the simulation of {board.name} at {board.clock / 1e6:g} MHz")
        chip = simulate_chip(plan, board, options)
    except BaseException:
        port.close()
        raise
    _serve(report, chip, port, rates, args)
    return 0


def _serve(report: Report, chip: WireSimulation, port: Port, rates: dict[str, float], args: argparse.Namespace) -> None:
    proxy: FaultProxy | None = None
    if rates:
        back, inner = PairPort.pair()
        server = ChipServer(chip, inner)
        proxy = FaultProxy(port, back, rates, seed=args.seed, reset=server.power_on)
    else:
        server = ChipServer(chip, port)
    address = proxy.address if proxy is not None else server.address
    try:
        if rates:
            report.say(f"faults: {', '.join(f'{kind} {rate:g} a byte' for kind, rate in rates.items())}")
        report.result(f"the chip answers at {address}; use it with")
        report.result(f'    dyadprop.open("serial:{address}", dyadprop.Network.load("{args.network}"))')
        report.result("Ctrl-C ends it")
        _until_the_end(server, proxy)
    finally:
        if proxy is not None:
            proxy.stop()
        server.stop()
    report.say(
        f"{server.received:,} bytes to the chip, {server.sent:,} from it, {chip.cycle:,} cycles: "
        f"{chip.seconds:.4f} s at {chip.line.clock / 1e6:g} MHz"
    )
    report.write({"received": server.received, "sent": server.sent, "cycles": chip.cycle, "seconds": chip.seconds})


def _until_the_end(server: ChipServer, proxy: FaultProxy | None) -> None:
    """Wait for Ctrl-C, for a signal to end, or for something that fails."""
    ended = threading.Event()
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not ended.wait(0.2):
            failure = server.failure or (proxy and proxy.failure)
            if failure:
                raise failure
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _rates(faults: list[str]) -> dict[str, float]:
    rates: dict[str, float] = {}
    for fault in faults:
        kind, _, rate = fault.partition("=")
        try:
            rates[kind] = float(rate)
        except ValueError:
            rates[kind] = -1.0
        if kind not in KINDS or not 0.0 < rates[kind] <= 1.0:
            raise RangeError(f"fault is {fault!r}; allowed are {', '.join(KINDS)}, = and a rate above 0 up to 1")
    return rates
