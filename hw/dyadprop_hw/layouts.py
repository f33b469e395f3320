"""What travels through the gateware: formats as shapes, tokens between stages, waves inside a stage."""

from enum import IntEnum
from typing import Any

from amaranth.hdl import Const, Module, Shape, ShapeCastable, Signal, Value, signed, unsigned
from amaranth.lib import data

from dyadprop.formats import Q
from dyadprop.operations import OPERATION_BITS, STAGE_BITS


class Fixed(ShapeCastable):
    """A Q-format as a shape: signed, and unequal to every other format, so that signatures carry formats.

    Parameters
    ----------
    q : Q
    """

    def __init__(self, q: Q) -> None:
        self.q = q

    def as_shape(self) -> Shape:
        """Return ``signed(word)``."""
        return signed(self.q.width)

    def __call__(self, target: Any) -> Value:
        """View bits as a signed value; fields of structures arrive here unsigned."""
        value = Value.cast(target)
        return value if value.shape().signed else value.as_signed()

    def const(self, init: Any) -> Const:
        """Make a constant of an int that must fit."""
        value = 0 if init is None else int(init)
        if not self.q.min_int <= value <= self.q.max_int:
            raise ValueError(f"constant {value} does not fit {self.q}")
        return Const(value, self.as_shape())

    def from_bits(self, raw: int) -> int:
        """Read raw bits as a signed int (simulation)."""
        return Const(raw, signed(self.q.width)).value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and self.q == other.q

    def __hash__(self) -> int:
        return hash(("Fixed", self.q))

    def __repr__(self) -> str:
        return f"Fixed({self.q})"


def activation_token(activation: Q) -> data.StructLayout:
    """Lay out one unit's activation on its way up.

    ``learn``: its sensitivity will come back; ``update``: the step follows, it is the last sample of its batch.
    """
    return data.StructLayout({"value": Fixed(activation), "learn": unsigned(1), "update": unsigned(1)})


def sensitivity_token(sensitivity: Q, activation: Q) -> data.StructLayout:
    """Lay out one unit's sensitivity on its way down, together with the activation that it answers to."""
    return data.StructLayout({"value": Fixed(sensitivity), "activation": Fixed(activation)})


def target_token(target: Q, sensitivity: Q) -> data.StructLayout:
    """Lay out one output's target; with ``seed`` set, the sensitivity itself."""
    return data.StructLayout({"value": signed(max(target.width, sensitivity.width)), "seed": unsigned(1)})


class ControlKind(IntEnum):
    """Whether a control word asks or answers."""

    COMMAND = 0
    REPLY = 1


def control_token(data_bits: int) -> data.StructLayout:
    """Lay out a word of the control chain: a command on its way to ``stage``, or a reply of it."""
    return data.StructLayout(
        {
            "kind": ControlKind,
            "stage": unsigned(STAGE_BITS),
            "operation": unsigned(OPERATION_BITS),
            "data": signed(data_bits),
        }
    )


def forward_wave(operand_bits: int, weight_bits: int, address_bits: int, lane_bits: int) -> data.StructLayout:
    """Lay out what enters lane 0 each cycle of a forward pass and walks one lane a cycle.

    ``operand`` is the activation, or with ``write`` the weight for ``lane``; ``first`` and ``last`` frame the columns
    of one row.
    """
    return data.StructLayout(
        {
            "valid": unsigned(1),
            "write": unsigned(1),
            "first": unsigned(1),
            "last": unsigned(1),
            "learn": unsigned(1),
            "update": unsigned(1),
            "lane": unsigned(lane_bits),
            "address": unsigned(address_bits),
            "operand": signed(max(operand_bits, weight_bits)),
        }
    )


class BackwardOperation(IntEnum):
    """What a cycle of a backward pass does to its word."""

    LEARN = 0
    """Sensitivity and gradient products."""
    WRITE_GRADIENT = 1
    """Store what comes along the partial sums' chain as the gradient of one lane."""
    READ_WEIGHT = 2
    READ_GRADIENT = 3


def backward_wave(operand_bits: int, address_bits: int, delta_bits: int, lane_bits: int) -> data.StructLayout:
    """Lay out what enters lane 0 each cycle of a backward pass or a read-out, and walks one lane a cycle.

    ``delta`` addresses the lane's deltas, ``fresh`` starts its gradient from zero, ``update`` takes the step,
    ``first`` and ``last`` frame the row groups of one column, ``bias`` marks the column that has no sensitivity.
    """
    return data.StructLayout(
        {
            "valid": unsigned(1),
            "operation": BackwardOperation,
            "fresh": unsigned(1),
            "update": unsigned(1),
            "first": unsigned(1),
            "last": unsigned(1),
            "bias": unsigned(1),
            "lane": unsigned(lane_bits),
            "address": unsigned(address_bits),
            "delta": unsigned(delta_bits),
            "operand": signed(operand_bits),
        }
    )


def delta_wave(sensitivity: Q, delta_bits: int, lane_bits: int) -> data.StructLayout:
    """Lay out a delta on its way to its lane."""
    return data.StructLayout(
        {"valid": unsigned(1), "lane": unsigned(lane_bits), "delta": unsigned(delta_bits), "value": Fixed(sensitivity)}
    )


def result_wave(accumulator_bits: int) -> data.StructLayout:
    """Lay out a row's pre-activation on its way out."""
    return data.StructLayout(
        {"valid": unsigned(1), "learn": unsigned(1), "update": unsigned(1), "value": signed(accumulator_bits)}
    )


def register_wave(m: Module, source: Any, sink: Any) -> None:
    """Let ``sink`` be ``source`` one cycle later: ``valid`` is reset, everything else only moves."""
    data_q1 = Signal(source.shape(), reset_less=True)
    valid_q1 = Signal()
    m.d.sync += [data_q1.eq(source), valid_q1.eq(source.valid)]
    m.d.comb += [sink.eq(data_q1), sink.valid.eq(valid_q1)]


def delayed(m: Module, value: Any, cycles: int, name: str) -> Any:
    """Give a value so many cycles later; its registers have no reset, and ``name``, ``_q`` and a number as names."""
    for cycle in range(1, cycles + 1):
        later = Signal.like(value, reset_less=True, name=f"{name}_q{cycle}")
        m.d.sync += later.eq(value)
        value = later
    return value


# What a stage is doing; for messages and benches. ``stored``: samples in its memory; ``waiting``: those whose forward
# pass has not started.
StageStatus = data.StructLayout({"forward": 1, "backward": 1, "stored": 16, "waiting": 16})
