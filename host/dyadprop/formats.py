"""Number formats: Q-format words, and the three formats of a layer."""

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dyadprop.errors import FormatError

MIN_WORD = 2
MAX_WORD = 18  # one multiplier operand of ECP5 and Gowin
MAX_FRACTION = 32

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Quantized(NamedTuple):
    """Words and how many of them were limited to the format's range.

    Attributes
    ----------
    words : int64 array, in the format that made it
    saturations : int
    """

    words: Ints
    saturations: int


@dataclass(frozen=True)
class Q:
    """Fixed-point format ``Qm.n``: two's complement, the sign counted in the integer bits.

    Parameters
    ----------
    integer_bits : int
        ``m``; zero or negative for numbers that are always small.
    fraction_bits : int
        ``n``, 0 to 32. The word has ``m + n`` bits, 2 to 18.

    Raises
    ------
    FormatError
        If the word is too short or too long.

    Examples
    --------
    >>> Q(4, 12).to_ints([0.5, 100.0])
    Quantized(words=array([ 2048, 32767]), saturations=1)
    """

    integer_bits: int
    fraction_bits: int

    def __post_init__(self) -> None:
        for name in ("integer_bits", "fraction_bits"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise FormatError(f"{name} of a format is {value!r}; it must be an int")
        if not 0 <= self.fraction_bits <= MAX_FRACTION:
            raise FormatError(f"{self} has {self.fraction_bits} fraction bits; allowed are 0 to {MAX_FRACTION}")
        if not MIN_WORD <= self.width <= MAX_WORD:
            raise FormatError(f"{self} has words of {self.width} bits; allowed are {MIN_WORD} to {MAX_WORD}")

    def __str__(self) -> str:
        return f"Q{self.integer_bits}.{self.fraction_bits}"

    @classmethod
    def parse(cls, text: object) -> "Q":
        """Read ``"Q4.12"``; raises FormatError for anything else."""
        match = re.fullmatch(r"Q(-?\d+)\.(\d+)", text) if isinstance(text, str) else None
        if match is None:
            raise FormatError(f"format {text!r} is not of the form 'Q4.12' (integer bits with sign, fraction bits)")
        return cls(int(match[1]), int(match[2]))

    @property
    def width(self) -> int:
        """Bits of a word."""
        return self.integer_bits + self.fraction_bits

    @property
    def min_int(self) -> int:
        """Smallest word as an integer."""
        return -(1 << (self.width - 1))

    @property
    def max_int(self) -> int:
        """Largest word as an integer."""
        return (1 << (self.width - 1)) - 1

    @property
    def lsb(self) -> float:
        """Distance of neighbouring values."""
        return math.ldexp(1.0, -self.fraction_bits)

    @property
    def min(self) -> float:
        """Smallest value."""
        return self.min_int * self.lsb

    @property
    def max(self) -> float:
        """Largest value."""
        return self.max_int * self.lsb

    def to_ints(self, values: npt.ArrayLike) -> Quantized:
        """Round real numbers half to even and saturate.

        Parameters
        ----------
        values : array of float, any shape
            Finite; callers check that at the door (``dyadprop.checks``).

        Returns
        -------
        Quantized
            int64 words of the same shape, and the count of those that were out of range.
        """
        with np.errstate(over="ignore"):  # what overflows to infinity saturates like any other large value
            rounded = np.rint(np.ldexp(np.asarray(values, dtype=np.float64), self.fraction_bits))
        words = np.clip(rounded, self.min_int, self.max_int)
        return Quantized(words.astype(np.int64), int(np.count_nonzero(words != rounded)))

    def to_floats(self, words: npt.ArrayLike) -> Floats:
        """Give the exact real values of int64 words of this format."""
        return np.ldexp(np.asarray(words, dtype=np.int64).astype(np.float64), -self.fraction_bits)


@dataclass(frozen=True)
class Formats:
    """The formats of one layer, or of a whole network.

    Parameters
    ----------
    activation : Q
        Of ``x_l``; at least one integer bit.
    weight : Q
        Of ``W_l`` and ``b_l``.
    sensitivity : Q
        Of ``lambda_l`` and ``delta_l``.

    Raises
    ------
    FormatError
        If an argument is no ``Q`` or the activation has no integer bit.
    """

    activation: Q = Q(4, 12)
    weight: Q = Q(4, 12)
    sensitivity: Q = Q(2, 14)

    def __post_init__(self) -> None:
        for name in ("activation", "weight", "sensitivity"):
            value = getattr(self, name)
            if not isinstance(value, Q):
                raise FormatError(f"{name} format is {value!r}; expected a dyadprop.Q")
        if self.activation.integer_bits < 1:
            raise FormatError(
                f"activation format {self.activation} has {self.activation.integer_bits} integer bits; "
                "an activation needs at least 1 (the sign)"
            )
