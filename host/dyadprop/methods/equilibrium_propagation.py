"""Equilibrium propagation: the gradient of a symmetric network, from the difference of two equilibria."""

import numpy as np

from dyadprop.formats import Floats
from dyadprop.methods.task import Attempt, Layers, Method, Task, moved, until_rest
from dyadprop.network import Parameters
from dyadprop.relaxation.reals import phi, times_slope

_ROUND_OFF = 1e-13  # a change below it may never come
_DT = 0.5  # whole steps of all layers at once may oscillate: the couplings go both ways


def equilibrium_propagation(task: Task, random_start: bool, extra: int) -> Attempt:
    """Settle freely, then with the output nudged by ``+beta`` and by ``-beta``; read the difference.

    Notes
    -----
    Scellier and Bengio, "Equilibrium propagation", Frontiers in Computational Neuroscience 11 (2017); symmetric nudging
    by Laborieux et al. (2021)::

        tau ds_l/dt = phi(W_l s_{l-1} + b_l + W_{l+1}^T s_{l+1}) - s_l,      in the last layer  - beta (s_L - y)
        dC/dW_l ~ (s_l s_{l-1}^T at -beta  -  at +beta) / (2 beta)

    ``W^T s`` acts on the *states*: the network is another one than the feed-forward network with the same weights, so
    is its gradient (``own``), and the couplings must be symmetric.
    """
    states = task.random_state(0).activations
    if not random_start:
        states = {l: np.zeros_like(v) for l, v in states.items()}
    steps = _settle(task, states, 0.0)
    own = _own_gradient(task, states)
    products = []
    for beta in (task.nudge, -task.nudge):
        nudged = dict(states)
        steps += _settle(task, nudged, beta)
        for _ in range(extra):
            moved(nudged, _targets(task, nudged, beta), _DT)
        products.append(task.gradients(nudged, {0: task.x, **nudged}))
    width = 2 * task.nudge
    gradients = [
        Parameters((b.weight - a.weight) / width, (b.bias - a.bias) / width) for a, b in zip(*products, strict=True)
    ]
    return Attempt(gradients, steps, own)


def _targets(task: Task, states: Layers, beta: float) -> Layers:
    new = {}
    for l in task.layers:
        layer = task.net.layers[l - 1]
        drive = task.pre_activation(l, task.x if l == 1 else states[l - 1])
        push = states[l + 1] @ task.params[l].weight if l < task.depth else -beta * (states[l] - task.y)
        new[l] = phi(layer.activation, drive + push, layer.slope)
    return new


def _settle(task: Task, states: Layers, beta: float) -> int:
    return until_rest(
        lambda: moved(states, _targets(task, states, beta), _DT), max(task.nudge * task.tolerance, _ROUND_OFF)
    )


def _own_gradient(task: Task, states: Layers) -> list[Parameters]:
    """Differentiate the cost at the free equilibrium by the adjoint of its equations, as Almeida and Pineda would."""
    L = task.depth
    adjoint = {l: np.zeros_like(v) for l, v in states.items()}

    def sloped(l: int) -> Floats:
        layer = task.net.layers[l - 1]
        return times_slope(layer.activation, states[l], adjoint[l], layer.slope)

    def tick() -> float:
        new = {}
        for l in task.layers:
            new[l] = states[L] - task.y if l == L else sloped(l + 1) @ task.params[l].weight
            if l > 1:
                new[l] = new[l] + sloped(l - 1) @ task.params[l - 1].weight.T
        return moved(adjoint, new, _DT)

    until_rest(tick, max(1e-3 * task.nudge * task.tolerance, _ROUND_OFF))
    below = {0: task.x, **states}
    found = []
    for l in task.layers:
        weight = sloped(l).T @ below[l - 1]
        if l > 1:
            weight = weight + states[l].T @ sloped(l - 1)
        found.append(Parameters(weight, sloped(l).sum(axis=0)))
    return found


METHODS = (
    Method(
        "equilibrium propagation",
        "Scellier, Bengio 2017",
        "any; another one may have another equilibrium",
        "two products a weight, at two equilibria; small differences",
        equilibrium_propagation,
    ),
)
