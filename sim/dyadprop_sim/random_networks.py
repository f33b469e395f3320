"""Random networks with parameters and data, as words: what golden model and hardware are compared on."""

from typing import NamedTuple

import numpy as np

from dyadprop.formats import MAX_FRACTION, Formats, Ints, Q
from dyadprop.network import ACTIVATIONS, COSTS, Dense, Network, Parameters, RawParameters
from dyadprop.rates import FULL_SCALE, MIN_SCALE, Rate, exponents
from dyadprop.widths import stage_numbers, target_format

KINDS = ("realistic", "uniform", "extremes", "ties")
BATCHES = (1, 1, 2, 3, 7, 31, 64)


class Case(NamedTuple):
    """A network with everything that a gradient needs.

    Attributes
    ----------
    net : Network
    params : list of RawParameters
        Words of each layer's weight format.
    x : int64 array (batch, n_0), format A_0
    targets : int64 array (batch, n_L), target format of the cost
    kind : str
        One of ``KINDS``.
    """

    net: Network
    params: list[RawParameters]
    x: Ints
    targets: Ints
    kind: str


def random_case(
    seed: int,
    *,
    kind: str | None = None,
    layers: int | None = None,
    max_width: int = 13,
    batch: int | None = None,
) -> Case:
    """Draw a network, its parameters and a batch.

    Parameters
    ----------
    seed : int
        Non-negative; decides everything, with the sizes.
    kind : str, optional
        ``realistic``: sensible formats, started weights, data in [-1, 1]; most saturate nowhere. ``uniform``: any
        formats of 4 to 18 bits and any words; most saturate heavily. ``extremes``: only the words at both ends of their
        format, and those next to zero. ``ties``: words with so many trailing zeros that sums end halfway between two
        words. Drawn where not given.
    layers : int, optional
        1 to 5 where not given.
    max_width : int
        Largest ``n_l``.
    batch : int, optional
        Drawn from ``BATCHES`` where not given.

    Returns
    -------
    Case
        Every second network has the input gradient; ``max_batch`` is at least the batch, and in half of the cases
        no more.
    """
    rng = np.random.default_rng(seed)
    if kind is None:
        kind = str(rng.choice(KINDS))
    if batch is None:
        batch = int(rng.choice(BATCHES))
    if layers is None:
        layers = int(rng.integers(1, 6))
    net = _network(rng, kind, layers, max_width, batch)
    return draw_words(rng, net, kind, batch)


def draw_words(rng: np.random.Generator, net: Network, kind: str, batch: int) -> Case:
    """Draw parameters and a batch for a network that is there already."""
    draw = {"realistic": _realistic, "uniform": _uniform, "extremes": _extremes, "ties": _ties}[kind]
    return Case(net, *draw(rng, net, batch), kind)


def random_rate(rng: np.random.Generator, net: Network, batch_size: int) -> Rate | None:
    """Draw a learning rate that the network can take; None if there is none.

    Half of them are of a usual size, where the formats allow it; the others anything, up to those that throw every
    weight to its limit.
    """
    fitting = exponents(net, batch_size)
    if not fitting:
        return None
    usual = [k for k in fitting if 0 <= k <= 10]
    chosen = int(rng.choice(usual if usual and rng.random() < 0.5 else fitting))
    return Rate(chosen, FULL_SCALE if rng.random() < 0.25 else int(rng.integers(MIN_SCALE, FULL_SCALE)))


def _network(rng: np.random.Generator, kind: str, layers: int, max_width: int, batch: int) -> Network:
    cost = str(rng.choice(COSTS))
    dense = []
    for index in range(layers):
        last = index == layers - 1
        activation = str(rng.choice(ACTIVATIONS))
        if last and cost != "squared_error":
            activation = "sigmoid" if cost == "sigmoid_cross_entropy" else "identity"
        outputs = int(rng.integers(1, max_width + 1))
        dense.append(
            Dense(
                outputs,
                activation,
                formats=_formats(rng, kind) if rng.random() < 0.7 else None,
                lanes=int(rng.integers(1, outputs + 1)) if rng.random() < 0.7 else None,
                slope=2.0 ** -int(rng.integers(1, 16)),
            )
        )
    return Network(
        int(rng.integers(1, max_width + 1)),
        dense,
        cost,
        formats=_formats(rng, kind),
        input_gradient=bool(rng.random() < 0.5),
        max_batch=batch if rng.random() < 0.5 else batch + int(rng.integers(0, 200)),
    )


