"""The integers of the tables against 40 digits; what stages make of them: tests/sim/test_arithmetic.py."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from itertools import pairwise

import pytest

from dyadprop.tables import MAX_INDEX_BITS, TABLE_ACTIVATIONS, exp_table, phi_table

PHI_CASES = [(activation, f) for activation in TABLE_ACTIVATIONS for f in range(1, 18)]


def phi(activation: str, z: Decimal) -> Decimal:
    if activation == "sigmoid":
        return 1 / (1 + (-z).exp())
    e = (-2 * z).exp()
    return (1 - e) / (1 + e)


def entries(activation: str, f: int) -> list[Decimal]:
    """Give the exact entries, in lsb, one more than the table has."""
    table = phi_table(activation, f)
    with localcontext(prec=40):
        return [phi(activation, Decimal(i) / 2**table.step_bits) * 2**f for i in range((1 << table.index_bits) + 1)]


def distance_of_tie(value: Decimal) -> Decimal:
    return abs(value - math.floor(value) - Decimal("0.5"))


@pytest.mark.parametrize(("activation", "f"), PHI_CASES)
def test_entries_are_the_nearest_integers_and_none_is_near_a_tie(activation, f):
    table = phi_table(activation, f)
    exact = entries(activation, f)
    rounded = [min(math.floor(v + Decimal("0.5")), 2**f - 1) for v in exact]
    assert list(table.value) == rounded[:-1]
    assert list(table.step) == [b - a for a, b in pairwise(rounded)]
    # So each libm, whose last bits differ, comes to the same integers.
    assert min(distance_of_tie(v) for v in exact) > Decimal("1e-7")
    assert len(exact) == len(table.value) + 1 == len(table.step) + 1


@pytest.mark.parametrize(("activation", "f"), PHI_CASES)
def test_range_is_the_smallest_power_of_two_beyond_which_phi_is_one(activation, f):
    table = phi_table(activation, f)

    def rest(bits: int) -> Decimal:
        with localcontext(prec=40):
            return (1 - phi(activation, Decimal(2) ** bits)) * 2**f

    assert rest(table.range_bits) <= Decimal("0.5")
    if table.range_bits:
        assert rest(table.range_bits - 1) > Decimal("0.5")


@pytest.mark.parametrize(("activation", "f"), PHI_CASES)
def test_sizes_follow_from_the_format(activation, f):
    table = phi_table(activation, f)
    assert table.step_bits == min(f, MAX_INDEX_BITS - table.range_bits)
    assert table.gap_bits == f - table.step_bits >= 0
    assert len(table.value) == 1 << table.index_bits <= 1024
    assert min(table.step) >= 0
    assert max(table.value) < 1 << table.value_bits <= 1 << f
    assert max(table.step) < 1 << table.slope_bits


def test_plain_and_interpolated_tables_where_the_page_says():
    assert phi_table("tanh", 7).gap_bits == 0
    assert phi_table("tanh", 12).range_bits == 3
    assert phi_table("tanh", 12).gap_bits == 5
    assert phi_table("sigmoid", 12).range_bits == 4
    assert phi_table("sigmoid", 12).gap_bits == 6


@pytest.mark.parametrize("f", range(18))
def test_exponential_entries_are_the_nearest_integers_and_none_is_near_a_tie(f):
    table = exp_table(f)
    assert table.step_bits == min(f, 6)
    assert table.gap_bits == f - table.step_bits
    assert table.range_bits == 4
    with localcontext(prec=40):
        exact = [(Decimal(-i) / 2**table.step_bits).exp() * 2**16 for i in range((16 << table.step_bits) + 1)]
    rounded = [math.floor(v + Decimal("0.5")) for v in exact]
    assert list(table.value) == rounded[:-1]
    assert list(table.step) == [a - b for a, b in pairwise(rounded)]
    assert table.value[0] == 65536
    assert min(distance_of_tie(v) for v in exact[1:]) > Decimal("1e-7")
    assert len(exact) == 16 * 2**table.step_bits + 1


def test_a_table_is_made_once():
    assert phi_table("tanh", 12) is phi_table("tanh", 12)
    assert exp_table(10) is exp_table(10)
