"""List the kinds of device that can be opened here, and the boards that answer on serial ports.

A kind that needs a package which is not installed says so. With --device, only that kind; with --device serial:PORT,
only that port. -v tells more of each board.
"""

import argparse
from typing import Any

from dyadprop.connection import Candidate, find_boards
from dyadprop.device import devices
from dyadprop.errors import RangeError
from dyadprop.report import Report
from dyadprop.serial_device import SerialDevice
from dyadprop.verdicts import spell_verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the common options are enough."""


def run(args: argparse.Namespace) -> int:
    """Print one line a kind, and one a port."""
    report = Report.of(args)
    listing = devices()
    addresses = None
    if args.device is not None:
        kind, _, address = args.device.partition("?")[0].partition(":")
        if kind not in listing:
            raise RangeError(
                f"device {args.device!r} is of no known kind; available are {', '.join(sorted(listing)) or 'none'}"
            )
        listing = {kind: listing[kind]}
        addresses = [address] if address else None
    width = max((len(kind) for kind in listing), default=0)
    for kind, line in listing.items():
        report.result(f"{kind:{width}}  {line}")
    document: dict[str, Any] = {"devices": listing}
    if SerialDevice.kind in listing:
        found = find_boards(addresses)
        for entry in found:
            report.result(f"{SerialDevice.kind}:{entry.describe()}{_more(entry) if args.verbose else ''}")
        document["boards"] = [_figures(entry) for entry in found]
    report.write(document)
    return 0


def _more(entry: Candidate) -> str:
    if entry.identity is None:
        return ""
    who = entry.identity
    return (
        f", gateware {who.gateware or 'without a name'}, {who.clock / 1e6:g} MHz, starts at {who.baud} baud, lanes "
        f"{'/'.join(map(str, who.lanes))}, max_batch {who.max_batch}, round trip {entry.round_trip * 1e3:.3g} ms, "
        f"its self-test {spell_verdict(entry.verdict)}"
    )


def _figures(entry: Candidate) -> dict[str, Any]:
    if entry.identity is None:
        return {"port": entry.address, "error": entry.reason}
    who = entry.identity
    return {
        "port": entry.address,
        "board": who.board,
        "network": who.network,
        "gateware": who.gateware,
        "clock": who.clock,
        "baud": who.baud,
        "lanes": list(who.lanes),
        "max_batch": who.max_batch,
        "round_trip": entry.round_trip,
        "self_test": entry.verdict,
    }
