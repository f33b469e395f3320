"""Each equation of docs/arithmetic.md as a pure function of int64 arrays; section numbers are that page's."""

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dyadprop.formats import Ints, Q
from dyadprop.network import RawParameters
from dyadprop.operations import SCALE_BITS
from dyadprop.rates import FULL_SCALE
from dyadprop.tables import Table, exp_table, phi_table
from dyadprop.widths import PROBABILITY, StageNumbers

Bools = npt.NDArray[np.bool_]

FLOAT_EXACT_BITS = 53
INT_BITS = 63
# Far beyond every table and word, and still far inside int64 after the longest shift to the left.
_SHIFT_LIMIT = 1 << 30


class Limited(NamedTuple):
    """Words, and which of them `clamp` changed.

    Attributes
    ----------
    words : int64 array
    saturated : bool array of the same shape
    """

    words: Ints
    saturated: Bools


# -- section 1: rounding and saturation ------------------------------------------------------------------------------


def round_half_even(v: Ints, k: int) -> Ints:
    """Give ``rhe(v, k)``: ``v / 2^k`` to the nearest integer, ties to the even one.

    Parameters
    ----------
    v : int64 array, any shape
        ``|v| <= 2^62``; for negative ``k`` also ``|v| * 2^-k < 2^63``.
    k : int

    Returns
    -------
    int64 array of the same shape
    """
    if k <= 0:
        return np.left_shift(v, -k)
    if k > INT_BITS:
        return np.zeros_like(v)  # |v| / 2^64 is below one half
    # The floor's last bit decides a tie: an odd floor gets the whole half and is carried up, an even one a unit less.
    # In place, as most of the model's time goes into the memory of temporaries.
    result = v >> k
    result &= 1
    result += (1 << (k - 1)) - 1
    result += v
    result >>= k
    return result


def clamp(v: Ints, form: Q) -> Limited:
    """Limit integers to the words of a format."""
    words = np.clip(v, form.min_int, form.max_int)
    return Limited(words, words != v)


def requantize(v: Ints, fraction_bits: int, form: Q) -> Limited:
    """Round integers with ``fraction_bits`` into a format: the only place where anything is rounded or saturates.

    Parameters
    ----------
    v : int64 array, any shape
        ``|v| <= 2^62``.
    fraction_bits : int
        ``k`` of ``v``.
    form : Q

    Returns
    -------
    Limited
        Of the same shape.
    """
    shift = fraction_bits - form.fraction_bits
    if shift < 0:
        # What lies outside the words before a shift to the left lies outside after it; so nothing wraps in between.
        v = np.clip(v, -_SHIFT_LIMIT, _SHIFT_LIMIT)
    return clamp(round_half_even(v, shift), form)


def matmul(a: Ints, b: Ints, width_a: int, width_b: int) -> Ints:
    """Multiply matrices of words exactly.

    Parameters
    ----------
    a : int64 array (rows, terms), words of ``width_a`` bits
    b : int64 array (terms, columns), words of ``width_b`` bits

    Returns
    -------
    int64 array (rows, columns)

    Notes
    -----
    float64 products run on BLAS and are about ten times faster than int64 ones. They are exact while the sum of all
    sizes, and with it each partial sum in each order, stays below 2^53.
    """
    largest = a.shape[1] << (width_a + width_b - 2)
    if largest < 1 << FLOAT_EXACT_BITS:
        product = np.matmul(a, b, dtype=np.float64)
        return np.asarray(product.astype(np.int64))
    if largest >= 1 << INT_BITS:
        raise OverflowError(f"{a.shape[1]} products of {width_a} by {width_b} bits do not fit into int64")
    return a @ b


# -- section 2: forward ----------------------------------------------------------------------------------------------


def accumulate(stage: StageNumbers, params: RawParameters, x: Ints) -> Ints:
    """Give the pre-activation ``acc_l``, exact.

    Parameters
    ----------
    stage : StageNumbers
    params : RawParameters
        Words of ``W_l``.
    x : int64 array (batch, n_{l-1}), format A_{l-1}

    Returns
    -------
    int64 array (batch, n_l), ``stage.accumulator_fraction`` fraction bits
    """
    return matmul(x, params.weight.T, stage.input.width, stage.weight.width) + params.bias * stage.one


