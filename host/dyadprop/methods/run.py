"""`dyadprop.compare`: the same gradient by each method."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy.typing as npt

from dyadprop.checks import finite_array, whole_number
from dyadprop.costs import real_targets
from dyadprop.errors import RangeError
from dyadprop.methods import adjoint, dual_propagation, equilibrium_propagation, predictive_coding
from dyadprop.methods.task import Method, Task
from dyadprop.network import Network, Parameters

METHODS: dict[str, Method] = {
    method.name: method
    for module in (adjoint, predictive_coding, dual_propagation, equilibrium_propagation)
    for method in module.METHODS
}
_LATER = 3  # times L: how much later "later" is


@dataclass(frozen=True)
class MethodReport:
    """What one method did.

    Attributes
    ----------
    name, reference, start, read : str
        As in `dyadprop.methods.task.Method`.
    steps : int
        Ticks in which every layer may move once; a forward pass takes L.
    error : float
        Distance from backpropagation's gradient, relative, started and read as the method says.
    error_from_random : float
        The same from random units, stored predictions included.
    error_later : float
        Started as it says, but all layers read 3 L ticks later, from one state.
    own_error : float or None
        Distance from the gradient of its own cost, where its network is not the feed-forward one.
    """

    name: str
    reference: str
    start: str
    read: str
    steps: int
    error: float
    error_from_random: float
    error_later: float
    own_error: float | None = None


@dataclass(frozen=True)
class MethodTable:
    """Reports by the method's name; printed as a table."""

    reports: dict[str, MethodReport]

    def __getitem__(self, name: str) -> MethodReport:
        return self.reports[name]

    def __iter__(self) -> Iterator[MethodReport]:
        return iter(self.reports.values())

    def __len__(self) -> int:
        return len(self.reports)

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("method", "ticks", "error", "from random", "later", "read")]
        for r in self:
            errors = (f"{e:.1e}" for e in (r.error, r.error_from_random, r.error_later))
            rows.append((f"{r.name} ({r.reference})", str(r.steps), *errors, r.read))
        widths = [max(len(row[k]) for row in rows) for k in range(5)]
        return "\n".join(
            "  ".join([row[0].ljust(widths[0]), *(row[k].rjust(widths[k]) for k in range(1, 5)), row[5]])
            for row in rows
        )


def compare(
    net: Network,
    params: Sequence[Parameters],
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    methods: Sequence[str] | None = None,
    seed: int = 0,
    tolerance: float = 1e-6,
    nudge: float = 0.1,
) -> MethodTable:
    """Compute one gradient by each method: how many ticks, how exact, what must be read when.

    Parameters
    ----------
    net : Network
        With squared error.
    params : sequence of Parameters
    x : array (batch, n_0)
    y : array (batch, n_L)
    methods : sequence of str, optional
        Names out of ``dyadprop.methods.run.METHODS``; all where not given.
    seed : int
        Of random starts.
    tolerance : float
        Where asymptotic methods stop: change a tick, in units of the step.
    nudge : float
        ``beta`` of dual and equilibrium propagation.

    Returns
    -------
    MethodTable

    Raises
    ------
    RangeError, ShapeError

    Examples
    --------
    >>> import dyadprop as dp
    >>> net = dp.Network(4, [dp.Dense(6, "tanh"), dp.Dense(2)])
    >>> table = dp.compare(net, net.init(seed=0), [[0.1, 0.2, 0.3, 0.4]], [[1.0, 0.0]])
    >>> table["dyadic relaxation"].steps, table["dyadic relaxation"].error_from_random
    (4, 0.0)
    """
    if net.cost != "squared_error":
        raise RangeError(f"cost of the network is {net.cost}; methods are compared on squared_error")
    chosen = list(METHODS) if methods is None else list(methods)
    for name in chosen:
        if name not in METHODS:
            raise RangeError(f"method {name!r} is not known; allowed are {', '.join(METHODS)}")
    for what, value in (("tolerance", tolerance), ("nudge", nudge)):
        if not 0.0 < value < math.inf:
            raise RangeError(f"{what} is {value!r}; allowed are finite numbers above 0")
    whole_number("seed", seed, 0, 2**63)
    inputs = finite_array("inputs x", x, (None, net.inputs))
    targets = real_targets(net, y, len(inputs))
    task = Task(net, net.check_parameters(params), inputs, targets, seed, tolerance, nudge)
    return MethodTable({name: _report(METHODS[name], task) for name in chosen})


def _report(method: Method, task: Task) -> MethodReport:
    proper = method.run(task, False, 0)
    return MethodReport(
        method.name,
        method.reference,
        method.start,
        method.read,
        proper.steps,
        task.error(proper.gradients),
        task.error(method.run(task, True, 0).gradients),
        task.error(method.run(task, False, _LATER * task.depth).gradients),
        None if proper.own is None else task.error(proper.gradients, proper.own),
    )
