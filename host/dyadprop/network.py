"""What a user describes: layers, formats and cost of a network, and its parameters."""

import hashlib
import json
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tomli_w

from dyadprop.checks import finite_array, whole_number
from dyadprop.errors import FormatError, NetworkMismatch, RangeError, ShapeError
from dyadprop.files import write_atomically
from dyadprop.formats import Floats, Formats, Ints, Q

if TYPE_CHECKING:
    from dyadprop.relaxation.state import State

ACTIVATIONS = ("identity", "relu", "leaky_relu", "tanh", "sigmoid")
COSTS = ("squared_error", "sigmoid_cross_entropy", "softmax_cross_entropy")
# The last layer that a cross-entropy belongs behind: then dC/da_L is x_L - y, or softmax(x_L) - y.
_MATCHING = {"sigmoid_cross_entropy": "sigmoid", "softmax_cross_entropy": "identity"}
_TOML_SCHEMA = 1
MAX_WIDTH = 4096
MAX_LAYERS = 64
MAX_BATCH_LIMIT = 65535
MAX_LEAK_BITS = 15


class Parameters(NamedTuple):
    """Weight and bias of a layer, or a gradient with respect to them.

    Attributes
    ----------
    weight : float64 array (n_l, n_{l-1})
    bias : float64 array (n_l,)
    """

    weight: Floats
    bias: Floats


class RawParameters(NamedTuple):
    """Weight and bias of a layer as words, or a gradient as exact integers.

    Attributes
    ----------
    weight : int64 array (n_l, n_{l-1})
    bias : int64 array (n_l,)
    fraction_bits : int
        The value of an integer ``v`` is ``v * 2**-fraction_bits``.
    """

    weight: Ints
    bias: Ints
    fraction_bits: int

    @property
    def largest(self) -> int:
        """Largest size of an entry."""
        return max(int(np.max(np.abs(values), initial=0)) for values in (self.weight, self.bias))

    def decode(self) -> Parameters:
        """Give the real values (exact up to 53 bits)."""
        return Parameters(
            np.ldexp(self.weight.astype(np.float64), -self.fraction_bits),
            np.ldexp(self.bias.astype(np.float64), -self.fraction_bits),
        )


class QuantizedParameters(NamedTuple):
    """What loading a parameter set gives.

    Attributes
    ----------
    raw : list of RawParameters
    parameters : list of Parameters
        The same as real values, as the device will use them.
    saturations : list of int
        Words limited to the format's range, a layer.
    """

    raw: list[RawParameters]
    parameters: list[Parameters]
    saturations: list[int]


@dataclass(frozen=True)
class Dense:
    """A layer ``x_l = phi(W_l x_{l-1} + b_l)``.

    Parameters
    ----------
    outputs : int
        ``n_l``, 1 to 4096.
    activation : {"identity", "relu", "leaky_relu", "tanh", "sigmoid"}
    formats : Formats, optional
        Of this layer's ``x_l``, ``W_l``, ``b_l`` and ``lambda_l``; the network's where not given.
    lanes : int, optional
        Dyad lanes of this layer's stage, 1 to ``outputs``; shared out under a multiplier budget where not given.
    slope : float
        Of leaky_relu below zero: a power of two, 2**-15 to 1/2.

    Raises
    ------
    RangeError, FormatError
    """

    outputs: int
    activation: str = "identity"
    formats: Formats | None = None
    lanes: int | None = None
    slope: float = 2.0**-7

    def __post_init__(self) -> None:
        whole_number("outputs of a layer", self.outputs, 1, MAX_WIDTH)
        object.__setattr__(self, "outputs", int(self.outputs))  # NumPy's integers go into no JSON and no TOML
        if self.activation not in ACTIVATIONS:
            raise RangeError(f"activation {self.activation!r} is not known; allowed are {', '.join(ACTIVATIONS)}")
        if self.formats is not None and not isinstance(self.formats, Formats):
            raise FormatError(f"formats of a layer are {self.formats!r}; expected dyadprop.Formats or None")
        if self.lanes is not None:
            whole_number("lanes of a layer", self.lanes, 1, self.outputs)
            object.__setattr__(self, "lanes", int(self.lanes))
        slope: object = self.slope
        power = isinstance(slope, (int, float)) and slope > 0 and math.frexp(slope)[0] == 0.5
        if not (power and 1 <= self.leak_bits <= MAX_LEAK_BITS):
            raise RangeError(f"slope of leaky_relu is {self.slope!r}; allowed are powers of two from 2**-15 to 2**-1")

    @property
    def leak_bits(self) -> int:
        """``k`` of the slope ``2^-k``."""
        return 1 - math.frexp(self.slope)[1]


