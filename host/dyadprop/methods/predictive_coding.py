"""Predictive coding where it equals backpropagation: with fixed prediction (Rosenbaum), and Z-IL (Song et al.)."""

import numpy as np

from dyadprop.formats import Floats
from dyadprop.methods.task import Attempt, Layers, Method, Task
from dyadprop.relaxation.reals import phi, times_slope


def fixed_prediction(task: Task, random_start: bool, extra: int) -> Attempt:
    """Relax values ``v_l`` against predictions that a forward pass has left and that stay as they are.

    Notes
    -----
    Rosenbaum, "On the relationship between predictive coding and backpropagation", PLoS ONE 17 (2022), the algorithm
    modified by the fixed prediction assumption, with ``eta = 1``::

        e_l = vhat_l - v_l   (l < L),    e_L = dC/dvhat_L
        v_l <- v_l + eta (e_l - W_{l+1}^T (phi'_{l+1} * e_{l+1})),     slopes and inputs at vhat

    so that ``e_l`` is backpropagation's ``lambda_l`` after ``L - l`` steps, and stays it.
    """
    system, L = task.system, task.depth
    predicted = {0: task.x, **task.random_state(0).activations} if random_start else task.forward()
    values = dict(task.random_state(1).activations if random_start else predicted)

    def errors() -> Layers:
        return {L: system.seed(predicted[L], task.y), **{l: predicted[l] - values[l] for l in range(1, L)}}

    for _ in range(L - 1 + extra):
        e = errors()
        for l in range(1, L):
            pull = system.backward(l + 1, system.delta(l + 1, e[l + 1], predicted[l + 1]))
            values[l] = values[l] + (e[l] - pull)
    deltas = {l: system.delta(l, e, predicted[l]) for l, e in errors().items()}
    return Attempt(task.gradients(deltas, predicted), L + L - 1)


def z_il(task: Task, random_start: bool, extra: int) -> Attempt:
    """Relax pre-activations ``v_l`` and read layer ``l`` in step ``L - l``, the only one in which it is right.

    Notes
    -----
    Song, Lukasiewicz, Xu, Bogacz, "Can the brain do backpropagation? Exact implementation of backpropagation in
    predictive coding networks", NeurIPS 2020, with ``gamma = 1``::

        mu_l = W_l phi(v_{l-1}) + b_l,     e_l = mu_l - v_l   (l < L),    e_L = dC/da_L at mu_L
        v_l <- v_l + gamma (e_l - phi'(v_l) * W_{l+1}^T e_{l+1}),         v_l = mu_l to begin with
    """
    L = task.depth
    right = task.forward()
    values: Layers = {l: task.pre_activation(l, right[l - 1]) for l in range(1, L)}
    if random_start:
        values = {l: v for l, v in task.random_state(0).activations.items() if l < L}

    def output(l: int, a: Floats) -> Floats:
        layer = task.net.layers[l - 1]
        return phi(layer.activation, a, layer.slope)

    def look() -> tuple[Layers, Layers]:
        """Give activations and errors of the values."""
        x = {0: task.x, **{l: output(l, v) for l, v in values.items()}}
        prediction = {l: task.pre_activation(l, x[l - 1]) for l in task.layers}
        x[L] = output(L, prediction[L])
        e = {l: prediction[l] - values[l] for l in range(1, L)}
        e[L] = task.system.delta(L, task.system.seed(x[L], task.y), x[L])
        return x, e

    read = {}
    for step in range(L + extra):
        x, e = look()
        for l in range(1, L + 1):
            if extra or l == L - step:
                read[l] = task.system.gradient(l, e[l], x[l - 1])
        for l in range(1, L):
            layer = task.net.layers[l - 1]
            pull = times_slope(layer.activation, x[l], np.asarray(e[l + 1] @ task.params[l].weight), layer.slope)
            values[l] = values[l] + (e[l] - pull)
    return Attempt([read[l] for l in task.layers], L + L - 1)


METHODS = (
    Method(
        "predictive coding, fixed prediction",
        "Rosenbaum 2022",
        "a forward pass, whose activations stay as predictions",
        "everything, from L - 1 steps behind the forward pass on",
        fixed_prediction,
    ),
    Method(
        "Z-IL",
        "Song et al. 2020",
        "a forward pass",
        "layer l in step L - l behind the forward pass, and in no other",
        z_il,
    ),
)
