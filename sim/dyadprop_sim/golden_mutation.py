"""Break the golden model in many places, one at a time: do its tests notice? (`make mutate-golden`).

The mutants are cosmic-ray's; they are made and tested in copies of the sources, one a module, both at the same time.
"""

import argparse
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from dyadprop.errors import BuildError


class Subject(NamedTuple):
    """A module to be broken.

    Attributes
    ----------
    path : str
    tests : tuple of str
        Files that must notice.
    equivalent : dict
        Parts of lines of mutants that change nothing, and why.
    """

    path: str
    tests: tuple[str, ...]
    equivalent: dict[str, str]


MODULES = {
    "arithmetic": Subject(
        "sim/dyadprop_sim/arithmetic.py",
        ("tests/sim/test_arithmetic.py", "tests/sim/test_golden.py", "tests/sim/test_step.py"),
        {
            "up = (2 * rest > s) + (": "of two truths that exclude each other, + is |",
            "up = (2 * rest > s) ^ (": "and so is ^",
            '(activation, f) >= ("tanh", 17)': "there is no larger f, and sigmoid comes before tanh",
        },
    ),
    "golden": Subject(
        "sim/dyadprop_sim/golden.py",
        ("tests/sim/test_golden.py", "tests/sim/test_step.py", "tests/sim/test_relaxation.py"),
        {
            "strict=False": "both sides have an entry a layer: what callers give is counted before",
            "words.min(initial= 1) < form.min_int": "the least word of a format is negative: 1 is as good as 0",
        },
    ),
}
TIMEOUT = 120  # seconds a mutant: the tests themselves take about 15


def main() -> int:
    """Run the mutants; return 1 if one survives."""
    parser = argparse.ArgumentParser(prog="python -m dyadprop_sim.golden_mutation", description=__doc__)
    parser.add_argument("--module", action="append", choices=list(MODULES), help="only this one; repeatable")
    parser.add_argument(
        "--mutants", type=int, default=110, metavar="N", help="to draw of each module; 0: all (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    parser.add_argument("--out", default="build/mutate-golden", metavar="DIR", help="default: %(default)s")
    args = parser.parse_args()
    names = args.module or list(MODULES)
    with ThreadPoolExecutor(len(names)) as pool:
        runs = [pool.submit(run_module, name, args.mutants, args.seed, Path(args.out).resolve()) for name in names]
    return max(run.result() for run in runs)


def run_module(name: str, count: int, seed: int, out: Path) -> int:
    """Run mutants of one module and print the survivors; return 1 if there are any."""
    start = time.monotonic()
    subject = MODULES[name]
    work = out / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for folder in ("host", "hw", "sim", "tests"):
        shutil.copytree(folder, work / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy("pyproject.toml", work)
    (work / "mutation.toml").write_text(
        f'[cosmic-ray]\nmodule-path = ["{subject.path}"]\ntimeout = {TIMEOUT}.0\nexcluded-modules = []\n'
        f'test-command = "{sys.executable} -m pytest -x -q {" ".join(subject.tests)}"\n'
        '[cosmic-ray.distributor]\nname = "local"\n'
    )
    _tool(work, "cosmic-ray", "init", "mutation.toml", "mutation.sqlite")
    session = sqlite3.connect(work / "mutation.sqlite")
    order = "start_pos_row, start_pos_col, operator_name, occurrence"
    jobs = [row[0] for row in session.execute(f"select job_id from mutation_specs order by {order}")]
    random.Random(seed).shuffle(jobs)
    dropped = jobs[count:] if count else []
    for table in ("mutation_specs", "work_items"):
        session.executemany(f"delete from {table} where job_id = ?", [(job,) for job in dropped])
    session.commit()
    print(f"{name}: {len(jobs) - len(dropped)} of {len(jobs)} mutants, seed {seed}", flush=True)
    _tool(work, "cosmic-ray", "exec", "mutation.toml", "mutation.sqlite")
    tested = session.execute("select test_outcome, diff from work_results").fetchall()
    alive = [diff for outcome, diff in tested if "SURVIVED" in str(outcome).upper()]
    survivors = [diff for diff in alive if not _known(diff, subject)]
    for diff in survivors:
        print(f"survivor in {name}:\n" + "\n".join(line for line in diff.splitlines() if line[:1] in "+-@"))
    print(
        f"{name}: {len(tested) - len(alive)} of {len(tested)} mutants found, {len(alive) - len(survivors)} listed as "
        f"equivalent, {len(survivors)} survive ({time.monotonic() - start:.0f} s)",
        flush=True,
    )
    return 1 if survivors or not tested else 0


def _known(diff: str, subject: Subject) -> bool:
    """Say whether a line that a mutant brings in is one of those that change nothing."""
    added = [line[1:] for line in diff.splitlines() if line.startswith("+") and not line.startswith("+++")]
    return any(part in line for part in subject.equivalent for line in added)


def _tool(work: Path, name: str, *arguments: str) -> None:
    beside = Path(sys.executable).parent / name
    if not beside.exists():
        raise BuildError(f"{name} is not installed; pip install 'dyadprop[mutate]' brings it")
    paths = os.pathsep.join(str(work / folder) for folder in ("sim", "host", "hw"))
    subprocess.run([beside, *arguments], cwd=work, check=True, env={**os.environ, "PYTHONPATH": paths})


if __name__ == "__main__":
    sys.exit(main())
