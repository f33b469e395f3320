"""Prove every property, and find out every broken design: ``python -m dyadprop_sim.formal`` (`make formal`)."""

import argparse
import sys
from pathlib import Path

from dyadprop.errors import DyadpropError
from dyadprop_sim.formal.checker import check
from dyadprop_sim.formal.properties import PROPERTIES


def main() -> int:
    """Run the proofs; return 0 if all hold and all broken designs are found out."""
    parser = argparse.ArgumentParser(prog="python -m dyadprop_sim.formal", description=__doc__)
    parser.add_argument("--property", choices=[p.name for p in PROPERTIES], help="default: all")
    parser.add_argument("--out", default="build/formal", metavar="DIR", help="default: %(default)s")
    args = parser.parse_args()
    chosen = [p for p in PROPERTIES if args.property in (None, p.name)]
    failed = 0
    for p in chosen:
        try:
            verdict = check(p.name, p.make, p.depth, Path(args.out), any_state=p.any_state)
            broken = check(f"{p.name}-broken", p.broken, p.broken_depth, Path(args.out), any_state=p.any_state)
        except DyadpropError as error:
            print(f"formal: {error}", file=sys.stderr)
            return 3
        good = verdict.holds and not broken.holds
        failed += not good
        said = f"holds for {p.depth} cycles" if verdict.holds else f"VIOLATED in cycle {verdict.cycle}"
        shown = "NOT found out" if broken.holds else f"found out in cycle {broken.cycle}"
        print(f"{p.name:14} {said} ({verdict.seconds:.0f} s); broken design {shown} ({broken.seconds:.0f} s): {p.says}")
        if not good:
            print(f"  logs: {verdict.log}, {broken.log}")
    print(f"{len(chosen) - failed} of {len(chosen)} properties hold and can fail")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
