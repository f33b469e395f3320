"""One gradient to compute, and what a method makes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dyadprop.errors import RangeError
from dyadprop.formats import Floats
from dyadprop.network import Network, Parameters
from dyadprop.relaxation.chain import Relaxation
from dyadprop.relaxation.reals import Reals
from dyadprop.relaxation.state import State

Layers = dict[int, Floats]


@dataclass(frozen=True)
class Task:
    """A batch whose gradient is wanted.

    Attributes
    ----------
    net : Network
        With squared error.
    params : list of Parameters
    x, y : float64 array (batch, n_0), (batch, n_L)
    seed : int
        Of random starts.
    tolerance : float
        Change a step, relative to ``tau``, at which an asymptotic method is stopped.
    nudge : float
        ``beta`` of the methods that measure a difference between two nudged states.
    """

    net: Network
    params: list[Parameters]
    x: Floats
    y: Floats
    seed: int = 0
    tolerance: float = 1e-6
    nudge: float = 0.1

    @cached_property
    def system(self) -> Reals:
        """The network's functions."""
        return Reals(self.net, self.params)

    @property
    def depth(self) -> int:
        """``L``."""
        return self.system.depth

    @property
    def layers(self) -> range:
        """Layers ``1..L``."""
        return range(1, self.depth + 1)

    @cached_property
    def relaxation(self) -> Relaxation[Parameters]:
        """The dyadic relaxation of the batch."""
        return Relaxation(self.system, self.x, self.y, "flow")

    @cached_property
    def textbook(self) -> list[Parameters]:
        """Gradients by backpropagation."""
        return self.relaxation.gradients(self.relaxation.rest())

    def forward(self) -> Layers:
        """Give ``x_0 .. x_L`` of a forward pass."""
        return {0: self.x, **self.relaxation.rest().activations}

    def random_state(self, stream: int = 0) -> State:
        """Draw standard normal units, from a stream of the task's own."""
        return self.relaxation.random_state(np.random.default_rng([self.seed, stream]))

    def pre_activation(self, l: int, x: Floats) -> Floats:
        """Give ``W_l x + b_l``."""
        weight, bias = self.params[l - 1]
        return x @ weight.T + bias

    def gradients(self, deltas: Layers, activations: Layers) -> list[Parameters]:
        """Give ``delta_l x_{l-1}^T`` and ``delta_l`` of each layer, summed over the batch."""
        return [self.system.gradient(l, deltas[l], activations[l - 1]) for l in self.layers]

    def error(self, gradients: Sequence[Parameters], right: Sequence[Parameters] | None = None) -> float:
        """Give the distance of gradients from those of ``right``, backpropagation's where not given, relative."""
        mine, theirs = (_flat(entry) for entry in (gradients, self.textbook if right is None else right))
        return float(np.linalg.norm(mine - theirs) / np.linalg.norm(theirs))


@dataclass(frozen=True)
class Attempt:
    """What a run of a method gave.

    Attributes
    ----------
    gradients : list of Parameters
    steps : int
        Ticks in which every layer may move once; a forward pass takes L of them.
    own : list of Parameters, optional
        The true gradient of the method's own cost, where its network is not the feed-forward one.
    """

    gradients: list[Parameters]
    steps: int
    own: list[Parameters] | None = None


@dataclass(frozen=True)
class Method:
    """A way to a gradient.

    Attributes
    ----------
    name, reference : str
    start : str
        From which state it must begin.
    read : str
        What must be read when.
    run : callable
        ``run(task, random_start, extra)``: from its own start, or from random units; read when it says, or, with
        ``extra``, all at once that many ticks later.
    """

    name: str
    reference: str
    start: str
    read: str
    run: Callable[[Task, bool, int], Attempt]


def until_rest(tick: Callable[[], float], tolerance: float, limit: int = 100_000) -> int:
    """Tick until a tick changes nothing by more than ``tolerance``; give the number of ticks.

    Raises
    ------
    RangeError
        If that does not come to pass.
    """
    for count in range(1, limit + 1):
        change = tick()
        if change <= tolerance:
            return count
        if not np.isfinite(change):
            break
    raise RangeError(f"a method comes to no rest within {limit} ticks; try smaller weights")


def moved(values: Layers, new: Layers, dt: float = 1.0) -> float:
    """Move layers in place towards ``new`` by ``dt``; give the largest distance that there was."""
    change = 0.0
    for l, target in new.items():
        change = max(change, float(np.max(np.abs(target - values[l]))))
        values[l] = target if dt == 1.0 else values[l] + dt * (target - values[l])
    return change


def _flat(gradients: Sequence[Parameters]) -> Floats:
    return np.concatenate([array.ravel() for entry in gradients for array in entry])
