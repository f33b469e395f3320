"""Steps along the flow: how far, by which method, and how badly made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dyadprop.errors import RangeError
from dyadprop.relaxation.laws import targets, velocity
from dyadprop.relaxation.state import Array, Dynamics, Key, State


@dataclass(frozen=True)
class Integrator:
    """An explicit Runge-Kutta method.

    Attributes
    ----------
    stages : tuple of tuple of float
        Row ``i``: shares of the slopes ``k_1 .. k_{i-1}`` in the point at which ``k_i`` is taken.
    weights : tuple of float
        Shares of the slopes in the step.
    """

    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]

    def stability(self, h: float) -> float:
        """Give ``R(-h)``: what a step of ``h`` leaves of the error of ``dv/dt = c - v``.

        On a chain each variable obeys that equation once those before it are right, so a method needs finitely many
        ticks exactly where ``R(-h) = 0``: Euler at ``h = 1``, Kutta's third order at ``h = 1.59607``, Heun and the
        classical fourth order nowhere.
        """
        slopes: list[float] = []
        for shares in self.stages:
            slopes.append(-(1.0 + h * sum(share * k for share, k in zip(shares, slopes, strict=True))))
        return 1.0 + h * sum(weight * k for weight, k in zip(self.weights, slopes, strict=True))


INTEGRATORS = {
    "euler": Integrator(((),), (1.0,)),
    "heun": Integrator(((), (1.0,)), (0.5, 0.5)),
    "rk3": Integrator(((), (0.5,), (-1.0, 2.0)), (1 / 6, 2 / 3, 1 / 6)),
    "rk4": Integrator(((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}


class Stepper:
    """Moves states along the flow of a held batch.

    Parameters
    ----------
    dynamics : Dynamics
    shape : State
        Any state, for its shapes.
    dt : float
        Step in units of ``tau``.
    integrator : str
        One of ``INTEGRATORS``.
    jitter : float
        Each step of each unit is ``dt (1 + jitter u)``, with a new ``u`` of U(-1, 1) each tick.
    mismatch : float
        Each unit's own step is ``dt (1 + mismatch u)``, with a ``u`` that stays: time constants that are not alike.
    noise : float
        Standard deviation of what is added to each unit in each tick.
    rng : Generator
    """

    def __init__(
        self,
        dynamics: Dynamics[Any],
        shape: State,
        rng: np.random.Generator,
        *,
        dt: float = 1.0,
        integrator: str = "euler",
        jitter: float = 0.0,
        mismatch: float = 0.0,
        noise: float = 0.0,
    ) -> None:
        if integrator not in INTEGRATORS:
            raise RangeError(f"integrator is {integrator!r}; allowed are {', '.join(INTEGRATORS)}")
        self._dynamics = dynamics
        self._method = INTEGRATORS[integrator]
        self._rng = rng
        self._jitter, self._noise = jitter, noise
        self._whole = dt == 1.0 and jitter == 0.0 and mismatch == 0.0
        self._exact = integrator == "euler" and self._whole
        self._steps = shape.map(lambda v: dt * (1.0 + mismatch * rng.uniform(-1.0, 1.0, v.shape)))

    def step(self, state: State) -> State:
        """Take one tick of all variables at once."""
        if self._exact:
            new = self._dynamics.step(state)  # an assignment: x + (F - x) would round
        elif self._method is INTEGRATORS["euler"]:
            new = state.map(_blend, targets(self._dynamics, state), self._now(self._steps))
        else:
            new = self._runge_kutta(state)
        return new if self._noise == 0.0 else new.map(self._disturbed)

    def advance(self, group: str, key: Key, value: Array, target: Array) -> Array:
        """Take one tick of a single variable (``"activations"`` or ``"sensitivities"``) by Euler."""
        new = target if self._exact else _blend(value, target, self._jittered(getattr(self._steps, group)[key]))
        return new if self._noise == 0.0 else self._disturbed(new)

    def _runge_kutta(self, state: State) -> State:
        h = self._now(self._steps)
        slopes: list[State] = []
        for shares in self._method.stages:
            slopes.append(velocity(self._dynamics, _moved(state, h, shares, slopes)))
        return _moved(state, h, self._method.weights, slopes)

    def _now(self, steps: State) -> State:
        return steps if self._jitter == 0.0 else steps.map(self._jittered)

    def _jittered(self, h: Array) -> Array:
        if self._jitter == 0.0:
            return h
        return np.asarray(h * (1.0 + self._jitter * self._rng.uniform(-1.0, 1.0, h.shape)))

    def _disturbed(self, values: Array) -> Array:
        return np.asarray(values + self._noise * self._rng.standard_normal(values.shape))


def _blend(value: Array, target: Array, h: Array) -> Array:
    return np.where(h == 1.0, target, value + h * (target - value))


def _moved(state: State, h: State, shares: Sequence[float], slopes: Sequence[State]) -> State:
    for share, slope in zip(shares, slopes, strict=True):
        if share:
            state = state.map(lambda v, step, k, s=share: v + s * step * k, h, slope)
    return state
