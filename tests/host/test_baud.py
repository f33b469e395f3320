"""The bit period of a serial line."""

from __future__ import annotations

import pytest

import dyadprop as dp
from dyadprop.baud import bit_period
from dyadprop.protocol import MAX_PERIOD, MIN_PERIOD


@pytest.mark.parametrize("clock", [12e6, 25e6, 48e6, 100e6])
@pytest.mark.parametrize("baud", [57_600, 115_200, 460_800, 921_600, 1_000_000, 2_000_000, 3_000_000])
def test_rate_is_met_within_a_percent(clock: float, baud: int) -> None:
    assert abs(16 * clock / bit_period(clock, baud) / baud - 1) < 0.01


def test_no_period_in_range_is_off_by_a_percent() -> None:
    # The worst: half a sixteenth off, at the short end.
    worst = max(abs((k + 0.499) / bit_period(k + 0.499, 16) - 1) for k in range(MIN_PERIOD, 4 * MIN_PERIOD))
    assert 0.007 < worst < 0.01


@pytest.mark.parametrize(("clock", "baud"), [(12e6, 3_200_000), (12e6, 2000), (12e6, 0), (0, 9600), (12e6, -5)])
def test_rates_out_of_range_are_refused(clock: float, baud: int) -> None:
    with pytest.raises(dp.RangeError, match=r"cycles a bit of a clock of .*; allowed are 4 to 4095.94 cycles$"):
        bit_period(clock, baud)
    assert bit_period(MAX_PERIOD, 16) == MAX_PERIOD
