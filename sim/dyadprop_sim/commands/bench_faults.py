"""The suite `faults` of `dyadprop bench`: batches through a bad cable to the RTL of a chip."""

import argparse
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from tqdm import tqdm

from dyadprop.errors import RangeError
from dyadprop.report import Report
from dyadprop_sim.fault_trials import MIXED, RATES, Row, Trials

HIGH_RATE = 5e-3
HIGH_SHARE = 5  # where nearly each packet is spoilt a batch takes seconds, and so many times fewer are tried

_COLUMNS = (
    ("fault", 12), ("rate", 8), ("batches", 8), ("exact", 6), ("errors", 7), ("wrong", 6), ("lost", 5), ("double", 7),
    ("hangs", 6), ("faults", 7), ("retries", 8), ("reconnects", 11), ("seconds", 8), ("longest", 8),
)  # fmt: skip


def run_faults(args: argparse.Namespace, report: Report) -> int:
    """Run all kinds at all rates and print a row each; return 1 if a batch was wrong, lost, taken twice, or hung."""
    if args.batches < 1:
        raise RangeError(f"number of batches is {args.batches}; at least 1 is needed")
    report.say("building the simulation of the chip")
    rows: list[Row] = []
    kinds = {kind for kind, _, _ in _cases()}
    if args.fault is not None and args.fault not in kinds:
        raise RangeError(f"fault is {args.fault!r}; known are {', '.join(sorted(kinds))}")
    cases = [case for case in _cases() if args.fault in (None, case[0])]
    if not args.verbose:  # what happens here is no news
        logging.getLogger("dyadprop.serial_device").setLevel(logging.ERROR)
    with Trials(seed=args.seed) as trials:
        report.result(
            "".join(name.ljust(width) if not k else name.rjust(width) for k, (name, width) in enumerate(_COLUMNS))
        )
        for name, rate, rates in tqdm(cases, "faults", unit="row", leave=False, disable=report.bar_disabled):
            batches = args.batches if rate < HIGH_RATE or name in MIXED else -(-args.batches // HIGH_SHARE)
            row = trials.run(name, rates, batches)
            rows.append(row)
            report.result(_line(row))
    failures = [f"{row.name} at {row.rate:g}: {row.first}" for row in rows if row.bad]
    total = sum(row.batches for row in rows)
    errors: dict[str, int] = {}
    for row in rows:
        for kind, count in row.errors.items():
            errors[kind] = errors.get(kind, 0) + count
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(errors.items())) or "none"
    report.result(
        f"{total:,} batches, {sum(row.faults for row in rows):,} faults: {sum(row.exact for row in rows):,} exact; "
        f"errors: {told}; wrong {sum(row.wrong for row in rows)}, lost {sum(row.lost for row in rows)}, taken twice "
        f"{sum(row.double for row in rows)}, hangs {sum(row.hangs for row in rows)}"
    )
    for failure in failures:
        report.result(f"failed: {failure}")
    document: dict[str, Any] = {"suite": "faults", "seed": args.seed, "rows": [asdict(row) for row in rows]}
    report.write({**document, "failures": failures, "passed": not failures})
    return 1 if failures else 0


def _cases() -> Iterator[tuple[str, float, Mapping[str, float]]]:
    yield "none", 0.0, {}
    for kind, rates in RATES.items():
        for rate in rates:
            yield kind, rate, {kind: rate}
    for name, mix in MIXED.items():
        yield name, sum(mix.values()), mix


def _line(row: Row) -> str:
    cells = (
        row.name, f"{row.rate:.2g}", row.batches, row.exact, sum(row.errors.values()), row.wrong, row.lost, row.double,
        row.hangs, row.faults, row.retries, row.reconnects, f"{row.seconds:.1f}", f"{row.longest:.2f}",
    )  # fmt: skip
    text = "".join(
        str(cell).ljust(width) if not k else str(cell).rjust(width)
        for k, (cell, (_, width)) in enumerate(zip(cells, _COLUMNS, strict=True))
    )
    return text + "".join(f"  {count} {kind}" for kind, count in sorted(row.errors.items()))
