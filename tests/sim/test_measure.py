"""Cycles measured in the RTL are those that the plan predicts, to the cycle."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import dyadprop as dp
from dyadprop.plan import Plan, plan_network
from dyadprop_sim.library import BuildOptions
from dyadprop_sim.measure import measure_streaming, shares_of_multipliers
from dyadprop_sim.steps import measure_steps

QUICK = BuildOptions(optimize="-O0")
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], str, dict[str, Any]]] = {
    "lanes that do not divide": ((7, 5, 5, 4), (2, 5, 3), "relu", {}),
    "more lanes than columns": ((2, 9, 3), (9, 1), "tanh", {}),
    "one tiny layer": ((1, 2), (2,), "identity", {}),
    "a slow layer below fast ones": ((12, 6, 2, 2), (1, 2, 2), "sigmoid", {}),
    "a slow layer above fast ones": ((3, 4, 11), (4, 1), "leaky_relu", {}),
    "softmax": ((5, 6, 4), (3, 2), "tanh", {"cost": "softmax_cross_entropy"}),
}


def plan_of(name: str) -> Plan:
    widths, lanes, activation, options = CASES[name]
    layers = [dp.Dense(n, activation, lanes=p) for n, p in zip(widths[1:], lanes, strict=True)]
    layers[-1] = dp.Dense(widths[-1], lanes=lanes[-1])
    return plan_network(dp.Network(widths[0], layers, **options), 1000)


@pytest.mark.parametrize("name", CASES)
def test_cycles_are_as_predicted(name: str) -> None:
    plan = plan_of(name)
    widths = plan.net.widths
    got = measure_streaming(plan, 60, seed=1, options=QUICK)
    assert got.output_latency == plan.output_latency
    assert got.gradient_latency == plan.gradient_latency
    assert got.interval == plan.interval
    # The first sample takes its latency, each one more the interval.
    assert got.cycles <= plan.gradient_latency + 59 * plan.interval
    parameters = sum(n_out * (n_in + 1) for n_in, n_out in itertools.pairwise(widths))
    assert got.compared.equal == (1 + 30 + 60 + 90) * widths[-1] + 4 * parameters
    assert got.compared.different == 0


@pytest.mark.parametrize("name", CASES)
def test_shares_add_up(name: str) -> None:
    plan = plan_of(name)
    for interval in (plan.interval, plan.interval + 0.5, 3.0 * plan.interval):
        shares = shares_of_multipliers(plan, interval)
        assert sum(shares.values()) == pytest.approx(1.0)
        assert min(shares.values()) >= 0.0
        assert shares["useful"] == pytest.approx(plan.products / (plan.multipliers * interval))


def test_shares_counted_by_hand() -> None:
    # Stage 1: 4 x 4, 3 lanes, 2 row groups, 2 kinds of product and no slope; stage 2: 4 x 3, 1 lane, 3 kinds.
    plan = plan_network(dp.Network(4, [dp.Dense(4, "relu", lanes=3), dp.Dense(3, lanes=1)]), 1000)
    assert plan.multipliers == 9
    assert [stage.tick for stage in plan.stages] == [10, 15]
    shares = {name: share * 9 * 15 for name, share in shares_of_multipliers(plan, 15).items()}
    assert shares == pytest.approx(
        {
            "useful": 2 * 16 + 3 * 12,
            "bias": 2 * 4 + 3 * 3,
            "padding": 2 * 2 * 5,
            "pitch": 0,
            "waiting": 2 * 3 * 5,
            "slopes": 0,
        }
    )


@pytest.mark.parametrize("name", ["one tiny layer", "lanes that do not divide"])
def test_steps_take_the_predicted_cycles(name: str) -> None:
    plan = plan_of(name)
    measured = measure_steps(plan, samples=5)
    assert (measured.update_latency, measured.interval) == (plan.update_latency, plan.step_interval)
