"""Keras models in."""

from __future__ import annotations

import os

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.exchange.files import read_network
from tests.loops.needed import needed

needed("keras", "jax")

os.environ.setdefault("KERAS_BACKEND", "jax")
import keras  # noqa: E402 - behind the skip
from keras import layers  # noqa: E402 - behind the skip

POSSIBLE = "possible are dense layers in a chain, each with at most one of relu, leaky_relu, tanh, sigmoid behind it"


def outputs(net: dp.Network, params, x) -> np.ndarray:
    with dp.open("float", net) as device:
        device.load(params)
        return device.predict(x).outputs


def forked() -> keras.Model:
    x = keras.Input((3,), name="in")
    a = layers.Dense(3, name="left")(x)
    return keras.Model(x, layers.Add(name="sum")([a, x]))


def functional() -> keras.Model:
    x = keras.Input((3,))
    return keras.Model(x, layers.Dense(2, "relu")(layers.Dense(4, "tanh")(x)))


MODELS = {
    "activations": lambda: keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(5, "tanh"),
            layers.Dropout(0.5),
            layers.Dense(4, use_bias=False),
            layers.LeakyReLU(negative_slope=0.25),
            layers.Dense(3, "linear"),
            layers.Activation("sigmoid"),
            layers.Dense(6),
            layers.ReLU(),
            layers.Dense(2),
            layers.ReLU(negative_slope=0.5),
        ]
    ),
    "nested": lambda: keras.Sequential(
        [keras.Sequential([keras.Input((3,)), layers.Dense(4, "relu")]), layers.Dense(2)]
    ),
    "functional": functional,
    "flatten": lambda: keras.Sequential([keras.Input((1, 3)), layers.Flatten(), layers.Dense(2)]),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_chain_computes_the_same(name):
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    for variable in model.variables:
        if variable.shape and str(variable.dtype).startswith("float"):
            variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    net, params = dp.from_keras(model)
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    shaped = x.reshape(6, *model.input_shape[1:])
    np.testing.assert_allclose(outputs(net, params, x), np.asarray(model(shaped)), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own, while it saves
def test_a_file_is_read(tmp_path):
    model = MODELS["functional"]()
    model.save(tmp_path / "m.keras")
    source = read_network(tmp_path / "m.keras")
    assert source.net == dp.from_keras(model).net
    assert source.params is not None
    np.testing.assert_array_equal(source.params[1].weight, dp.from_keras(model).params[1].weight)
    (tmp_path / "noise.keras").write_bytes(b"noise")
    with pytest.raises(dp.RangeError, match=r"^Keras file \S+noise.keras cannot be read: "):
        read_network(tmp_path / "noise.keras")


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (lambda: keras.Sequential([keras.Input((3,)), layers.Dense(2, "softmax", name="d")]),
         "layer 'd' (Dense) is no activation of a stage; possible is to leave it out and to take "
         "cost='softmax_cross_entropy', whose outputs are logits"),
        (lambda: keras.Sequential([keras.Input((3,)), layers.Dense(2, "gelu", name="d")]),
         f"layer 'd' (Dense) has the activation 'gelu'; {POSSIBLE}"),
        (lambda: keras.Sequential([keras.Input((3,)), layers.Dense(2, "leaky_relu", name="d")]),
         "layer 'd' (Dense) has the slope 0.2 below zero; possible are powers of two from 2**-15 to 1/2: here 2**-3 = "
         "0.125 or 2**-2 = 0.25"),
        (lambda: keras.Sequential([layers.Dense(2, name="d")]),
         "layer 'd' (Dense) has no weights yet; call model.build() or put an Input in front"),
        (lambda: keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.BatchNormalization(name="n")]),
         f"layer 'n' (BatchNormalization) cannot be mapped; {POSSIBLE}"),
        (lambda: keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.ReLU(max_value=6, name="r")]),
         f"layer 'r' (ReLU) has a max_value or threshold; {POSSIBLE}"),
        (forked, f"layer 'in' (InputLayer) is where the chain forks; {POSSIBLE}"),
    ],
)  # fmt: skip
def test_what_cannot_be_mapped_is_named(model, sentence):
    with pytest.raises(dp.RangeError) as caught:
        dp.from_keras(model())
    assert str(caught.value) == f"Keras model: {sentence}"
