"""dyadprop.jax under JAX's transformations and optax."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dyadprop as dp
from tests.loops.needed import needed

needed("jax", "optax")

import jax  # noqa: E402 - behind the skip
import jax.numpy as jnp  # noqa: E402 - behind the skip
import optax  # noqa: E402 - behind the skip

from dyadprop.jax import apply, loss  # noqa: E402 - behind the skip

NET = dp.Network(3, [dp.Dense(5, "tanh"), dp.Dense(4, "leaky_relu", slope=0.25), dp.Dense(2)], input_gradient=True)
PLAIN = dp.Network(3, [dp.Dense(2)])


def reference(params, x):
    for layer, (weight, bias) in zip(NET.layers, params, strict=True):
        x = x @ weight.T + bias
        x = {"tanh": jnp.tanh, "leaky_relu": lambda a: jnp.where(a >= 0, a, a / 4)}.get(layer.activation, lambda a: a)(
            x
        )
    return x


def reference_loss(params, x, y):
    return 0.5 * jnp.mean(jnp.sum((reference(params, x) - y) ** 2, -1))


def single(seed: int):
    return jax.tree.map(jnp.float32, NET.init(seed))


def data(seed: int, samples: int = 6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(samples, 3)).astype(np.float32), rng.normal(size=(samples, 2)).astype(np.float32)


class Counted:
    """A float device that notes its calls."""

    def __init__(self, net: dp.Network = NET) -> None:
        self.device = dp.open("float", net)
        self.calls: list[str] = []
        for name in ("load", "predict", "gradients", "vjp"):
            self._watch(name, getattr(self.device, name))

    def _watch(self, name, call) -> None:
        def noted(*arguments):
            self.calls.append(name)
            return call(*arguments)

        setattr(self.device, name, noted)

    def taken(self) -> list[str]:
        calls, self.calls[:] = list(self.calls), []
        return calls


@pytest.fixture
def counted() -> Counted:
    return Counted()


def assert_close(mine, other, tolerance=2e-5) -> None:
    mine, other = jax.tree.leaves(mine), jax.tree.leaves(other)
    assert len(mine) == len(other) > 0
    for a, b in zip(mine, other, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


WAYS = {"eager": lambda f: f, "jit": jax.jit}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(2))
def test_apply(seed, way, counted):
    params, (x, y) = single(seed), data(seed)
    f = apply(counted.device)
    assert_close(WAYS[way](f)(params, x), reference(params, x))
    assert counted.taken() == ["load", "predict"]

    def cost(function):
        return lambda p, a: jnp.sum(jnp.sin(function(p, jnp.tanh(a))) * y)

    found = WAYS[way](jax.value_and_grad(cost(f), argnums=(0, 1)))(params, x)
    assert counted.taken() == ["predict", "vjp"]
    assert_close(found, jax.value_and_grad(cost(reference), argnums=(0, 1))(params, x))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss_is_one_call_a_step(way, reduction, counted):
    params, (x, y) = single(1), data(1)
    f = loss(counted.device, reduction)
    times = 1 if reduction == "mean" else len(x)
    found = WAYS[way](jax.value_and_grad(lambda p, a: 3 * f(p, a, y), argnums=(0, 1)))(params, x)
    assert counted.taken() == ["load", "gradients"]
    assert_close(found, jax.value_and_grad(lambda p, a: 3 * times * reference_loss(p, a, y), argnums=(0, 1))(params, x))
    assert_close(WAYS[way](f)(params, x[0], y[0]), reference_loss(params, x[:1], y[:1]))
    assert counted.taken() == ["gradients"]


def test_axes_in_front_are_kept(counted):
    params, (x, _) = single(2), data(2)
    f = apply(counted.device)
    assert_close(f(params, x[0]), reference(params, x[0]))
    assert_close(f(params, x.reshape(2, 3, 3)), reference(params, x.reshape(2, 3, 3)))


def test_vmap(counted):
    params, (x, y) = single(3), data(3, 4)
    f, g = apply(counted.device), loss(counted.device)

    def one(p, a, b):
        return reference_loss(p, a[None], b[None])

    cases = [
        (jax.vmap(f, (None, 0)), jax.vmap(reference, (None, 0)), (params, x), ["load", "predict"]),
        (jax.vmap(jax.vmap(f, (None, 0)), (None, 0)), reference, (params, x.reshape(2, 2, 3)), ["predict"]),
        (jax.vmap(g, (None, 0, 0)), jax.vmap(one, (None, 0, 0)), (params, x, y), ["gradients"] * 4),
        (jax.vmap(g, (None, None, 0)), jax.vmap(one, (None, None, 0)), (params, x[0], y), ["gradients"] * 4),
        (jax.vmap(jax.grad(g), (None, 0, 0)), jax.vmap(jax.grad(one), (None, 0, 0)), (params, x, y),
         ["gradients"] * 4),
        (jax.value_and_grad(lambda p: jax.vmap(f, (None, 0))(p, x).sum()),
         jax.value_and_grad(lambda p: reference(p, x).sum()), (params,), ["predict", *["vjp"] * 4]),
    ]  # fmt: skip
    for mine, other, arguments, calls in cases:
        assert_close(jax.jit(mine)(*arguments), jax.jit(other)(*arguments))
        assert sorted(counted.taken()) == sorted(calls)  # JAX is free to order them
    both = jax.tree.map(lambda a, b: np.stack([a, b]), params, single(4))
    first = [dp.Parameters(both[0].weight, params[0].bias), *params[1:]]  # only one array is mapped
    entry: Any = dp.Parameters  # of axes, not of arrays
    axes = [entry(0, None), *[entry(None, None)] * 2]
    ensembles = [
        (f, reference, (0, None), (both, x), ["predict", "load", "predict"]),
        (jax.grad(g), jax.grad(reference_loss), (0, None, None), (both, x, y), ["load", "gradients"] * 2),
        (f, reference, (axes, None), (first, x), ["load", "predict"] * 2),
    ]
    for mine, other, mapped, arguments, calls in ensembles:
        assert_close(jax.vmap(mine, mapped)(*arguments), jax.jit(jax.vmap(other, mapped))(*arguments))
        assert counted.taken() == calls


def test_labels():
    net = dp.Network(3, [dp.Dense(4)], "softmax_cross_entropy")
    params, (x, _) = jax.tree.map(jnp.float32, net.init(0)), data(5)
    labels = jnp.array([0, 3, 1, 2, 0, 1])
    with dp.open("float", net) as device:
        found = jax.jit(jax.value_and_grad(loss(device)))(params, x, labels)

    def cost(p):
        logits = x @ p[0].weight.T + p[0].bias
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    assert_close(found, jax.value_and_grad(cost)(params))


def test_a_mean_loss_loses_no_bits():
    net = dp.Network(3, [dp.Dense(5, "tanh"), dp.Dense(2)])
    params, (x, y) = jax.tree.map(jnp.float32, net.init(0)), data(6, 400)
    with dp.open("golden", net) as device, dp.open("float", net) as real:

        def cost(f):
            return lambda p: 1e-3 * jnp.mean((f(p, x) - y) ** 2)

        found, expected = jax.grad(cost(apply(device)))(params), jax.grad(cost(apply(real)))(params)
        assert device.stats.scale > 2**15
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) > 0.99999


@pytest.mark.parametrize("kind", ["float", "golden"])
def test_optax_learns(kind):
    net = dp.Network(3, [dp.Dense(8, "tanh"), dp.Dense(2)])
    x, _ = data(7, 70)
    x = np.tanh(x)
    y = np.stack([x[:, 0] * x[:, 1], 0.5 * np.sin(3 * x[:, 2])], 1)
    params = jax.tree.map(jnp.float32, net.init(0))
    with dp.open(kind, net) as device:
        cost = loss(device)
        optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.02))
        state = optimiser.init(params)

        @jax.jit
        def step(params, state, x, y):
            value, gradients = jax.value_and_grad(cost)(params, x, y)
            updates, state = optimiser.update(gradients, state)
            return optax.apply_updates(params, updates), state, value

        values = []
        for _ in range(40):
            params, state, value = step(params, state, x, y)
            values.append(float(value))
    assert values[-1] < 0.3 * values[0]


def test_large_arrays_under_jit_do_not_wait_for_themselves():
    """What is larger than JAX copies at once goes through the threads that its callbacks may hold."""
    net = dp.Network(784, [dp.Dense(256, "tanh"), dp.Dense(10)])
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(500, 784)).astype(np.float32), rng.normal(size=(500, 10)).astype(np.float32)
    params = jax.tree.map(jnp.float32, net.init(0))
    with dp.open("float", net) as device:
        step, f = jax.jit(jax.grad(loss(device))), jax.jit(lambda p, a: jnp.sin(apply(device)(p, jnp.cos(a))))
        for _ in range(5):
            gradients, outputs = step(params, jnp.sin(x), y), f(params, x)
        assert np.isfinite(outputs).all()
        assert all(np.isfinite(array).all() for array in jax.tree.leaves(gradients))


NO_INPUT = "a gradient of inputs x was asked for, which this network does not compute; make it with Network"
FIRST_ONLY = "a device computes first derivatives only; the gradient of a gradient is not there"


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (
            lambda d, p, x, y: apply(d)(p, x[:, :2]),
            dp.ShapeError,
            r"inputs x have shape \(6, 2\); network expects \(..., ",
        ),
        (
            lambda d, p, x, y: loss(d)(p, x, y[:2]),
            dp.ShapeError,
            r"inputs x have shape \(6, 3\) and targets y \(2, 2\); ",
        ),
        (
            lambda d, p, x, y: loss(d)(p, x, jnp.arange(6)),
            dp.ShapeError,
            r"inputs x have shape \(6, 3\) and targets y \(",
        ),
        (lambda d, p, x, y: loss(d, "none"), dp.RangeError, "reduction is 'none'; allowed are mean, sum"),
        (
            lambda d, p, x, y: apply(d)(p[:0], x),
            dp.ShapeError,
            r"parameters have shapes \[\]; network expects \[\(2, 3\)",
        ),
        (
            lambda d, p, x, y: apply(d)(jax.tree.map(jnp.int32, p), x),
            dp.RangeError,
            "parameters are int32; allowed are",
        ),
        (
            lambda d, p, x, y: jax.grad(loss(d), 2)(p, x, y),
            dp.RangeError,
            "a gradient of targets y was asked for; a de",
        ),
        (lambda d, p, x, y: jax.grad(loss(d), 1)(p, x, y), dp.RangeError, NO_INPUT),
        (lambda d, p, x, y: jax.jit(jax.grad(lambda a: apply(d)(p, a).sum()))(x), dp.RangeError, NO_INPUT),
        (lambda d, p, x, y: jax.hessian(loss(d))(p, x, y), dp.DyadpropError, FIRST_ONLY),
        (lambda d, p, x, y: jax.jacrev(jax.jacrev(loss(d)))(p, x, y), dp.DyadpropError, FIRST_ONLY),
        (lambda d, p, x, y: jax.jacrev(jax.grad(lambda q: apply(d)(q, x).sum()))(p), dp.DyadpropError, FIRST_ONLY),
    ],
)
def test_what_is_not_there_is_said(call, error, sentence):
    with dp.open("float", PLAIN) as device, pytest.raises(error, match=f"^{sentence}"):
        call(device, jax.tree.map(jnp.float32, PLAIN.init(0)), *data(8))
