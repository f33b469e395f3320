"""Step size, integrators, disturbances, energy."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dyadprop.costs import real_cost
from dyadprop.formats import Floats
from dyadprop.relaxation.integrators import INTEGRATORS
from dyadprop.relaxation.run import relax
from dyadprop.relaxation.state import State
from dyadprop.relaxation.trajectory import Trajectory
from dyadprop_sim.theorem.claim import Claim, figure
from dyadprop_sim.theorem.samples import Sample, chain

DEPTH = 4
TOLERANCE = 1e-6
_LONG = 300
RK3_STEP = 1.5960716379833215  # the real root of 1 - h + h^2/2 - h^3/6
_METHODS = (
    ("euler", 1.0),
    ("euler", 0.9),
    ("euler", 0.5),
    ("euler", 0.1),
    ("heun", 1.0),
    ("rk3", 1.0),
    ("rk3", RK3_STEP),
    ("rk4", 1.0),
)


def integrators(seed: int) -> Claim:
    """Count ticks until the gradient is within 1e-6, relative."""
    claim = Claim("integrators", ("method", "dt / tau", "R(-dt)", f"ticks to {TOLERANCE:g}", "evaluations of the flow"))
    sample = chain(DEPTH, seed)
    for method, dt in _METHODS:
        seen = relax(
            sample.net,
            sample.params,
            sample.x,
            sample.y,
            integrator=method,
            dt=dt,
            seed=seed,
            ticks=math.ceil(60 / min(dt, 1.0)),
        )
        k = _within(seen, TOLERANCE)
        left = INTEGRATORS[method].stability(dt)
        stages = len(INTEGRATORS[method].stages)
        left_text = "0" if abs(left) < 1e-12 else f"{left:.3f}"
        claim.rows.append((method, f"{dt:.6g}", left_text, f"{k}", f"{k * stages if k is not None else None}"))
        finite = abs(left) < 1e-12
        claim.check(k is not None, f"{method} with dt = {dt:g} does not come within {TOLERANCE:g}")
        claim.check((k == 2 * DEPTH) == finite, f"{method} with dt = {dt:g}: {k} ticks, R = {left:.3g}")
        claim.data[f"{method}, dt = {dt:.4g}"] = {"error": seen.error.tolist(), "finite": finite, "dt": dt}
    return claim


def _within(seen: Trajectory, tolerance: float) -> int | None:
    late = np.flatnonzero(seen.error > tolerance)
    first = int(late[-1]) + 1 if len(late) else 0
    return first if first <= seen.ticks else None


def disturbances(seed: int) -> Claim:
    """Disturb steps and states, and see how the error falls, or does not grow."""
    claim = Claim(
        "disturbances",
        ("disturbance", "error after 2L ticks", "2L + 2", "2L + 4", "2L + 8", "300", "falls by a factor, a tick"),
    )
    sample = chain(DEPTH, seed)
    bound = 2 * DEPTH
    for kind, name in (("jitter", "step jitter"), ("mismatch", "step mismatch"), ("noise", "state noise")):
        for size in (1e-1, 1e-2, 1e-3):
            error = _mean_error(sample, seed, **{kind: size})
            fall = float((error[bound + 2] / error[bound]) ** 0.5) if kind != "noise" else math.nan
            shown = [error[bound + k] for k in (0, 2, 4, 8)] + [float(np.mean(error[201:]))]
            claim.rows.append((f"{name} {size:g}", *map(figure, shown), "-" if kind == "noise" else figure(fall)))
            claim.data[f"{name} {size:g}"] = error[:40].tolist()
            if kind == "noise":
                growth = float(np.mean(error[201:]) / np.mean(error[bound : bound + 100]))
                claim.check(0.7 < growth < 1.4, f"noise {size:g}: the error grows by {growth:.2f} in 200 ticks")
                claim.check(error[bound] < 30 * size, f"noise {size:g}: the error is {error[bound]:.2g}")
            else:
                claim.check(0.1 * size < fall < 10 * size, f"{name} {size:g}: the error falls by {fall:.2g} a tick")
    return claim


def _mean_error(sample: Sample, seed: int, **disturbance: Any) -> Floats:
    runs = [
        relax(sample.net, sample.params, sample.x, sample.y, seed=s, ticks=_LONG, **disturbance).error
        for s in range(seed, seed + 3)
    ]
    return np.asarray(np.exp(np.mean(np.log(np.maximum(runs, 1e-17)), axis=0)))


def energy(seed: int) -> Claim:
    """Follow the energy along the ticks, and two flows that one might take for the right one."""
    claim = Claim("energy", ("quantity", *(f"{k}" for k in range(2 * DEPTH + 2))))
    sample = chain(DEPTH, seed)
    net, params, x, y = sample.net, sample.params, sample.x, sample.y
    seen = relax(net, params, x, y, seed=seed, ticks=2 * DEPTH + 1)
    cost = real_cost(net, seen.rest.activations[DEPTH], y)
    rises = int(np.count_nonzero(np.diff(seen.energy) > 0))
    falls = int(np.count_nonzero(np.diff(seen.energy) < 0))
    residuals = [float(max(a.max(), b.max())) for a, b in zip(*seen.residuals, strict=True)]
    claim.rows.append(("E", *(f"{e:.3f}" for e in seen.energy)))
    claim.rows.append(("largest residual", *(figure(r) for r in residuals)))
    claim.check(abs(seen.energy[-1] - cost) < 1e-12 * abs(cost), f"E at rest is {seen.energy[-1]}, the cost is {cost}")
    claim.check(rises > 0 and falls > 0, f"E rises {rises} and falls {falls} times: monotone")
    claim.check(residuals[2 * DEPTH] == 0.0, f"the residual at rest is {residuals[2 * DEPTH]}")
    claim.data.update(energy=seen.energy.tolist(), cost=cost, residuals=residuals)
    return claim


def flows(seed: int) -> Claim:
    """Follow ascent and descent of E in two pairs of variables, by small steps of the classical Runge-Kutta method."""
    claim = Claim("flows", ("flow of E", *(f"distance from rest after {t} tau" for t in (0, 10, 20, 40))))
    sample = chain(DEPTH, seed)
    net, params, x, y = sample.net, sample.params, sample.x, sample.y
    start = relax(net, params, x, y, ticks=0, seed=seed).states[0]
    rest = relax(net, params, x, y, ticks=0, init="rest").states[0]

    def exchange(state: State) -> State:
        """Ascend in x + lambda/2 and descend in x - lambda/2: each variable moves by its partner's derivative."""
        return net.flow(params, x, y, state)

    def descent_ascent(state: State) -> State:
        """Descend in x and ascend in lambda: each variable moves by its own derivative."""
        partner = net.flow(params, x, y, state)
        return State({l: -v for l, v in partner.sensitivities.items()}, partner.activations)

    ends = {}
    for name, flow in (
        ("up in x + lambda/2, down in x - lambda/2", exchange),
        ("down in x, up in lambda", descent_ascent),
    ):
        distances, state = [], start
        for k in range(801):
            if k in (0, 200, 400, 800):
                distances.append(_distance(state, rest))
            state = _runge_kutta(flow, state, 0.05)
        claim.rows.append((name, *(figure(d) for d in distances)))
        ends[name] = distances
    right, wrong = ends.values()
    claim.check(right[-1] < 1e-6 * right[0], f"the flow is {right[-1]} away from rest after 40 tau")
    claim.check(wrong[-1] > 0.3 * wrong[0], f"descent in x and ascent in lambda is {wrong[-1]} away: it comes to rest")
    return claim


def _runge_kutta(flow: Callable[[State], State], state: State, h: float) -> State:
    def ahead(share: float, slope: State) -> State:
        return state.map(lambda v, k: v + share * h * k, slope)

    k1 = flow(state)
    k2 = flow(ahead(0.5, k1))
    k3 = flow(ahead(0.5, k2))
    k4 = flow(ahead(1.0, k3))
    return state.map(lambda v, a, b, c, d: v + h / 6 * (a + 2 * b + 2 * c + d), k1, k2, k3, k4)


def _distance(state: State, rest: State) -> float:
    there = rest.variables()
    return float(np.sqrt(sum(np.sum((array - there[name]) ** 2) for name, array in state.variables().items())))


CLAIMS = (energy, flows, integrators, disturbances)