def activate(stage: StageNumbers, acc: Ints) -> Limited:
    """Give ``x_l`` of a pre-activation.

    Parameters
    ----------
    stage : StageNumbers
    acc : int64 array (batch, n_l), ``stage.accumulator_fraction`` fraction bits

    Returns
    -------
    Limited
        (batch, n_l), format A_l; nothing saturates in a table.
    """
    K, form = stage.accumulator_fraction, stage.output
    match stage.activation:
        case "identity":
            return requantize(acc, K, form)
        case "relu":
            return requantize(np.maximum(acc, 0), K, form)
        case "leaky_relu":
            k = stage.leak_bits
            return requantize(np.where(acc >= 0, acc << k, acc), K + k, form)
        case _:
            words = look_up(acc, K, stage.activation, form.fraction_bits)
            return Limited(words, np.zeros(words.shape, dtype=np.bool_))


def forward(stage: StageNumbers, params: RawParameters, x: Ints) -> Limited:
    """Give ``x_l = F_l(x_{l-1})``.

    Parameters
    ----------
    stage : StageNumbers
    params : RawParameters
        Words of ``W_l``.
    x : int64 array (batch, n_{l-1}), format A_{l-1}

    Returns
    -------
    Limited
        (batch, n_l), format A_l.
    """
    return activate(stage, accumulate(stage, params, x))


# -- section 3: tables -----------------------------------------------------------------------------------------------


class _Arrays(NamedTuple):
    table: Table
    value: Ints
    step: Ints


@cache
def _phi_arrays(activation: str, f: int) -> _Arrays:
    table = phi_table(activation, f)
    return _Arrays(table, np.array(table.value, dtype=np.int64), np.array(table.step, dtype=np.int64))


@cache
def _exp_arrays(f: int) -> _Arrays:
    table = exp_table(f)
    return _Arrays(table, np.array(table.value, dtype=np.int64), np.array(table.step, dtype=np.int64))


def look_up(acc: Ints, fraction_bits: int, activation: str, f: int) -> Ints:
    """Give ``table_l(acc)`` of tanh or sigmoid.

    Parameters
    ----------
    acc : int64 array, any shape
    fraction_bits : int
        ``K`` of ``acc``.
    activation : {"tanh", "sigmoid"}
    f : int
        Fraction bits of the result, ``f(A_l)``.

    Returns
    -------
    int64 array of the same shape
    """
    table, value, rise = _phi_arrays(activation, f)
    g = table.gap_bits
    shift = fraction_bits - f
    z = round_half_even(np.clip(acc, -_SHIFT_LIMIT, _SHIFT_LIMIT) if shift < 0 else acc, shift)
    m = np.minimum(np.abs(z), (1 << (table.range_bits + f)) - 1)
    i = m >> g
    r = m & ((1 << g) - 1)
    y = value[i] + round_half_even(rise[i] * r, g)
    return np.asarray(np.where(z < 0, (1 << f) - y if activation == "sigmoid" else -y, y), dtype=np.int64)


def table_error(activation: str, f: int) -> float:
    """Bound the error of `look_up` against the function of the exact pre-activation, in lsb.

    Notes
    -----
    Measured over all inputs. Only the finest table of the steeper function, tanh in Q1.17, passes 2: its chords are off
    by 0.77 lsb.
    """
    return 2.1 if (activation, f) == ("tanh", 17) else 2.0


# -- section 4: slope and delta --------------------------------------------------------------------------------------


def slope(stage: StageNumbers, x: Ints) -> Ints:
    """Give ``phi'`` of a tanh or sigmoid stage from its stored output.

    Parameters
    ----------
    stage : StageNumbers
    x : int64 array (batch, n_l), format A_l

    Returns
    -------
    int64 array (batch, n_l), format ``stage.slope``
    """
    f = stage.output.fraction_bits
    exact = (1 << (2 * f)) - x * x if stage.activation == "tanh" else (x << f) - x * x
    return requantize(exact, 2 * f, stage.slope).words


def delta(stage: StageNumbers, sensitivity: Ints, x: Ints) -> Ints:
    """Give ``delta_l = phi'_l(a_l) * lambda_l``.

    Parameters
    ----------
    stage : StageNumbers
    sensitivity : int64 array (batch, n_l), format S_l
    x : int64 array (batch, n_l), format A_l

    Returns
    -------
    int64 array (batch, n_l), format S_l
    """
    if stage.matched or stage.activation == "identity":
        return sensitivity
    form = stage.sensitivity
    match stage.activation:
        case "relu":
            return np.where(x > 0, sensitivity, 0)
        case "leaky_relu":
            leaked = requantize(sensitivity, form.fraction_bits + stage.leak_bits, form).words
            return np.where(x > 0, sensitivity, leaked)
        case _:
            return requantize(slope(stage, x) * sensitivity, stage.slope.fraction_bits + form.fraction_bits, form).words


