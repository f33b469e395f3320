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


def held(name: str, seed: int) -> tuple[dp.Network, Any, Any, Any]:
    inputs, layers, options = NETWORKS[name]
    net = dp.Network(inputs, layers, **options)
    rng = np.random.default_rng(seed)
    return net, net.init(seed), rng.uniform(-1, 1, inputs), rng.uniform(0, 1, net.outputs)


def random_words(net: dp.Network, params: Any, x: Any, y: Any, seed: int) -> State:
    return dp.relax(net, params, x[None], y[None], ticks=0, formats=net.formats, seed=seed).states[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", NETWORKS)
def test_hardware_and_model_are_equal_in_every_tick(name: str, seed: int) -> None:
    net, params, x, y = held(name, seed)
    ticks = 2 * len(net.layers) + 2
    start = random_words(net, params, x, y, seed)
    # Words that answer to something else than x_l: an arbitrary token in each link.
    other = random_words(net, params, x, y, seed + 100).activations
    start = State(start.activations, start.sensitivities, other)
    seen = {}
    for device in ("golden", f"verilator?stalls={(0.0, 0.1, 0.4, 0.8)[seed]}&seed={seed}"):
        with dp.probe(device, net, params) as probe:
            probe.hold(x, y)
            probe.put(start)
            for step in (1, 1, 3, ticks - 5):  # tick by tick, and in strides
                last = probe.tick(step)
            seen[device] = probe.trajectory
            assert last.differences(seen[device].states[-1]) == []
    model = dp.relax(net, params, x[None], y[None], formats=net.formats, init=start, ticks=ticks)
    for device, trajectory in seen.items():
        assert type(trajectory) is type(model)
        assert len(trajectory.states) == ticks + 1
        assert trajectory.differences(model) == [], device
        assert trajectory.exact_from() is not None
    assert sum(v.size for v in model.states[1].variables().values()) == 3 * sum(net.widths[1:])


def test_a_wrong_model_is_found_out() -> None:
    net, params, x, y = held("tanh", 1)
    start = random_words(net, params, x, y, 1)
    with dp.probe("verilator", net, params) as probe:
        probe.hold(x, y)
        probe.put(start)
        probe.tick(6)
        seen = probe.trajectory
    # Slopes of the stored outputs: another relaxation, on the way to the same rest.
    other = dp.relax(net, params, x[None], y[None], formats=net.formats, init=start, slopes="output")
    different = [name for name in seen.differences(other) if not name.startswith("answered")]
    assert different
    assert all(name.startswith("lambda") for name in different)
    assert not any(name.endswith("tick 6") for name in different)


@pytest.mark.parametrize("device", ["golden", "verilator"])
def test_a_state_can_be_put_in_again_and_again(device: str) -> None:
    net, params, x, y = held("tanh", 2)
    with dp.probe(device, net, params) as probe:
        probe.hold(x, y)
        rest = probe.tick(6)
        assert probe.trajectory.exact_from() is not None
        assert probe.tick(2).differences(rest) == []  # it stays
        for l in (1, 2, 3):
            hit = rest.copy()
            hit.sensitivities[l][0, 0] ^= 1 << 11
            probe.put(hit)
            assert probe.tick(l).differences(rest) == []  # healed after l ticks
            assert probe.trajectory.states[0].differences(rest) == [f"lambda_{l}"]
        probe.hold(-x, y)  # another sample
        assert probe.tick(6).differences(rest)
        assert len(probe.trajectory.states) == 7


def test_what_a_probe_refuses() -> None:
    net, params, x, y = held("tanh", 0)
    with pytest.raises(dp.RangeError, match=r"device 'float' cannot be probed; allowed are golden and verilator"):
        dp.probe("float", net, params)
    with pytest.raises(dp.RangeError, match=r"probe 'golden' knows no option 'stalls'; allowed are none"):
        dp.probe("golden?stalls=0.1", net, params)
    with pytest.raises(dp.RangeError, match=r"options of a probe are stalls=1.5, seed=0; allowed are"):
        dp.probe("verilator?stalls=1.5", net, params)
    with pytest.raises(dp.RangeError, match=r"options of a probe are stalls='a', seed=0; expected numbers"):
        dp.probe("verilator?stalls=a", net, params)
    with dp.probe("golden", net, params) as probe:
        with pytest.raises(dp.RangeError, match=r"the probe holds no sample yet; call hold\(x, y\) first"):
            probe.tick()
        with pytest.raises(dp.ShapeError, match=r"held sample x has shape \(3,\); network expects \(4,\)"):
            probe.hold(x[:3], y)
        probe.hold(x, y)
        state = random_words(net, params, x, y, 0)
        with pytest.raises(dp.ShapeError, match=r"x_2 of the state is missing; expected int64 words \(1, 5\)"):
            probe.put(State({l: v for l, v in state.activations.items() if l != 2}, state.sensitivities))
        with pytest.raises(dp.ShapeError, match=r"x_1 of the state is float64 \(1, 3\); expected int64 words"):
            probe.put(state.map(lambda v: 0.5 * v))
        with pytest.raises(dp.RangeError, match=r"lambda_1 of the state reaches from .*; words of Q2.14 are -32768 to"):
            probe.put(State(state.activations, {l: v + 2**16 for l, v in state.sensitivities.items()}))
        with pytest.raises(dp.RangeError, match="ticks is -1"):
            probe.tick(-1)


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
