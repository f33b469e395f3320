"""`dp.relax`, `net.energy` and `net.flow`: the relaxation in floats, and its errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.costs import real_cost
from dyadprop.relaxation.integrators import INTEGRATORS
from dyadprop_sim import reference

PNG = b"\x89PNG\r\n\x1a\n"
COSTS = {"squared_error": "tanh", "softmax_cross_entropy": "identity", "sigmoid_cross_entropy": "sigmoid"}


def drawn(seed: int, cost: str = "squared_error", activation: str = "tanh") -> tuple[dp.Network, Any, Any, Any]:
    net = dp.Network(4, [dp.Dense(5, activation), dp.Dense(6, activation), dp.Dense(3, COSTS[cost])], cost)
    rng = np.random.default_rng(seed)
    params = [dp.Parameters(p.weight, rng.uniform(-0.3, 0.3, p.bias.shape)) for p in net.init(seed)]
    y = np.eye(3)[rng.integers(0, 3, 5)]
    return net, params, rng.uniform(-1, 1, (5, 4)), y


def random_state(net: dp.Network, params: Any, x: Any, y: Any, seed: int) -> dp.State:
    return dp.relax(net, params, x, y, ticks=0, seed=seed).states[0]


# -- energy and flow -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cost", ["squared_error", "softmax_cross_entropy"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "leaky_relu", "identity"])
def test_each_variable_moves_by_the_derivative_with_respect_to_its_partner(seed, cost, activation):
    net, params, x, y = drawn(seed, cost, activation)
    state = random_state(net, params, x, y, seed)
    flow = net.flow(params, x, y, state)
    partners = {"x": "lambda", "lambda": "x"}
    compared = 0
    for name, values in state.variables().items():
        kind, layer = name.split("_")
        moves = flow.variables()[f"{partners[kind]}_{layer}"]
        for index in np.ndindex(values.shape):
            ends = []
            for way in (1e-5, -1e-5):
                moved = state.copy()
                moved.variables()[name][index] += way
                ends.append(net.energy(params, x, y, moved))
            assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(moves[index], rel=1e-5, abs=1e-7)
            compared += 1
    assert compared == 2 * 5 * (5 + 6 + 3)


def test_it_is_a_saddle_flow_in_two_copies_of_each_unit():
    # z+ = x + lambda/2 ascends E, z- = x - lambda/2 descends it; so dE/dt = |dz+/dt|^2 - |dz-/dt|^2.
    net, params, x, y = drawn(1)
    state = random_state(net, params, x, y, 1)
    flow = net.flow(params, x, y, state)
    expected = 0.0
    for l in (1, 2, 3):
        plus = flow.activations[l] + flow.sensitivities[l] / 2
        minus = flow.activations[l] - flow.sensitivities[l] / 2
        expected += float(np.sum(plus**2) - np.sum(minus**2))
    h = 1e-6
    ends = [net.energy(params, x, y, state.map(lambda v, d, h=way: v + h * d, flow)) for way in (h, -h)]
    assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("cost", ["squared_error", "softmax_cross_entropy"])
def test_the_energy_at_rest_is_the_cost_and_the_flow_is_still(cost):
    net, params, x, y = drawn(2, cost)
    rest = dp.relax(net, params, x, y, ticks=0, init="rest").states[0]
    assert net.energy(params, x, y, rest) == pytest.approx(real_cost(net, rest.activations[3], y), rel=1e-14)
    for name, values in net.flow(params, x, y, rest).variables().items():
        assert not values.any(), name


def test_a_sigmoid_behind_its_cross_entropy_has_no_energy_but_relaxes():
    net, params, x, y = drawn(3, "sigmoid_cross_entropy")
    seen = dp.relax(net, params, x, y)
    assert seen.exact_from() == 6
    with pytest.raises(dp.RangeError, match=r"energy of a network with cost sigmoid_cross_entropy is not defined"):
        net.energy(params, x, y, seen.states[0])


# -- the theorem, floats ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("slopes", ["flow", "output", "token"])
@pytest.mark.parametrize("cost", COSTS)
def test_at_rest_it_is_the_reference_bit_for_bit(seed, slopes, cost):
    net, params, x, y = drawn(seed, cost)
    seen = dp.relax(net, params, x, y, slopes=slopes, seed=seed, ticks=9)
    textbook = reference.textbook(net, params, x, y)
    compared = 0
    for got, expected in zip(seen.gradients, textbook.gradients, strict=True):
        np.testing.assert_array_equal(got.weight, expected.weight)
        np.testing.assert_array_equal(got.bias, expected.bias)
        compared += 1
    assert compared == 3
    assert seen.first_exact() == seen.bounds == ({1: 1, 2: 2, 3: 3}, {1: 6, 2: 5, 3: 4})
    assert seen.exact_from() == 6
    assert (seen.error[6:] == 0.0).all()
    assert (seen.error[:6] > 0.0).all()
    assert all((group[6:] == 0.0).all() for group in (*seen.residuals, *seen.distances))


def test_slopes_differ_on_the_way_and_nowhere_else():
    net, params, x, y = drawn(0)
    runs = [dp.relax(net, params, x, y, slopes=slopes, ticks=6) for slopes in ("flow", "output", "token")]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        different = {name.split()[0] for name in runs[one].differences(runs[other]) if "answered" not in name}
        assert different
        assert all(name.startswith("lambda") for name in different)  # activations never read a slope
        assert not any("after tick 6" in d for d in runs[one].differences(runs[other]) if "answered" not in d)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("schedule", ["stages", "neurons", "random", "stale"])
def test_each_schedule_rests_within_its_bound(seed, schedule):
    net, params, x, y = drawn(seed)
    seen = dp.relax(net, params, x, y, schedule=schedule, seed=seed, delay=3)
    assert seen.ticks == (6 + 5 * 3 if schedule == "stale" else 6)
    k = seen.exact_from()
    assert k is not None
    assert k > 1  # no accident: it began somewhere else


def test_stage_after_stage_takes_as_many_rounds_as_stages():
    # Within a round activations run all the way up; sensitivities come down a stage a round.
    net, params, x, y = drawn(1)
    assert dp.relax(net, params, x, y, schedule="stages").first_exact() == ({1: 1, 2: 1, 3: 1}, {1: 3, 2: 2, 3: 1})


def test_reads_that_may_be_old_take_longer():
    net, params, x, y = drawn(1)
    ticks = [dp.relax(net, params, x, y, schedule="stale", delay=d, seed=3).exact_from() for d in (0, 2, 8)]
    assert ticks[0] == 6
    assert None not in ticks
    assert ticks == sorted(ticks)  # type: ignore[type-var]
    assert ticks[2] > ticks[0]  # type: ignore[operator]


# -- steps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("rk3", 3), ("rk4", 4)])
def test_integrators_have_their_order(name, order):
    net, params, x, y = drawn(4)
    end = dp.relax(net, params, x, y, integrator="rk4", dt=1 / 128, ticks=128).states[-1].variables()
    errors = []
    for steps in (8, 16):
        got = dp.relax(net, params, x, y, integrator=name, dt=1 / steps, ticks=steps).states[-1].variables()
        errors.append(max(float(np.max(np.abs(got[k] - end[k]))) for k in end))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_the_stability_function_is_the_factor_of_a_step_towards_a_constant(name):
    # One linear unit whose cost does not move it: x <- c, dx/dt = c - x.
    net = dp.Network(1, [dp.Dense(1)])
    params = [dp.Parameters(np.array([[2.0]]), np.array([0.5]))]
    for dt in (0.3, 1.0, 1.7):
        seen = dp.relax(net, params, [[1.0]], [[0.0]], integrator=name, dt=dt, ticks=1, init="zero")
        left = (seen.states[1].activations[1] - 2.5) / (0.0 - 2.5)
        assert float(left[0, 0]) == pytest.approx(INTEGRATORS[name].stability(dt), abs=1e-14)


def test_only_euler_at_one_and_rk3_at_its_root_are_finite():
    finite = {
        (name, dt): abs(INTEGRATORS[name].stability(dt)) < 1e-9
        for name in INTEGRATORS
        for dt in (*np.linspace(0.05, 3.0, 60).round(3), 1.5960716379833215)
    }
    assert [key for key, value in finite.items() if value] == [("euler", 1.0), ("rk3", 1.5960716379833215)]
    h = np.linspace(0.01, 5, 5000)
    assert min(INTEGRATORS["heun"].stability(v) for v in h) > 0.4
    assert min(INTEGRATORS["rk4"].stability(v) for v in h) > 0.2


def test_a_whole_step_is_an_assignment():
    net, params, x, y = drawn(5)
    huge = random_state(net, params, x, y, 0).map(lambda v: 1e30 * v)
    assert dp.relax(net, params, x, y, init=huge).exact_from() == 6
    assert dp.relax(net, params, x, y, init=huge, dt=1.0 - 2**-50, ticks=6).exact_from() is None


def test_disturbances_do_what_they_say():
    net, params, x, y = drawn(6)
    plain = dp.relax(net, params, x, y, ticks=1)
    noisy = dp.relax(net, params, x, y, ticks=1, noise=0.25)
    added = np.concatenate(
        [(noisy.states[1].variables()[k] - v).ravel() for k, v in plain.states[1].variables().items()]
    )
    assert len(added) == 140
    assert np.std(added) == pytest.approx(0.25, rel=0.2)
    still = dp.relax(net, params, x, y, init="rest", noise=0.25, ticks=1)
    assert np.std(still.states[1].activations[1] - still.rest.activations[1]) == pytest.approx(0.25, rel=0.5)
    # A step is dt (1 + e u): measured where the target is known, at the first layer.
    steps: dict[str, Any] = {}
    for kind in ("jitter", "mismatch"):
        options: dict[str, Any] = {kind: 0.2}
        seen = dp.relax(net, params, x, y, ticks=2, dt=0.5, **options)
        target = seen.rest.activations[1]
        steps[kind] = [
            1 - (b.activations[1] - target) / (a.activations[1] - target)
            for a, b in zip(seen.states, seen.states[1:], strict=False)
        ]
        assert np.abs(steps[kind][0] / 0.5 - 1).max() <= 0.2 + 1e-9
        assert np.std(steps[kind][0] / 0.5 - 1) == pytest.approx(0.2 / np.sqrt(3), rel=0.35)
    np.testing.assert_allclose(steps["mismatch"][0], steps["mismatch"][1], rtol=1e-9)  # it stays
    assert np.abs(steps["jitter"][0] - steps["jitter"][1]).max() > 0.05  # it does not


def test_the_seed_decides_and_streams_are_apart():
    net, params, x, y = drawn(7)
    one, same, other = (dp.relax(net, params, x, y, schedule="random", seed=s) for s in (1, 1, 2))
    assert one.differences(same) == []
    assert one.differences(other)
    quiet, noisy = (dp.relax(net, params, x, y, seed=1, noise=n) for n in (0.0, 0.1))
    assert quiet.states[0].differences(noisy.states[0]) == []  # noise does not move the start


# -- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_words_are_the_devices_own_bits(seed):
    own = dp.Formats(dp.Q(3, 9), dp.Q(2, 8), dp.Q(2, 10))
    net = dp.Network(4, [dp.Dense(5, "tanh", formats=own), dp.Dense(3)], input_gradient=True)
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-1, 1, (6, 4)), rng.uniform(-1, 1, (6, 3))
    seen = dp.relax(net, net.init(seed), x, y, formats=net.formats, seed=seed)
    with dp.open("golden", net) as device:
        device.load(net.init(seed))
        raw = device.gradients(x, y).raw
    assert raw is not None
    for got, expected in zip(seen.gradients, raw.gradients, strict=True):
        np.testing.assert_array_equal(got.weight, expected.weight)
        np.testing.assert_array_equal(got.bias, expected.bias)
    np.testing.assert_array_equal(seen.states[-1].activations[2], raw.outputs)
    assert seen.states[0].activations[1].dtype == np.int64
    assert seen.exact_from() == 4
    # Another default changes the layers that name none, and leaves the one that does.
    other = dp.relax(net, net.init(seed), x, y, formats=dp.Formats(dp.Q(4, 4), dp.Q(4, 4), dp.Q(4, 4)), seed=seed)
    assert np.abs(other.rest.activations[2]).max() < 2**8
    assert np.abs(other.rest.activations[1]).max() > 2**6


def test_the_energy_of_words_is_that_of_their_values():
    net, params, x, y = drawn(1)
    seen = dp.relax(net, params, x, y, formats=dp.Formats(dp.Q(3, 15), dp.Q(3, 15), dp.Q(3, 15)))
    assert seen.energy[-1] == pytest.approx(dp.relax(net, params, x, y).energy[-1], rel=1e-3)
    assert len(seen.energy) == 7


# -- trajectories ----------------------------------------------------------------------------------------------------


def test_rest_must_last_to_count():
    net, params, x, y = drawn(8)
    seen = dp.relax(net, params, x, y, ticks=8)
    wrong = seen.states[7].copy()
    wrong.sensitivities[2][0, 0] += 1.0
    broken = dp.Trajectory(seen.dynamics, [*seen.states[:7], wrong, seen.states[8]], seen.rest)
    assert broken.first_exact() == ({1: 1, 2: 2, 3: 3}, {1: 6, 2: 8, 3: 4})
    assert broken.exact_from() == 8
    never = dp.Trajectory(seen.dynamics, [*seen.states[:7], wrong], seen.rest)
    assert never.first_exact()[1][2] is None
    assert never.exact_from() is None
    assert never.exact_from(tolerance=1.0) == 6
    assert seen.differences(broken) == ["lambda_2 after tick 7"]
    assert seen.differences(never) == ["9 and 8 states", "lambda_2 after tick 7"]


def test_a_tolerance_is_a_distance():
    net, params, x, y = drawn(8)
    seen = dp.relax(net, params, x, y, dt=0.5, ticks=60)
    assert seen.exact_from() is None
    k = seen.exact_from(1e-6)
    assert k is not None
    assert max(d[k:].max() for d in seen.distances) <= 1e-6 < max(d[k - 1].max() for d in seen.distances)


@pytest.mark.parametrize("options", [{}, {"dt": 0.5, "ticks": 30}, {"init": "rest"}, {"noise": 0.1}])
def test_a_plot_is_a_picture(options, tmp_path: Path):
    net, params, x, y = drawn(9)
    figure = dp.relax(net, params, x, y, **options).plot(tmp_path / "seen.png")
    assert (tmp_path / "seen.png").read_bytes().startswith(PNG)
    assert len(figure.axes) >= 2
    with pytest.raises(dp.RangeError, match=r"picture .*none/seen.png cannot be written"):
        dp.relax(net, params, x, y).plot(tmp_path / "none" / "seen.png")


def test_states_start_where_they_are_told():
    net, params, x, y = drawn(1)
    given = random_state(net, params, x, y, 9)
    seen = dp.relax(net, params, x, y, init=given)
    assert seen.states[0].differences(given) == []
    seen.states[0].activations[1][:] = 7.0
    assert not (given.activations[1] == 7.0).any()  # a copy
    assert dp.relax(net, params, x, y, init="rest").exact_from() == 0
    assert not any(v.any() for v in dp.relax(net, params, x, y, init="zero").states[0].variables().values())


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ticks": -1}, "ticks is -1; allowed are whole numbers from 0"),
        ({"dt": 0}, "dt is 0; allowed are numbers above it"),
        ({"dt": float("nan")}, "dt is nan; allowed are finite numbers from 0 on"),
        ({"noise": -0.1}, "noise is -0.1; allowed are finite numbers from 0 on"),
        ({"jitter": "a"}, "jitter is 'a'; allowed are finite numbers from 0 on"),
        ({"integrator": "rk5"}, "integrator is 'rk5'; allowed are euler, heun, rk3, rk4"),
        ({"schedule": "none"}, "schedule is 'none'; allowed are all, stages, random, neurons, stale"),
        ({"schedule": "random", "integrator": "heun"}, "integrator heun moves all units at once"),
        ({"init": "ones"}, "init is 'ones'; allowed are random, zero, rest and a State"),
        ({"formats": dp.Formats(), "dt": 0.5}, "words relax by whole steps of euler"),
        ({"formats": dp.Formats(), "noise": 0.5}, "words relax by whole steps of euler"),
        ({"slopes": "here"}, "slopes of a relaxation are 'here'; allowed are flow, output, token"),
        ({"slopes": "token", "dt": 0.5}, "slopes are 'token' with whole steps of all stages only"),
        ({"seed": -1}, "seed is -1; allowed are whole numbers"),
        ({"delay": 1.5}, "delay is 1.5; allowed are whole numbers"),
    ],
)
def test_what_is_not_allowed_is_said(options, message):
    net, params, x, y = drawn(0)
    with pytest.raises(dp.RangeError) as error:
        dp.relax(net, params, x, y, **options)
    assert str(error.value).startswith(message)


def test_wrong_shapes_are_said():
    net, params, x, y = drawn(0)
    with pytest.raises(dp.ShapeError, match=r"inputs x has shape \(5, 3\); network expects \(batch, 4\)"):
        dp.relax(net, params, x[:, :3], y)
    state = random_state(net, params, x, y, 0)
    with pytest.raises(dp.ShapeError, match=r"x_2 of the state is float64 \(5, 1\); expected float64 \(5, 6\)"):
        dp.relax(net, params, x, y, init=dp.State({**state.activations, 2: np.zeros((5, 1))}, state.sensitivities))
    kept = {l: v for l, v in state.sensitivities.items() if l != 3}
    with pytest.raises(dp.ShapeError, match=r"the state has no lambda_3; expected x_1, "):
        dp.relax(net, params, x, y, init=dp.State(state.activations, kept))
    with pytest.raises(dp.ShapeError, match=r"x_1 of the state is float64 \(5, 5\); expected int64 \(5, 5\)"):
        dp.relax(net, params, x, y, init=state, formats=net.formats)
    with pytest.raises(dp.FormatError, match=r"formats are 'Q4.12'; expected dyadprop.Formats or None"):
        dp.relax(net, params, x, y, formats="Q4.12")  # type: ignore[arg-type]
