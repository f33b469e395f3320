"""The door: what users give, arrays and numbers, is checked here before anything is done with it."""

import argparse

import numpy as np
import numpy.typing as npt

from dyadprop.errors import RangeError, ShapeError
from dyadprop.formats import Floats


def finite_array(what: str, values: npt.ArrayLike, shape: tuple[int | None, ...]) -> Floats:
    """Return a float64 copy of ``values``, or raise what is wrong with it.

    Parameters
    ----------
    what : str
        How messages call it: "weight of stage 2".
    values : array of real numbers
    shape : tuple
        Exactly the shape asked for; ``None`` stands for any length of at least 1 (the batch).

    Raises
    ------
    ShapeError
        If the shape differs; nothing broadcasts.
    RangeError
        If it holds NaN, infinity or something that is no real number.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise RangeError(f"{what} holds {array.dtype}; expected real numbers")
    wanted = "(" + ", ".join("batch" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
    if array.ndim != len(shape) or any(n is not None and n != got for n, got in zip(shape, array.shape, strict=False)):
        raise ShapeError(f"{what} has shape {array.shape}; network expects {wanted}")
    if any(n is None and got < 1 for n, got in zip(shape, array.shape, strict=False)):
        raise ShapeError(f"{what} has shape {array.shape}; a batch has at least 1 sample")
    result = np.array(array, dtype=np.float64)
    finite = np.isfinite(result)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise RangeError(f"{what} is {result[where]} at index {where}; every entry must be finite")
    return result


def whole_number(what: str, value: object, low: int, high: int) -> int:
    """Return ``value`` as an int, or raise RangeError unless it is a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise RangeError(f"{what} is {value!r}; allowed are whole numbers from {low} to {high}")
    return int(value)


def positive_number(text: str) -> float:
    """Read a finite number above 0 that was given to a command, or raise ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def positive(text: str) -> int:
    """Read a whole number from 1 that was given to a command, or raise ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)
