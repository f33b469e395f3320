"""What a relaxation was seen to do: states tick by tick, and how far each was from rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dyadprop.formats import Floats
from dyadprop.relaxation.laws import targets
from dyadprop.relaxation.state import Array, Bounds, Dynamics, Key, State


@dataclass(frozen=True)
class Settling:
    """Which words of each layer are right after each tick.

    Attributes
    ----------
    activations, sensitivities : float64 array (ticks + 1, L)
        Share of the words of ``x_l`` (``lambda_l``) that have their value at rest, after tick ``0..ticks``; column
        ``l - 1``.
    """

    activations: npt.NDArray[np.float64]
    sensitivities: npt.NDArray[np.float64]

    def first_exact(self) -> tuple[list[int], list[int]]:
        """Give the tick from which on each ``x_l``, and each ``lambda_l``, is exact and stays so."""
        return _first(self.activations), _first(self.sensitivities)

    def late(self, bounds: tuple[list[int], list[int]] | None = None) -> list[str]:
        """Name what is exact later than the theorem says: ``x_l`` at tick ``l``, ``lambda_l`` at ``2L - l + 1``."""
        depth = self.activations.shape[1]
        layers = range(1, depth + 1)
        limits = bounds or (list(layers), [2 * depth - l + 1 for l in layers])
        return [
            f"{name}_{l} at tick {k} instead of {bound}"
            for name, firsts, group in zip(("x", "lambda"), self.first_exact(), limits, strict=True)
            for l, k, bound in zip(layers, firsts, group, strict=True)
            if k > bound
        ]


def settling(states: Sequence[State], rest: State) -> Settling:
    """Compare a trajectory with the state at rest, word by word."""
    keys = list(rest.activations)

    def share(part: Callable[[State], dict[Key, Array]]) -> npt.NDArray[np.float64]:
        return np.array([[np.mean(part(state)[k] == part(rest)[k]) for k in keys] for state in states])

    return Settling(share(lambda s: s.activations), share(lambda s: s.sensitivities))


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A held batch on its way to rest; of floats, of words, or of the hardware itself.

    Attributes
    ----------
    dynamics : Dynamics
        What relaxed.
    states : list of State
        Before the first tick and after each; words where the device's own bits were asked for.
    rest : State
        What textbook backpropagation gives.
    dt : float
        Length of a tick in units of ``tau``.
    what : str
        A line for titles.
    """

    dynamics: Dynamics[Any]
    states: list[State]
    rest: State
    dt: float = 1.0
    what: str = ""

    @property
    def ticks(self) -> int:
        """How many there were."""
        return len(self.states) - 1

    @property
    def keys(self) -> list[Key]:
        """Layers ``1..L``, or the names of a graph's nodes; columns of the arrays below."""
        return list(self.dynamics.keys)

    @property
    def bounds(self) -> Bounds | None:
        """Tick from which on each activation and each sensitivity is right, all at once and by whole steps."""
        return self.dynamics.bounds()

    @cached_property
    def settling(self) -> Settling:
        """Share of numbers that are right, to the last bit."""
        return settling(self.states, self.rest)

    @cached_property
    def residuals(self) -> tuple[Floats, Floats]:
        """Largest ``|F_l(x_{l-1}) - x_l|``, and ``|J^T lambda - lambda_l|``: two arrays (ticks + 1, L)."""
        return self._distances(lambda state: targets(self.dynamics, state))

    @cached_property
    def distances(self) -> tuple[Floats, Floats]:
        """Largest distance of ``x_l``, and of ``lambda_l``, from its value at rest: two arrays (ticks + 1, L)."""
        return self._distances(lambda _: self.rest)

    @cached_property
    def energy(self) -> Floats:
        """``E`` of each state, (ticks + 1,): equal to the cost at rest, and not monotone on the way."""
        return np.array([self.dynamics.energy(state) for state in self.states])

    @cached_property
    def error(self) -> Floats:
        """Distance of the gradients that each state gives from textbook backpropagation's, relative, (ticks + 1,)."""
        right = _flat(self.dynamics.gradients(self.rest))
        size = float(np.linalg.norm(right)) or 1.0
        return np.array([np.linalg.norm(_flat(self.dynamics.gradients(state)) - right) / size for state in self.states])

    @property
    def gradients(self) -> Any:
        """Gradients read off the last state: a list a layer, or a dict of a graph's."""
        return self.dynamics.gradients(self.states[-1])

    def first_exact(self, tolerance: float = 0.0) -> tuple[dict[Key, int | None], dict[Key, int | None]]:
        """Give the tick from which on each activation, and each sensitivity, is right and stays so; None: not yet.

        Parameters
        ----------
        tolerance : float
            Largest distance from the value at rest that counts as right; 0 asks for the same bits.
        """

        def of(distances: Floats) -> dict[Key, int | None]:
            firsts = _first((distances <= tolerance).astype(np.float64))
            return {key: k if k <= self.ticks else None for key, k in zip(self.keys, firsts, strict=True)}

        activations, sensitivities = (of(distances) for distances in self.distances)
        return activations, sensitivities

    def exact_from(self, tolerance: float = 0.0) -> int | None:
        """Give the tick from which on everything is right; None: not yet."""
        firsts = [k for group in self.first_exact(tolerance) for k in group.values()]
        return None if None in firsts else max(k for k in firsts if k is not None)

    def differences(self, other: "Trajectory") -> list[str]:
        """Name each variable of each tick in which two trajectories differ; empty: they are equal."""
        found = [] if len(self.states) == len(other.states) else [f"{len(self.states)} and {len(other.states)} states"]
        for tick, (mine, theirs) in enumerate(zip(self.states, other.states, strict=False)):
            found += [f"{name} after tick {tick}" for name in mine.differences(theirs)]
        return found

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw distance from rest and residuals against ticks.

        Parameters
        ----------
        path : path, optional
            Where to save the picture; its ending says as what.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        PackageMissing
            If matplotlib is not installed.
        """
        from dyadprop.optional import optional_packages

        with optional_packages("the picture of a trajectory", "plot"):
            from dyadprop.relaxation_plots import trajectory_picture
        return trajectory_picture(self, path)

    def _distances(self, goal: Callable[[State], State]) -> tuple[Floats, Floats]:
        rows = []
        for state in self.states:
            here, there = self.dynamics.reals(state), self.dynamics.reals(goal(state))
            rows.append(
                [
                    [np.max(np.abs(mine[key] - other[key])) for key in self.keys]
                    for mine, other in (
                        (here.activations, there.activations),
                        (here.sensitivities, there.sensitivities),
                    )
                ]
            )
        table = np.array(rows, dtype=np.float64)
        return table[:, 0], table[:, 1]


def _flat(gradients: Any) -> Floats:
    entries = list(gradients.values()) if isinstance(gradients, dict) else gradients
    reals = [entry.decode() if hasattr(entry, "decode") else entry for entry in entries]
    return np.concatenate([array.ravel() for entry in reals for array in (entry.weight, entry.bias)])


def _first(shares: npt.NDArray[np.float64]) -> list[int]:
    exact = shares == 1.0
    # The first tick of the unbroken run of exact ones at the end; one past the end where the last one is not exact.
    return [len(column) - int(np.argmin(column[::-1])) if not column.all() else 0 for column in exact.T]
