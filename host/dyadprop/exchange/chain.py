"""What all the readers of foreign models share: a chain of dense layers and activations becomes a network."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dyadprop.errors import RangeError, ShapeError
from dyadprop.formats import Formats
from dyadprop.network import ACTIVATIONS, MAX_LEAK_BITS, Dense, Network, Parameters

POSSIBLE = f"possible are dense layers in a chain, each with at most one of {', '.join(ACTIVATIONS[1:])} behind it"


class Imported(NamedTuple):
    """A network that another framework described, and its parameters.

    Attributes
    ----------
    net : Network
    params : list of Parameters
        float64, not yet rounded to the network's formats.
    """

    net: Network
    params: list[Parameters]


class Options(NamedTuple):
    """What a foreign model does not say of a network: as of `Network`.

    Attributes
    ----------
    cost : str
    formats : Formats or None
    input_gradient : bool
    max_batch : int
    """

    cost: str = "squared_error"
    formats: Formats | None = None
    input_gradient: bool = False
    max_batch: int = 255


class Chain:
    """Takes the layers of a model in their order.

    Parameters
    ----------
    what : str
        How messages call the model: "torch model".
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._layers: list[Dense] = []
        self._params: list[Parameters] = []
        self._names: list[str] = []
        self._free = False  # whether the last layer may still get an activation

    @property
    def empty(self) -> bool:
        """Whether no dense layer has come yet."""
        return not self._layers

    @property
    def width(self) -> int:
        """Outputs of the last dense layer."""
        return self._layers[-1].outputs

    def refuse(self, layer: str, why: str) -> RangeError:
        """Make the error that names a layer and says what would be possible."""
        return RangeError(f"{self._what}: {layer} {why}")

    def dense(self, layer: str, weight: npt.ArrayLike, bias: npt.ArrayLike | None) -> None:
        """Take a dense layer.

        Parameters
        ----------
        layer : str
            Name and kind, for messages.
        weight : array (outputs, inputs)
        bias : array (outputs,) or None
            None is zeros.

        Raises
        ------
        RangeError, ShapeError
            If it does not fit behind the layer before.
        """
        matrix = np.asarray(weight, dtype=np.float64)
        if matrix.ndim != 2:
            raise self.refuse(layer, f"has a weight of shape {matrix.shape}; expected (outputs, inputs)")
        outputs, inputs = matrix.shape
        if not self.empty and self.width != inputs:
            raise ShapeError(
                f"{self._what}: {layer} takes {inputs} inputs; {self._names[-1]} before it gives {self.width}"
            )
        vector = np.zeros(outputs) if bias is None else np.asarray(bias, dtype=np.float64)
        if vector.shape != (outputs,):
            raise self.refuse(layer, f"has a bias of shape {vector.shape}; expected ({outputs},)")
        self._layers.append(Dense(outputs))
        self._params.append(Parameters(matrix, vector))
        self._names.append(layer)
        self._free = True

    def add_bias(self, layer: str, bias: npt.ArrayLike) -> None:
        """Add to the bias of the last dense layer, which nothing may stand behind yet.

        Raises
        ------
        RangeError
        """
        vector = np.atleast_1d(np.asarray(bias, dtype=np.float64))
        if vector.shape[:-1] == (1,) * (vector.ndim - 1):
            vector = vector.reshape(-1)
        if self.empty or not self._free or vector.shape not in ((self.width,), (1,)):
            raise self.refuse(layer, f"adds an array of shape {vector.shape}, which is no bias of a layer; {POSSIBLE}")
        last = self._params[-1]
        self._params[-1] = last._replace(bias=last.bias + vector)

    def activation(self, layer: str, kind: str, slope: float | None = None) -> None:
        """Put an activation behind the last dense layer.

        Parameters
        ----------
        layer : str
        kind : one of ``network.ACTIVATIONS``
        slope : float, optional
            Of leaky_relu.

        Raises
        ------
        RangeError
        """
        if kind == "identity":
            return
        if self.empty or not self._free:
            why = (
                "has no dense layer before it"
                if self.empty
                else f"stands behind another activation of {self._names[-1]}"
            )
            raise self.refuse(layer, f"{why}; {POSSIBLE}")
        if slope is None:
            self._layers[-1] = Dense(self.width, kind)
        else:
            self._layers[-1] = Dense(self.width, kind, slope=self._power_of_two(layer, slope))
        self._free = False

    def _power_of_two(self, layer: str, slope: float) -> float:
        size = float(np.float32(slope))
        if size <= 0.0 or math.frexp(size)[0] != 0.5 or not 2.0**-MAX_LEAK_BITS <= size <= 0.5:
            near = math.floor(math.log2(size)) if size > 0.0 else -7
            near = min(max(near, -MAX_LEAK_BITS), -1)
            others = sorted({near, min(near + 1, -1)})
            raise self.refuse(
                layer,
                f"has the slope {slope:g} below zero; possible are powers of two from 2**-{MAX_LEAK_BITS} to 1/2: here "
                + " or ".join(f"2**{power} = {2.0**power:g}" for power in others),
            )
        return size

    def softmax(self, layer: str) -> RangeError:
        """Make the error for a softmax."""
        return self.refuse(
            layer,
            "is no activation of a stage; possible is to leave it out and to take cost='softmax_cross_entropy', whose "
            "outputs are logits",
        )

    def finish(self, options: Options) -> Imported:
        """Make the network.

        Raises
        ------
        RangeError, FormatError, ShapeError
            If there is no dense layer, or `Network` refuses.
        """
        if self.empty:
            raise RangeError(f"{self._what} holds no dense layer; {POSSIBLE}")
        net = Network(
            self._params[0].weight.shape[1],
            self._layers,
            options.cost,
            formats=options.formats,
            input_gradient=options.input_gradient,
            max_batch=options.max_batch,
        )
        return Imported(net, net.check_parameters(self._params))


def layer_keys(net: Network) -> Sequence[str]:
    """Give the name that each dense layer has in the equal ``torch.nn.Sequential``: activations count too."""
    keys, place = [], 0
    for layer in net.layers:
        keys.append(str(place))
        place += 1 if layer.activation == "identity" else 2
    return keys
