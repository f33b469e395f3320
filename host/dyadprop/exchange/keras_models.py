"""Keras models in. Imports Keras only when called."""

from typing import Any

from dyadprop.errors import RangeError
from dyadprop.exchange.chain import POSSIBLE, Chain, Imported, Options
from dyadprop.formats import Formats
from dyadprop.optional import optional_packages

_ACTIVATIONS = {"linear": "identity", "relu": "relu", "leaky_relu": "leaky_relu", "tanh": "tanh", "sigmoid": "sigmoid"}
_LEAKY_DEFAULT = 0.2  # what keras.activations.leaky_relu takes
_NO_CHANGE = ("InputLayer", "Dropout", "Identity")  # outside of training


def from_keras(
    model: Any,
    cost: str = "squared_error",
    *,
    formats: Formats | None = None,
    input_gradient: bool = False,
    max_batch: int = 255,
) -> Imported:
    """Read a network and its parameters from a Keras model.

    Parameters
    ----------
    model : keras.Sequential, or a functional model that is a chain
        Of Dense, Activation, ReLU, LeakyReLU (its slope a power of two), and what changes nothing when a model is used:
        Input, Dropout, Identity, and a Flatten in front.
    cost, formats, input_gradient, max_batch
        What is not taken from a Keras model; as of `Network`.

    Returns
    -------
    Imported
        ``net, params``.

    Raises
    ------
    RangeError, ShapeError
        By the layer's name, with what would be possible.
    PackageMissing
    """
    with optional_packages("a Keras model", "keras"):
        import keras
    chain = Chain("Keras model")
    for layer in _chained(model, chain):
        kind = type(layer).__name__
        where = f"layer {layer.name!r} ({kind})"
        match kind:
            case "Dense":
                if not layer.built:
                    raise chain.refuse(where, "has no weights yet; call model.build() or put an Input in front")
                kernel = keras.ops.convert_to_numpy(layer.kernel.value)
                bias = keras.ops.convert_to_numpy(layer.bias.value) if layer.use_bias else None
                chain.dense(where, kernel.T, bias)
                _activate(chain, where, layer.activation)
            case "Activation":
                _activate(chain, where, layer.activation)
            case "ReLU":
                if layer.max_value is not None or layer.threshold:
                    raise chain.refuse(where, f"has a max_value or threshold; {POSSIBLE}")
                if layer.negative_slope:
                    chain.activation(where, "leaky_relu", float(layer.negative_slope))
                else:
                    chain.activation(where, "relu")
            case "LeakyReLU":
                chain.activation(where, "leaky_relu", float(layer.negative_slope))
            case "Flatten":
                if not chain.empty:
                    raise chain.refuse(where, f"stands behind a dense layer; possible is one in front; {POSSIBLE}")
            case "Softmax":
                raise chain.softmax(where)
            case _ if kind in _NO_CHANGE:
                pass
            case _:
                raise chain.refuse(where, f"cannot be mapped; {POSSIBLE}")
    return chain.finish(Options(cost, formats, input_gradient, max_batch))


def load_keras(path: str) -> Any:
    """Read a ``.keras`` file.

    Raises
    ------
    RangeError, PackageMissing
    """
    with optional_packages("a Keras file", "keras"):
        import keras
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # each of its parts raises its own kinds
        raise RangeError(f"Keras file {path} cannot be read: {' '.join(str(error).split())[:200]}") from error


def _chained(model: Any, chain: Chain) -> list[Any]:
    """List the layers; refuse those that take or give more than one tensor."""
    layers = list(model.layers)
    if type(model).__name__ == "Sequential":
        return [
            inner for layer in layers for inner in (_chained(layer, chain) if hasattr(layer, "layers") else [layer])
        ]
    for layer in layers:
        fan_in = [len(node.parent_nodes) for node in layer._inbound_nodes]
        if len(fan_in) != 1 or fan_in[0] > 1 or len(layer._outbound_nodes) > 1:
            raise chain.refuse(
                f"layer {layer.name!r} ({type(layer).__name__})", f"is where the chain forks; {POSSIBLE}"
            )
    return layers


def _activate(chain: Chain, where: str, activation: Any) -> None:
    name = getattr(activation, "__name__", type(activation).__name__)
    if name == "softmax":
        raise chain.softmax(where)
    if name not in _ACTIVATIONS or not activation.__module__.startswith("keras."):
        raise chain.refuse(where, f"has the activation {name!r}; {POSSIBLE}")
    chain.activation(where, _ACTIVATIONS[name], _LEAKY_DEFAULT if name == "leaky_relu" else None)
