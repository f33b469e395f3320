"""Any order of updates, and reads of old values."""

import numpy as np

from dyadprop.relaxation.run import relax
from dyadprop.relaxation.schedules import round_bound
from dyadprop_sim.theorem.claim import Claim
from dyadprop_sim.theorem.samples import chain

_RUNS = {"random": 100, "neurons": 10, "stages": 1, "stale": 8}
DEPTHS = (2, 3, 5, 10)


def orders(seed: int) -> Claim:
    """Count rounds to rest in different orders of updates."""
    claim = Claim(
        "orders",
        (
            "L",
            "random order of the 2L variables: mean, most rounds",
            "each neuron by itself: mean, most",
            "stage after stage",
            "bound 2L",
        ),
    )
    for depth in DEPTHS:
        cells = []
        for schedule in ("random", "neurons", "stages"):
            rounds = _rounds(claim, depth, schedule, seed)
            cells.append(f"{np.mean(rounds):.1f}, {max(rounds)}" if schedule != "stages" else f"{rounds[0]}")
            claim.data.setdefault(schedule, []).append(rounds)
        claim.rows.append((f"{depth}", *cells, f"{2 * depth}"))
    return claim


def stale(seed: int) -> Claim:
    """Count ticks to rest when each read is up to D ticks old."""
    claim = Claim("stale", ("L", "D = 0", "D = 1: most ticks (bound)", "D = 2", "D = 5"))
    for depth in DEPTHS:
        cells = []
        for delay in (0, 1, 2, 5):
            most = max(_rounds(claim, depth, "stale", seed, delay))
            cells.append(f"{most} ({round_bound('stale', 2 * depth, delay)})")
        claim.rows.append((f"{depth}", *cells))
    return claim


def _rounds(claim: Claim, depth: int, schedule: str, seed: int, delay: int = 0) -> list[int]:
    sample = chain(depth, seed, width=3, batch=1)
    bound = round_bound(schedule, 2 * depth, delay)
    found = []
    for s in range(seed, seed + _RUNS[schedule]):
        seen = relax(sample.net, sample.params, sample.x, sample.y, schedule=schedule, seed=s, delay=delay)
        k = seen.exact_from()
        claim.check(k is not None and k <= bound, f"L = {depth}, {schedule}, seed {s}: rest after {k}, bound {bound}")
        found.append(k if k is not None else bound + 1)
    return found


CLAIMS = (orders, stale)
