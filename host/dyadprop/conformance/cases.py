"""Networks, parameters and samples of the conformance suite."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dyadprop.formats import Floats, Formats, Ints, Q
from dyadprop.network import ACTIVATIONS, COSTS, Dense, Network, Parameters

RANDOM = "random"


@dataclass(frozen=True)
class Case:
    """A network with what it is asked.

    Attributes
    ----------
    name : str
    net : Network
    seed : int
    """

    name: str
    net: Network
    seed: int = 0

    @cached_property
    def params(self) -> list[Parameters]:
        """Parameters that leave room: nothing of what follows saturates because of them."""
        rng = np.random.default_rng([self.seed, 1])
        return [
            Parameters(0.7 * entry.weight, rng.uniform(-0.2, 0.2, entry.bias.shape))
            for entry in self.net.init(self.seed)
        ]

    @property
    def batches(self) -> list[int]:
        """Sizes around the multiples of ``max_batch``, where a driver splits."""
        most = min(self.net.max_batch, 64)  # not more than a slow device does in a second
        return sorted({1, 2, most, most + 1, *((2 * most, 2 * most + 1) if most < 32 else ())})

    def inputs(self, count: int) -> Floats:
        """Draw inputs."""
        return np.random.default_rng([self.seed, 2, count]).uniform(-0.9, 0.9, (count, self.net.inputs))

    def labels(self, count: int) -> Ints:
        """Draw classes."""
        return np.random.default_rng([self.seed, 3, count]).integers(0, self.net.outputs, count)

    def targets(self, count: int) -> Floats:
        """Draw targets that suit the cost."""
        rng = np.random.default_rng([self.seed, 4, count])
        if self.net.cost == "softmax_cross_entropy":
            return np.asarray(np.eye(self.net.outputs)[self.labels(count)])
        low = 0.0 if self.net.cost == "sigmoid_cross_entropy" else -0.5
        return rng.uniform(low, 0.5, (count, self.net.outputs))

    def seeds(self, count: int, size: float) -> Floats:
        """Draw ``dC/dx_L`` of about that size."""
        return np.random.default_rng([self.seed, 5, count]).normal(0.0, size, (count, self.net.outputs))


_MIXED = Formats(Q(3, 9), Q(3, 13), Q(3, 15))

FIXED = (
    Case("tanh", Network(5, [Dense(7, "tanh"), Dense(3)], input_gradient=True, max_batch=8)),
    Case(
        "deep",
        Network(
            3,
            [Dense(6, "leaky_relu", _MIXED), Dense(4, "relu"), Dense(2, "sigmoid", _MIXED)],
            "sigmoid_cross_entropy",
            max_batch=5,
        ),
    ),
    Case("flat", Network(4, [Dense(3)], "softmax_cross_entropy", input_gradient=True, max_batch=4)),
)


def random_case(seed: int) -> Case:
    """Draw a network of up to 4 layers, with formats of 10 to 18 bits."""
    rng = np.random.default_rng([seed, 0])

    def formats() -> Formats:
        widths = rng.integers(10, 19, 3)
        return Formats(*(Q(4, int(width) - 4) for width in widths))

    cost = str(rng.choice(COSTS))
    last = {"sigmoid_cross_entropy": "sigmoid", "softmax_cross_entropy": "identity"}.get(cost)
    layers = [
        Dense(int(rng.integers(1, 9)), str(rng.choice(ACTIVATIONS)), formats()) for _ in range(int(rng.integers(0, 3)))
    ]
    layers.append(Dense(int(rng.integers(1, 6)), last or str(rng.choice(ACTIVATIONS)), formats()))
    net = Network(
        int(rng.integers(1, 8)),
        layers,
        cost,
        formats=formats(),
        input_gradient=bool(rng.integers(2)),
        max_batch=int(rng.integers(1, 12)),
    )
    return Case(RANDOM, net, seed)
