"""`dyadprop.relax`: hold a batch, let the network relax, and watch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dyadprop.checks import finite_array, whole_number
from dyadprop.costs import real_targets
from dyadprop.errors import FormatError, RangeError, ShapeError
from dyadprop.formats import Formats
from dyadprop.network import Network, Parameters
from dyadprop.relaxation.chain import Relaxation
from dyadprop.relaxation.graph import Graph
from dyadprop.relaxation.graph_relaxation import hold as hold_graph
from dyadprop.relaxation.integrators import Stepper
from dyadprop.relaxation.reals import Reals
from dyadprop.relaxation.schedules import make_schedule, round_bound
from dyadprop.relaxation.state import Dynamics, State
from dyadprop.relaxation.trajectory import Trajectory
from dyadprop.relaxation.words import hold_words, with_formats

INITS = ("random", "zero", "rest")
_MAX_TICKS = 10**7
_CYCLE_TICKS = 100  # default where no bound is known


def relax(
    net: Network | Graph,
    params: Sequence[Parameters] | Mapping[str, Parameters],
    x: Any,
    y: Any,
    *,
    ticks: int | None = None,
    dt: float = 1.0,
    integrator: str = "euler",
    schedule: str = "all",
    init: str | State = "random",
    noise: float = 0.0,
    jitter: float = 0.0,
    mismatch: float = 0.0,
    formats: Formats | None = None,
    seed: int = 0,
    delay: int = 1,
    slopes: str | None = None,
) -> Trajectory:
    """Hold a batch at a network's ends and let activations and sensitivities relax together.

    Parameters
    ----------
    net : Network or Graph
    params : list of Parameters, or by name for a graph
    x : array (batch, n_0), or by name of a graph's inputs
    y : array (batch, n_L), labels for the cross-entropies, or by name of a graph's exits
    ticks : int, optional
        Where not given, the theorem's bound for that schedule: 2L, divided by a smaller ``dt``. A round of the
        asynchronous schedules is a tick.
    dt : float
        Step in units of the flow's ``tau``; 1 makes each update an assignment, and then all is exact after 2L ticks.
    integrator : {"euler", "heun", "rk3", "rk4"}
        Those behind euler with schedule ``all`` only.
    schedule : {"all", "stages", "neurons", "random", "stale"}
        Who moves when; see `dyadprop.relaxation.schedules.make_schedule`.
    init : {"random", "zero", "rest"} or State
        Where to start: any standard normal numbers (any words), zeros, what textbook backpropagation gives, or a state.
    noise : float
        Standard deviation of normal noise added to each unit in each tick.
    jitter, mismatch : float
        Spread of the step between ticks, and between units: ``dt (1 + jitter u)``, ``u`` of U(-1, 1).
    formats : Formats, optional
        Relax in words, the device's own bits, with these as the network's default formats; layers that name their own
        keep them. Whole steps without noise only: in fixed point a smaller step stops short of the right bits.
    seed : int
        Of everything random; start, orders and disturbances have streams of their own.
    delay : int
        Of schedule ``stale``: how many ticks old a value may be.
    slopes : {"flow", "output", "token"}, optional
        Where ``phi'`` is read (`dyadprop.relaxation.chain.Relaxation`). Floats follow the energy's ``flow``; words
        the ``token``, as the hardware, or the ``output`` where variables move one by one.

    Returns
    -------
    Trajectory

    Raises
    ------
    ShapeError, RangeError, FormatError

    Notes
    -----
    ``tau dx_l/dt = F_l(x_{l-1}) - x_l`` and ``tau dlambda_l/dt = W_{l+1}^T (phi'(a_{l+1}) * lambda_{l+1}) - lambda_l``,
    with ``dC/dx_L - lambda_L`` at the end: arXiv:2602.02281.

    Examples
    --------
    >>> import dyadprop as dp
    >>> net = dp.Network(4, [dp.Dense(6, "tanh"), dp.Dense(2)])
    >>> seen = relax(net, net.init(seed=0), [[0.1, 0.2, 0.3, 0.4]], [[1.0, 0.0]])
    >>> seen.exact_from()
    4
    """
    whole_number("seed", seed, 0, 2**63)
    whole_number("delay", delay, 0, 10**6)
    if ticks is not None:
        whole_number("ticks", ticks, 0, _MAX_TICKS)
    for name, value in (("noise", noise), ("jitter", jitter), ("mismatch", mismatch)):
        _real(name, value, 0.0, math.inf)
    _real("dt", dt, 0.0, math.inf)
    if dt == 0.0:
        raise RangeError("dt is 0; allowed are numbers above it")
    if schedule != "all" and integrator != "euler":
        raise RangeError(f"integrator {integrator} moves all units at once; allowed with schedule {schedule} is euler")
    smooth = dt != 1.0 or integrator != "euler" or noise > 0 or jitter > 0 or mismatch > 0
    if formats is not None and smooth:
        raise RangeError(
            "words relax by whole steps of euler without noise, jitter or mismatch; leave formats out for anything else"
        )
    if slopes is None:
        slopes = "flow" if formats is None else "token" if schedule == "all" else "output"
    if slopes == "token" and (smooth or schedule != "all"):
        raise RangeError("slopes are 'token' with whole steps of all stages only; allowed here are flow, output")

    dynamics = _hold(net, params, x, y, formats, slopes)
    streams = [np.random.default_rng([seed, k]) for k in range(3)]
    start = _start(dynamics, init, streams[0])
    if slopes == "token" and start.answered is None:
        start = State(start.activations, start.sensitivities, start.activations).copy()
    stepper = Stepper(
        dynamics, start, streams[2], dt=dt, integrator=integrator, jitter=jitter, mismatch=mismatch, noise=noise
    )
    tick = make_schedule(schedule, dynamics, stepper, streams[1], delay)
    if ticks is None:
        ticks = _enough(dynamics, schedule, dt, delay)
    states = [start]
    for _ in range(ticks):
        states.append(tick(states[-1]))
    return Trajectory(dynamics, states, dynamics.rest(), dt, _title(net, dt, integrator, schedule, formats))


def _hold(net: Network | Graph, params: Any, x: Any, y: Any, formats: Formats | None, slopes: str) -> Dynamics[Any]:
    if isinstance(net, Graph):
        if formats is not None:
            raise RangeError("a graph relaxes in floats only; formats must be None")
        if slopes != "flow":
            raise RangeError(f"slopes are {slopes!r}; allowed for a graph is flow")
        return hold_graph(net, params, x, y)
    params = net.check_parameters(params)
    x = finite_array("inputs x", x, (None, net.inputs))
    y = real_targets(net, y, len(x))
    if formats is None:
        return Relaxation(Reals(net, params), x, y, slopes)
    if not isinstance(formats, Formats):
        raise FormatError(f"formats are {formats!r}; expected dyadprop.Formats or None")
    dynamics: Dynamics[Any] = hold_words(with_formats(net, formats), params, x, y, slopes)
    return dynamics


def _start(dynamics: Dynamics[Any], init: str | State, rng: np.random.Generator) -> State:
    if isinstance(init, State):
        wanted = dynamics.rest().variables()
        for name, array in State(init.activations, init.sensitivities).variables().items():
            if name not in wanted or array.shape != wanted[name].shape or array.dtype != wanted[name].dtype:
                expected = f"{wanted[name].dtype} {wanted[name].shape}" if name in wanted else "no such variable"
                raise ShapeError(f"{name} of the state is {array.dtype} {array.shape}; expected {expected}")
        missing = [name for name in wanted if name not in init.variables() and not name.startswith("answered")]
        if missing:
            raise ShapeError(f"the state has no {missing[0]}; expected {', '.join(wanted)}")
        return init.copy()
    if init == "random":
        return dynamics.random_state(rng)
    if init == "rest":
        return dynamics.rest().copy()
    if init == "zero":
        return dynamics.rest().map(np.zeros_like)
    raise RangeError(f"init is {init!r}; allowed are {', '.join(INITS)} and a State")


def _enough(dynamics: Dynamics[Any], schedule: str, dt: float, delay: int) -> int:
    bounds = dynamics.bounds()
    if bounds is None:
        return _CYCLE_TICKS
    longest = max(k for group in bounds for k in group.values())
    return math.ceil(round_bound(schedule, longest, delay) / min(dt, 1.0))


def _real(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < high:
        raise RangeError(f"{name} is {value!r}; allowed are finite numbers from {low:g} on")


def _title(net: Network | Graph, dt: float, integrator: str, schedule: str, formats: Formats | None) -> str:
    name = f"graph of {len(net.nodes)} nodes" if isinstance(net, Graph) else "-".join(map(str, net.widths))
    numbers = "float64" if formats is None else "words"
    return f"{name}, {numbers}, {integrator}, dt = {dt:g}, {schedule}"
