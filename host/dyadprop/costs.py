"""Targets and costs of a batch (docs/arithmetic.md, sections 6 and 7)."""

import math

import numpy as np
import numpy.typing as npt

from dyadprop.checks import finite_array
from dyadprop.errors import RangeError, ShapeError
from dyadprop.formats import Floats, Ints
from dyadprop.network import Network


def real_targets(net: Network, targets: npt.ArrayLike, batch: int) -> Floats:
    """Check targets and give them as reals.

    Parameters
    ----------
    targets : array (batch, n_L), or integer labels (batch,) for the cross-entropies
        Labels are 0 .. n_L - 1 (0 or 1 for a single sigmoid output) and become one-hot rows.
    batch : int

    Raises
    ------
    ShapeError, RangeError
    """
    array = np.asarray(targets)
    if net.cost != "squared_error" and array.ndim == 1 and array.dtype.kind in "iub":
        if array.shape != (batch,):
            raise ShapeError(f"labels have shape {array.shape}; network expects ({batch},)")
        classes = max(net.outputs, 2)
        labels = array.astype(np.int64)
        bad = np.flatnonzero((labels < 0) | (labels >= classes))
        if len(bad):
            raise RangeError(f"label of sample {bad[0]} is {labels[bad[0]]}; allowed are 0 to {classes - 1}")
        if net.outputs == 1:
            return labels[:, None].astype(np.float64)
        return np.asarray(np.eye(classes)[labels], dtype=np.float64)
    result = finite_array("targets y", array, (None, net.outputs))
    if len(result) != batch:
        raise ShapeError(f"targets y have {len(result)} samples; inputs x have {batch}")
    return result


def squared_error_words(outputs: Ints, targets: Ints) -> int:
    """Sum ``(x_L - y)^2`` over words, exactly; the cost is this times ``2^-(2 f(A_L) + 1)``.

    18-bit words: differences below 2^18, squares below 2^36, so int64 holds the sum of 2^27 of them; more are summed
    in parts.
    """
    difference = (outputs - targets).reshape(-1)
    part = 1 << 26
    return sum(int(np.sum(difference[i : i + part] ** 2)) for i in range(0, len(difference), part))


def real_cost(net: Network, outputs: Floats, targets: Floats) -> float:
    """Give the cost of real outputs and targets, summed over the batch.

    Parameters
    ----------
    outputs, targets : float64 arrays (batch, n_L)
        ``softmax_cross_entropy`` takes logits.
    """
    x, y = outputs, targets
    if net.cost == "squared_error":
        return 0.5 * math.fsum(np.square(x - y).ravel())
    # 0 * log(0) is 0: float references do reach 0 and 1, words never do.
    with np.errstate(divide="ignore"):
        if net.cost == "sigmoid_cross_entropy":
            terms = np.where(y == 0, 0.0, y * np.log(np.where(y == 0, 1.0, x)))
            terms = terms + np.where(y == 1, 0.0, (1 - y) * np.log1p(-np.where(y == 1, 0.0, x)))
            return -math.fsum(terms.ravel())
    top = x.max(axis=1, keepdims=True)
    log_sum = top[:, 0] + np.log(np.exp(x - top).sum(axis=1))
    return math.fsum(y.sum(axis=1) * log_sum) - math.fsum((y * x).ravel())
