"""A state of the relaxation, and what can relax: the words that all of this package speaks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Gradients = TypeVar("Gradients", covariant=True)  # a list of Parameters or RawParameters; a dict of them in a graph
Key = Any  # of a layer: ``1..L`` in a chain, a node's name in a graph
Bounds = tuple[dict[Key, int], dict[Key, int]]


@dataclass(frozen=True, eq=False)
class State:
    """All units of all stages between two ticks.

    Attributes
    ----------
    activations : dict
        ``x_l``, array (batch, n_l), for ``l = 1..L``.
    sensitivities : dict
        ``lambda_l``, array (batch, n_l), for ``l = 1..L``.
    answered : dict or None
        The activation that ``lambda_l`` answers to and travels with, as in the hardware's tokens; where it is not
        given, ``x_l`` itself.
    """

    activations: dict[Key, Array]
    sensitivities: dict[Key, Array]
    answered: dict[Key, Array] | None = None

    def map(self, function: Callable[..., Array], *others: "State") -> "State":
        """Apply a function to each variable, together with the same variable of other states."""
        return State(
            {k: function(v, *(s.activations[k] for s in others)) for k, v in self.activations.items()},
            {k: function(v, *(s.sensitivities[k] for s in others)) for k, v in self.sensitivities.items()},
        )

    def copy(self) -> "State":
        """Give a state that shares no array with this one."""
        state = self.map(np.copy)
        answered = None if self.answered is None else {k: v.copy() for k, v in self.answered.items()}
        return State(state.activations, state.sensitivities, answered)

    def variables(self) -> dict[str, Array]:
        """Give all arrays by name, such as ``x_1``, ``lambda_1`` and, where it has them, ``answered_1``."""
        groups = {"x": self.activations, "lambda": self.sensitivities, "answered": self.answered or {}}
        return {f"{name}_{key}": array for name, group in groups.items() for key, array in group.items()}

    def differences(self, other: "State") -> list[str]:
        """Name the variables in which any number differs, or that only one of the two states has."""
        mine, theirs = self.variables(), other.variables()
        both = mine.keys() & theirs.keys()
        return sorted(mine.keys() ^ theirs.keys()) + [k for k in mine if k in both and _differ(mine[k], theirs[k])]


class Dynamics(Protocol[Gradients]):
    """A held batch that can relax: inputs and targets are clamped, parameters frozen.

    Attributes
    ----------
    keys : sequence
        Layers in the order of their activations; their sensitivities come in the opposite order.
    """

    @property
    def keys(self) -> Sequence[Key]:
        """Layers, or nodes."""

    def activation(self, key: Key, state: State) -> Array:
        """Give the right-hand side of ``x_l <- F_l(x_{l-1})``."""

    def sensitivity(self, key: Key, state: State) -> Array:
        """Give the right-hand side of ``lambda_l <- dE/dx_l + lambda_l``."""

    def step(self, state: State) -> State:
        """Take one whole tick: all variables at once, as assignments from the old state."""

    def rest(self) -> State:
        """Give the state at rest: the textbook pass, each variable once in the best order."""

    def bounds(self) -> Bounds | None:
        """Give the tick from which on each activation and each sensitivity is right, at the latest; None: never."""

    def gradients(self, state: State) -> Gradients:
        """Read the gradients off a state."""

    def energy(self, state: State) -> float:
        """Give ``E`` of a state, summed over the batch."""

    def reals(self, state: State) -> State:
        """Give a state as real numbers."""

    def random_state(self, rng: np.random.Generator) -> State:
        """Draw a state to relax from."""


def _differ(a: Array, b: Array) -> bool:
    return a.shape != b.shape or not np.array_equal(a, b)
