"""The dyadic relaxation of a chain: every stage at once, as assignments from the old state (docs/arithmetic.md, 5).

It is written once for all number systems: `dyadprop.relaxation.reals.Reals` is one, `dyadprop_sim.golden.Model`
another.
"""

from typing import Generic, Protocol, TypeVar

import numpy as np

from dyadprop.errors import RangeError
from dyadprop.relaxation.state import Array, Bounds, State

Gradient = TypeVar("Gradient", covariant=True)  # Parameters or RawParameters

SLOPES = ("flow", "output", "token")


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

    def random_state(self, batch: int, rng: np.random.Generator) -> State:
        """Draw a state to relax from."""

    def energy(self, x0: Array, target: Array, state: State) -> float:
        """Give ``E``, summed over the batch."""

    def reals(self, state: State) -> State:
        """Give a state as real numbers."""


class Relaxation(Generic[Gradient]):
    """The relaxation of a held batch: inputs and targets are clamped, parameters frozen.

    Parameters
    ----------
    system : System
    x : array (batch, n_0)
    target : array (batch, n_L)
    slopes : {"output", "flow", "token"}
        Where ``phi'_l`` is read when ``lambda_l`` passes through stage ``l``. ``flow``: off ``a_l`` of the state's
        ``x_{l-1}``, as the derivative of the energy has it. ``output``: off the stored ``x_l``. ``token``: off the
        activation that ``lambda_l`` answers to and travels with, as in the hardware. At rest the three are one, and
        each is a function of variables that come earlier in the order ``x_1 .. x_L, lambda_L .. lambda_1``.

    Notes
    -----
    From any state, ``x_l`` is right after tick ``l``, ``lambda_l`` after tick ``2L - l + 1``, and all after ``2L``.
    """

    def __init__(self, system: System[Gradient], x: Array, target: Array, slopes: str = "output") -> None:
        if slopes not in SLOPES:
            raise RangeError(f"slopes of a relaxation are {slopes!r}; allowed are {', '.join(SLOPES)}")
        self.system = system
        self.x = x
        self.target = target
        self.slopes = slopes

    @property
    def keys(self) -> range:
        """Layers ``1..L``."""
        return range(1, self.system.depth + 1)

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
        return State(
            {l: self.activation(l, state) for l in self.keys},
            {l: self.sensitivity(l, state) for l in self.keys},
            dict(state.activations) if self.slopes == "token" else None,
        )

    def trajectory(self, state: State, ticks: int) -> list[State]:
        """Give the states before the first and after each of ``ticks`` ticks."""
        states = [state]
        for _ in range(ticks):
            states.append(self.step(states[-1]))
        return states

    def rest(self) -> State:
        """Give the state at rest: each variable once, ``x_1 .. x_L``, then ``lambda_L .. lambda_1``."""
        state = State({}, {})
        for l in self.keys:
            state.activations[l] = self.activation(l, state)
        for l in reversed(self.keys):
            state.sensitivities[l] = self.sensitivity(l, state)
        answered = dict(state.activations) if self.slopes == "token" else None
        return State(state.activations, state.sensitivities, answered)

    def bounds(self) -> Bounds:
        """Give the tick from which on each variable is right: ``l``, and ``2L - l + 1``."""
        return {l: l for l in self.keys}, {l: 2 * self.system.depth - l + 1 for l in self.keys}

    def gradients(self, state: State) -> list[Gradient]:
        """Read the gradients off a state, first layer first; those of the cost only at rest."""
        return [
            self.system.gradient(l, self._delta(l, state), self.x if l == 1 else state.activations[l - 1])
            for l in self.keys
        ]

    def input_sensitivity(self, state: State) -> Array:
        """Read ``lambda_0 = dC/dx_0`` off a state, (batch, n_0)."""
        return self.system.backward(1, self._delta(1, state))

    def energy(self, state: State) -> float:
        """Give ``E`` of a state, summed over the batch."""
        return self.system.energy(self.x, self.target, state)

    def reals(self, state: State) -> State:
        """Give a state as real numbers."""
        return self.system.reals(state)

    def random_state(self, rng: np.random.Generator) -> State:
        """Draw a state to relax from."""
        return self.system.random_state(len(self.x), rng)

    def _delta(self, l: int, state: State) -> Array:
        x = state.activations[l]
        if self.slopes == "flow":
            x = self.activation(l, state)
        elif self.slopes == "token" and state.answered is not None:
            x = state.answered[l]
        return self.system.delta(l, state.sensitivities[l], x)
