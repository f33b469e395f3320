"""Fit the prediction of resources to synthesized designs: python -m dyadprop_boards.fit_resources [--family ecp5].

Synthesises the sample designs (sample_designs.py) of each family, fits the coefficients, and writes them into
resource_coefficients.json beside this file. Run it again when the gateware has changed; it takes minutes a design, and
what has not changed is not synthesized again. Each design is predicted twice: with it among the fitted ones, and by a
fit without it. Exit code 1 if a number of multipliers or block RAMs is not exact, or LUTs or flip-flops are off by more
than 10 % where the design was fitted: the formulas have to follow the gateware then.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dyadprop.errors import DyadpropError
from dyadprop.optional import optional_packages
from dyadprop.report import write_json
from dyadprop_boards.design import fit, make_chip
from dyadprop_boards.fpgas import RESOURCE_NAMES, RESOURCES, Family, Resource
from dyadprop_boards.passes import synthesize
from dyadprop_boards.progress import Progress
from dyadprop_boards.project import write_project
from dyadprop_boards.resources import COEFFICIENTS, COMMAND, FITTED, Features, Table, evaluate, part_features
from dyadprop_boards.revision import gateware_revision
from dyadprop_boards.sample_designs import Sample, samples
from dyadprop_boards.table import find_board

FAMILIES: tuple[Family, ...] = ("ecp5", "ice40", "gowin")
EXACT: tuple[Resource, ...] = ("multipliers", "block_rams")
GOAL = 0.10  # of LUTs and flip-flops, on ECP5
_RIDGE = 5e-4  # keeps features that always go together from taking each other's share


@dataclass(frozen=True)
class Measured:
    """A sample design, synthesized.

    Attributes
    ----------
    sample : Sample
    rows : list of (Features, dict of str to int)
        Of each part, what it depends on and what it takes.
    tool : str
    """

    sample: Sample
    rows: list[tuple[Features, dict[str, int]]]
    tool: str

    @property
    def total(self) -> dict[str, int]:
        """What the whole takes."""
        return {resource: sum(used[resource] for _, used in self.rows) for resource in RESOURCES}

    def predicted(self, table: Table) -> dict[str, int]:
        """Give what a table of coefficients says of the whole."""
        found = [evaluate(features, table) for features, _ in self.rows]
        return {resource: sum(part[resource] for part in found) for resource in RESOURCES}


def measure(sample: Sample, folder: Path, progress: Progress) -> Measured:
    """Synthesise a sample design."""
    board = find_board(sample.board)
    design = fit(sample.net, board, checked=False)
    work = folder / sample.board / sample.name
    work.mkdir(parents=True, exist_ok=True)
    progress.step("elaborating")
    commands = write_project(design, make_chip(design), work)
    run, _, (parts, lanes) = synthesize(design, commands["yosys"], work, progress)
    nothing: dict[str, int] = dict.fromkeys(RESOURCES, 0)
    rows = []
    for features in part_features(design.plan, board, design.clock):
        used = lanes[features.part] if features.kind == "lanes" else parts.get(features.part, nothing)
        if features.kind == "edge":
            used = {resource: used[resource] - lanes[features.part][resource] for resource in RESOURCES}
        rows.append((features, used))
    return Measured(sample, rows, run.version)


def fit_table(designs: Iterable[Measured]) -> dict[str, dict[str, dict[str, float]]]:
    """Fit a family's coefficients."""
    rows: defaultdict[str, list[tuple[Features, dict[str, int]]]] = defaultdict(list)
    for design in designs:
        for features, used in design.rows:
            rows[features.kind].append((features, used))
    table: dict[str, dict[str, dict[str, float]]] = {}
    for kind, found in rows.items():
        table[kind] = {}
        names = sorted({name for features, _ in found for name, value in features.values.items() if value})
        matrix = np.array([[features.values[name] for name in names] for features, _ in found])
        for resource in FITTED:
            rest = np.array([float(used[resource] - features.known[resource]) for features, used in found])
            scale = np.array([max(1.0, float(used[resource])) for _, used in found]) ** -0.5
            solved = _least_squares(matrix * scale[:, None], rest * scale)
            table[kind][resource] = {
                name: round(float(value), 4) for name, value in zip(names, solved, strict=True) if value > 1e-4
            }
    return table


