"""The same network in float64: what the fixed-point results are close to, and the `float` device's arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dyadprop.formats import Floats
from dyadprop.network import Network, Parameters
from dyadprop_sim.relaxation import State


class Reals:
    """The number system of float64, for `dyadprop_sim.relaxation.Relaxation`.

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
        a: Floats = x @ weight.T + bias
        match layer.activation:
            case "identity":
                return a
            case "relu":
                return np.maximum(a, 0.0)
            case "leaky_relu":
                return np.where(a >= 0, a, layer.slope * a)
            case "tanh":
                return np.tanh(a)
            case _:
                return sigmoid(a)

    def seed(self, x: Floats, target: Floats) -> Floats:
        """Give ``dC/dx_L``, or ``dC/da_L`` behind a matching last layer, (batch, n_L)."""
        return (softmax(x) if self.net.cost == "softmax_cross_entropy" else x) - target

    def delta(self, l: int, sensitivity: Floats, x: Floats) -> Floats:
        """Give ``delta_l = phi'_l(a_l) * lambda_l`` with the slope from the output, (batch, n_l)."""
        if l == self.depth and self.net.cost != "squared_error":
            return sensitivity
        layer = self.net.layers[l - 1]
        match layer.activation:
            case "identity":
                return sensitivity
            case "relu":
                return np.where(x > 0, sensitivity, 0.0)
            case "leaky_relu":
                return np.where(x > 0, sensitivity, layer.slope * sensitivity)
            case "tanh":
                return np.asarray((1.0 - x * x) * sensitivity)
            case _:
                return np.asarray(x * (1.0 - x) * sensitivity)

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


@dataclass
class RealTrace:
    """Everything that one pass over a batch computes; ``l`` is the key.

    Attributes
    ----------
    activations : dict
        ``x_l``, float64 array (batch, n_l), for ``l = 0..L``.
    sensitivities : dict
        ``lambda_l``, float64 array (batch, n_l), for ``l = 0..L``; empty after a forward-only pass, as the next.
    gradients : list of Parameters
        Of layers ``1..L``, summed over the batch.
    """

    activations: dict[int, Floats]
    sensitivities: dict[int, Floats] = field(default_factory=dict)
    gradients: list[Parameters] = field(default_factory=list)

    @property
    def outputs(self) -> Floats:
        """``x_L``, float64 array (batch, n_L)."""
        return self.activations[len(self.activations) - 1]


def predict(net: Network, params: Sequence[Parameters], x: Floats) -> RealTrace:
    """Run a batch ``x`` (batch, n_0) forward only."""
    system = Reals(net, params)
    trace = RealTrace({0: x})
    for l in range(1, system.depth + 1):
        trace.activations[l] = system.forward(l, trace.activations[l - 1])
    return trace


def textbook(
    net: Network, params: Sequence[Parameters], x: Floats, targets: Floats, *, seeds: bool = False
) -> RealTrace:
    """Run a batch through textbook backpropagation.

    Parameters
    ----------
    net : Network
    params : sequence of Parameters
    x : float64 array (batch, n_0)
    targets : float64 array (batch, n_L)
        With ``seeds`` they are the last stage's ``lambda_L`` itself.
    seeds : bool
    """
    system = Reals(net, params)
    trace = predict(net, params, x)
    L = system.depth
    trace.sensitivities[L] = targets if seeds else system.seed(trace.outputs, targets)
    for l in range(L, 0, -1):
        delta = system.delta(l, trace.sensitivities[l], trace.activations[l])
        trace.gradients.insert(0, system.gradient(l, delta, trace.activations[l - 1]))
        if l > 1 or net.input_gradient:
            trace.sensitivities[l - 1] = system.backward(l, delta)
    return trace


def train(
    net: Network, params: Sequence[Parameters], x: Floats, targets: Floats, *, batch_size: int, learning_rate: float
) -> tuple[list[Parameters], Floats]:
    """Learn from each sample once by real-number SGD: ``p <- p - learning_rate * gradient summed over the batch``.

    Parameters
    ----------
    net : Network
    params : sequence of Parameters
        Not changed.
    x : float64 array (samples, n_0)
    targets : float64 array (samples, n_L)
    batch_size : int
        A step after each so many samples and after the last.
    learning_rate : float

    Returns
    -------
    list of Parameters
        After the last step.
    float64 array (samples, n_L)
        Outputs, each of the parameters before the step that the sample took part in.
    """
    held = list(params)
    outputs = []
    with np.errstate(all="ignore"):  # what leaves for infinity is for the caller to see
        for i in range(0, len(x), batch_size):
            trace = textbook(net, held, x[i : i + batch_size], targets[i : i + batch_size])
            outputs.append(trace.outputs)
            held = [
                Parameters(p.weight - learning_rate * g.weight, p.bias - learning_rate * g.bias)
                for p, g in zip(held, trace.gradients, strict=True)
            ]
    return held, np.concatenate(outputs)


def sigmoid(a: Floats) -> Floats:
    """Give the logistic function without overflow, and with full relative accuracy in both tails."""
    e = np.exp(-np.abs(a))
    return np.where(a >= 0, 1.0, e) / (1.0 + e)


def softmax(x: Floats) -> Floats:
    """Give the softmax of logits (batch, n)."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))
