"""Break the golden model's arithmetic in many places, one at a time: do its tests notice? (`make mutate-golden`).

The mutants are cosmic-ray's; they are made and tested in a copy of the sources.
"""

import argparse
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from dyadprop.errors import BuildError

MODULE = "sim/dyadprop_sim/arithmetic.py"
TESTS = ("tests/sim/test_arithmetic.py", "tests/sim/test_golden.py", "tests/sim/test_step.py")
# Parts of mutated lines that change nothing, and why.
EQUIVALENT = {
    "up = (2 * rest > s) + (": "of two truths that exclude each other, + is |",
    "up = (2 * rest > s) ^ (": "and so is ^",
    '(activation, f) >= ("tanh", 17)': "there is no larger f, and sigmoid comes before tanh",
}
TIMEOUT = 120  # seconds a mutant: the tests themselves take about 5


def main() -> int:
    """Run the mutants; return 1 if one survives."""
    parser = argparse.ArgumentParser(prog="python -m dyadprop_sim.golden_mutation", description=__doc__)
    parser.add_argument("--mutants", type=int, default=110, help="how many to draw; 0: all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    parser.add_argument("--out", default="build/mutate-golden", metavar="DIR", help="default: %(default)s")
    args = parser.parse_args()
    work = Path(args.out).resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name in ("host", "hw", "sim", "tests"):
        shutil.copytree(name, work / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy("pyproject.toml", work)
    (work / "mutation.toml").write_text(
        f'[cosmic-ray]\nmodule-path = ["{MODULE}"]\ntimeout = {TIMEOUT}.0\nexcluded-modules = []\n'
        f'test-command = "{sys.executable} -m pytest -x -q {" ".join(TESTS)}"\n'
        '[cosmic-ray.distributor]\nname = "local"\n'
    )
    _tool(work, "cosmic-ray", "init", "mutation.toml", "mutation.sqlite")
    session = sqlite3.connect(work / "mutation.sqlite")
    order = "start_pos_row, start_pos_col, operator_name, occurrence"
    jobs = [row[0] for row in session.execute(f"select job_id from mutation_specs order by {order}")]
    random.Random(args.seed).shuffle(jobs)
    dropped = jobs[args.mutants :] if args.mutants else []
    for table in ("mutation_specs", "work_items"):
        session.executemany(f"delete from {table} where job_id = ?", [(job,) for job in dropped])
    session.commit()
    print(f"{len(jobs) - len(dropped)} of {len(jobs)} mutants of {MODULE}, seed {args.seed}", flush=True)
    _tool(work, "cosmic-ray", "exec", "mutation.toml", "mutation.sqlite")
    tested = session.execute("select test_outcome, diff from work_results").fetchall()
    alive = [diff for outcome, diff in tested if "SURVIVED" in str(outcome).upper()]
    survivors = [diff for diff in alive if not any(line in diff for line in EQUIVALENT)]
    for diff in survivors:
        print("survivor:\n" + "\n".join(line for line in diff.splitlines() if line[:1] in "+-@"))
    listed = len(alive) - len(survivors)
    print(
        f"{len(tested) - len(alive)} of {len(tested)} mutants found, {listed} listed as equivalent, "
        f"{len(survivors)} survive"
    )
    return 1 if survivors or not tested else 0


def _tool(work: Path, name: str, *arguments: str) -> None:
    beside = Path(sys.executable).parent / name
    if not beside.exists():
        raise BuildError(f"{name} is not installed; pip install 'dyadprop[mutate]' brings it")
    paths = os.pathsep.join(str(work / folder) for folder in ("sim", "host", "hw"))
    subprocess.run([beside, *arguments], cwd=work, check=True, env={**os.environ, "PYTHONPATH": paths})


if __name__ == "__main__":
    sys.exit(main())
