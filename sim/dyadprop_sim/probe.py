"""Watch the relaxation: a held sample, from arbitrary states, tick by tick, in the RTL and in the models."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dyadprop.network import Network, RawParameters
from dyadprop.plan import Plan
from dyadprop_sim.golden import Model
from dyadprop_sim.relaxation import Array, Relaxation, State
from dyadprop_sim.rtl_network import pack, unpack
from dyadprop_sim.verilator import VERIFICATION, NetworkSimulation

Bools = npt.NDArray[np.bool_]


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

    def late(self) -> list[str]:
        """Name what is exact later than the theorem says: ``x_l`` at tick ``l``, ``lambda_l`` at ``2L - l + 1``."""
        depth = self.activations.shape[1]
        activations, sensitivities = self.first_exact()
        wrong = [f"x_{l} at tick {k} instead of {l}" for l, k in enumerate(activations, 1) if k > l]
        bounds = [(l, 2 * depth - l + 1) for l in range(1, depth + 1)]
        wrong += [
            f"lambda_{l} at tick {k} instead of {bound}"
            for (l, bound), k in zip(bounds, sensitivities, strict=True)
            if k > bound
        ]
        return wrong


def settling(states: list[State], rest: State) -> Settling:
    """Compare a trajectory with the state at rest, word by word."""
    layers = sorted(rest.activations)

    def share(part: Callable[[State], dict[int, Array]]) -> npt.NDArray[np.float64]:
        return np.array([[np.mean(part(state)[l] == part(rest)[l]) for l in layers] for state in states])

    return Settling(share(lambda s: s.activations), share(lambda s: s.sensitivities))


def rtl_trajectory(
    plan: Plan,
    params: list[RawParameters],
    x: Array,
    target: Array,
    start: State,
    ticks: int,
    *,
    seed: int,
    stalls: float,
) -> list[State]:
    """Relax one held sample in the RTL, from arbitrary words in every link between stages.

    Parameters
    ----------
    plan : Plan
    params : list of RawParameters
    x, target : int64 arrays (n_0,), (n_L,)
        The held sample: the same words are fed again and again.
    start : State
        One vector a link, batch of 1: what stands between the stages before the first tick.
    ticks : int
    seed : int
        Of stalls and of register contents before reset.
    stalls : float
        Chance that a stream stalls in a cycle.

    Returns
    -------
    list of State
        Before the first tick and after each: tick ``k`` of a stage is its ``k``-th firing, whenever it comes.
    """
    net = plan.net
    depth = len(plan.stages)
    rtl = NetworkSimulation(plan, open_links=True, options=VERIFICATION, seed=seed, stalls=stalls)
    try:
        rtl.load(params)
        for l in range(1, depth + 1):
            x_token, s_token = rtl.link_tokens(l)
            rtl.simulation.link_push(2 * l - 2, pack(x_token, value=start.activations[l][0], learn=1))
            rtl.simulation.link_push(
                2 * l - 1, pack(s_token, value=start.sensitivities[l][0], activation=start.activations[l][0])
            )
        # As many samples more as the first stage can hold: then the tick asked for has passed everywhere.
        samples = ticks + plan.stages[0].samples + 1
        expected = {"output": samples * net.outputs}
        if net.input_gradient:
            expected["input_sensitivity"] = ticks * net.inputs
        rtl.run(
            {
                "input": np.tile(pack(rtl.input_token, value=x, learn=1), samples),
                "target": np.tile(pack(rtl.target_token, value=target, seed=0), samples),
            },
            expected,
        )
        firings: dict[tuple[int, int], Array] = {}
        for l in range(1, depth + 1):
            for kind, token in enumerate(rtl.link_tokens(l)):
                seen = unpack(token, "value", rtl.simulation.link_seen(2 * l - 2 + kind))
                whole = len(seen) // net.widths[l]  # the run may end inside a vector
                firings[kind, l] = seen[: whole * net.widths[l]].reshape(whole, net.widths[l])
        layers = range(1, depth + 1)
        return [start] + [
            State({l: firings[0, l][k : k + 1] for l in layers}, {l: firings[1, l][k : k + 1] for l in layers})
            for k in range(ticks)
        ]
    finally:
        rtl.close()


def held_sample(
    net: Network, params: list[RawParameters], x: Array, target: Array
) -> tuple[Relaxation[RawParameters], State]:
    """Give the relaxation of a held sample in words, and its state at rest from textbook backpropagation."""
    model = Model(net, params)
    trace = model.textbook(x[None, :], target[None, :])
    layers = range(1, len(net.layers) + 1)
    rest = State({l: trace.activations[l] for l in layers}, {l: trace.sensitivities[l] for l in layers})
    return Relaxation(model, x[None, :], target[None, :]), rest


def _first(shares: npt.NDArray[np.float64]) -> list[int]:
    exact = shares == 1.0
    # The first tick of the unbroken run of exact ones at the end; one past the end where the last one is not exact.
    return [len(column) - int(np.argmin(column[::-1])) if not column.all() else 0 for column in exact.T]
