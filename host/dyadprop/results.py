"""What a device answers: results, their raw integers, and statistics."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field
from typing import NamedTuple, Self

import numpy as np

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
class WireStats:
    """What a wire did in one call; nothing but zeros where there is none.

    Attributes
    ----------
    reconnects : int
        Sessions begun anew because the device was reset or the port was lost; the results are right all the same.
    received_bad : int
        Packets that came to the host with a wrong check sum, length or COBS, and were sent again.
    bad_packets, unexpected_packets, foreign_packets, overflows, framing_errors : int
        What the device dropped or lost (`dyadprop.protocol.Register`).
    pack_seconds, send_seconds, wait_seconds, unpack_seconds : float
        Where the time of the call went: words into messages, messages into packets and out, waiting for bytes, and
        bytes back into words.
    """

    reconnects: int = 0
    received_bad: int = 0
    bad_packets: int = 0
    unexpected_packets: int = 0
    foreign_packets: int = 0
    overflows: int = 0
    framing_errors: int = 0
    pack_seconds: float = 0.0
    send_seconds: float = 0.0
    wait_seconds: float = 0.0
    unpack_seconds: float = 0.0

    def __add__(self, other: "WireStats") -> "WireStats":
        return WireStats(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "WireStats") -> "WireStats":
        return WireStats(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


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
    wire : WireStats
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
    wire: WireStats = field(default_factory=WireStats)

    def add(self, saturations: Iterable[Saturation]) -> None:
        """Count what was limited elsewhere, when parameters were loaded, too."""
        both = [*self.saturations, *saturations]
        self.saturations = saturation_list(((s.stage, s.signal), s.count) for s in both)


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


class Position(NamedTuple):
    """A place in a training run: the batch that comes next.

    Attributes
    ----------
    epoch : int
        From 1.
    batch : int
        Within the epoch, from 0.
    """

    epoch: int = 1
    batch: int = 0


FIRST = Position()


class RawTraining(NamedTuple):
    """What a training run answers as integers, exactly as the device gives it.

    Attributes
    ----------
    outputs : int64 array (presented, n_L)
    output_format : Q
    costs : list of int or None
        Exact cost of each batch for ``squared_error``; None for the cross-entropies.
    cost_fraction_bits : int
    """

    outputs: Ints
    output_format: Q
    costs: list[int] | None
    cost_fraction_bits: int


@dataclass
class TrainResult:
    """Outputs and costs of a training run, or of a part of it; the parameters stay on the device.

    Attributes
    ----------
    outputs : float64 array (presented, n_L)
        In the order in which the samples were presented; of the parameters before the step that each took part in.
    order : int64 array (presented,)
        Which sample was presented.
    costs : float64 array (batches,)
        Cost of each batch, summed over its samples.
    epochs : int64 array (batches,)
        Epoch of each batch.
    learning_rate : float
        The one that was used: the nearest to the one asked for that a device can take.
    position : Position
        Where the run goes on: ``start`` of the next call.
    raw : RawTraining or None
        The same as integers; None on ``float``.
    stats : Stats
    """

    outputs: Floats
    order: Ints
    costs: Floats
    epochs: Ints
    learning_rate: float
    position: Position
    raw: RawTraining | None
    stats: Stats

    @property
    def cost(self) -> float:
        """Sum of all batches' costs."""
        return math.fsum(self.costs)

    @property
    def epoch_costs(self) -> dict[int, float]:
        """Sum of the costs a sample saw in each epoch, by the epoch's number."""
        return {int(epoch): math.fsum(self.costs[self.epochs == epoch]) for epoch in np.unique(self.epochs)}

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Put the parts of one run together, at least one, in their order."""
        last = parts[-1]
        raw = None
        if last.raw is not None:
            raws = [part.raw for part in parts if part.raw is not None]
            raw = last.raw._replace(
                outputs=np.concatenate([entry.outputs for entry in raws]),
                costs=None if last.raw.costs is None else [cost for entry in raws for cost in entry.costs or ()],
            )
        return cls(
            outputs=np.concatenate([part.outputs for part in parts]),
            order=np.concatenate([part.order for part in parts]),
            costs=np.concatenate([part.costs for part in parts]),
            epochs=np.concatenate([part.epochs for part in parts]),
            learning_rate=last.learning_rate,
            position=last.position,
            raw=raw,
            stats=sum_stats([part.stats for part in parts]),
        )


def sum_stats(parts: Sequence[Stats]) -> Stats:
    """Add up the figures of several calls, at least one; the scale is the last one's."""
    counted = ("samples", "ticks", "cycles", "transfer_cycles", "retries", "bytes", "seconds", "device_seconds")
    return Stats(
        **{name: sum(getattr(part, name) for part in parts) for name in counted},
        saturations=saturation_list(((s.stage, s.signal), s.count) for part in parts for s in part.saturations),
        scale=parts[-1].scale,
        wire=sum((part.wire for part in parts), WireStats()),
    )


def saturation_list(counts: Iterable[tuple[tuple[int, str], int]]) -> list[Saturation]:
    """Sum counts a (stage, signal), drop the zeros and sort."""
    total: dict[tuple[int, str], int] = {}
    for key, count in counts:
        total[key] = total.get(key, 0) + count
    return [Saturation(stage, signal, count) for (stage, signal), count in sorted(total.items()) if count]
