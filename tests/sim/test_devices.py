"""The float and golden devices through the public interface, and Icarus where a small network is enough."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.costs import real_cost
from dyadprop.widths import target_format
from dyadprop_sim import golden
from dyadprop_sim.devices import FloatDevice, GoldenDevice
from dyadprop_sim.icarus import IcarusDevice
from dyadprop_sim.random_networks import random_case

DEVICES = [FloatDevice, GoldenDevice]
SEEDS = range(20)


def real(seed: int, **sizes):
    """Give a random case as real numbers."""
    case = random_case(seed, **sizes)
    x = case.net.formats.activation.to_floats(case.x)
    y = target_format(case.net).to_floats(case.targets)
    return case, [entry.decode() for entry in case.params], x, y


def opened(kind, net, params, **options):
    device = kind(net, **options)
    device.load(params)
    return device


def same_gradients(one, two) -> int:
    compared = 0
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)
        np.testing.assert_array_equal(a.bias, b.bias)
        compared += a.weight.size + a.bias.size
    return compared


# -- names ------------------------------------------------------------------------------------------------------------


def test_both_are_installed_under_their_names():
    net = dp.Network(2, [dp.Dense(1)])
    with dp.open("golden", net) as device:
        assert isinstance(device, GoldenDevice)
    with dp.open("float?on_saturation=raise", net) as device:
        assert isinstance(device, FloatDevice)
    listing = dp.devices()
    assert listing["golden"].startswith("The golden model: docs/arithmetic.md in NumPy")
    assert listing["float"].startswith("float64 textbook backpropagation in NumPy")


def test_golden_is_what_no_name_means(monkeypatch):
    monkeypatch.delenv("DYADPROP_DEVICE", raising=False)
    assert dp.open(None, dp.Network(2, [dp.Dense(1)])).info.kind == "golden"


@pytest.mark.parametrize("kind", ["golden", "float"])
def test_an_option_that_none_has_is_refused(kind):
    with pytest.raises(dp.RangeError, match=f"^device '{kind}' knows no option 'lanes'; allowed are on_saturation$"):
        dp.open(f"{kind}?lanes=3", dp.Network(2, [dp.Dense(1)]))


def test_who_answers():
    net = dp.Network(3, [dp.Dense(4, "tanh", formats=dp.Formats(dp.Q(2, 10))), dp.Dense(2)], max_batch=9)
    info = GoldenDevice(net).info
    assert (info.kind, info.network, info.max_batch, info.protocol) == ("golden", net.hash, 9, 0)
    assert info.formats == (dp.Formats(), dp.Formats(dp.Q(2, 10)), dp.Formats())
    assert FloatDevice(net).info.kind == "float"
    assert FloatDevice(net).info.formats == ()


# -- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_golden_device_gives_the_model_as_real_numbers(seed):
    case, params, x, y = real(seed)
    net = case.net
    result = opened(GoldenDevice, net, params).gradients(x, y)
    trace = golden.textbook(net, case.params, case.x, case.targets)
    L = len(net.layers)
    assert result.raw is not None
    np.testing.assert_array_equal(result.raw.outputs, trace.outputs)
    np.testing.assert_array_equal(result.outputs, net.layer_formats(L).activation.to_floats(trace.outputs))
    assert same_gradients(result.raw.gradients, trace.gradients) > 0
    assert same_gradients(result.gradients, [g.decode() for g in trace.gradients]) > 0
    assert {(s.stage, s.signal): s.count for s in result.stats.saturations} == dict(trace.saturations)
    assert result.stats.samples == len(x)
    assert result.stats.ticks == len(x) + 2 * L - 1
    if net.input_gradient:
        assert result.inputs is not None
        np.testing.assert_array_equal(result.inputs, net.formats.sensitivity.to_floats(trace.inputs))
    else:
        assert result.inputs is None
    if net.cost == "squared_error":
        exact = sum((int(a) - int(b)) ** 2 for a, b in zip(trace.outputs.flat, case.targets.flat, strict=True))
        assert result.raw.cost == exact
        assert result.cost == exact * 2.0**-result.raw.cost_fraction_bits
    else:
        assert result.raw.cost is None
        assert result.cost == real_cost(net, result.outputs, y)


@pytest.mark.parametrize("seed", SEEDS)
def test_prediction_is_the_output_of_the_gradient(seed):
    case, params, x, y = real(seed)
    for kind in DEVICES:
        device = opened(kind, case.net, params)
        result = device.predict(x)
        np.testing.assert_array_equal(result.outputs, device.gradients(x, y).outputs)
        assert result.gradients == []
        assert result.cost is None
        assert result.inputs is None
    assert result.stats.ticks == len(x) + len(case.net.layers) - 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("max_batch", [1, 2, 3, 10, 20, 21])
def test_a_split_batch_gives_the_same_sums(seed, max_batch):
    case, params, x, y = real(seed, batch=20)
    net = case.net
    split = dp.Network(
        net.inputs, net.layers, net.cost, formats=net.formats, input_gradient=net.input_gradient, max_batch=max_batch
    )
    whole = opened(GoldenDevice, net, params).gradients(x, y)
    parts = opened(GoldenDevice, split, params).gradients(x, y)
    assert whole.raw is not None
    assert parts.raw is not None
    assert same_gradients(parts.raw.gradients, whole.raw.gradients) > 0
    np.testing.assert_array_equal(parts.outputs, whole.outputs)
    assert parts.cost == whole.cost
    assert parts.stats.saturations == whole.stats.saturations
    assert parts.stats.ticks == 20 + -(-20 // max_batch) * (2 * len(net.layers) - 1)
    if net.input_gradient:
        np.testing.assert_array_equal(parts.inputs, whole.inputs)


@pytest.mark.parametrize("kind", [*DEVICES, IcarusDevice])
def test_labels_are_one_hot_targets(kind):
    rng = np.random.default_rng(0)
    for net in (
        dp.Network(4, [dp.Dense(3)], "softmax_cross_entropy"),
        dp.Network(4, [dp.Dense(3, "sigmoid")], "sigmoid_cross_entropy"),
    ):
        device = opened(kind, net, net.init())
        x, labels = rng.uniform(-1, 1, (6, 4)), rng.integers(0, 3, 6)
        one, two = device.gradients(x, labels), device.gradients(x, np.eye(3)[labels])
        assert same_gradients(one.gradients, two.gradients) == 15
        assert one.cost == two.cost


@pytest.mark.parametrize("seed", SEEDS)
def test_two_devices_answer_the_same_bits(seed):
    case, params, x, y = real(seed, kind="realistic")
    for kind in DEVICES:
        one, two = (opened(kind, case.net, params).gradients(x, y) for _ in range(2))
        assert same_gradients(one.gradients, two.gradients) > 0
        assert one.cost == two.cost


def test_golden_and_float_agree_closely_on_a_learning_task():
    net = dp.Network(8, [dp.Dense(16, "tanh"), dp.Dense(4)], "softmax_cross_entropy", input_gradient=True)
    rng = np.random.default_rng(1)
    x, labels = rng.uniform(-1, 1, (50, 8)), rng.integers(0, 4, 50)
    real_result = opened(FloatDevice, net, net.init()).gradients(x, labels)
    words = opened(GoldenDevice, net, net.init()).gradients(x, labels)
    assert words.cost == pytest.approx(real_result.cost, rel=1e-3)
    for got, expected in zip(words.gradients, real_result.gradients, strict=True):
        assert np.abs(got.weight - expected.weight).max() < 0.02
    assert real_result.raw is None
    assert real_result.stats.ticks == 0
    np.testing.assert_allclose(words.inputs, real_result.inputs, atol=1e-3)


# -- saturation -------------------------------------------------------------------------------------------------------


def test_driver_counts_what_is_limited_on_its_way_in():
    net = dp.Network(2, [dp.Dense(1)])
    device = GoldenDevice(net)
    told = device.load([dp.Parameters(np.array([[9.0, 1.0]]), np.array([-9.0]))])
    assert told == [dp.Saturation(1, "weight", 2)]
    assert device.load([dp.Parameters(np.array([[0.5, 0.0]]), np.array([0.0]))]) == []
    result = device.gradients([[8.0, 1.0], [-8.5, 1.0]], [[4.0], [8.0]])  # Q4.12 ends below 8; Q2.14 below 2
    assert result.stats.saturations == [
        dp.Saturation(0, "activation", 2),
        dp.Saturation(1, "sensitivity", 1),
        dp.Saturation(1, "target", 1),
    ]
    assert device.predict([[8.0, 1.0]]).stats.saturations == [dp.Saturation(0, "activation", 1)]
    assert device.vjp([[1.0, 1.0]], [[2.0]], scale=1).stats.saturations == [dp.Saturation(1, "sensitivity", 1)]


def test_saturation_can_raise_and_leaves_the_device_usable():
    net = dp.Network(1, [dp.Dense(1)])
    device = opened(GoldenDevice, net, [dp.Parameters(np.array([[7.0]]), np.array([0.0]))], on_saturation="raise")
    sentence = "values were limited to their format: 1 of activation in stage 1; gradients are no longer exact"
    with pytest.raises(dp.RangeError, match=sentence):
        device.predict([[2.0]])
    assert device.predict([[1.0]]).outputs.tolist() == [[7.0]]


def test_float_that_diverged_is_where_it_was():
    net = dp.Network(1, [dp.Dense(1)])
    device = opened(FloatDevice, net, [dp.Parameters(np.array([[1.0]]), np.array([0.0]))])
    x, y = np.full((50, 1), 4.0), np.ones((50, 1))
    with pytest.raises(dp.RangeError, match=r"^training diverged; try a smaller learning rate than 64$"):
        device.train(x, y, 64.0)
    assert device.parameters()[0].weight.tolist() == [[1.0]]
    device.train(x, y, 2.0**-6)


# -- vjp --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_own_seeds_are_scaled_for_the_bits_and_scaled_back(seed):
    case, params, x, _ = real(seed, kind="realistic")
    net = case.net
    L = len(net.layers)
    if net.cost == "sigmoid_cross_entropy":
        net = dp.Network(net.inputs, net.layers, formats=net.formats, input_gradient=net.input_gradient)
    rng = np.random.default_rng(seed)
    dy = rng.normal(0, 1e-4, (len(x), net.outputs))
    device = opened(GoldenDevice, net, params)
    result = device.vjp(x, dy)
    form = net.layer_formats(L).sensitivity
    words = form.to_ints(dy * result.stats.scale)
    assert words.saturations == 0
    assert 2 * np.abs(words.words).max() > form.max_int
    trace = golden.textbook(net, case.params, case.x, words.words, seeds=True)
    assert result.raw is not None
    assert same_gradients(result.raw.gradients, trace.gradients) > 0
    for got, g in zip(result.gradients, trace.gradients, strict=True):
        np.testing.assert_array_equal(got.weight, g.decode().weight / result.stats.scale)
    if net.input_gradient:
        np.testing.assert_array_equal(
            result.inputs, net.formats.sensitivity.to_floats(trace.inputs) / result.stats.scale
        )
    assert result.cost is None
    assert opened(GoldenDevice, net, params).gradients(x, np.zeros_like(dy)).stats.scale == 1.0


@pytest.mark.parametrize("cost", ["squared_error", "sigmoid_cross_entropy", "softmax_cross_entropy"])
@pytest.mark.parametrize("kind", DEVICES)
def test_own_seeds_mean_the_derivative_by_the_outputs(kind, cost):
    last = {"squared_error": "tanh", "sigmoid_cross_entropy": "sigmoid", "softmax_cross_entropy": "identity"}[cost]
    net = dp.Network(3, [dp.Dense(4, "tanh"), dp.Dense(2, last)], cost, input_gradient=True)
    rng = np.random.default_rng(5)
    x, dy = rng.uniform(-1, 1, (6, 3)), rng.normal(0, 0.3, (6, 2))
    device = opened(kind, net, net.init(4))
    got = device.vjp(x, dy)
    # Differences of sum(dy * x_L), in float64.
    outputs = opened(FloatDevice, net, net.init(4))
    tolerance = 1e-8 if kind is FloatDevice else 2e-3
    way = rng.normal(0, 1, x.shape)
    h = 1e-5
    slope = float(((outputs.predict(x + h * way).outputs - outputs.predict(x - h * way).outputs) * dy).sum()) / (2 * h)
    assert got.inputs is not None
    assert float((got.inputs * way).sum()) == pytest.approx(slope, abs=tolerance)
    for l in range(2):
        params = net.init(4)
        way = rng.normal(0, 1, params[l].weight.shape)
        ends = []
        for sign in (1, -1):
            moved = list(params)
            moved[l] = params[l]._replace(weight=params[l].weight + sign * h * way)
            ends.append(float((opened(FloatDevice, net, moved).predict(x).outputs * dy).sum()))
        slope = (ends[0] - ends[1]) / (2 * h)
        assert float((got.gradients[l].weight * way).sum()) == pytest.approx(slope, abs=tolerance)


class Clocked(GoldenDevice):
    """Each pass takes cycles."""

    def _forward_words(self, x):
        return replace(super()._forward_words(x), cycles=1000)

    def _gradient_words(self, x, targets, *, seeds):
        self.words = targets
        return replace(super()._gradient_words(x, targets, seeds=seeds), cycles=7)


def test_behind_a_sigmoid_the_scale_is_that_of_what_becomes_words():
    net = dp.Network(2, [dp.Dense(3, "sigmoid")], "sigmoid_cross_entropy")
    # Outputs near 1: slopes x (1 - x) are small.
    device = opened(Clocked, net, [dp.Parameters(np.zeros((3, 2)), np.full(3, 6.0))])
    x, dy = np.zeros((4, 2)), np.full((4, 3), 0.7)
    result = device.vjp(x, dy)
    form = net.layer_formats(1).sensitivity
    assert result.stats.scale > 100.0
    assert form.max_int >= np.abs(device.words).max() > form.max_int // 2
    reals = opened(FloatDevice, net, [dp.Parameters(np.zeros((3, 2)), np.full(3, 6.0))]).vjp(x, dy)
    assert reals.stats.scale >= 64.0
    # The forward pass that gives the slopes counts too.
    assert result.stats.cycles == 1007
    assert result.stats.ticks == 4 + (4 + 1)
    small = device.vjp(x, dy, 2.0)
    assert small.stats.scale == 2.0
    assert np.abs(device.words).max() < 2 * 2**14 * 0.7 * 0.01


# -- parameters and threads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*DEVICES, IcarusDevice])
def test_parameters_come_back_and_are_the_devices_own(kind):
    net = dp.Network(3, [dp.Dense(4, "tanh"), dp.Dense(2)])
    params = net.init(2)
    device = opened(kind, net, params)
    expected = params if kind is FloatDevice else net.quantize(params).parameters
    kept = [p.weight.copy() for p in expected]
    assert same_gradients(device.parameters(), expected) == 26
    params[0].weight[:] = 9.0
    device.parameters()[1].weight[:] = 9.0
    for got, weight in zip(device.parameters(), kept, strict=True):
        np.testing.assert_array_equal(got.weight, weight)


@pytest.mark.parametrize("kind", DEVICES)
def test_eight_threads_get_the_answers_of_one(kind):
    case, params, x, y = real(2, kind="realistic", batch=31)
    device = opened(kind, case.net, params)
    samples = [(x[i : i + 3], y[i : i + 3]) for i in range(0, 30, 3)]
    expected = [device.gradients(*s) for s in samples]
    answers: list[list] = [[] for _ in range(8)]

    def use(mine: list) -> None:
        mine.extend(device.gradients(*s) for s in samples)

    threads = [threading.Thread(target=use, args=(mine,)) for mine in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    compared = 0
    for mine in answers:
        for got, want in zip(mine, expected, strict=True):
            same_gradients(got.gradients, want.gradients)
            compared += 1
    assert compared == 80
