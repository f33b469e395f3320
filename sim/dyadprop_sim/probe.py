"""Watch the relaxation in the RTL: a held sample, from arbitrary states, tick by tick."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dyadprop.errors import DeviceTimeout, RangeError
from dyadprop.network import Network, Parameters, RawParameters
from dyadprop.plan import Plan, plan_network
from dyadprop.probes import Probe
from dyadprop.relaxation.chain import Relaxation
from dyadprop.relaxation.state import Array, State
from dyadprop_sim.golden import Model
from dyadprop_sim.rtl_network import pack, unpack
from dyadprop_sim.verilator import VERIFICATION, NetworkSimulation

_WAIT = 64  # cycles between two looks at the links


class LinkWatch:
    """The RTL of a network with open links, fed with one sample again and again.

    Parameters
    ----------
    plan : Plan
    params : sequence of RawParameters
    seed : int
        Of stalls and of register contents before reset.
    stalls : float
        Chance that a stream stalls in a cycle.
    """

    def __init__(self, plan: Plan, params: Sequence[RawParameters], *, seed: int = 0, stalls: float = 0.0) -> None:
        self._net = plan.net
        self._layers = range(1, len(plan.stages) + 1)
        self._params = params
        self._rtl = NetworkSimulation(plan, open_links=True, options=VERIFICATION, seed=seed, stalls=stalls)
        self._seed = seed
        self._fresh = True

    def begin(self, x: Array, target: Array, start: State) -> None:
        """Begin again from reset with one vector in every link.

        Parameters
        ----------
        x, target : int64 arrays (n_0,), (n_L,)
            The held sample.
        start : State
            Words, batch of 1.
        """
        rtl = self._rtl
        if not self._fresh:
            rtl.restart(seed=self._seed)
        self._fresh = False
        rtl.load(self._params)
        answered = start.answered or start.activations
        for l in self._layers:
            x_token, s_token = rtl.link_tokens(l)
            rtl.simulation.link_push(2 * l - 2, pack(x_token, value=start.activations[l][0], learn=1))
            rtl.simulation.link_push(
                2 * l - 1, pack(s_token, value=start.sensitivities[l][0], activation=answered[l][0])
            )
        self._sample = pack(rtl.input_token, value=x, learn=1), pack(rtl.target_token, value=target, seed=0)
        # Of each link, all that has entered it: activations, sensitivities, activations that those answer to.
        self._seen = {(kind, l): np.zeros(0, dtype=np.int64) for kind in range(3) for l in self._layers}
        self._ticks = 0

    def advance(self, ticks: int) -> list[State]:
        """Give the next states: tick ``k`` of a stage is its ``k``-th firing, whenever it comes.

        Raises
        ------
        DeviceTimeout
            If a stage does not fire.
        """
        rtl, net = self._rtl, self._net
        inputs, targets = (np.tile(words, ticks) for words in self._sample)
        expected = {"output": ticks * net.outputs}
        if net.input_gradient:
            expected["input_sensitivity"] = ticks * net.inputs
        rtl.run({"input": inputs, "target": targets}, expected)
        first, self._ticks = self._ticks, self._ticks + ticks
        waited = 0
        while self._behind():
            if waited > rtl.patience:
                raise DeviceTimeout(f"a stage did not fire for the {self._ticks}th time; {rtl.describe()}")
            rtl.simulation.wait(_WAIT)
            waited += _WAIT
        return [
            State(*({l: self._vector(kind, l, k) for l in self._layers} for kind in range(3)))
            for k in range(first, self._ticks)
        ]

    def close(self) -> None:
        """Free the simulation."""
        self._rtl.close()

    def _vector(self, kind: int, l: int, k: int) -> Array:
        width = self._net.widths[l]
        return self._seen[kind, l][None, k * width : (k + 1) * width]

    def _behind(self) -> bool:
        for l in self._layers:
            for link, token in enumerate(self._rtl.link_tokens(l)):
                words = self._rtl.simulation.link_seen(2 * l - 2 + link)
                fields = ((0, "value"),) if link == 0 else ((1, "value"), (2, "activation"))
                for kind, field in fields:
                    self._seen[kind, l] = np.concatenate([self._seen[kind, l], unpack(token, field, words)])
        return any(len(words) < self._ticks * self._net.widths[l] for (_, l), words in self._seen.items())


class RtlProbe(Probe):
    """The RTL in Verilator, its links open.

    Parameters
    ----------
    net : Network
    params : sequence of Parameters
    stalls : float
        Chance that a stream stalls in a cycle.
    seed : int
        Of stalls and of register contents before reset.
    """

    kind = "verilator"
    OPTIONS = ("stalls", "seed")

    def __init__(
        self, net: Network, params: Sequence[Parameters], *, stalls: float | str = 0.0, seed: int | str = 0
    ) -> None:
        super().__init__(net, params)
        try:
            share, start = float(stalls), int(seed)
        except ValueError as error:
            raise RangeError(f"options of a probe are stalls={stalls!r}, seed={seed!r}; expected numbers") from error
        if not 0.0 <= share < 1.0 or start < 0:
            raise RangeError(f"options of a probe are stalls={share}, seed={start}; allowed are 0 to below 1, and 0 on")
        self._watch = LinkWatch(plan_network(net), self._raw, seed=start, stalls=share)

    def close(self) -> None:
        """Free the simulation."""
        self._watch.close()

    def _begin(self, start: State) -> None:
        held = self._relaxation()
        self._watch.begin(held.x[0], held.target[0], start)

    def _advance(self, ticks: int) -> list[State]:
        return self._watch.advance(ticks)


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
        The held sample.
    start : State
        What stands between the stages before the first tick, batch of 1.
    ticks : int
    seed : int
        Of stalls and of register contents before reset.
    stalls : float
        Chance that a stream stalls in a cycle.

    Returns
    -------
    list of State
        Before the first tick and after each.
    """
    watch = LinkWatch(plan, params, seed=seed, stalls=stalls)
    try:
        watch.begin(x, target, start)
        return [start, *watch.advance(ticks)]
    finally:
        watch.close()


def held_sample(net: Network, params: list[RawParameters], x: Array, target: Array) -> tuple[Relaxation[Any], State]:
    """Give the relaxation of a held sample in words, and its state at rest from textbook backpropagation."""
    model = Model(net, params)
    trace = model.textbook(x[None, :], target[None, :])
    layers = range(1, len(net.layers) + 1)
    rest = State({l: trace.activations[l] for l in layers}, {l: trace.sensitivities[l] for l in layers})
    return Relaxation(model, x[None, :], target[None, :], "token"), rest
