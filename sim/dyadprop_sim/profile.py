"""Which formats a network needs: ranges of its signals in float64, and the words that keep most of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dyadprop.checks import whole_number
from dyadprop.formats import MAX_FRACTION, MAX_WORD, Floats, Formats, Q
from dyadprop.network import Dense, Network, Parameters
from dyadprop_sim import reference

MIN_BITS = 4  # a sign, one integer bit for 1.0, and something to learn with
SIGNALS = ("activation", "weight", "sensitivity")


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


def signals(net: Network, snapshots: Sequence[Sequence[Parameters]], x: Floats, y: Floats) -> list[Signal]:
    """Record what each signal is at several times of a float64 run.

    Parameters
    ----------
    net : Network
        Its formats are not used.
    snapshots : sequence of parameter sets
        Of the start, the end, and what is between.
    x : float64 array (batch, n_0)
    y : float64 array (batch, n_L)

    Returns
    -------
    list of Signal
        The input's activation, then activation, weight and sensitivity of each layer. A sensitivity holds ``lambda_l``;
        ``delta_l`` is no larger.
    """
    traces = [reference.textbook(net, params, x, y) for params in snapshots]
    found = [Signal(0, "activation", x.ravel())]
    for l in range(1, len(net.layers) + 1):
        weights = [np.concatenate([params[l - 1].weight.ravel(), params[l - 1].bias]) for params in snapshots]
        columns = (
            [trace.activations[l].ravel() for trace in traces],
            weights,
            [trace.sensitivities[l].ravel() for trace in traces],
        )
        found += [Signal(l, name, np.concatenate(column)) for name, column in zip(SIGNALS, columns, strict=True)]
    return found


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
    net: Network, params: Sequence[Parameters] | Sequence[Sequence[Parameters]], x: Floats, y: Floats, bits: int
) -> Network:
    """Give the same network with the formats that a float64 run asks for.

    Parameters
    ----------
    net : Network
        Its own formats are not used.
    params : parameters, or a sequence of them
        After a float64 run; better, at several times of it.
    x : float64 array (batch, n_0)
    y : float64 array (batch, n_L)
    bits : int
        Of every word, 4 to 18.

    Returns
    -------
    Network

    Raises
    ------
    RangeError
        If ``bits`` is out of range.
    """
    bits = whole_number("bits of a word", bits, MIN_BITS, MAX_WORD)
    snapshots = [params] if isinstance(params[0], Parameters) else params
    found = {(s.layer, s.name): s.values for s in signals(net, snapshots, x, y)}  # type: ignore[arg-type]
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
    return Network(
        net.inputs,
        layers,
        net.cost,
        # The input gradient is in the size of the first layer's sensitivities.
        formats=Formats(
            choose_format(found[0, "activation"], bits, least_integer_bits=1), first.weight, first.sensitivity
        ),
        input_gradient=net.input_gradient,
        max_batch=net.max_batch,
    )
