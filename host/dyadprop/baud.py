"""The bit period of a serial line, as the UART counts it."""

from dyadprop.errors import RangeError
from dyadprop.protocol import MAX_PERIOD, MIN_PERIOD, PERIOD_FRACTION_BITS

BITS_A_BYTE = 10
"""Of a serial line (8N1): start, eight, stop."""


def bit_period(clock: float, baud: float) -> int:
    """Give the bit period of a rate, in sixteenths of a clock cycle.

    Parameters
    ----------
    clock : float
        Hz.
    baud : float
        Bits a second.

    Raises
    ------
    RangeError
        If the period is out of range. Inside the range rounding alone moves the rate by less than 1 %: half a
        sixteenth of a cycle is 1/128 of the shortest period.
    """
    cycles = clock / baud if clock > 0 and baud > 0 else 0.0
    period = round(cycles * (1 << PERIOD_FRACTION_BITS)) if cycles <= MAX_PERIOD else MAX_PERIOD + 1
    if not MIN_PERIOD <= period <= MAX_PERIOD:
        low, high = (limit / (1 << PERIOD_FRACTION_BITS) for limit in (MIN_PERIOD, MAX_PERIOD))
        raise RangeError(
            f"baud rate {baud:g} takes {cycles:g} cycles a bit of a clock of {clock:g} Hz; "
            f"allowed are {low:g} to {high:g} cycles"
        )
    return period
