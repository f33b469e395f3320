"""The dyadic relaxation: every stage at once, as assignments from the old state (docs/arithmetic.md, section 5).

It is written once for all number systems; `dyadprop_sim.golden.Model` and `dyadprop_sim.reference.Reals` are two.
"""

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Gradient = TypeVar("Gradient", covariant=True)  # Parameters or RawParameters


class System(Protocol[Gradient]):
    """The functions of one network's stages in one number system.

    Attributes
    ----------
    depth : int
        ``L``.
    """

    depth: int

    def forward(self, l: int, x: Array) -> Array:
        """Give ``x_l = F_l(x_{l-1})``, (batch, n_l)."""

    def seed(self, x: Array, target: Array) -> Array:
        """Give ``lambda_L = dC/dx_L``, (batch, n_L)."""

    def delta(self, l: int, sensitivity: Array, x: Array) -> Array:
        """Give ``delta_l`` of ``lambda_l`` and ``x_l``, (batch, n_l)."""

    def backward(self, l: int, delta: Array) -> Array:
        """Give ``lambda_{l-1}`` of ``delta_l``, (batch, n_{l-1})."""

    def gradient(self, l: int, delta: Array, x: Array) -> Gradient:
        """Give the sum over the batch of ``delta_l x_{l-1}^T`` and ``delta_l``."""

    def random_state(self, batch: int, rng: np.random.Generator) -> "State":
        """Draw a state to relax from."""


@dataclass(frozen=True)
class State:
    """All units of all stages between two ticks.

    Attributes
    ----------
    activations : dict
        ``x_l``, array (batch, n_l), for ``l = 1..L``.
    sensitivities : dict
        ``lambda_l``, array (batch, n_l), for ``l = 1..L``.
    """

    activations: dict[int, Array]
    sensitivities: dict[int, Array]


class Relaxation(Generic[Gradient]):
    """The relaxation of a held batch: inputs and targets are clamped, parameters frozen.

    Parameters
    ----------
    system : System
    x : array (batch, n_0)
    target : array (batch, n_L)

    Notes
    -----
    From any state, ``x_l`` is right after tick ``l``, ``lambda_l`` after tick ``2L - l + 1``, and all after ``2L``.
    """

    def __init__(self, system: System[Gradient], x: Array, target: Array) -> None:
        self.system = system
        self.x = x
        self.target = target

    def activation(self, l: int, state: State) -> Array:
        """Give the right-hand side of ``x_l <- F_l(x_{l-1})``, (batch, n_l)."""
        return self.system.forward(l, self.x if l == 1 else state.activations[l - 1])

    def sensitivity(self, l: int, state: State) -> Array:
        """Give the right-hand side of ``lambda_l <- W_{l+1}^T delta_{l+1}`` or ``lambda_L <- dC/dx_L``."""
        if l == self.system.depth:
            return self.system.seed(state.activations[l], self.target)
        return self.system.backward(l + 1, self._delta(l + 1, state))

    def step(self, state: State) -> State:
        """Take one tick: all stages read the old state, and none is changed in place."""
        layers = range(1, self.system.depth + 1)
        return State({l: self.activation(l, state) for l in layers}, {l: self.sensitivity(l, state) for l in layers})

    def trajectory(self, state: State, ticks: int) -> list[State]:
        """Give the states before the first and after each of ``ticks`` ticks."""
        states = [state]
        for _ in range(ticks):
            states.append(self.step(states[-1]))
        return states

    def gradients(self, state: State) -> list[Gradient]:
        """Read the gradients off a state, first layer first; those of the cost only at rest."""
        return [
            self.system.gradient(l, self._delta(l, state), self.x if l == 1 else state.activations[l - 1])
            for l in range(1, self.system.depth + 1)
        ]

    def input_sensitivity(self, state: State) -> Array:
        """Read ``lambda_0 = dC/dx_0`` off a state, (batch, n_0)."""
        return self.system.backward(1, self._delta(1, state))

    def _delta(self, l: int, state: State) -> Array:
        return self.system.delta(l, state.sensitivities[l], state.activations[l])
