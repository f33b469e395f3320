"""Cycle counts of the gateware's blocks: what hardware is built to, and what predictions are made from.

Each is a property of one block in ``dyadprop_hw`` (same name there); tests measure every one of them in the RTL.
"""

from dyadprop.tables import TABLE_ACTIVATIONS
from dyadprop.widths import StageNumbers

QUEUE = 2  # accepted word -> valid word, of a queue of at most SHALLOW words
SHALLOW = 16  # words: what lies in LUTs or registers; deeper queues have two more registers, behind a block RAM
COMMAND = QUEUE + 1  # a stage's port takes a command in -> the stage sees it
DECISION = 2  # a stage carries a command out -> its wave leaves
ENTRY = 2  # that wave leaves -> it is at lane 0
ANSWER = 1  # a word read out leaves the last lane -> it is an answer
RELEASE = 1  # a vector's last word leaves a queue, a sample its stage -> its place is counted as free
REQUANTIZE = 3
ENQUEUE = 1  # an activation or a sensitivity is rounded -> its queue accepts it
TABLE_LOOKUP = 7
COUNTED = 2  # a sample's last word comes -> its forward pass may start
LOADED = 1  # a vector's last delta is in its lane -> the backward pass is decided on
START = 1  # a pass is decided on -> it starts
SHOWN = 1  # a pass starts -> its first column is shown to the sample memory
ISSUE = 3  # column shown to the sample memory -> wave at lane 0
MULTIPLIER = 4  # operands -> product
ADDRESSED = 1  # forward wave at a lane -> its weight is read
WEIGHT = 3  # a weight is addressed -> it is an operand; a block RAM is far from a multiplier
RESULT = ADDRESSED + WEIGHT + MULTIPLIER + 3  # a row's last column at a lane -> its result leaves that lane
PARTIAL = WEIGHT + MULTIPLIER + 1  # backward wave at a lane -> its partial sum leaves that lane
TOTAL = 1  # the last lane's partial sum -> it is added to those of the row groups before
WEIGHT_STEP = 5  # gradient -> new weight
RESIDUAL = 3  # gradient -> residual, or, in a wave that does not step, the gradient
GRADIENT = RESIDUAL + 6  # backward wave at a lane -> a read sees the new gradient
WRITTEN = PARTIAL + RESIDUAL + 2  # the same -> the new gradient is in its memory; reads of it start later as well
UPDATE = PARTIAL + WEIGHT_STEP + 2  # backward wave that steps at a lane -> the new weight is in its memory
SATURATED = UPDATE - 1  # the same -> its count of limited weights leaves that lane
SCALE = 5  # estimate and target -> scaled difference
DIVIDE = 17  # softmax: numerator -> probability
SOFTMAX_SUM = 2 + TABLE_LOOKUP + 1  # the last logit shown to the memory -> exponentials summed, dividing starts


def queue(depth: int) -> int:
    """Cycles from a word that a queue accepts to its being offered."""
    return QUEUE if depth <= SHALLOW else QUEUE + 2


def activation(name: str) -> int:
    """Cycles from a pre-activation to its activation."""
    return 4 + TABLE_LOOKUP + 1 if name in TABLE_ACTIVATIONS else REQUANTIZE


def delta(numbers: StageNumbers) -> int:
    """Cycles from a sensitivity to its delta."""
    if numbers.has_slope_product:
        return MULTIPLIER + 1 + REQUANTIZE + MULTIPLIER + REQUANTIZE
    return REQUANTIZE if numbers.activation == "leaky_relu" and not numbers.matched else 1
