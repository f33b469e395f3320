"""Count how many deliberate faults in the gateware the bench finds: python -m dyadprop_sim.mutation.

Mutants of small networks' netlists run through a script that does all that a network can do. Those that survive are
proven to change nothing, or listed in equivalent.toml with the reason; exit code 1 if any is neither.
"""

import argparse
import logging
import re
import sys
import time
import tomllib
from importlib.resources import files
from typing import Any, NamedTuple

from dyadprop.report import write_json
from dyadprop_sim.mutation.mutants import Mutant, MutatedNetwork
from dyadprop_sim.mutation.networks import mutated_plans

LIST = "equivalent.toml"


class Rule(NamedTuple):
    """Mutants that are known to be no fault.

    Attributes
    ----------
    code : str
        Part of a source line that the mutant came from, ``file.py: text``; empty: any.
    mutant : str
        Regular expression that its description contains.
    network : str
        Regular expression that the network's name contains.
    reason : str
    """

    code: str
    mutant: str
    network: str
    reason: str

    def fits(self, mutant: Mutant, network: str) -> bool:
        """Say whether a mutant of a network is one of these."""
        file, _, text = self.code.partition(": ")
        here = not self.code or any(s.startswith(f"{file}:") and text in s for s in mutant.sources)
        return bool(here and re.search(self.mutant, mutant.what) and re.search(self.network, network))


def read_rules() -> list[Rule]:
    """Read the list of equivalent mutants."""
    entries = tomllib.loads(files("dyadprop_sim.mutation").joinpath(LIST).read_text())["equivalent"]
    return [
        Rule(entry.get("code", ""), entry.get("mutant", ""), entry.get("network", ""), entry["reason"])
        for entry in entries
    ]


def run_network(name: str, count: int, seed: int, scripts: int, rules: list[Rule], only: str = "") -> dict[str, Any]:
    """Run the mutants of one network; give the figures and print the survivors."""
    start = time.monotonic()
    network = MutatedNetwork(mutated_plans()[name], count, seed, only)
    survivors = [mutant for mutant, found in network.run(scripts) if found is None]
    proven = network.prove_equivalent(survivors)
    listed, left = [], []
    for mutant, equal in zip(survivors, proven, strict=True):
        if equal:
            continue
        rule = next((rule for rule in rules if rule.fits(mutant, name)), None)
        if rule is None:
            left.append(mutant)
        else:
            listed.append((mutant, rule))
    figures = {
        "network": name,
        "mutants": len(network.mutants),
        "killed": len(network.mutants) - len(survivors),
        "proven": sum(proven),
        "listed": [{"mutant": str(mutant), "reason": rule.reason} for mutant, rule in listed],
        "survivors": [str(mutant) for mutant in left],
        "seconds": round(time.monotonic() - start, 1),
    }
    print(
        f"{name}: {figures['killed']} of {figures['mutants']} mutants found; {figures['proven']} proven to change "
        f"nothing, {len(listed)} listed as equivalent, {len(left)} survive ({figures['seconds']:.0f} s)",
        flush=True,
    )
    for mutant in left:
        print(f"  survivor {mutant.number}: {mutant}", flush=True)
    return figures


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m dyadprop_sim.mutation", description=__doc__)
    parser.add_argument("--mutants", type=int, default=75, metavar="N", help="of each network (default: %(default)s)")
    parser.add_argument("--network", action="append", choices=list(mutated_plans()), help="only this one; repeatable")
    parser.add_argument(
        "--only", default="", metavar="REGEX", help="all mutants, at most --mutants, with this in their description"
    )
    parser.add_argument("--scripts", type=int, default=2, metavar="N", help="seeds tried (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the sample (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    rules = read_rules()
    results = [
        run_network(name, args.mutants, args.seed, args.scripts, rules, args.only)
        for name in args.network or mutated_plans()
    ]
    total, killed, proven = (sum(result[key] for result in results) for key in ("mutants", "killed", "proven"))
    listed, left = (sum(len(result[key]) for result in results) for key in ("listed", "survivors"))
    print(
        f"{killed} of {total} mutants found, {100 * killed / max(1, total - proven - listed):.1f} % of those that "
        f"change anything ({proven} proven and {listed} listed as equivalent); {left} survive"
    )
    if args.json:
        write_json(args.json, {"mutants": total, "killed": killed, "survivors": left, "networks": results})
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
