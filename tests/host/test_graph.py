"""Graphs: the gradient of any wiring, 2D ticks, tied weights, cycles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dyadprop as dp

BATCH = 3


def held(graph: dp.Graph, seed: int, scale: float = 1.0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    x = {name: rng.uniform(-1, 1, (BATCH, n)) for name, n in graph.inputs.items()}
    y = {name: rng.uniform(-1, 1, (BATCH, graph.width(name))) for name in graph.exits}
    return graph.init(seed, scale), x, y


GRAPHS = {
    "skips and exits": dp.Graph(
        {"x": 3, "z": 2},
        {
            "d": dp.Node(2, ("c", "a", "z")),  # not in order
            "a": dp.Node(4, "x"),
            "b": dp.Node(5, ("a", "x"), "sigmoid"),
            "c": dp.Node(3, ("a", "b"), "leaky_relu", slope=0.25),
        },
        ["d", "b"],
    ),
    "tied": dp.Graph(
        {"x": 4}, {"a": dp.Node(4, "x", weights="w"), "b": dp.Node(4, "a", weights="w"), "c": dp.Node(2, "b")}, ["c"]
    ),
    "unrolled": dp.Graph.unrolled(2, 3, 4),
    "cycle": dp.Graph({"x": 3}, {"a": dp.Node(3, ("x", "b")), "b": dp.Node(2, ("a",), "tanh")}, ["b", "a"]),
}


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("name", GRAPHS)
def test_the_gradient_at_rest_is_the_derivative_of_the_cost(name, seed):
    graph = GRAPHS[name]
    params, x, y = held(graph, seed, 0.7)

    def cost() -> float:
        rest = dp.relax(graph, params, x, y, ticks=0).rest
        return sum(0.5 * float(np.sum((rest.activations[n] - y[n]) ** 2)) for n in graph.exits)

    seen = dp.relax(graph, params, x, y, ticks=0)
    gradients = seen.dynamics.gradients(seen.rest)
    compared = 0
    for key, entry in params.items():
        for array, got in zip(entry, gradients[key], strict=True):
            for index in np.ndindex(array.shape):
                ends = []
                for way in (1e-5, -2e-5):
                    array[index] += way
                    ends.append(cost())
                array[index] += 1e-5
                assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(got[index], rel=1e-5, abs=1e-8)
                compared += 1
    assert compared == sum(entry.weight.size + entry.bias.size for entry in params.values())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["skips and exits", "tied", "unrolled"])
def test_without_a_cycle_it_rests_after_twice_the_longest_path(name, seed):
    graph = GRAPHS[name]
    params, x, y = held(graph, seed)
    seen = dp.relax(graph, params, x, y, seed=seed)
    assert graph.depth == {"skips and exits": 4, "tied": 3, "unrolled": 4}[name]
    assert seen.ticks == 2 * graph.depth
    assert seen.exact_from() == 2 * graph.depth
    assert seen.bounds is not None
    firsts = seen.first_exact()
    for found, bound in zip(firsts, seen.bounds, strict=True):
        assert found == {k: bound[k] for k in found}  # met by each variable
    assert dp.relax(graph, params, x, y, seed=seed, schedule="random").exact_from() is not None
    assert seen.error[-1] == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_a_chain_is_a_graph(seed):
    net = dp.Network(3, [dp.Dense(4, "tanh"), dp.Dense(5, "leaky_relu", slope=0.25), dp.Dense(2)])
    graph = dp.Graph.chain(net)
    params = net.init(seed)
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-1, 1, (BATCH, 3)), rng.uniform(-1, 1, (BATCH, 2))
    named = {str(l): p for l, p in enumerate(params, 1)}
    one = dp.relax(net, params, x, y, seed=seed)
    start = dp.State(
        *({str(l): v for l, v in g.items()} for g in (one.states[0].activations, one.states[0].sensitivities))
    )
    other = dp.relax(graph, named, x, y, init=start)
    compared = 0
    for mine, theirs in zip(one.states, other.states, strict=True):
        there = theirs.variables()
        for name, values in mine.variables().items():
            np.testing.assert_array_equal(values, there[name])
            compared += 1
    assert compared == 7 * 6
    assert one.energy.tolist() == pytest.approx(other.energy.tolist(), rel=1e-13)
    assert graph.energy(named, x, y, start) == pytest.approx(net.energy(params, x, y, one.states[0]), rel=1e-13)
    assert graph.flow(named, x, y, start).activations["2"].shape == (BATCH, 5)


def test_a_cycle_is_geometric_and_never_done():
    graph = GRAPHS["cycle"]
    assert graph.depth is None
    assert graph.order is None
    params, x, y = held(graph, 0, 0.5)
    seen = dp.relax(graph, params, x, y, ticks=40)
    assert seen.bounds is None
    assert dp.relax(graph, params, x, y).ticks == 100
    falls = seen.error[4:20:2] / seen.error[2:18:2]
    assert len(falls) == 8
    assert (falls < 0.9).all()
    assert (falls > 0.001).all()


def test_a_cycle_without_rest_says_so():
    graph = dp.Graph({"x": 1}, {"a": dp.Node(1, ("x", "a"), "identity")}, ["a"])
    params = {"a": dp.Parameters(np.array([[1.0, -1.5]]), np.zeros(1))}
    with pytest.raises(dp.RangeError, match=r"graph comes to no rest within \d+ rounds; the weights of its cycle"):
        dp.relax(graph, params, np.ones((1, 1)), np.ones((1, 1)))


@pytest.mark.parametrize(
    ("inputs", "nodes", "exits", "message"),
    [
        ({"x": 0}, {"a": dp.Node(1, "x")}, ["a"], "width of input x is 0"),
        ({"x": 1}, {"x": dp.Node(1, "x")}, ["x"], "name 'x' is an input and a node"),
        ({"x": 1}, {"a": dp.Node(1, "b")}, ["a"], "node 'a' reads 'b', which is neither an input nor a node"),
        ({"x": 1}, {"a": dp.Node(1, "x")}, [], "exits of a graph are none; expected names of nodes"),
        ({"x": 1}, {"a": dp.Node(1, "x")}, ["x"], "exits of a graph are x; expected names of nodes"),
        (
            {"x": 1},
            {"a": dp.Node(2, "x", weights="w"), "b": dp.Node(2, "a", weights="w")},
            ["b"],
            "node 'b' needs weights of shape (2, 2); the nodes that it shares them with have (2, 1)",
        ),
    ],
)
def test_wrong_graphs_are_said(inputs, nodes, exits, message):
    with pytest.raises(dp.RangeError) as error:
        dp.Graph(inputs, nodes, exits)
    assert str(error.value).startswith(message)


def test_wrong_nodes_parameters_and_arrays_are_said():
    with pytest.raises(dp.RangeError, match="a node reads nothing"):
        dp.Node(1, ())
    with pytest.raises(dp.RangeError, match="activation 'sin' is not known"):
        dp.Node(1, "x", "sin")
    with pytest.raises(dp.RangeError, match="a graph has squared_error only"):
        dp.Graph.chain(dp.Network(1, [dp.Dense(2)], "softmax_cross_entropy"))
    graph = GRAPHS["skips and exits"]
    params, x, y = held(graph, 0)
    with pytest.raises(dp.ShapeError, match="parameters are for a; expected d, a, b, c"):
        dp.relax(graph, {"a": params["a"]}, x, y)
    with pytest.raises(dp.ShapeError, match="inputs x are a single array; expected one for each of x, z"):
        dp.relax(graph, params, x["x"], y)
    with pytest.raises(dp.ShapeError, match="inputs x are for x; expected x, z"):
        dp.relax(graph, params, {"x": x["x"]}, y)
    with pytest.raises(dp.ShapeError, match="inputs x have 2 and 3 samples; expected one batch"):
        dp.relax(graph, params, {"x": x["x"], "z": x["z"][:2]}, y)
    with pytest.raises(dp.ShapeError, match="targets y have another number of samples than inputs x"):
        dp.relax(graph, params, x, {name: v[:2] for name, v in y.items()})
    with pytest.raises(dp.RangeError, match="a graph relaxes in floats only"):
        dp.relax(graph, params, x, y, formats=dp.Formats())
    with pytest.raises(dp.RangeError, match="slopes are 'output'; allowed for a graph is flow"):
        dp.relax(graph, params, x, y, slopes="output")
