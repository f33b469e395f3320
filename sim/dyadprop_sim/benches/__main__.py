"""Run benches: ``python -m dyadprop_sim.benches --sim verilator --block lane``.

Exit code 1 if a test fails, 2 for wrong usage, 3 if something does not build.
"""

import argparse
import sys
from pathlib import Path

from dyadprop.errors import BuildError
from dyadprop_sim.benches.runner import BLOCKS, SIMULATORS, run_bench


def main() -> int:
    """Run the benches that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m dyadprop_sim.benches", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sim", choices=SIMULATORS, default="verilator", help="simulator (default: verilator)")
    parser.add_argument("--block", default="all", metavar="B", help=f"all (the default), or one of {', '.join(BLOCKS)}")
    parser.add_argument("--test", metavar="REGEX", help="only the tests whose names it finds")
    parser.add_argument("--seed", type=int, default=1, help="of what registers and memories start with (default: 1)")
    parser.add_argument("--waves", action="store_true", help="write waves, and a save file for GTKWave")
    parser.add_argument("--folder", type=Path, default=Path("build/sim"), help="for what is built (default: build/sim)")
    args = parser.parse_args()
    if args.block not in ("all", *BLOCKS):
        parser.error(f"block is {args.block!r}; allowed are all, {', '.join(BLOCKS)}")

    status = tests = 0
    for block in BLOCKS if args.block == "all" else (args.block,):
        try:
            outcome = run_bench(block, args.sim, args.folder, seed=args.seed, show_waves=args.waves, only=args.test)
        except BuildError as error:
            print(f"{args.sim} {block}: {error}", file=sys.stderr)
            status = 3
            continue
        tests += outcome.tests
        print(outcome, flush=True)
        for name, message in outcome.failures.items():
            print(f"  {name}: {message}\n  log: {outcome.log}")
            status = max(status, 1)
        if outcome.waves:
            print(f"  waves: gtkwave {outcome.waves}")
    print(f"{args.sim}: {tests} tests, exit {status}")
    return status


if __name__ == "__main__":
    sys.exit(main())
