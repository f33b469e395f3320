"""Graphs, time, and cycles."""

import numpy as np

from dyadprop.relaxation.graph import Graph, Node
from dyadprop.relaxation.run import relax
from dyadprop.relaxation.state import State
from dyadprop.relaxation.trajectory import Trajectory
from dyadprop_sim.theorem.claim import Claim, span

_UNITS = 4
_BATCH = 3


def make_graphs() -> dict[str, Graph]:
    """Give graphs of each kind."""
    n = _UNITS
    chain = {f"{l}": Node(n, "x" if l == 1 else f"{l - 1}") for l in range(1, 5)}
    skips = {**chain, "3": Node(n, ("2", "1")), "4": Node(n, ("3", "x"))}
    branches = {
        "stem": Node(n, "x"),
        "short": Node(n, "stem"),
        "long 1": Node(n, "stem"),
        "long 2": Node(n, "long 1"),
        "long 3": Node(n, "long 2"),
        "join": Node(n, ("short", "long 3")),
    }
    dense = {f"{l}": Node(n, ("x", *(f"{k}" for k in range(1, l)))) for l in range(1, 6)}
    return {
        "chain of 4": Graph({"x": n}, chain, ["4"]),
        "skips": Graph({"x": n}, skips, ["4"]),
        "branches of 1 and 3": Graph({"x": n}, branches, ["join"]),
        "early exits": Graph({"x": n}, chain, ["1", "2", "4"]),
        "each reads all before it": Graph({"x": n}, dense, ["5"]),
    }


def relax_graph(graph: Graph, seed: int, *, ticks: int | None = None, scale: float = 1.0) -> Trajectory:
    """Relax a graph with random parameters and data."""
    rng = np.random.default_rng([seed, 11])
    x = {name: rng.uniform(-1, 1, (_BATCH, n)) for name, n in graph.inputs.items()}
    y = {name: rng.uniform(-1, 1, (_BATCH, graph.width(name))) for name in graph.exits}
    return relax(graph, graph.init(seed, scale), x, y, seed=seed, ticks=ticks)


def graphs(seed: int) -> Claim:
    """Count ticks to rest in graphs, against twice the longest path."""
    claim = Claim("graphs", ("graph", "nodes", "longest path D", "bound 2D", "exact from tick"))
    for name, graph in make_graphs().items():
        depth = graph.depth or 0
        found = []
        for s in range(seed, seed + 10):
            seen = relax_graph(graph, s)
            k = seen.exact_from()
            claim.check(k == 2 * depth, f"{name}, seed {s}: exact from tick {k}, bound {2 * depth}")
            found.append(k if k is not None else seen.ticks + 1)
        claim.rows.append((name, f"{len(graph.nodes)}", f"{depth}", f"{2 * depth}", span(found)))
    return claim


def recurrence(seed: int) -> Claim:
    """Count ticks to rest in a recurrent cell unrolled in time."""
    claim = Claim("recurrence", ("steps T", "bound 2T", "exact from tick"))
    for steps in (1, 2, 5, 10, 20):
        found = []
        for s in range(seed, seed + 5):
            seen = relax_graph(Graph.unrolled(2, _UNITS, steps), s)
            k = seen.exact_from()
            claim.check(k == 2 * steps, f"T = {steps}, seed {s}: exact from tick {k}")
            found.append(k if k is not None else seen.ticks + 1)
        claim.rows.append((f"{steps}", f"{2 * steps}", span(found)))
    claim.data["unrolled cell"] = relax_graph(Graph.unrolled(2, _UNITS, 5), seed, ticks=30).error.tolist()
    return claim


def make_cycle() -> Graph:
    """Give two nodes that read each other."""
    return Graph({"x": _UNITS}, {"a": Node(_UNITS, ("x", "b")), "b": Node(_UNITS, "a")}, ["b"])


def cycles(seed: int) -> Claim:
    """Measure the rate at which a cycle relaxes, against the spectral radius of its Jacobian."""
    claim = Claim(
        "cycles",
        (
            "weights times",
            "spectral radius of the Jacobian",
            "activations' error falls by, a tick",
            "ticks to 1e-6, gradient",
        ),
    )
    for scale in (0.3, 0.6, 0.9):
        seen = relax_graph(make_cycle(), seed, ticks=150, scale=scale)
        radius = _spectral_radius(seen)
        rate = _rate(seen)
        late = np.flatnonzero(seen.error > 1e-6)
        claim.rows.append((f"{scale:g}", f"{radius:.2f}", f"{rate:.2f}", f"{int(late[-1]) + 1}"))
        claim.check(abs(rate - radius) < 0.04, f"scale {scale:g}: rate {rate:.3f}, spectral radius {radius:.3f}")
        claim.check(seen.error[8] > 1e-14, f"scale {scale:g}: exact after finitely many ticks")
        claim.data[f"weights times {scale:g}"] = seen.error[:41].tolist()
    return claim


def _rate(seen: Trajectory) -> float:
    distance = seen.distances[0].max(axis=1)
    usable = np.flatnonzero(distance > 1e-11)
    last = int(usable[-1])
    first = last // 3
    first -= (last - first) % 2  # a cycle of two nodes: the error turns round with period two
    return float((distance[last] / distance[first]) ** (1.0 / (last - first)))


def _spectral_radius(seen: Trajectory) -> float:
    """Differentiate one tick of the activations at rest, sample by sample; the slowest sample decides."""
    flow, rest = seen.dynamics, seen.rest
    size = sum(v.shape[1] for v in rest.activations.values())
    jacobian = np.zeros((_BATCH, size, size))
    column = 0
    for key, value in rest.activations.items():
        for i in range(value.shape[1]):
            ends = []
            for way in (1e-6, -1e-6):
                moved = rest.copy()
                moved.activations[key][:, i] += way
                ends.append(
                    np.concatenate([flow.activation(k, State(moved.activations, {})) for k in flow.keys], axis=1)
                )
            jacobian[:, :, column] = (ends[0] - ends[1]) / 2e-6
            column += 1
    return float(np.max(np.abs(np.linalg.eigvals(jacobian))))


CLAIMS = (graphs, recurrence, cycles)
