"""`dp.compare`: each method does what its authors say, and no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.methods import equilibrium_propagation as ep
from dyadprop.methods.run import METHODS
from dyadprop.methods.task import Task, until_rest

SEEDS = range(4)


def task(seed: int, activation: str = "tanh", last: str = "identity", **options: Any) -> Task:
    net = dp.Network(4, [dp.Dense(6, activation), dp.Dense(5, activation), dp.Dense(3, last)])
    rng = np.random.default_rng(seed)
    params = [dp.Parameters(p.weight, rng.uniform(-0.2, 0.2, p.bias.shape)) for p in net.init(seed)]
    return Task(net, params, rng.uniform(-1, 1, (4, 4)), rng.uniform(-1, 1, (4, 3)), seed, **options)


def error(name: str, t: Task, *, random: bool = False, later: int = 0) -> float:
    return t.error(METHODS[name].run(t, random, later).gradients)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("activation", "last"), [("tanh", "identity"), ("sigmoid", "tanh"), ("leaky_relu", "sigmoid")])
def test_all_but_one_compute_the_gradient(seed, activation, last):
    t = task(seed, activation, last, nudge=1e-3, tolerance=1e-9)
    bounds = {
        "dyadic relaxation": 0.0,
        "stationary Lagrangian": 0.0,
        "two relaxations, dt = 1": 0.0,
        "two relaxations, dt = 0.5": 1e-7,
        "predictive coding, fixed prediction": 1e-13,
        "Z-IL": 1e-13,
        # leaky_relu has a kink that a nudge may cross
        "dual propagation": 1e-4 if activation == "leaky_relu" else 1e-5,
    }
    assert set(bounds) == set(METHODS) - {"equilibrium propagation"}
    for name, bound in bounds.items():
        assert error(name, t) <= bound, name


@pytest.mark.parametrize("seed", SEEDS)
def test_from_random_units(seed):
    t = task(seed)
    assert error("dyadic relaxation", t, random=True) == 0.0
    assert error("two relaxations, dt = 1", t, random=True) == 0.0
    assert error("two relaxations, dt = 0.5", t, random=True) < 1e-5
    assert error("dual propagation", t, random=True) == pytest.approx(error("dual propagation", t), rel=1e-2)
    assert error("predictive coding, fixed prediction", t, random=True) > 0.1
    assert error("Z-IL", t, random=True) > 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_read_later(seed):
    t = task(seed)
    assert error("dyadic relaxation", t, later=9) == 0.0
    assert error("predictive coding, fixed prediction", t, later=9) < 1e-13
    assert error("Z-IL", t, later=9) > 0.01


@pytest.mark.parametrize("seed", SEEDS)
def test_fixed_prediction_needs_its_predictions_and_not_its_values(seed, monkeypatch):
    # From random values, but with a forward pass as predictions, it is exact: it is the predictions that must be right.
    t = task(seed)
    forward = t.forward()
    monkeypatch.setattr(Task, "random_state", lambda self, stream=0: Relaxed(forward, self, stream))
    assert error("predictive coding, fixed prediction", t, random=True) < 1e-13


class Relaxed:
    """Predictions of a forward pass from the first stream, random values from the second."""

    def __init__(self, forward: Any, t: Task, stream: int) -> None:
        random = t.relaxation.random_state(np.random.default_rng([t.seed, stream])).activations
        self.activations = {l: forward[l] for l in t.layers} if stream == 0 else random


@pytest.mark.parametrize("name", ["dual propagation", "equilibrium propagation"])
def test_nudged_methods_are_of_second_order(name):
    t = task(1, tolerance=1e-9)
    errors = []
    for nudge in (0.04, 0.02):
        attempt = METHODS[name].run(replace(t, nudge=nudge), False, 0)
        errors.append(t.error(attempt.gradients, attempt.own))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_equilibrium_propagation_has_a_cost_of_its_own_and_its_gradient():
    t = task(2, tolerance=1e-10)
    own = METHODS["equilibrium propagation"].run(t, False, 0).own
    assert own is not None

    def cost() -> float:
        states = {l: np.zeros((4, t.net.widths[l])) for l in t.layers}
        ep._settle(t, states, 0.0)
        return 0.5 * float(np.sum((states[t.depth] - t.y) ** 2))

    compared = 0
    for entry, gradient in zip(t.params, own, strict=True):
        for array, got in zip(entry, gradient, strict=True):
            for index in list(np.ndindex(array.shape))[::11]:
                ends = []
                for way in (1e-5, -2e-5):
                    array[index] += way
                    ends.append(cost())
                array[index] += 1e-5
                assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(got[index], rel=1e-4, abs=1e-7)
                compared += 1
    assert compared >= 10
    assert t.error(own) > 0.1  # another network's gradient


def test_steps_are_counted():
    t = task(0)
    steps = {name: METHODS[name].run(t, False, 0).steps for name in METHODS}
    assert {name: n for name, n in steps.items() if n <= 6} == {
        "dyadic relaxation": 6,
        "stationary Lagrangian": 6,
        "two relaxations, dt = 1": 6,
        "predictive coding, fixed prediction": 5,
        "Z-IL": 5,
    }


def test_the_table():
    t = task(0)
    table = dp.compare(t.net, t.params, t.x, t.y, methods=["dyadic relaxation", "Z-IL"])
    assert len(table) == 2
    assert [r.name for r in table] == ["dyadic relaxation", "Z-IL"]
    lines = str(table).splitlines()
    assert lines[0].split() == ["method", "ticks", "error", "from", "random", "later", "read"]
    assert lines[1].split()[:7] == ["dyadic", "relaxation", "(Scurria", "2026)", "6", "0.0e+00", "0.0e+00"]
    assert table["Z-IL"].error_later > 0.01
    assert len(dp.compare(t.net, t.params, t.x, t.y)) == len(METHODS) == 8


def test_what_is_not_allowed_is_said():
    t = task(0)
    with pytest.raises(dp.RangeError, match="method 'magic' is not known; allowed are dyadic relaxation, "):
        dp.compare(t.net, t.params, t.x, t.y, methods=["magic"])
    with pytest.raises(dp.RangeError, match="nudge is 0; allowed are finite numbers above 0"):
        dp.compare(t.net, t.params, t.x, t.y, nudge=0)
    net = dp.Network(4, [dp.Dense(3)], "softmax_cross_entropy")
    with pytest.raises(dp.RangeError, match="cost of the network is softmax_cross_entropy; methods are compared on"):
        dp.compare(net, net.init(), t.x, t.y)
    with pytest.raises(dp.RangeError, match="a method comes to no rest within 5 ticks"):
        until_rest(lambda: 1.0, 0.5, limit=5)
