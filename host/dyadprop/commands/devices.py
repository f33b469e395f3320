"""List the kinds of device that can be opened here.

A kind that needs a package which is not installed says so. With --device, only that kind.
"""

import argparse

from dyadprop.device import devices
from dyadprop.errors import RangeError
from dyadprop.report import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the common options are enough."""


def run(args: argparse.Namespace) -> int:
    """Print one line a kind."""
    report = Report.of(args)
    listing = devices()
    if args.device is not None:
        kind = args.device.partition("?")[0].partition(":")[0]
        if kind not in listing:
            raise RangeError(
                f"device {args.device!r} is of no known kind; available are {', '.join(sorted(listing)) or 'none'}"
            )
        listing = {kind: listing[kind]}
    width = max((len(kind) for kind in listing), default=0)
    for kind, line in listing.items():
        report.result(f"{kind:{width}}  {line}")
    report.write({"devices": listing})
    return 0