def _least_squares(matrix: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Solve with coefficients that are not negative: no feature of a design makes it smaller."""
    with optional_packages("fitting the prediction of resources", "boards"):
        from scipy.optimize import nnls
    size = np.maximum(np.linalg.norm(matrix, axis=0), 1e-12)
    # A row more for each coefficient, which draws it towards zero.
    ridge = np.sqrt(_RIDGE) * np.eye(len(size))
    found, _ = nnls(np.vstack([matrix / size, ridge]), np.concatenate([wanted, np.zeros(len(size))]))
    return np.asarray(found / size)


def compare(designs: Sequence[Measured]) -> tuple[Table, list[dict[str, Any]]]:
    """Fit a family, and predict each design with and without it among the fitted ones."""
    table = fit_table(designs)
    found = []
    for design in designs:
        others = fit_table([other for other in designs if other is not design])
        actual, fitted, unseen = design.total, design.predicted(table), design.predicted(others)
        found.append(
            {
                "board": design.sample.board,
                "network": "-".join(map(str, design.sample.net.widths)),
                "actual": actual,
                "predicted": fitted,
                "off": {name: round(fitted[name] / actual[name] - 1, 4) for name in FITTED},
                "off_unseen": {name: round(unseen[name] / actual[name] - 1, 4) for name in FITTED},
            }
        )
    return table, found


def describe(entry: dict[str, Any]) -> str:
    """Give a line about a design."""
    actual, predicted = entry["actual"], entry["predicted"]
    words = [f"{entry['board']} {entry['network']}:"]
    for name in FITTED:
        words.append(
            f"{actual[name]} {RESOURCE_NAMES[name]}, predicted {predicted[name]} ({entry['off'][name]:+.1%}, without "
            f"it among the fitted {entry['off_unseen'][name]:+.1%});"
        )
    words += [f"{actual[name]} {RESOURCE_NAMES[name]}, predicted {predicted[name]};" for name in EXACT]
    return " ".join(words)[:-1]


def failures(found: Iterable[dict[str, Any]]) -> list[str]:
    """Say what is not as it is to be."""
    told = []
    for entry in found:
        wrong = [name for name in EXACT if entry["predicted"][name] != entry["actual"][name]]
        wrong += [name for name in FITTED if abs(entry["off"][name]) > GOAL]
        told += [f"{entry['board']} {entry['network']}: {RESOURCE_NAMES[name]}" for name in wrong]
    return told


def main(argv: Sequence[str] | None = None) -> int:
    """Synthesise, fit, compare, write."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", choices=FAMILIES, action="append", help="default: all")
    parser.add_argument("--out", default="build/fit", metavar="DIR", help="of the tools' files (default: %(default)s)")
    parser.add_argument("--coefficients", metavar="FILE", help=f"default: {COEFFICIENTS} in the package")
    args = parser.parse_args(argv)
    path = Path(args.coefficients or str(files("dyadprop_boards") / COEFFICIENTS))
    document: dict[str, Any] = {"command": COMMAND, "designs": {}, "families": {}}
    if path.is_file():
        document |= json.loads(path.read_text())
    told: list[str] = []
    try:
        for family in args.family or FAMILIES:
            designs = []
            for sample in samples(family):
                progress = Progress(f"{sample.name} for {sample.board}")
                try:
                    designs.append(measure(sample, Path(args.out), progress))
                finally:
                    progress.end()
                print(f"synthesized {sample.name} for {sample.board}: {designs[-1].total}", flush=True)
            table, found = compare(designs)
            for entry in found:
                print(describe(entry), flush=True)
            told += failures(found)
            document["families"][family] = table
            document["designs"][family] = {
                "gateware": gateware_revision(),
                "tool": designs[0].tool,
                "predicted": found,
            }
            write_json(path, document)
            print(f"written to {path}", flush=True)
    except DyadpropError as error:
        print(f"fit_resources: {error}", file=sys.stderr)
        return 3
    if told:
        print(f"not as it should be: {'; '.join(told)}")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