def _formats(rng: np.random.Generator, kind: str) -> Formats:
    def draw(width: tuple[int, int], integer_bits: tuple[int, int]) -> Q:
        w = int(rng.integers(width[0], width[1] + 1))
        low, high = max(integer_bits[0], w - MAX_FRACTION), min(integer_bits[1], w)
        m = int(rng.integers(low, high + 1))
        return Q(m, w - m)

    small = rng.random() < 0.2  # numbers that are always small: no integer bit
    if kind == "realistic":
        return Formats(draw((8, 18), (3, 5)), draw((8, 18), (-1, 1) if small else (2, 4)), draw((8, 18), (2, 4)))
    # An activation keeps one fraction bit for the tables of tanh and sigmoid. The whole legal range is rare: it leaves
    # little but zeros and saturated words.
    whole = rng.random() < 0.15
    return Formats(
        _with_fraction_bit(draw((4, 18), (1, 18 if whole else 6))),
        draw((4, 18), (-14, 18) if whole else (-4, 0) if small else (1, 6)),
        draw((4, 18), (-14, 18) if whole else (-8, 0) if small else (-2, 6)),
    )


def _with_fraction_bit(form: Q) -> Q:
    return form if form.fraction_bits else Q(form.integer_bits - 1, 1)


def _words(rng: np.random.Generator, form: Q, shape: tuple[int, ...], zeros: int = 0) -> Ints:
    """Draw words with ``zeros`` trailing zero bits."""
    drawn = rng.integers(form.min_int >> zeros, form.max_int >> zeros, shape, dtype=np.int64, endpoint=True)
    return drawn << zeros


_Drawn = tuple[list[RawParameters], Ints, Ints]


def _realistic(rng: np.random.Generator, net: Network, batch: int) -> _Drawn:
    params = [
        Parameters(entry.weight, rng.uniform(-0.25, 0.25, entry.bias.shape))
        for entry in net.init(int(rng.integers(1 << 32)))
    ]
    y = rng.uniform(-1, 1, (batch, net.outputs))
    if net.cost == "softmax_cross_entropy":
        y = np.eye(net.outputs)[rng.integers(0, net.outputs, batch)]
    elif net.layers[-1].activation == "sigmoid":
        y = rng.integers(0, 2, y.shape).astype(np.float64) if rng.random() < 0.5 else np.abs(y)
    x = rng.uniform(-1, 1, (batch, net.inputs))
    return (
        net.quantize(params).raw,
        net.formats.activation.to_ints(x).words,
        target_format(net).to_ints(y).words,
    )


def _uniform(rng: np.random.Generator, net: Network, batch: int) -> _Drawn:
    params = [
        RawParameters(
            _words(rng, s.weight, (s.outputs, s.inputs)), _words(rng, s.weight, (s.outputs,)), s.weight.fraction_bits
        )
        for s in stage_numbers(net)
    ]
    return (
        params,
        _words(rng, net.formats.activation, (batch, net.inputs)),
        _words(rng, target_format(net), (batch, net.outputs)),
    )


def _extremes(rng: np.random.Generator, net: Network, batch: int) -> _Drawn:
    def draw(form: Q, shape: tuple[int, ...]) -> Ints:
        low, high = form.min_int, form.max_int
        choices = ((low,), (high,), (low, high), (low, 0, high), (low, -1, 1, high))
        return rng.choice(np.array(choices[int(rng.integers(len(choices)))], dtype=np.int64), shape)

    params = [
        RawParameters(draw(s.weight, (s.outputs, s.inputs)), draw(s.weight, (s.outputs,)), s.weight.fraction_bits)
        for s in stage_numbers(net)
    ]
    return params, draw(net.formats.activation, (batch, net.inputs)), draw(target_format(net), (batch, net.outputs))


def _ties(rng: np.random.Generator, net: Network, batch: int) -> _Drawn:
    params = []
    x_zeros = 0
    for s in stage_numbers(net):
        # A sum with k - 1 trailing zeros, shifted right by k, is a tie whenever it is odd in units of half an lsb.
        # Forward and backward sums shift by different k; a layer's weights serve one of the two.
        forward = max(0, s.accumulator_fraction - s.output.fraction_bits - 1)
        backward = max(0, s.sensitivity_sum_fraction - s.input_sensitivity.fraction_bits - 1)
        wanted = forward if s.index == 1 or rng.random() < 0.5 else backward
        zeros = min(wanted, s.weight.width - 2)
        bias_zeros = min(max(0, forward - s.input.fraction_bits), s.weight.width - 2)
        if s.index == 1:
            x_zeros = min(wanted - zeros, s.input.width - 2)
        params.append(
            RawParameters(
                _words(rng, s.weight, (s.outputs, s.inputs), zeros),
                _words(rng, s.weight, (s.outputs,), bias_zeros),
                s.weight.fraction_bits,
            )
        )
    return (
        params,
        _words(rng, net.formats.activation, (batch, net.inputs), x_zeros),
        _words(rng, target_format(net), (batch, net.outputs)),
    )
