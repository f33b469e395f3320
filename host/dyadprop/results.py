"""What a device answers: results, their raw integers, and statistics."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from dyadprop.formats import Floats, Ints, Q
from dyadprop.network import Parameters, RawParameters


class Saturation(NamedTuple):
    """How often a signal was limited to its format (docs/arithmetic.md, section 1).

    Attributes
    ----------
    stage : int
        ``l``; 0 is the network's input.
    signal : str
        ``"activation"``, ``"sensitivity"``, ``"weight"`` or ``"target"``.
    count : int
    """

    stage: int
    signal: str
    count: int  # type: ignore[assignment]  # the contract's name; nobody counts in this tuple


@dataclass
class Stats:
    """Figures of one call.

    Attributes
    ----------
    samples : int
    ticks : int
        ``samples + 2L - 1`` a part of the batch: the pipeline's fill and drain included; 0 on ``float``.
    cycles : int
        Clock cycles of the hardware, measured, from the first input to the last gradient; 0 where nothing is clocked.
    transfer_cycles : int
        Clock cycles for reading the gradients out.
    saturations : list of Saturation
        Only those with a count above 0, ordered by stage and signal.
    retries : int
        Packets sent again (0 where there is no wire).
    bytes : int
        Bytes that crossed a wire, both ways.
    seconds : float
        Wall-clock time of the call.
    device_seconds : float
        The part of it spent inside the device or its simulation.
    scale : float
        The power of two by which the caller's seed was multiplied (`Device.vjp`), else 1.
    """

    samples: int = 0
    ticks: int = 0
    cycles: int = 0
    transfer_cycles: int = 0
    saturations: list[Saturation] = field(default_factory=list)
    retries: int = 0
    bytes: int = 0
    seconds: float = 0.0
    device_seconds: float = 0.0
    scale: float = 1.0


class RawResult(NamedTuple):
    """A result as integers, exactly as the device holds them.

    Attributes
    ----------
    outputs : int64 array (batch, n_L)
    output_format : Q
    gradients : list of RawParameters
        Sums over the batch; empty after `Device.predict`.
    inputs : int64 array (batch, n_0) or None
    input_format : Q
        Of ``inputs``.
    cost : int or None
        Exact cost of ``squared_error``; None for the cross-entropies (no exact fixed-point value) and where there is
        no target.
    cost_fraction_bits : int
    """

    outputs: Ints
    output_format: Q
    gradients: list[RawParameters]
    inputs: Ints | None
    input_format: Q
    cost: int | None
    cost_fraction_bits: int


@dataclass
class Result:
    """Outputs, cost and gradients of one batch.

    Attributes
    ----------
    outputs : float64 array (batch, n_L)
    cost : float or None
        Sum over the batch; None where no target was given.
    gradients : list of Parameters
        ``d cost / d parameters``, summed over the batch; empty after `Device.predict`.
    inputs : float64 array (batch, n_0) or None
        ``d cost / d x``, with ``Network(..., input_gradient=True)`` only.
    raw : RawResult or None
        The same tree as integers; None on ``float``.
    stats : Stats
    """

    outputs: Floats
    cost: float | None
    gradients: list[Parameters]
    inputs: Floats | None
    raw: RawResult | None
    stats: Stats


def saturation_list(counts: Iterable[tuple[tuple[int, str], int]]) -> list[Saturation]:
    """Sum counts a (stage, signal), drop the zeros and sort."""
    total: dict[tuple[int, str], int] = {}
    for key, count in counts:
        total[key] = total.get(key, 0) + count
    return [Saturation(stage, signal, count) for (stage, signal), count in sorted(total.items()) if count]
