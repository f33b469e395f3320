"""Networks that are no chain: skips, branches, early exits, tied weights, even cycles. For the relaxation in floats."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dyadprop.checks import finite_array, whole_number
from dyadprop.errors import RangeError, ShapeError
from dyadprop.formats import Floats
from dyadprop.network import ACTIVATIONS, MAX_WIDTH, Network, Parameters
from dyadprop.relaxation.state import State


@dataclass(frozen=True)
class Node:
    """A layer of a graph: ``x_v = phi(W_v [x_u for u in reads] + b_v)``.

    Parameters
    ----------
    outputs : int
    reads : sequence of str, or str
        Inputs or nodes whose activations it takes, side by side in this order.
    activation : {"identity", "relu", "leaky_relu", "tanh", "sigmoid"}
    weights : str, optional
        Nodes that name the same weights share them, and their gradients add up; a node's own name where not given.
    slope : float
        Of leaky_relu below zero.

    Raises
    ------
    RangeError
    """

    outputs: int
    reads: Sequence[str]
    activation: str = "tanh"
    weights: str | None = None
    slope: float = 2.0**-7

    def __post_init__(self) -> None:
        whole_number("outputs of a node", self.outputs, 1, MAX_WIDTH)
        object.__setattr__(self, "reads", (self.reads,) if isinstance(self.reads, str) else tuple(self.reads))
        if not self.reads:
            raise RangeError("a node reads nothing; it must name at least one input or node")
        if self.activation not in ACTIVATIONS:
            raise RangeError(f"activation {self.activation!r} is not known; allowed are {', '.join(ACTIVATIONS)}")


class Graph:
    """Layers that read each other in any way; squared error at each exit. There is no hardware for it.

    Parameters
    ----------
    inputs : mapping of str to int
        Width of each input.
    nodes : mapping of str to Node
    exits : sequence of str
        Nodes with a target; the cost is the sum of ``0.5 sum((x_v - y_v)^2)``.

    Raises
    ------
    RangeError
        If a name is unknown or used twice, or nodes that share weights have other shapes.

    Examples
    --------
    >>> graph = Graph({"x": 3}, {"a": Node(4, "x"), "b": Node(2, ("a", "x"))}, ["b"])
    >>> graph.depth
    2
    """

    def __init__(self, inputs: Mapping[str, int], nodes: Mapping[str, Node], exits: Sequence[str]) -> None:
        self.inputs = {name: whole_number(f"width of input {name}", n, 1, MAX_WIDTH) for name, n in inputs.items()}
        self.nodes = dict(nodes)
        self.exits = (exits,) if isinstance(exits, str) else tuple(exits)
        twice = sorted(self.inputs.keys() & self.nodes.keys())
        if twice:
            raise RangeError(f"name {twice[0]!r} is an input and a node; each needs its own")
        for name, node in self.nodes.items():
            for read in node.reads:
                if read not in self.inputs and read not in self.nodes:
                    raise RangeError(f"node {name!r} reads {read!r}, which is neither an input nor a node")
        if not self.exits or any(name not in self.nodes for name in self.exits):
            raise RangeError(f"exits of a graph are {', '.join(self.exits) or 'none'}; expected names of nodes")
        self._shapes: dict[str, tuple[int, int]] = {}
        for name, node in self.nodes.items():
            shape = (node.outputs, sum(self.width(read) for read in node.reads))
            if self._shapes.setdefault(node.weights or name, shape) != shape:
                raise RangeError(
                    f"node {name!r} needs weights of shape {shape}; the nodes that it shares them with have "
                    f"{self._shapes[node.weights or name]}"
                )

    @classmethod
    def chain(cls, net: Network) -> "Graph":
        """Give a network with squared error as a graph: input ``x``, nodes ``1 .. L``."""
        if net.cost != "squared_error":
            raise RangeError(f"cost of the network is {net.cost}; a graph has squared_error only")
        nodes = {
            str(l): Node(layer.outputs, ("x" if l == 1 else str(l - 1),), layer.activation, slope=layer.slope)
            for l, layer in enumerate(net.layers, start=1)
        }
        return cls({"x": net.inputs}, nodes, (str(len(nodes)),))

    @classmethod
    def unrolled(cls, inputs: int, units: int, steps: int, activation: str = "tanh") -> "Graph":
        """Give a recurrent cell unrolled in time: ``h_t = phi(W [h_{t-1}, x_t] + b)``, one ``W`` for all ``t``.

        Inputs are ``h_0`` and ``x_1 .. x_T``, nodes ``h_1 .. h_T``, the exit ``h_T``.
        """
        nodes = {
            f"h_{t}": Node(units, (f"h_{t - 1}", f"x_{t}"), activation, weights="cell") for t in range(1, steps + 1)
        }
        return cls({"h_0": units, **{f"x_{t}": inputs for t in range(1, steps + 1)}}, nodes, (f"h_{steps}",))

    def width(self, name: str) -> int:
        """Give the width of an input or a node."""
        return self.inputs[name] if name in self.inputs else self.nodes[name].outputs

    def key(self, name: str) -> str:
        """Give the name of a node's weights."""
        return self.nodes[name].weights or name

    @cached_property
    def order(self) -> tuple[str, ...] | None:
        """Nodes, each behind those that it reads; None if there is a cycle."""
        done: dict[str, None] = {}
        waiting = list(self.nodes)
        while waiting:
            ready = [n for n in waiting if all(r in self.inputs or r in done for r in self.nodes[n].reads)]
            if not ready:
                return None
            done.update(dict.fromkeys(ready))
            waiting = [n for n in waiting if n not in done]
        return tuple(done)

    @cached_property
    def depth(self) -> int | None:
        """``D``, nodes on the longest path; None if there is a cycle."""
        if self.order is None:
            return None
        longest: dict[str, int] = {}
        for name in self.order:
            longest[name] = 1 + max((longest.get(read, 0) for read in self.nodes[name].reads), default=0)
        return max(longest.values())

    @cached_property
    def readers(self) -> dict[str, list[tuple[str, int]]]:
        """Give for each node who reads it, and from which column of the reader's weights on."""
        found: dict[str, list[tuple[str, int]]] = {name: [] for name in self.nodes}
        for name, node in self.nodes.items():
            column = 0
            for read in node.reads:
                if read in found:
                    found[read].append((name, column))
                column += self.width(read)
        return found

    def init(self, seed: int = 0, scale: float = 1.0) -> dict[str, Parameters]:
        """Draw Glorot uniform weights, times ``scale``, and zero biases; by name of the weights."""
        rng = np.random.default_rng(seed)
        return {
            key: Parameters(scale * math.sqrt(6.0 / sum(shape)) * rng.uniform(-1.0, 1.0, shape), np.zeros(shape[0]))
            for key, shape in self._shapes.items()
        }

    def check_parameters(self, params: Mapping[str, Parameters]) -> dict[str, Parameters]:
        """Return float64 copies of the parameters, or raise what is wrong with them."""
        if set(params) != set(self._shapes):
            raise ShapeError(f"parameters are for {', '.join(sorted(params))}; expected {', '.join(self._shapes)}")
        return {
            key: Parameters(
                finite_array(f"weight of {key}", params[key].weight, shape),
                finite_array(f"bias of {key}", params[key].bias, (shape[0],)),
            )
            for key, shape in self._shapes.items()
        }

    def arrays(self, what: str, values: Any, names: Sequence[str]) -> dict[str, Floats]:
        """Check arrays (batch, width), by name or a single one for a single name; all of one batch."""
        if not isinstance(values, Mapping):
            if len(names) != 1:
                raise ShapeError(f"{what} are a single array; expected one for each of {', '.join(names)}")
            values = {names[0]: values}
        if set(values) != set(names):
            raise ShapeError(f"{what} are for {', '.join(map(str, values)) or 'nothing'}; expected {', '.join(names)}")
        found = {n: finite_array(f"{what} {n}", values[n], (None, self.width(n))) for n in names}
        batches = {len(array) for array in found.values()}
        if len(batches) > 1:
            raise ShapeError(f"{what} have {' and '.join(map(str, sorted(batches)))} samples; expected one batch")
        return found

    def energy(self, params: Mapping[str, Parameters], x: Any, y: Any, state: State) -> float:
        """Give ``E = C + sum_v lambda_v . (F_v - x_v)`` of a state, summed over the batch."""
        from dyadprop.relaxation.graph_relaxation import hold

        return hold(self, params, x, y).energy(state)

    def flow(self, params: Mapping[str, Parameters], x: Any, y: Any, state: State) -> State:
        """Give ``dE/dlambda_v`` and ``dE/dx_v``: `dyadprop.relaxation.laws.flow` on a graph."""
        from dyadprop.relaxation.graph_relaxation import hold
        from dyadprop.relaxation.laws import velocity

        return velocity(hold(self, params, x, y), state)