class Network:
    """A chain of dense layers, its number formats and its cost.

    Parameters
    ----------
    inputs : int
        ``n_0``, 1 to 4096.
    layers : sequence of Dense
        At least one.
    cost : {"squared_error", "sigmoid_cross_entropy", "softmax_cross_entropy"}
        The cross-entropies go behind a last layer of ``sigmoid`` and of ``identity`` (logits).
    formats : Formats, optional
        Of every layer that names none, and of the network's inputs and input gradients. Default 16-bit words: Q4.12,
        Q4.12, Q2.14.
    input_gradient : bool
        Whether the first stage computes ``dC/dx_0`` too.
    max_batch : int
        Samples of worst-case data that the gradient accumulators hold exactly; longer batches are split by the driver.

    Raises
    ------
    RangeError, FormatError

    Examples
    --------
    >>> net = Network(64, [Dense(32, "tanh"), Dense(10)], cost="squared_error")
    >>> net.widths
    (64, 32, 10)
    """

    def __init__(
        self,
        inputs: int,
        layers: Sequence[Dense],
        cost: str = "squared_error",
        *,
        formats: Formats | None = None,
        input_gradient: bool = False,
        max_batch: int = 255,
    ) -> None:
        whole_number("inputs of a network", inputs, 1, MAX_WIDTH)
        layers = tuple(layers)
        if not 1 <= len(layers) <= MAX_LAYERS:
            raise RangeError(f"a network has {len(layers)} layers; allowed are 1 to {MAX_LAYERS}")
        for index, layer in enumerate(layers, start=1):
            if not isinstance(layer, Dense):
                raise RangeError(f"layer {index} is {layer!r}; expected a dyadprop.Dense")
        if cost not in COSTS:
            raise RangeError(f"cost {cost!r} is not known; allowed are {', '.join(COSTS)}")
        wanted = _MATCHING.get(cost)
        if wanted is not None and layers[-1].activation != wanted:
            raise RangeError(f"cost {cost} needs a last layer with activation {wanted}; got {layers[-1].activation}")
        if formats is not None and not isinstance(formats, Formats):
            raise FormatError(f"formats of a network are {formats!r}; expected dyadprop.Formats or None")
        if not isinstance(input_gradient, bool):
            raise RangeError(f"input_gradient is {input_gradient!r}; allowed are True and False")
        whole_number("max_batch", max_batch, 1, MAX_BATCH_LIMIT)
        self._inputs = int(inputs)
        self._layers = layers
        self._cost = cost
        self._formats = formats if formats is not None else Formats()
        self._input_gradient = input_gradient
        self._max_batch = int(max_batch)
        for index, layer in enumerate(layers, start=1):
            activation = self.layer_formats(index).activation
            if layer.activation in ("tanh", "sigmoid") and activation.fraction_bits < 1:
                raise FormatError(
                    f"activation format of layer {index} ({layer.activation}) is {activation}; "
                    "it needs at least 1 fraction bit"
                )

    @property
    def inputs(self) -> int:
        """``n_0``."""
        return self._inputs

    @property
    def outputs(self) -> int:
        """``n_L``."""
        return self._layers[-1].outputs

    @property
    def layers(self) -> tuple[Dense, ...]:
        """Layers ``1..L``."""
        return self._layers

    @property
    def cost(self) -> str:
        """Name of the cost."""
        return self._cost

    @property
    def formats(self) -> Formats:
        """Formats of inputs, and of every layer that names none."""
        return self._formats

    @property
    def input_gradient(self) -> bool:
        """Whether ``dC/dx_0`` is computed too."""
        return self._input_gradient

    @property
    def max_batch(self) -> int:
        """Samples that the gradient accumulators hold exactly."""
        return self._max_batch

    @property
    def widths(self) -> tuple[int, ...]:
        """``(n_0, ..., n_L)``."""
        return (self._inputs, *(layer.outputs for layer in self._layers))

    def layer_formats(self, index: int) -> Formats:
        """Give the formats of layer ``index``; 0 stands for the network's input."""
        if index == 0:
            return self._formats
        own = self._layers[index - 1].formats
        return own if own is not None else self._formats

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and self._document() == other._document()

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        chain = "-".join(str(width) for width in self.widths)
        activations = ", ".join(layer.activation for layer in self._layers)
        return f"<Network {chain} ({activations}), {self._cost}, hash {self.hash}>"

    @property
    def hash(self) -> str:
        """16 hex digits of everything that decides a bit.

        That is widths, activations, formats, cost, input gradient and largest batch. Lanes are left out:
        they change speed and never a bit.
        """
        document = self._document(every_format=True)
        for layer in document["layers"]:
            layer.pop("lanes", None)
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]

    def _document(self, *, every_format: bool = False) -> dict[str, Any]:
        layers = []
        for index, layer in enumerate(self._layers, start=1):
            entry: dict[str, Any] = {"outputs": layer.outputs, "activation": layer.activation}
            if layer.activation == "leaky_relu":
                entry["slope"] = float(layer.slope)
            if layer.lanes is not None:
                entry["lanes"] = layer.lanes
            if every_format or layer.formats is not None:
                entry["formats"] = _formats_document(self.layer_formats(index))
            layers.append(entry)
        return {
            "schema": _TOML_SCHEMA,
            "inputs": self._inputs,
            "cost": self._cost,
            "input_gradient": self._input_gradient,
            "max_batch": self._max_batch,
            "formats": _formats_document(self._formats),
            "layers": layers,
        }

    def save(self, path: str | Path) -> None:
        """Write the network as TOML, to be read by `Network.load`.

        Raises
        ------
        RangeError
            If the file cannot be written.
        """
        write_atomically("network file", path, tomli_w.dumps(self._document()))

    @classmethod
    def load(cls, path: str | Path) -> "Network":
        """Read a network that `save` wrote.

        Raises
        ------
        RangeError, FormatError
            With the file's name, if it cannot be read, has another schema, or describes no network.
        """
        try:
            document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise RangeError(f"network file {path} cannot be read: {error}") from error
        schema = document.pop("schema", None)
        if schema != _TOML_SCHEMA:
            raise RangeError(f"network file {path} has schema {schema!r}; this version reads schema {_TOML_SCHEMA}")
        try:
            return _network_from_document(document)
        except FormatError as error:
            raise FormatError(f"network file {path}: {error}") from error
        except RangeError as error:
            raise RangeError(f"network file {path}: {error}") from error

    def with_layers(
        self, layers: Sequence[Dense], *, inputs: int | None = None, formats: Formats | None = None
    ) -> "Network":
        """Give a network with other layers, and all else as here where it is not given.

        Parameters
        ----------
        layers : sequence of Dense
        inputs : int, optional
        formats : Formats, optional

        Raises
        ------
        ShapeError, RangeError, FormatError
            As `Network` itself.
        """
        return Network(
            self.inputs if inputs is None else inputs,
            layers,
            self.cost,
            formats=self.formats if formats is None else formats,
            input_gradient=self.input_gradient,
            max_batch=self.max_batch,
        )

    def init(self, seed: int = 0) -> list[Parameters]:
        """Draw starting parameters: Glorot uniform weights (He uniform before relu and leaky_relu), zero biases.

        Parameters
        ----------
        seed : int
            Non-negative.

        Returns
        -------
        list of Parameters
            float64. The same numbers on every NumPy: drawn from the raw 64-bit stream of PCG64, which NumPy keeps.
            ``W ~ U(-r, r)`` in row-major order, ``r = sqrt(6 / (n_{l-1} + n_l))`` or ``sqrt(6 / n_{l-1})``.
        """
        whole_number("seed", seed, 0, 2**63)
        stream = np.random.PCG64(seed)
        result = []
        for n_in, layer in zip(self.widths, self._layers, strict=False):
            fan = n_in if layer.activation in ("relu", "leaky_relu") else n_in + layer.outputs
            raw = np.asarray(stream.random_raw(layer.outputs * n_in), dtype=np.uint64)
            uniform = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
            weight = (2.0 * uniform - 1.0) * math.sqrt(6.0 / fan)
            result.append(Parameters(weight.reshape(layer.outputs, n_in), np.zeros(layer.outputs)))
        return result

    def check_parameters(self, params: Sequence[Parameters]) -> list[Parameters]:
        """Return float64 copies of a parameter set, or raise what is wrong with it.

        Raises
        ------
        ShapeError
            If a layer is missing or an array has another shape.
        RangeError
            If an entry is NaN or infinite.
        """
        params = list(params)
        if len(params) != len(self._layers):
            raise ShapeError(f"{len(params)} layers of parameters given; network expects {len(self._layers)}")
        checked = []
        for index, (entry, n_in, n_out) in enumerate(zip(params, self.widths, self.widths[1:], strict=False), start=1):
            try:
                weight, bias = entry
            except (TypeError, ValueError) as error:
                raise ShapeError(f"parameters of stage {index} are not a pair (weight, bias)") from error
            checked.append(
                Parameters(
                    finite_array(f"weight of stage {index}", weight, (n_out, n_in)),
                    finite_array(f"bias of stage {index}", bias, (n_out,)),
                )
            )
        return checked

    def quantize(self, params: Sequence[Parameters]) -> QuantizedParameters:
        """Round parameters half to even into each layer's weight format, saturating.

        Parameters
        ----------
        params : sequence of Parameters
            Weight ``(n_l, n_{l-1})`` and bias ``(n_l,)`` of each layer.

        Raises
        ------
        ShapeError, RangeError
        """
        raw, real, saturations = [], [], []
        for index, entry in enumerate(self.check_parameters(params), start=1):
            weight_format = self.layer_formats(index).weight
            weight, weight_count = weight_format.to_ints(entry.weight)
            bias, bias_count = weight_format.to_ints(entry.bias)
            raw.append(RawParameters(weight, bias, weight_format.fraction_bits))
            real.append(raw[-1].decode())
            saturations.append(weight_count + bias_count)
        return QuantizedParameters(raw, real, saturations)

    # -- the relaxation (dyadprop.relaxation stands on this module, so it is imported where it is asked for) ----------

    def energy(self, params: Sequence[Parameters], x: npt.ArrayLike, y: npt.ArrayLike, state: "State") -> float:
        """Give ``E(x, lambda) = C(x_L, y) + sum_l lambda_l . (F_l(x_{l-1}) - x_l)``, summed over the batch.

        Parameters
        ----------
        params : sequence of Parameters
        x : array (batch, n_0)
        y : array (batch, n_L), or labels for the cross-entropies
        state : dyadprop.State

        Raises
        ------
        ShapeError, RangeError
        """
        from dyadprop.relaxation import laws

        return laws.energy(self, *self._held(params, x, y), state)

    def flow(self, params: Sequence[Parameters], x: npt.ArrayLike, y: npt.ArrayLike, state: "State") -> "State":
        """Give ``dE/dlambda_l`` and ``dE/dx_l``, by which activations and sensitivities move.

        Parameters
        ----------
        params : sequence of Parameters
        x : array (batch, n_0)
        y : array (batch, n_L), or labels for the cross-entropies
        state : dyadprop.State

        Returns
        -------
        State
            ``tau dx_l/dt`` and ``tau dlambda_l/dt``.

        Raises
        ------
        ShapeError, RangeError
        """
        from dyadprop.relaxation import laws

        return laws.flow(self, *self._held(params, x, y), state)

    def _held(
        self, params: Sequence[Parameters], x: npt.ArrayLike, y: npt.ArrayLike
    ) -> tuple[list[Parameters], Floats, Floats]:
        from dyadprop.costs import real_targets

        inputs = finite_array("inputs x", x, (None, self.inputs))
        return self.check_parameters(params), inputs, real_targets(self, y, len(inputs))


