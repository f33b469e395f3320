"""A held sample settles in the RTL, from arbitrary words in every link, no later than the theorem says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.plan import plan_network
from dyadprop.relaxation.state import State
from dyadprop.relaxation.trajectory import Settling, settling
from dyadprop.widths import target_format
from dyadprop_sim.probe import held_sample, rtl_trajectory


def state(*values: int) -> State:
    """Make a state of three layers of one unit: x_1, x_2, x_3, lambda_1, lambda_2, lambda_3."""
    words = [np.array([[value]]) for value in values]
    return State(dict(enumerate(words[:3], 1)), dict(enumerate(words[3:], 1)))


REST = state(1, 2, 3, 4, 5, 6)
RIGHT = [
    state(0, 0, 0, 0, 0, 0),
    state(1, 0, 0, 0, 0, 0),
    state(1, 2, 0, 0, 0, 0),
    state(1, 2, 3, 0, 0, 0),
    state(1, 2, 3, 0, 0, 6),
    state(1, 2, 3, 0, 5, 6),
    REST,
    REST,
]


def test_in_time() -> None:
    found = settling(RIGHT, REST)
    assert found.first_exact() == ([1, 2, 3], [6, 5, 4])
    assert found.late() == []
    assert found.activations.shape == found.sensitivities.shape == (8, 3)


def test_earlier_than_the_bound_is_in_time() -> None:
    assert settling([REST] * 3, REST).first_exact() == ([0, 0, 0], [0, 0, 0])
    assert settling([REST] * 3, REST).late() == []


def test_one_tick_late() -> None:
    found = settling([RIGHT[0], *RIGHT], REST)
    assert found.late() == [
        "x_1 at tick 2 instead of 1",
        "x_2 at tick 3 instead of 2",
        "x_3 at tick 4 instead of 3",
        "lambda_1 at tick 7 instead of 6",
        "lambda_2 at tick 6 instead of 5",
        "lambda_3 at tick 5 instead of 4",
    ]


def test_right_but_not_for_ever() -> None:
    found = settling([*RIGHT, state(1, 2, 3, 4, 0, 6), REST], REST)
    assert found.late() == ["lambda_2 at tick 9 instead of 5"]


def test_never_right() -> None:
    states = [*RIGHT[:-1], state(1, 9, 3, 4, 5, 6)]
    assert settling(states, REST).late() == ["x_2 at tick 8 instead of 2"]


def test_shares() -> None:
    rest = State({1: np.array([[1, 2, 3, 4]])}, {1: np.array([[5, 6]])})
    half = State({1: np.array([[1, 0, 3, 0]])}, {1: np.array([[5, 0]])})
    found = settling([half, rest], rest)
    np.testing.assert_array_equal(found.activations, [[0.5], [1.0]])
    np.testing.assert_array_equal(found.sensitivities, [[0.5], [1.0]])
    assert isinstance(found, Settling)


NETWORKS: dict[str, tuple[int, list[dp.Dense], dict[str, Any]]] = {
    "tanh": (4, [dp.Dense(3, "tanh", lanes=2), dp.Dense(5, "tanh", lanes=1), dp.Dense(2, "tanh", lanes=2)], {}),
    "mixed": (
        2,
        [dp.Dense(4, "sigmoid", lanes=3), dp.Dense(3, "leaky_relu", lanes=3), dp.Dense(3, lanes=1)],
        {"cost": "softmax_cross_entropy", "input_gradient": True},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_held_sample_settles_in_the_rtl(name: str) -> None:
    inputs, layers, options = NETWORKS[name]
    net = dp.Network(inputs, layers, **options)
    depth = len(layers)
    ticks = 2 * depth + 2
    exact_where_the_theorem_says = 0
    for seed in range(4):  # four starts, one build
        rng = np.random.default_rng(seed)
        params = net.quantize(net.init(seed)).raw
        x = net.formats.activation.to_ints(rng.uniform(-1, 1, net.inputs)).words
        target = target_format(net).to_ints(rng.uniform(0, 1, net.outputs)).words
        relaxation, rest = held_sample(net, params, x, target)
        start = relaxation.system.random_state(1, rng)
        states = rtl_trajectory(
            plan_network(net), params, x, target, start, ticks, seed=seed, stalls=(0.0, 0.1, 0.4, 0.8)[seed]
        )
        assert len(states) == ticks + 1
        found = settling(states, rest)
        assert found.late() == []
        # The golden relaxation, all stages at once, settles on the same words.
        golden = relaxation.trajectory(start, 2 * depth)[-1]
        for l in range(1, depth + 1):
            np.testing.assert_array_equal(states[-1].activations[l], golden.activations[l])
            np.testing.assert_array_equal(states[-1].sensitivities[l], golden.sensitivities[l])
        bounds = [*range(1, depth + 1)], [2 * depth - l + 1 for l in range(1, depth + 1)]
        exact_where_the_theorem_says += found.first_exact() == bounds
    # The bound is sharp: it is no accident that nothing is late.
    assert exact_where_the_theorem_says >= 2
