"""Which formats a network needs: ranges of its signals in float64, and the words that keep most of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from dyadprop.checks import finite_array, whole_number
from dyadprop.costs import real_targets
from dyadprop.errors import ShapeError
from dyadprop.formats import MAX_FRACTION, MAX_WORD, Floats, Formats, Q
from dyadprop.network import Dense, Network, Parameters
from dyadprop.relaxation.reals import Reals
from dyadprop.widths import stage_numbers

MIN_BITS = 4  # a sign, one integer bit for 1.0, and something to learn with
SIGNALS = ("activation", "weight", "sensitivity", "gradient")


@dataclass(frozen=True)
class Signal:
    """The values that one signal of one layer took.

    Attributes
    ----------
    layer : int
        ``l``; 0 is the network's input.
    name : str
        One of ``SIGNALS``.
    values : float64 array
        All of them, in no order.
    """

    layer: int
    name: str
    values: Floats

    @property
    def largest(self) -> float:
        """The largest size."""
        return float(np.max(np.abs(self.values), initial=0.0))


@dataclass(frozen=True)
class Loss:
    """What a format takes from a signal.

    Attributes
    ----------
    format : str
    lsb, reaches : float
        Smallest and largest size of a word.
    limited, zeroed : float
        Parts of the values, 0 to 1, that exceed the format, and that become zero without being it.
    noise : float
        Root mean square of what rounding and limiting change, over that of the values.
    """

    format: str
    lsb: float
    reaches: float
    limited: float
    zeroed: float
    noise: float

    def __str__(self) -> str:
        parts = [f"{self.limited:.2%} limited" if self.limited >= 1e-4 else "a few limited"] if self.limited else []
        if self.zeroed > 0.01:
            parts.append(f"{self.zeroed:.0%} become zero")
        if self.noise > 0.02:
            parts.append(f"noise {self.noise:.0%}")
        return ", ".join(parts) or "fits"


def signals(
    net: Network, snapshots: Sequence[Sequence[Parameters]], x: npt.ArrayLike, y: npt.ArrayLike
) -> list[Signal]:
    """Record what each signal is in float64, with each of several parameter sets.

    Parameters
    ----------
    net : Network
        Its formats are not used.
    snapshots : sequence of parameter sets
        Of the start, the end, and what is between.
    x : array (batch, n_0)
    y : array (batch, n_L), or integer labels (batch,) for the cross-entropies

    Returns
    -------
    list of Signal
        The input's activation (and sensitivity, with the input gradient), then activation, weight, sensitivity and
        gradient of each layer. A sensitivity holds ``lambda_l``; ``delta_l`` is no larger. A gradient is a sum over at
        most ``max_batch`` samples, which is what an accumulator holds.

    Raises
    ------
    ShapeError, RangeError
    """
    inputs = finite_array("inputs x", x, (None, net.inputs))
    targets = real_targets(net, y, len(inputs))
    found: dict[tuple[int, str], list[Floats]] = {(0, "activation"): [inputs.ravel()]}
    if net.input_gradient:
        found[0, "sensitivity"] = []
    for l in range(1, len(net.layers) + 1):
        found |= {(l, name): [] for name in SIGNALS}
    for params in snapshots:
        checked = net.check_parameters(params)
        for l, entry in enumerate(checked, start=1):
            found[l, "weight"].append(_flat(entry))
        for i in range(0, len(inputs), net.max_batch):
            part = slice(i, i + net.max_batch)
            _record_pass(net, checked, inputs[part], targets[part], found)
    return [Signal(l, name, np.concatenate(values)) for (l, name), values in found.items()]


def _record_pass(
    net: Network, params: list[Parameters], x: Floats, y: Floats, found: dict[tuple[int, str], list[Floats]]
) -> None:
    """Walk up and down again layer by layer, so that what passes between layers is seen."""
    numbers = Reals(net, params)
    activations = [x]
    for l in range(1, numbers.depth + 1):
        activations.append(numbers.forward(l, activations[-1]))
        found[l, "activation"].append(activations[-1].ravel())
    sensitivity = numbers.seed(activations[-1], y)
    for l in range(numbers.depth, 0, -1):
        found[l, "sensitivity"].append(sensitivity.ravel())
        delta = numbers.delta(l, sensitivity, activations[l])
        found[l, "gradient"].append(_flat(numbers.gradient(l, delta, activations[l - 1])))
        sensitivity = numbers.backward(l, delta)
    if net.input_gradient:
        found[0, "sensitivity"].append(sensitivity.ravel())


def _flat(entry: Parameters) -> Floats:
    return np.concatenate([entry.weight.ravel(), entry.bias])


def loss(net: Network, signal: Signal) -> Loss:
    """Say what the format that ``net`` gives a signal takes from it; sums of gradients are exact, but have an lsb too.

    Parameters
    ----------
    net : Network
    signal : Signal
    """
    values = signal.values
    if signal.name == "gradient":
        stage = stage_numbers(net)[signal.layer - 1]
        fraction, width = stage.gradient_fraction, stage.gradient_bits
        name, lsb = f"Q{width - fraction}.{fraction}", 2.0**-fraction
        rounded, reaches = np.rint(values / lsb) * lsb, 2.0 ** (width - 1 - fraction) - lsb
        limited = int(np.count_nonzero(np.abs(values) > reaches))
    else:
        form: Q = getattr(net.layer_formats(signal.layer), signal.name)
        words, limited = form.to_ints(values)
        name, lsb, reaches, rounded = str(form), form.lsb, form.max, form.to_floats(words)
    size = float(np.sqrt(np.mean(values**2)))
    noise = float(np.sqrt(np.mean((rounded - values) ** 2)))
    zeroed = int(np.count_nonzero((rounded == 0) & (values != 0)))
    return Loss(name, lsb, reaches, limited / values.size, zeroed / values.size, noise / size if size else 0.0)


def choose_format(values: Floats, bits: int, *, least_integer_bits: int = -MAX_FRACTION, least_fraction: int = 0) -> Q:
    """Give the format of ``bits`` bits that values suffer least from: rounding and clipping, in the mean square.

    Parameters
    ----------
    values : float64 array
    bits : int
    least_integer_bits, least_fraction : int
        What the signal needs in each case.
    """
    first = max(least_integer_bits, bits - MAX_FRACTION)
    candidates = [Q(m, bits - m) for m in range(first, bits - least_fraction + 1)]

    def error(form: Q) -> float:
        return float(np.mean((form.to_floats(form.to_ints(values).words) - values) ** 2))

    # Of equally good ones, such as for values that are all zero, the one with most room.
    return min(candidates, key=lambda form: (error(form), -form.integer_bits))


def choose_formats(
    net: Network,
    params: Sequence[Parameters] | Sequence[Sequence[Parameters]],
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    bits: int = 8,
) -> Network:
    """Give the same network with the formats that a float64 run asks for, a format for each signal of each layer.

    Parameters
    ----------
    net : Network
        Its own formats are not used.
    params : parameters, or a sequence of them
        After a float64 run; better, at several times of it.
    x : array (batch, n_0)
    y : array (batch, n_L), or integer labels (batch,) for the cross-entropies
    bits : int
        Of every word, 4 to 18.

    Returns
    -------
    Network

    Raises
    ------
    ShapeError, RangeError
        If ``bits`` is out of range, or an array does not fit the network.
    """
    bits = whole_number("bits of a word", bits, MIN_BITS, MAX_WORD)
    if not len(params):
        raise ShapeError("no parameters given; formats are chosen from at least one set of them")
    one = isinstance(params[0], Parameters)
    snapshots = cast(Sequence[Sequence[Parameters]], [params] if one else params)
    found = {(s.layer, s.name): s.values for s in signals(net, snapshots, x, y)}
    layers = []
    for l, layer in enumerate(net.layers, start=1):
        curved = layer.activation in ("tanh", "sigmoid")
        formats = Formats(
            choose_format(found[l, "activation"], bits, least_integer_bits=1, least_fraction=int(curved)),
            choose_format(found[l, "weight"], bits),
            choose_format(found[l, "sensitivity"], bits),
        )
        layers.append(Dense(layer.outputs, layer.activation, formats=formats, lanes=layer.lanes, slope=layer.slope))
    first = layers[0].formats
    assert first is not None
    own = Formats(
        choose_format(found[0, "activation"], bits, least_integer_bits=1),
        first.weight,
        choose_format(found[0, "sensitivity"], bits) if net.input_gradient else first.sensitivity,
    )
    return net.with_layers(layers, formats=own)
