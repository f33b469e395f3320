"""Tables of tanh, sigmoid and exp, made once for hardware and model (docs/arithmetic.md, sections 3 and 6)."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

MAX_INDEX_BITS = 10  # 1024 entries: one block RAM of an ECP5
SOFTMAX_FRACTION = 16  # fraction bits of exp(-d)
SOFTMAX_RANGE_BITS = 4  # d in [0, 16)
SOFTMAX_STEP_BITS = 6

_PHI: dict[str, Callable[[float], float]] = {
    "tanh": math.tanh,
    "sigmoid": lambda z: 1.0 / (1.0 + math.exp(-z)),
}
TABLE_ACTIVATIONS = tuple(_PHI)


@dataclass(frozen=True)
class Table:
    """A function over ``[0, 2^range_bits)``, linear between its entries.

    Attributes
    ----------
    value : tuple of int
        Entries ``0 .. 2^index_bits - 1``, unsigned.
    step : tuple of int
        Size of the way from each entry to the next: up for tanh and sigmoid (``rise``), down for exp (``fall``);
        never negative.
    range_bits, step_bits, gap_bits : int
        The range is ``2^range_bits``, entries are ``2^-step_bits`` apart, ``gap_bits`` more bits are interpolated.
        The argument has ``step_bits + gap_bits`` fraction bits.
    """

    value: tuple[int, ...]
    step: tuple[int, ...]
    range_bits: int
    step_bits: int
    gap_bits: int

    @property
    def index_bits(self) -> int:
        """Address bits of the table."""
        return self.range_bits + self.step_bits

    @property
    def value_bits(self) -> int:
        """Bits of an (unsigned) entry."""
        return max(self.value).bit_length()

    @property
    def slope_bits(self) -> int:
        """Bits of an (unsigned) step."""
        return max(1, max(self.step).bit_length())


@cache
def phi_table(activation: str, fraction_bits: int) -> Table:
    """Make the table of an activation for outputs with ``fraction_bits`` (docs/arithmetic.md, section 3).

    Parameters
    ----------
    activation : {"tanh", "sigmoid"}
    fraction_bits : int
        ``f(A_l)``, at least 1.

    Notes
    -----
    No entry lies within 1e-7 lsb of a rounding tie (a test checks it for every format), so each libm gives the same
    integers.
    """
    phi = _PHI[activation]
    range_bits = 0
    while (1.0 - phi(2.0**range_bits)) * 2**fraction_bits > 0.5:
        range_bits += 1
    step_bits = min(fraction_bits, MAX_INDEX_BITS - range_bits)
    top = (1 << fraction_bits) - 1
    entries = 1 << (range_bits + step_bits)
    values = [min(round(phi(i * 2.0**-step_bits) * 2**fraction_bits), top) for i in range(entries + 1)]
    return Table(
        value=tuple(values[:-1]),
        step=tuple(after - before for before, after in itertools.pairwise(values)),
        range_bits=range_bits,
        step_bits=step_bits,
        gap_bits=fraction_bits - step_bits,
    )


@cache
def exp_table(fraction_bits: int) -> Table:
    """Make the table of ``exp(-d)`` for logits with ``fraction_bits`` (docs/arithmetic.md, section 6)."""
    step_bits = min(fraction_bits, SOFTMAX_STEP_BITS)
    entries = 1 << (SOFTMAX_RANGE_BITS + step_bits)
    values = [round(math.exp(-i * 2.0**-step_bits) * 2**SOFTMAX_FRACTION) for i in range(entries + 1)]
    return Table(
        value=tuple(values[:-1]),
        step=tuple(before - after for before, after in itertools.pairwise(values)),
        range_bits=SOFTMAX_RANGE_BITS,
        step_bits=step_bits,
        gap_bits=fraction_bits - step_bits,
    )
