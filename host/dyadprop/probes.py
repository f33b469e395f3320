"""Watch a simulated device relax: hold a sample, put a state between its stages, read it tick by tick."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

import numpy as np
import numpy.typing as npt

from dyadprop.checks import finite_array, whole_number
from dyadprop.costs import real_targets
from dyadprop.errors import RangeError, ShapeError
from dyadprop.network import Network, Parameters
from dyadprop.relaxation.chain import Relaxation
from dyadprop.relaxation.state import State
from dyadprop.relaxation.trajectory import Trajectory
from dyadprop.relaxation.words import hold_words

ENTRY_POINT_GROUP = "dyadprop.probes"


class Probe(ABC):
    """A simulated device whose links between stages are open to look at and to write.

    Parameters
    ----------
    net : Network
    params : sequence of Parameters
        Rounded into the network's formats, as `Device.load` does.

    Notes
    -----
    A tick is one firing of each pass of each stage. ``x_l`` is the vector that stage ``l`` sends up, ``lambda_l`` the
    one that stage ``l + 1`` (or the cost head) sends down to it, and ``answered`` the activation that travels with it.
    """

    kind = "probe"

    def __init__(self, net: Network, params: Sequence[Parameters]) -> None:
        self.net = net
        self._params = net.check_parameters(params)
        self._raw = net.quantize(self._params).raw
        self._held: Relaxation[Any] | None = None
        self._states: list[State] = []

    def hold(self, x: npt.ArrayLike, y: npt.ArrayLike) -> None:
        """Hold a sample: ``x`` (n_0,), ``y`` (n_L,) real numbers, rounded as the device does.

        The state between the stages becomes zeros; `put` another one.
        """
        sample = finite_array("held sample x", x, (self.net.inputs,))
        target = real_targets(self.net, finite_array("held target y", y, (self.net.outputs,))[None, :], 1)
        self._held = hold_words(self.net, self._params, sample[None, :], target, "token")
        self.put(self._held.rest().map(np.zeros_like))

    def put(self, state: State) -> None:
        """Put words between the stages and begin to count ticks from there.

        Parameters
        ----------
        state : State
            int64 words of the layers' formats, batch of 1.

        Raises
        ------
        ShapeError, RangeError
            If it holds anything else.
        """
        held = self._relaxation()
        for name, words in held.rest().variables().items():
            if name.startswith("answered") and state.answered is None:
                continue
            got = state.variables().get(name)
            if got is None or got.shape != words.shape or got.dtype != np.int64:
                raise ShapeError(f"{name} of the state is {_described(got)}; expected int64 words {words.shape}")
        for l in held.keys:
            formats = self.net.layer_formats(l)
            for what, words, form in (
                ("x", state.activations[l], formats.activation),
                ("lambda", state.sensitivities[l], formats.sensitivity),
                ("answered", (state.answered or state.activations)[l], formats.activation),
            ):
                if words.min() < form.min_int or words.max() > form.max_int:
                    raise RangeError(
                        f"{what}_{l} of the state reaches from {words.min()} to {words.max()}; "
                        f"words of {form} are {form.min_int} to {form.max_int}"
                    )
        start = State(state.activations, state.sensitivities, state.answered or state.activations).copy()
        self._begin(start)
        self._states = [start]

    def tick(self, ticks: int = 1) -> State:
        """Let every stage fire ``ticks`` times and read the state."""
        self._relaxation()
        whole_number("ticks", ticks, 0, 10**6)
        self._states += self._advance(ticks)
        return self._states[-1].copy()

    @property
    def trajectory(self) -> Trajectory:
        """All states since `put`, as `dyadprop.relax` would give them."""
        held = self._relaxation()
        return Trajectory(held, list(self._states), held.rest(), what=f"{self.net!r}, {self.kind}")

    def close(self) -> None:  # noqa: B027 - a model holds nothing that must be given back
        """Give back what is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _relaxation(self) -> Relaxation[Any]:
        if self._held is None:
            raise RangeError("the probe holds no sample yet; call hold(x, y) first")
        return self._held

    @abstractmethod
    def _begin(self, start: State) -> None:
        """Start again from a checked state."""

    @abstractmethod
    def _advance(self, ticks: int) -> list[State]:
        """Give the states after each of the next ``ticks`` ticks."""


def open_probe(name: str, net: Network, params: Sequence[Parameters]) -> Probe:
    """Open a simulated device to watch it relax.

    Parameters
    ----------
    name : str
        ``golden``, or ``verilator?stalls=0.3&seed=1``.
    net : Network
    params : sequence of Parameters

    Raises
    ------
    RangeError
        If the device cannot be probed or knows no such option.

    Examples
    --------
    >>> import dyadprop as dp
    >>> net = dp.Network(3, [dp.Dense(4, "tanh"), dp.Dense(2, "tanh")])
    >>> with dp.probe("golden", net, net.init(seed=0)) as probe:
    ...     probe.hold([0.1, 0.2, 0.3], [1.0, 0.0])
    ...     state = probe.tick(4)
    ...     probe.trajectory.exact_from()
    4
    """
    kind, _, query = name.partition("?")
    found: dict[str, EntryPoint] = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if kind not in found:
        raise RangeError(f"device {name!r} cannot be probed; allowed are {' and '.join(sorted(found)) or 'none'}")
    options = dict(parse_qsl(query, keep_blank_values=True))
    opener = found[kind].load()
    unknown = sorted(set(options) - set(opener.OPTIONS))
    if unknown:
        allowed = ", ".join(opener.OPTIONS) or "none"
        raise RangeError(f"probe {kind!r} knows no option {unknown[0]!r}; allowed are {allowed}")
    probe: Probe = opener(net, params, **options)
    return probe


def _described(words: Any) -> str:
    return "missing" if words is None else f"{words.dtype} {words.shape}"
