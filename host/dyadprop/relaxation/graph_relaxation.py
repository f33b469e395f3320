"""The relaxation of a graph, in floats: the same two lines as on a chain, with a sum over readers."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dyadprop.errors import RangeError, ShapeError
from dyadprop.formats import Floats
from dyadprop.network import Parameters
from dyadprop.relaxation.graph import Graph, Node
from dyadprop.relaxation.reals import phi, times_slope
from dyadprop.relaxation.state import Array, Bounds, State

_PATIENCE = 20_000  # ticks that a cycle may take to rest
_AT_REST = 1e-15  # change a tick, relative, that is no more than rounding


class GraphRelaxation:
    """The relaxation of a batch held at a graph.

    Parameters
    ----------
    graph : Graph
    params : mapping of str to Parameters
    x, y : dict of str to float64 array (batch, width)

    Notes
    -----
    ::

        x_v      <- F_v(x_u of all that v reads)
        lambda_v <- dC/dx_v + sum over the readers w of v:  W_wv^T (phi'_w(a_w) * lambda_w)

    Each is a function of earlier variables when there is no cycle: exact after 2D ticks, D nodes on the longest path.
    """

    def __init__(
        self, graph: Graph, params: Mapping[str, Parameters], x: dict[str, Floats], y: dict[str, Floats]
    ) -> None:
        self.graph = graph
        self.params = params
        self.x = x
        self.y = y
        self.keys: tuple[str, ...] = graph.order or tuple(graph.nodes)

    def activation(self, key: str, state: State) -> Array:
        """Give ``F_v``, (batch, n_v)."""
        node = self.graph.nodes[key]
        weight, bias = self.params[self.graph.key(key)]
        return phi(node.activation, self._read(node, state) @ weight.T + bias, node.slope)

    def sensitivity(self, key: str, state: State) -> Array:
        """Give the right-hand side of ``lambda_v``, (batch, n_v)."""
        total = state.activations[key] - self.y[key] if key in self.y else np.zeros_like(state.activations[key])
        width = self.graph.width(key)
        for reader, column in self.graph.readers[key]:
            weight = self.params[self.graph.key(reader)].weight
            total = total + self._delta(reader, state) @ weight[:, column : column + width]
        return np.asarray(total)

    def step(self, state: State) -> State:
        """Take one tick: all nodes read the old state."""
        return State(
            {key: self.activation(key, state) for key in self.keys},
            {key: self.sensitivity(key, state) for key in self.keys},
        )

    def rest(self) -> State:
        """Give the state at rest; round a cycle, by Almeida's and Pineda's two relaxations.

        Raises
        ------
        RangeError
            If a cycle comes to no rest.
        """
        batch = len(next(iter(self.x.values())))
        zeros = {key: np.zeros((batch, self.graph.width(key))) for key in self.keys}
        state = State(dict(zeros), dict(zeros))
        if self.graph.order is None:
            self._until_rest(state.activations, lambda key: self.activation(key, state))
            self._until_rest(state.sensitivities, lambda key: self.sensitivity(key, state))
            return state
        for key in self.keys:
            state.activations[key] = self.activation(key, state)
        for key in reversed(self.keys):
            state.sensitivities[key] = self.sensitivity(key, state)
        return state

    def bounds(self) -> Bounds | None:
        """Give the tick from which on each variable is right: one later than the last that it reads."""
        if self.graph.order is None:
            return None
        activations: dict[str, int] = {}
        for key in self.keys:
            activations[key] = 1 + max(activations.get(read, 0) for read in self.graph.nodes[key].reads)
        sensitivities: dict[str, int] = {}
        for key in reversed(self.keys):
            before = [activations[key] if key in self.y else 0]
            for reader, _ in self.graph.readers[key]:
                before += [sensitivities[reader], *(activations.get(r, 0) for r in self.graph.nodes[reader].reads)]
            sensitivities[key] = 1 + max(before)
        return activations, sensitivities

    def gradients(self, state: State) -> dict[str, Parameters]:
        """Read the gradients off a state, by name of the weights; shared ones add up."""
        found: dict[str, Parameters] = {}
        for key in self.keys:
            delta = self._delta(key, state)
            weight, bias = delta.T @ self._read(self.graph.nodes[key], state), delta.sum(axis=0)
            name = self.graph.key(key)
            if name in found:
                weight, bias = found[name].weight + weight, found[name].bias + bias
            found[name] = Parameters(weight, bias)
        return found

    def energy(self, state: State) -> float:
        """Give ``E`` of a state, summed over the batch."""
        total = sum(0.5 * float(np.sum((state.activations[key] - y) ** 2)) for key, y in self.y.items())
        for key in self.keys:
            gap = self.activation(key, state) - state.activations[key]
            total += float(np.sum(state.sensitivities[key] * gap))
        return total

    def reals(self, state: State) -> State:
        """Give the state itself."""
        return state

    def random_state(self, rng: np.random.Generator) -> State:
        """Draw standard normal units."""
        batch = len(next(iter(self.x.values())))

        def draw() -> dict[str, Floats]:
            return {key: rng.standard_normal((batch, self.graph.width(key))) for key in self.keys}

        return State(draw(), draw())

    def _read(self, node: Node, state: State) -> Floats:
        return np.concatenate([self.x[r] if r in self.x else state.activations[r] for r in node.reads], axis=1)

    def _delta(self, key: str, state: State) -> Floats:
        node = self.graph.nodes[key]
        return times_slope(node.activation, self.activation(key, state), state.sensitivities[key], node.slope)

    def _until_rest(self, values: dict[str, Array], target: Callable[[str], Array]) -> None:
        with np.errstate(all="ignore"):  # what leaves for infinity is found below
            for _ in range(_PATIENCE):
                change = 0.0
                for key in self.keys:
                    new = target(key)
                    size = float(np.max(np.abs(new), initial=1e-300))
                    change = max(change, float(np.max(np.abs(new - values[key]))) / size)
                    values[key] = new
                if change <= _AT_REST:
                    return
                if not np.isfinite(change):
                    break
        raise RangeError(
            f"the graph comes to no rest within {_PATIENCE} rounds; the weights of its cycle are too large"
        )


def hold(graph: Graph, params: Mapping[str, Parameters], x: Any, y: Any) -> GraphRelaxation:
    """Check parameters, inputs and targets of a graph and hold them."""
    inputs = graph.arrays("inputs x", x, tuple(graph.inputs))
    targets = graph.arrays("targets y", y, graph.exits)
    if len(next(iter(inputs.values()))) != len(next(iter(targets.values()))):
        raise ShapeError("targets y have another number of samples than inputs x; expected one batch")
    return GraphRelaxation(graph, graph.check_parameters(params), inputs, targets)
