"""Orders of updates: which variable moves when, and how old what it reads is.

A *round* updates each of the 2L variables at least once. In the order ``x_1 .. x_L, lambda_L .. lambda_1`` each is a
fixed function of earlier ones, so after ``k`` rounds the first ``k`` are right for ever: 2L rounds suffice in any
order, from any state. It is the acyclic case of chaotic relaxation (Chazan and Miranker, 1969; Baudet, 1978).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from dyadprop.errors import RangeError
from dyadprop.relaxation.integrators import Stepper
from dyadprop.relaxation.state import Dynamics, Key, State

GROUPS = ("activations", "sensitivities")
Tick = Callable[[State], State]


def make_schedule(name: str, dynamics: Dynamics[Any], stepper: Stepper, rng: np.random.Generator, delay: int) -> Tick:
    """Make what turns a state into the one a tick (or round) later.

    Parameters
    ----------
    name : {"all", "stages", "neurons", "random", "stale"}
        ``all``: every variable at once. ``stages``: one stage after the other, the first first. ``neurons``: each
        activation and each sensitivity of each neuron by itself, in a new random order each round. ``random``: whole
        variables in a new random order each round. ``stale``: all at once, but each reads values of up to ``delay``
        ticks ago, drawn anew for each variable, neighbour and tick.
    dynamics : Dynamics
    stepper : Stepper
    rng : Generator
    delay : int
        ``D``.
    """
    if name == "all":
        return stepper.step
    makers: dict[str, Callable[[], Tick]] = {
        "stages": lambda: lambda state: _in_order(dynamics, stepper, state, _stages(dynamics)),
        "random": lambda: lambda state: _in_order(dynamics, stepper, state, _shuffled(_stages(dynamics), rng)),
        "neurons": lambda: lambda state: _by_neuron(dynamics, stepper, state, rng),
        "stale": lambda: _stale(dynamics, stepper, rng, delay),
    }
    if name not in makers:
        raise RangeError(f"schedule is {name!r}; allowed are all, {', '.join(makers)}")
    return makers[name]()


def round_bound(name: str, variables: int, delay: int) -> int:
    """Give the ticks or rounds within which ``variables`` of them come to rest, whole steps taken, at the latest."""
    return variables + (variables - 1) * delay if name == "stale" else variables


def _stages(dynamics: Dynamics[Any]) -> list[tuple[str, Key]]:
    return [(group, key) for key in dynamics.keys for group in GROUPS]


def _shuffled(order: list[Any], rng: np.random.Generator) -> list[Any]:
    return [order[k] for k in rng.permutation(len(order))]


def _target(dynamics: Dynamics[Any], group: str, key: Key, state: State) -> Any:
    return dynamics.activation(key, state) if group == "activations" else dynamics.sensitivity(key, state)


def _in_order(dynamics: Dynamics[Any], stepper: Stepper, state: State, order: list[tuple[str, Key]]) -> State:
    new = State(dict(state.activations), dict(state.sensitivities))
    for group, key in order:
        values = getattr(new, group)
        values[key] = stepper.advance(group, key, values[key], _target(dynamics, group, key, new))
    return new


def _by_neuron(dynamics: Dynamics[Any], stepper: Stepper, state: State, rng: np.random.Generator) -> State:
    new = state.copy()
    units = [(group, key, i) for group, key in _stages(dynamics) for i in range(getattr(state, group)[key].shape[1])]
    for group, key, i in _shuffled(units, rng):
        values = getattr(new, group)[key]
        values[:, i] = stepper.advance(group, key, values, _target(dynamics, group, key, new))[:, i]
    return new


def _stale(dynamics: Dynamics[Any], stepper: Stepper, rng: np.random.Generator, delay: int) -> Tick:
    past: list[State] = []  # newest first

    def tick(state: State) -> State:
        past.insert(0, state)
        del past[delay + 1 :]
        new = State({}, {})
        for group, key in _stages(dynamics):
            seen = State(*({k: getattr(past[rng.integers(len(past))], g)[k] for k in dynamics.keys} for g in GROUPS))
            value = getattr(state, group)[key]
            getattr(new, group)[key] = stepper.advance(group, key, value, _target(dynamics, group, key, seen))
        return new

    return tick
