"""The network's functions in float64: one number system of the relaxation (docs/arithmetic.md has the other)."""

from collections.abc import Sequence

import numpy as np

from dyadprop.formats import Floats
from dyadprop.network import Network, Parameters
from dyadprop.relaxation.state import State


def phi(activation: str, a: Floats, slope: float) -> Floats:
    """Give an activation function of pre-activations; ``slope`` is leaky_relu's below zero."""
    match activation:
        case "identity":
            return a
        case "relu":
            return np.maximum(a, 0.0)
        case "leaky_relu":
            return np.where(a >= 0, a, slope * a)
        case "tanh":
            return np.tanh(a)
        case _:
            return sigmoid(a)


def times_slope(activation: str, x: Floats, values: Floats, slope: float) -> Floats:
    """Give ``phi'(a) * values``, with the slope from the output ``x = phi(a)``; at a kink it is PyTorch's."""
    match activation:
        case "identity":
            return values
        case "relu":
            return np.where(x > 0, values, 0.0)
        case "leaky_relu":
            return np.where(x > 0, values, slope * values)
        case "tanh":
            return np.asarray((1.0 - x * x) * values)
        case _:
            return np.asarray(x * (1.0 - x) * values)


class Reals:
    """The number system of float64, for `dyadprop.relaxation.chain.Relaxation`.

    Parameters
    ----------
    net : Network
        Its formats are not used.
    params : sequence of Parameters
    """

    def __init__(self, net: Network, params: Sequence[Parameters]) -> None:
        self.net = net
        self.depth = len(net.layers)
        self._params = list(params)

    def forward(self, l: int, x: Floats) -> Floats:
        """Give ``x_l = phi_l(W_l x_{l-1} + b_l)``, (batch, n_l)."""
        weight, bias = self._params[l - 1]
        layer = self.net.layers[l - 1]
        return phi(layer.activation, x @ weight.T + bias, layer.slope)

    def seed(self, x: Floats, target: Floats) -> Floats:
        """Give ``dC/dx_L``, or ``dC/da_L`` behind a matching last layer, (batch, n_L)."""
        return (softmax(x) if self.net.cost == "softmax_cross_entropy" else x) - target

    def delta(self, l: int, sensitivity: Floats, x: Floats) -> Floats:
        """Give ``delta_l = phi'_l(a_l) * lambda_l`` with the slope from the output, (batch, n_l)."""
        if l == self.depth and self.net.cost != "squared_error":
            return sensitivity
        layer = self.net.layers[l - 1]
        return times_slope(layer.activation, x, sensitivity, layer.slope)

    def backward(self, l: int, delta: Floats) -> Floats:
        """Give ``lambda_{l-1} = W_l^T delta_l``, (batch, n_{l-1})."""
        return np.asarray(delta @ self._params[l - 1].weight)

    def gradient(self, l: int, delta: Floats, x: Floats) -> Parameters:
        """Give ``dC/dW_l`` and ``dC/db_l``, summed over the batch."""
        return Parameters(delta.T @ x, delta.sum(axis=0))

    def random_state(self, batch: int, rng: np.random.Generator) -> State:
        """Draw standard normal units."""
        layers = range(1, self.depth + 1)
        return State(
            {l: rng.standard_normal((batch, self.net.widths[l])) for l in layers},
            {l: rng.standard_normal((batch, self.net.widths[l])) for l in layers},
        )

    def energy(self, x0: Floats, target: Floats, state: State) -> float:
        """Give ``E`` of a state; see `dyadprop.relaxation.laws.energy`."""
        from dyadprop.relaxation.laws import energy  # it stands on this module

        return energy(self.net, self._params, x0, target, state)

    def reals(self, state: State) -> State:
        """Give the state itself: its numbers are real."""
        return state


def sigmoid(a: Floats) -> Floats:
    """Give the logistic function without overflow, and with full relative accuracy in both tails."""
    e = np.exp(-np.abs(a))
    return np.where(a >= 0, 1.0, e) / (1.0 + e)


def softmax(x: Floats) -> Floats:
    """Give the softmax of logits (batch, n)."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))
