"""Dual propagation: two oppositely nudged states a neuron, whose difference carries the error."""

from dyadprop.formats import Floats
from dyadprop.methods.task import Attempt, Layers, Method, Task, moved, until_rest
from dyadprop.relaxation.reals import phi


def dual_propagation(task: Task, random_start: bool, extra: int) -> Attempt:
    """Relax pairs of states, all layers at once, and read their differences.

    Notes
    -----
    Høier, Staudt, Zach, "Dual propagation: accelerating contrastive Hebbian learning with dyadic neurons", ICML 2023,
    with symmetric nudging (``alpha = 1/2``); "dyadic" comes from there::

        a_l  = W_l (z+_{l-1} + z-_{l-1}) / 2 + b_l
        z+-_l = phi(a_l +- W_{l+1}^T (z+_{l+1} - z-_{l+1}) / 2)          l < L
        z+-_L = phi(a_L -+ beta/2 dC/dx_L)
        delta_l = (z-_l - z+_l) / beta

    The difference of two values of ``phi`` is its slope up to ``O(beta^2)``.
    """
    L, beta = task.depth, task.nudge
    plus, minus = _start(task, random_start)

    def mean(l: int) -> Floats:
        return task.x if l == 0 else (plus[l] + minus[l]) / 2

    def tick() -> float:
        new_plus, new_minus = {}, {}
        for l in task.layers:
            layer = task.net.layers[l - 1]
            a = task.pre_activation(l, mean(l - 1))
            if l < L:
                push = (plus[l + 1] - minus[l + 1]) @ task.params[l].weight / 2
            else:
                push = -beta / 2 * task.system.seed(phi(layer.activation, a, layer.slope), task.y)
            new_plus[l] = phi(layer.activation, a + push, layer.slope)
            new_minus[l] = phi(layer.activation, a - push, layer.slope)
        return max(moved(plus, new_plus), moved(minus, new_minus))

    steps = until_rest(tick, beta * task.tolerance) - 1
    for _ in range(extra):
        tick()
    deltas = {l: (minus[l] - plus[l]) / beta for l in task.layers}
    return Attempt(task.gradients(deltas, {l: mean(l) for l in range(L + 1)}), steps)


def _start(task: Task, random_start: bool) -> tuple[Layers, Layers]:
    if random_start:
        return task.random_state(0).activations, task.random_state(1).activations
    zeros = {l: 0 * v for l, v in task.forward().items() if l}
    return zeros, dict(zeros)


METHODS = (
    Method(
        "dual propagation",
        "Høier, Staudt, Zach 2023",
        "any",
        "all when settled; small differences between two states",
        dual_propagation,
    ),
)