def _formats_document(formats: Formats) -> dict[str, str]:
    return {name: str(getattr(formats, name)) for name in ("activation", "weight", "sensitivity")}


def _formats_from_document(where: str, document: object) -> Formats:
    if not isinstance(document, dict) or set(document) - {"activation", "weight", "sensitivity"}:
        raise RangeError(f"{where} is {document!r}; expected a table of activation, weight, sensitivity")
    return Formats(**{name: Q.parse(text) for name, text in document.items()})


def _network_from_document(document: dict[str, Any]) -> Network:
    known = {"inputs", "cost", "input_gradient", "max_batch", "formats", "layers"}
    unknown = set(document) - known
    if unknown:
        raise RangeError(f"unknown key {sorted(unknown)[0]!r}; allowed are {', '.join(sorted(known))}")
    missing = {"inputs", "layers"} - set(document)
    if missing:
        raise RangeError(f"key {sorted(missing)[0]!r} is missing")
    if not isinstance(document["layers"], list) or not all(isinstance(entry, dict) for entry in document["layers"]):
        raise RangeError("layers must be an array of tables, [[layers]]")
    layers = []
    for index, entry in enumerate(document.pop("layers"), start=1):
        allowed = {"outputs", "activation", "formats", "lanes", "slope"}
        if set(entry) - allowed or "outputs" not in entry:
            raise RangeError(
                f"layer {index} has keys {', '.join(sorted(entry))}; allowed are {', '.join(sorted(allowed))}"
            )
        if "formats" in entry:
            entry["formats"] = _formats_from_document(f"formats of layer {index}", entry["formats"])
        layers.append(Dense(**entry))
    if "formats" in document:
        document["formats"] = _formats_from_document("formats", document["formats"])
    return Network(layers=layers, **document)


def check_same_network(what: str, got: str, net: Network) -> None:
    """Raise NetworkMismatch unless ``got`` is the hash of ``net``."""
    if got != net.hash:
        raise NetworkMismatch(f"{what} belongs to network {got}; this network is {net.hash} ({net!r})")
