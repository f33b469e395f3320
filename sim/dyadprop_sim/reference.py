"""The same network in float64: what the fixed-point results are close to, and the `float` device's arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dyadprop.formats import Floats
from dyadprop.network import Network, Parameters
from dyadprop.relaxation.reals import Reals


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
