"""The float64 reference against automatic differentiation and against differences of the cost."""

from __future__ import annotations

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

from dyadprop.costs import real_cost
from dyadprop.network import ACTIVATIONS, COSTS, Dense, Network, Parameters
from dyadprop.relaxation import reals
from dyadprop_sim import reference

LAST = {"sigmoid_cross_entropy": "sigmoid", "softmax_cross_entropy": "identity"}


def drawn(seed: int, cost: str, activation: str):
    rng = np.random.default_rng(seed)
    widths = rng.integers(1, 9, 3).tolist()
    net = Network(
        int(rng.integers(1, 9)),
        [Dense(widths[0], activation), Dense(widths[1], "tanh"), Dense(widths[2], LAST.get(cost, activation))],
        cost,
        input_gradient=True,
    )
    params = [Parameters(p.weight, rng.normal(0, 0.3, p.bias.shape)) for p in net.init(seed)]
    batch = int(rng.integers(1, 6))
    x = rng.normal(0, 1, (batch, net.inputs))
    y = rng.uniform(0, 1, (batch, net.outputs))
    return net, params, x, y


def autograd_cost(net: Network, params, x, y):
    for layer, (w, b) in zip(net.layers, params, strict=True):
        a = anp.dot(x, w.T) + b
        x = {
            "identity": lambda a: a,
            "relu": lambda a: anp.where(a > 0, a, 0.0),
            "leaky_relu": lambda a, layer=layer: anp.where(a > 0, a, layer.slope * a),
            "tanh": anp.tanh,
            "sigmoid": lambda a: 1 / (1 + anp.exp(-a)),
        }[layer.activation](a)
    if net.cost == "squared_error":
        return 0.5 * anp.sum((x - y) ** 2)
    if net.cost == "sigmoid_cross_entropy":
        return -anp.sum(y * anp.log(x) + (1 - y) * anp.log(1 - x))
    # Targets that do not sum to 1: the seed is softmax - y, which is this cost's derivative.
    return anp.sum(anp.log(anp.sum(anp.exp(x), axis=1))) - anp.sum(y * x)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("seed", range(4))
def test_gradients_equal_automatic_differentiation(seed, cost, activation):
    net, params, x, y = drawn(seed, cost, activation)
    trace = reference.textbook(net, params, x, y)
    expected, expected_x = autograd.grad(lambda p, v: autograd_cost(net, p, v, y), (0, 1))(
        [tuple(p) for p in params], x
    )
    compared = 0
    for got, want in zip(trace.gradients, expected, strict=True):
        np.testing.assert_allclose(got.weight, want[0], rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(got.bias, want[1], rtol=1e-11, atol=1e-13)
        compared += got.weight.size + got.bias.size
    np.testing.assert_allclose(trace.sensitivities[0], expected_x, rtol=1e-11, atol=1e-13)
    assert compared == sum(p.weight.size + p.bias.size for p in params)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("seed", range(4))
def test_gradients_are_the_slope_of_the_cost_that_is_reported(seed, cost):
    net, params, x, y = drawn(seed, cost, "tanh")
    if cost == "softmax_cross_entropy":
        y /= y.sum(axis=1, keepdims=True)
    trace = reference.textbook(net, params, x, y)
    rng = np.random.default_rng(seed)
    for l in range(3):
        way = rng.normal(0, 1, params[l].weight.shape)
        h = 1e-5
        ends = []
        for sign in (1, -1):
            moved = list(params)
            moved[l] = params[l]._replace(weight=params[l].weight + sign * h * way)
            ends.append(real_cost(net, reference.predict(net, moved, x).outputs, y))
        slope = (ends[0] - ends[1]) / (2 * h)
        assert slope == pytest.approx(float((trace.gradients[l].weight * way).sum()), rel=1e-6, abs=1e-8)


def test_slopes_at_the_kink_are_those_of_pytorch():
    for activation, slope in (("relu", 0.0), ("leaky_relu", 0.25)):
        net = Network(1, [Dense(1, activation, slope=0.25)], input_gradient=True)
        params = [Parameters(np.array([[1.0]]), np.array([0.0]))]
        trace = reference.textbook(net, params, np.array([[0.0]]), np.array([[-1.0]]))
        assert trace.sensitivities[0].tolist() == [[slope]]


def test_sigmoid_and_softmax_survive_their_tails():
    a = np.array([-1000.0, -40.0, 0.0, 40.0, 1000.0])
    x = reals.sigmoid(a)
    assert x[0] == 0.0
    assert x[1] == pytest.approx(np.exp(-40.0), rel=1e-15)
    assert x[2:].tolist() == [0.5, 1.0, 1.0]
    np.testing.assert_array_equal(reals.softmax(np.array([[1000.0, -1000.0], [5.0, 5.0]])), [[1, 0], [0.5, 0.5]])


def test_seeds_are_the_last_sensitivity():
    net, params, x, _ = drawn(3, "squared_error", "tanh")
    dy = np.random.default_rng(1).normal(0, 1, (len(x), net.outputs))
    own = reference.textbook(net, params, x, dy, seeds=True)
    by_cost = reference.textbook(net, params, x, reference.predict(net, params, x).outputs - dy)
    np.testing.assert_allclose(own.gradients[0].weight, by_cost.gradients[0].weight, rtol=1e-12, atol=1e-14)
    assert own.sensitivities[3] is dy


def test_the_first_sensitivity_is_computed_only_when_asked_for():
    net = Network(2, [Dense(3, "tanh"), Dense(1)])
    trace = reference.textbook(net, net.init(), np.ones((2, 2)), np.ones((2, 1)))
    assert sorted(trace.sensitivities) == [1, 2]
