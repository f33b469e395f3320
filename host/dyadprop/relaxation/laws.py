"""The two concepts that the paper starts from, one function each: an energy, and the flow that it drives.

A. E. Scurria, arXiv:2602.02281; the same Lagrangian as LeCun's (1988), the same flow as Almeida's and Pineda's (1987).
"""

from collections.abc import Sequence

import numpy as np

from dyadprop.costs import real_cost
from dyadprop.errors import RangeError
from dyadprop.formats import Floats
from dyadprop.network import Network, Parameters
from dyadprop.relaxation.chain import Relaxation
from dyadprop.relaxation.reals import Reals
from dyadprop.relaxation.state import Dynamics, State


def energy(net: Network, params: Sequence[Parameters], x: Floats, y: Floats, state: State) -> float:
    """Give ``E(x, lambda) = C(x_L, y) + sum_l lambda_l . (F_l(x_{l-1}) - x_l)``, summed over the batch.

    Raises
    ------
    RangeError
        For ``sigmoid_cross_entropy``: there ``lambda_L`` is ``dC/da_L``, which is no derivative with respect to
        ``x_L``.

    Notes
    -----
    At rest ``E == C``. On the way there it goes up and down.
    """
    if net.cost == "sigmoid_cross_entropy":
        raise RangeError(
            "energy of a network with cost sigmoid_cross_entropy is not defined, its lambda_L is dC/da_L; "
            "allowed are squared_error and softmax_cross_entropy"
        )
    system = Reals(net, params)
    last = len(net.layers)
    below = {0: x, **state.activations}
    total = real_cost(net, state.activations[last], y)
    for l in range(1, last + 1):
        total += float(np.sum(state.sensitivities[l] * (system.forward(l, below[l - 1]) - below[l])))
    return total


def flow(net: Network, params: Sequence[Parameters], x: Floats, y: Floats, state: State) -> State:
    """Give ``tau d/dt`` of each variable, the derivative of ``E`` with respect to its partner.

    Notes
    -----
    ::

        tau dx_l/dt      = dE/dlambda_l = F_l(x_{l-1}) - x_l
        tau dlambda_l/dt = dE/dx_l      = W_{l+1}^T (phi'_{l+1}(a_{l+1}) * lambda_{l+1}) - lambda_l       l < L
        tau dlambda_L/dt = dE/dx_L      = dC/dx_L - lambda_L

    Ascent in ``x + lambda/2`` and descent in ``x - lambda/2`` of one function, ``E``; not descent in ``x`` and ascent
    in ``lambda``, which diverges. A step of length ``tau`` is an assignment.
    """
    return velocity(Relaxation(Reals(net, params), x, y, "flow"), state)


def velocity(dynamics: Dynamics[object], state: State) -> State:
    """Give where each variable would go, less where it is."""
    return targets(dynamics, state).map(np.subtract, state)


def targets(dynamics: Dynamics[object], state: State) -> State:
    """Give all right-hand sides of one state."""
    return State(
        {key: dynamics.activation(key, state) for key in dynamics.keys},
        {key: dynamics.sensitivity(key, state) for key in dynamics.keys},
    )
