"""Cycle counts of the gateware's blocks: what hardware is built to, and what predictions are made from.

Each is a property of one block in ``dyadprop_hw`` (same name there); tests measure every one of them in the RTL.
"""

from dyadprop.tables import TABLE_ACTIVATIONS
from dyadprop.widths import StageNumbers

QUEUE = 2  # accepted word -> valid word
REQUANTIZE = 2
TABLE_LOOKUP = 3
ISSUE = 2  # column shown to the sample memory -> wave at lane 0
RESULT = 6  # a row's last column at a lane -> its result leaves that lane
PARTIAL = 4  # backward wave at a lane -> its partial sum leaves that lane
GRADIENT = 5  # backward wave at a lane -> a read sees the new gradient
WEIGHT_STEP = 5  # gradient -> new weight and residual
UPDATE = GRADIENT + WEIGHT_STEP  # backward wave that steps at a lane -> a read sees the new weight and the residual
SATURATED = UPDATE  # the same -> its count of limited weights leaves that lane
DIVIDE = 17  # softmax: numerator -> probability
SOFTMAX_SUM = 2 + TABLE_LOOKUP + 1  # the last logit shown to the memory -> exponentials summed, dividing starts


def activation(name: str) -> int:
    """Cycles from a pre-activation to its activation."""
    return 2 + TABLE_LOOKUP + 1 if name in TABLE_ACTIVATIONS else REQUANTIZE


def delta(numbers: StageNumbers) -> int:
    """Cycles from a sensitivity to its delta."""
    if numbers.has_slope_product:
        return 1 + REQUANTIZE + 1 + REQUANTIZE
    return REQUANTIZE if numbers.activation == "leaky_relu" and not numbers.matched else 1
