"""The Lagrangian and its flow: LeCun (1988), Almeida (1987), Pineda (1987), and the dyadic relaxation.

All have the same equations at rest, ``x_l = F_l(x_{l-1})`` and ``lambda_l = W_{l+1}^T (phi' * lambda_{l+1})``. They
differ in how they come there.
"""

import numpy as np

from dyadprop.methods.task import Attempt, Method, Task, moved, until_rest


def stationarity(task: Task, random_start: bool, extra: int) -> Attempt:
    """Solve ``dE/dlambda = 0`` from the input up, then ``dE/dx = 0`` from the output down (LeCun, 1988).

    That is textbook backpropagation: 2L layers, one after the other. There is no state to start from.
    """
    return Attempt(task.textbook, 2 * task.depth)


def two_relaxations(dt: float) -> "Method":
    """Make Almeida's and Pineda's method (1987): relax ``x`` to rest, hold it, then relax ``lambda``.

    Both follow ``tau dx/dt = F(x) - x`` and ``tau dlambda/dt = J^T lambda + dC/dx - lambda``, in networks with cycles
    too; the second starts when the first has settled.
    """

    def run(task: Task, random_start: bool, extra: int) -> Attempt:
        flow = task.relaxation
        state = task.random_state() if random_start else task.random_state().map(np.zeros_like)

        def infer() -> float:
            return moved(state.activations, {l: flow.activation(l, state) for l in task.layers}, dt)

        def assign() -> float:
            return moved(state.sensitivities, {l: flow.sensitivity(l, state) for l in task.layers}, dt)

        # The last tick of a phase only finds out that there was nothing left to do.
        steps = until_rest(infer, task.tolerance) - 1 + until_rest(assign, task.tolerance) - 1
        for _ in range(extra):
            infer()
            assign()
        return Attempt(flow.gradients(state), steps)

    return Method(
        f"two relaxations, dt = {dt:g}",
        "Almeida 1987; Pineda 1987",
        "any",
        "x must have settled before lambda starts; all when lambda has settled",
        run,
    )


def dyadic(task: Task, random_start: bool, extra: int) -> Attempt:
    """Assign both at once, 2L times, from any state (Scurria, 2026)."""
    ticks = 2 * task.depth
    states = task.relaxation.trajectory(task.random_state(), ticks + extra)
    return Attempt(task.relaxation.gradients(states[-1]), ticks)


METHODS = (
    Method("dyadic relaxation", "Scurria 2026", "any", "everything, at any time from tick 2L on", dyadic),
    Method(
        "stationary Lagrangian",
        "LeCun 1988",
        "none: one layer after the other",
        "each layer when its turn has come; it is backpropagation",
        stationarity,
    ),
    two_relaxations(1.0),
    two_relaxations(0.5),
)
