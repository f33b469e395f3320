"""Networks and batches that the claims are measured on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dyadprop.formats import Floats, Formats, Q
from dyadprop.network import Dense, Network, Parameters

# Words in which tanh units and their sensitivities neither saturate nor vanish in a few layers.
FINE = Formats(Q(2, 16), Q(2, 16), Q(2, 16))


@dataclass(frozen=True)
class Sample:
    """A network with parameters, and a batch to hold."""

    net: Network
    params: list[Parameters]
    x: Floats
    y: Floats


def chain(
    depth: int,
    seed: int,
    *,
    activation: str = "tanh",
    width: int = 6,
    batch: int = 4,
    formats: Formats | None = None,
    last: str | None = None,
) -> Sample:
    """Draw a chain of equal layers, with biases, and a batch."""
    layers = [Dense(width, activation) for _ in range(depth)]
    if last is not None:
        layers[-1] = Dense(width, last)
    net = Network(width, layers, formats=formats)
    rng = np.random.default_rng([seed, depth, 7])
    params = [Parameters(p.weight, rng.uniform(-0.2, 0.2, p.bias.shape)) for p in net.init(seed)]
    return Sample(net, params, rng.uniform(-1, 1, (batch, width)), rng.uniform(-0.9, 0.9, (batch, width)))


def orthogonal_chain(depth: int, seed: int, *, width: int = 8, formats: Formats | None = None) -> Sample:
    """Draw a chain of orthogonal weights and a small input, through which sensitivities neither vanish nor explode."""
    rng = np.random.default_rng([seed, depth, 8])
    net = Network(width, [Dense(width, "tanh") for _ in range(depth)], formats=formats)
    params = []
    for _ in range(depth):
        q, r = np.linalg.qr(rng.standard_normal((width, width)))
        params.append(Parameters(q * np.sign(np.diag(r)), np.zeros(width)))
    return Sample(net, params, rng.uniform(-0.2, 0.2, (2, width)), rng.uniform(-0.5, 0.5, (2, width)))


def seeds(first: int, count: int) -> Sequence[int]:
    """Give seeds of one measurement."""
    return range(first, first + count)