# -- section 5: sensitivity and gradient -----------------------------------------------------------------------------


def backward(stage: StageNumbers, params: RawParameters, delta: Ints) -> Limited:
    """Give ``lambda_{l-1}``.

    Parameters
    ----------
    stage : StageNumbers
        Of layer ``l``.
    params : RawParameters
        Words of ``W_l``.
    delta : int64 array (batch, n_l), format S_l

    Returns
    -------
    Limited
        (batch, n_{l-1}), format S_{l-1}.
    """
    total = matmul(delta, params.weight, stage.sensitivity.width, stage.weight.width)
    return requantize(total, stage.sensitivity_sum_fraction, stage.input_sensitivity)


def gradient(stage: StageNumbers, delta: Ints, x: Ints) -> RawParameters:
    """Give ``G_l``, summed over the batch, exact.

    Parameters
    ----------
    stage : StageNumbers
    delta : int64 array (batch, n_l), format S_l
    x : int64 array (batch, n_{l-1}), format A_{l-1}
        The stage's inputs.
    """
    return RawParameters(
        weight=matmul(delta.T, x, stage.sensitivity.width, stage.input.width),
        bias=delta.sum(axis=0) * stage.one,
        fraction_bits=stage.gradient_fraction,
    )


# -- section 6: seeds ------------------------------------------------------------------------------------------------


def exponentials(logits: Ints, f: int) -> Ints:
    """Give ``e``, which a softmax divides by their sum.

    Parameters
    ----------
    logits : int64 array (batch, n_L)
    f : int
        Their fraction bits, ``f(A_L)``.

    Returns
    -------
    int64 array (batch, n_L), 16 fraction bits, 0 to 65536
    """
    table, value, fall = _exp_arrays(f)
    g = table.gap_bits
    d = np.minimum(logits.max(axis=1, keepdims=True) - logits, (1 << (table.range_bits + f)) - 1)
    i = d >> g
    return np.asarray(value[i] - round_half_even(fall[i] * (d & ((1 << g) - 1)), g), dtype=np.int64)


def softmax(logits: Ints, f: int) -> Ints:
    """Give the probabilities ``p`` of logits.

    Parameters
    ----------
    logits : int64 array (batch, n_L)
    f : int
        Their fraction bits, ``f(A_L)``.

    Returns
    -------
    int64 array (batch, n_L), 14 fraction bits, 0 to 16384
    """
    e = exponentials(logits, f)
    s = e.sum(axis=1, keepdims=True)
    quotient, rest = np.divmod(e << PROBABILITY.fraction_bits, s)
    up = (2 * rest > s) | ((2 * rest == s) & (quotient & 1 == 1))
    return np.asarray(quotient + up, dtype=np.int64)


def seed(stage: StageNumbers, cost: str, x: Ints, target: Ints, scale: int = FULL_SCALE) -> Limited:
    """Give ``lambda_L`` of a cost, times ``scale / 256`` (section 8).

    Parameters
    ----------
    stage : StageNumbers
        The last one.
    cost : {"squared_error", "sigmoid_cross_entropy", "softmax_cross_entropy"}
    x : int64 array (batch, n_L), format A_L
    target : int64 array (batch, n_L), target format of the cost
    scale : int
        ``m``, 1 to 256: of the plain gradient.

    Returns
    -------
    Limited
        (batch, n_L), format S_L.
    """
    f = stage.output.fraction_bits
    if cost == "softmax_cross_entropy":
        x, f = softmax(x, f), PROBABILITY.fraction_bits
    return requantize((x - target) * scale, f + SCALE_BITS, stage.sensitivity)


# -- section 8: the step on the device -------------------------------------------------------------------------------


class Step(NamedTuple):
    """What a step makes of weights (or biases) and their accumulators.

    Attributes
    ----------
    words : int64 array
        The new ``W``.
    residual : int64 array of the same shape
        The new ``G``.
    saturated : bool array of the same shape
    """

    words: Ints
    residual: Ints
    saturated: Bools


def step(words: Ints, accumulators: Ints, shift: int, form: Q) -> Step:
    """Take the whole weight steps out of gradient accumulators; what a word cannot take is dropped.

    Parameters
    ----------
    words : int64 array, any shape
        ``W``.
    accumulators : int64 array of the same shape
        ``G``, ``|G| < 2^51``.
    shift : int
        ``s_l``, 0 or more.
    form : Q
        ``W_l``.
    """
    u = round_half_even(accumulators, shift)
    new, saturated = clamp(words - u, form)
    return Step(new, accumulators - (u << shift), saturated)
