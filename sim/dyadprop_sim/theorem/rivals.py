"""The same gradient by methods that came before."""

import numpy as np

from dyadprop.methods.run import MethodTable, compare
from dyadprop.network import Dense, Network
from dyadprop_sim.theorem.claim import Claim, figure


def compare_methods(seed: int, *, nudge: float = 0.1, methods: list[str] | None = None) -> MethodTable:
    """Compare methods on four layers, eight samples."""
    net = Network(8, [Dense(12, "tanh"), Dense(10, "tanh"), Dense(8, "tanh"), Dense(4)])
    rng = np.random.default_rng([seed, 13])
    return compare(
        net,
        net.init(seed),
        rng.uniform(-1, 1, (8, 8)),
        rng.uniform(-1, 1, (8, 4)),
        seed=seed,
        nudge=nudge,
        methods=methods,
    )


def methods(seed: int) -> Claim:
    """Run each method as it says, from random units, and read it later than it says."""
    claim = Claim(
        "methods", ("method", "ticks", "error", "from random units", "read later", "must start from", "must be read")
    )
    table = compare_methods(seed)
    for r in table:
        own = "" if r.own_error is None else f" (to its own cost's: {figure(r.own_error)})"
        claim.rows.append(
            (
                f"{r.name} ({r.reference})",
                f"{r.steps}",
                figure(r.error) + own,
                figure(r.error_from_random),
                figure(r.error_later),
                r.start,
                r.read,
            )
        )
    claim.check(table["dyadic relaxation"].error_from_random == 0.0, "the dyadic relaxation is not exact")
    claim.check(table["dyadic relaxation"].steps == 8, "the dyadic relaxation takes other than 2L ticks")
    claim.check(table["Z-IL"].error < 1e-14 < 0.1 < table["Z-IL"].error_later, "Z-IL is not what its authors say")
    fixed = table["predictive coding, fixed prediction"]
    claim.check(fixed.error < 1e-14 and fixed.error_later < 1e-14, "fixed prediction is not what its author says")
    claim.check(fixed.error_from_random > 0.1, "fixed prediction is exact from random units")
    return claim


def nudges(seed: int) -> Claim:
    """Measure how the error of nudged methods falls with the nudge."""
    claim = Claim("nudges", ("nudge beta", "dual propagation", "equilibrium propagation, to its own cost's gradient"))
    errors = []
    for nudge in (0.3, 0.1, 0.03, 0.01):
        table = compare_methods(seed, nudge=nudge, methods=["dual propagation", "equilibrium propagation"])
        own = table["equilibrium propagation"].own_error
        errors.append((table["dual propagation"].error, own if own is not None else np.nan))
        claim.rows.append((f"{nudge:g}", *(figure(e) for e in errors[-1])))
    for k, name in enumerate(("dual propagation", "equilibrium propagation")):
        order = np.log(errors[1][k] / errors[3][k]) / np.log(10)
        claim.check(1.7 < order < 2.3, f"the error of {name} falls with the {order:.2f}th power of the nudge")
    return claim


CLAIMS = (methods, nudges)
