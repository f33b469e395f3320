"""What the control chain of a network can be asked to do; hardware and drivers share it."""

from enum import IntEnum

STAGE_BITS = 7  # stages 1..64 and the cost head behind them
OPERATION_BITS = 3
COUNTER_BITS = 32


class Operation(IntEnum):
    """Operation of a control word, addressed to one stage; stage ``L + 1`` is the cost head.

    A stage carries out what touches parameters or gradients only while no sample of its own is in flight; until then
    it holds the
    chain. The host sends such operations after the last output of a batch has come back: then each stage has seen all
    samples.
    """

    BEGIN = 0
    """The next WORD is the first one of the stage."""
    WORD = 1
    """Store ``data`` as the next weight: row by row, each row's bias last."""
    CLEAR = 2
    """The next sample starts its gradients from zero."""
    READ_WEIGHT = 3
    """Answer with all weights, in the order in which they are stored."""
    READ_GRADIENT = 4
    """Answer with all gradient accumulators, in the same order."""
    COUNTERS = 5
    """Answer with the stage's saturation counters.

    Activation, sensitivity sent back, weight; the cost head has only the second. They
    count modulo ``2**COUNTER_BITS`` and are never cleared: a host takes differences, so asking twice is harmless.
    """
    WRITE_GRADIENT = 6
    """Store ``data`` as the next gradient accumulator, in the order of WORD: residuals come back this way."""
    RATE = 7
    """Set the learning rate: a stage's ``s``, or the cost head's ``m`` (docs/arithmetic.md, section 8)."""


STAGE_COUNTERS = 3
HEAD_COUNTERS = 1
SCALE_BITS = 8  # of the cost head's m: seeds are multiplied by m / 256
