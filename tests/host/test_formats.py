"""Formats: what they allow, and what they make of real numbers."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest

from dyadprop.errors import DyadpropError, FormatError
from dyadprop.formats import Formats, Q


@pytest.mark.parametrize(
    ("integer_bits", "fraction_bits", "sentence"),
    [
        (1, 0, r"^Q1.0 has words of 1 bits; allowed are 2 to 18$"),
        (7, 12, r"^Q7.12 has words of 19 bits; allowed are 2 to 18$"),
        (-3, 3, r"^Q-3.3 has words of 0 bits; allowed are 2 to 18$"),
        (4, -1, r"^Q4.-1 has -1 fraction bits; allowed are 0 to 32$"),
        (-20, 33, r"^Q-20.33 has 33 fraction bits; allowed are 0 to 32$"),
        (4.0, 12, r"^integer_bits of a format is 4.0; it must be an int$"),
        (4, True, r"^fraction_bits of a format is True; it must be an int$"),
    ],
)
def test_impossible_formats_say_what_is_allowed(integer_bits, fraction_bits, sentence):
    with pytest.raises(FormatError, match=sentence) as caught:
        Q(integer_bits, fraction_bits)
    assert isinstance(caught.value, DyadpropError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("m", "n"), [(2, 0), (18, 0), (4, 12), (1, 17), (0, 16), (-14, 32), (-30, 32), (1, 1)])
def test_range_and_resolution(m, n):
    form = Q(m, n)
    assert form.width == m + n
    assert form.min_int == -(2 ** (m + n - 1))
    assert form.max_int == 2 ** (m + n - 1) - 1
    assert form.lsb == 2.0**-n
    assert form.min == -(2.0 ** (m - 1))
    assert form.max == 2.0 ** (m - 1) - 2.0**-n


@pytest.mark.parametrize("form", [Q(4, 12), Q(-3, 8), Q(18, 0), Q(1, 17)])
def test_text_goes_both_ways(form):
    assert Q.parse(str(form)) == form
    assert len({form, Q.parse(str(form))}) == 1


@pytest.mark.parametrize("text", ["4.12", "Q4", "q4.12", "Q4.12 ", "Q4.-2", "", "Q+4.12", None, 4])
def test_other_text_is_refused(text):
    with pytest.raises(
        FormatError, match=r"^format .* is not of the form 'Q4.12' \(integer bits with sign, fraction bits\)$"
    ):
        Q.parse(text)


@pytest.mark.parametrize("seed", range(10))
def test_words_are_nearest_with_ties_to_even_and_limited(seed):
    rng = random.Random(seed)
    compared = limited = 0
    for _ in range(20):
        width = rng.randint(2, 18)
        n = rng.randint(0, 32)
        form = Q(width - n, n)
        reals = [rng.uniform(1.2 * form.min, 1.2 * form.max) for _ in range(30)]
        for word in (form.min_int, form.max_int, 0, -1, *(rng.randint(form.min_int, form.max_int) for _ in range(10))):
            reals += [(word + d) * form.lsb for d in (-0.5, 0.0, 0.5, 0.5 + 2.0**-20, -0.5 - 2.0**-20)]
        got = form.to_ints(reals)
        exact = [round(Fraction(v) * 2**n) for v in reals]
        assert got.words.tolist() == [min(max(v, form.min_int), form.max_int) for v in exact]
        assert got.saturations == sum(not form.min_int <= v <= form.max_int for v in exact)
        compared += len(reals)
        limited += got.saturations
    assert compared == 2000
    assert limited > 50


@pytest.mark.parametrize("form", [Q(4, 12), Q(-14, 32), Q(18, 0), Q(2, 0)])
def test_the_largest_floats_saturate_without_a_warning(form):
    got = form.to_ints([1.7e308, -1.7e308, 5e-324, -0.0])
    assert got.words.tolist() == [form.max_int, form.min_int, 0, 0]
    assert got.saturations == 2


@pytest.mark.parametrize("form", [Q(4, 12), Q(-14, 32), Q(18, 0), Q(1, 17), Q(2, 0)])
def test_each_word_has_its_exact_value_and_comes_back(form):
    words = np.arange(form.min_int, form.max_int + 1)
    reals = form.to_floats(words)
    assert reals[0] == form.min
    assert reals[-1] == form.max
    np.testing.assert_array_equal(np.diff(reals), form.lsb)
    back = form.to_ints(reals)
    np.testing.assert_array_equal(back.words, words)
    assert back.saturations == 0
    assert len(words) == 1 << form.width


def test_shapes_are_kept():
    assert Q(4, 12).to_ints(np.zeros((3, 0, 2))).words.shape == (3, 0, 2)
    assert Q(4, 12).to_ints(0.5).words.shape == ()


def test_default_formats_of_a_layer():
    formats = Formats()
    assert (str(formats.activation), str(formats.weight), str(formats.sensitivity)) == ("Q4.12", "Q4.12", "Q2.14")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"activation": "Q4.12"}, r"^activation format is 'Q4.12'; expected a dyadprop.Q$"),
        ({"sensitivity": None}, r"^sensitivity format is None; expected a dyadprop.Q$"),
        (
            {"activation": Q(0, 8)},
            r"^activation format Q0.8 has 0 integer bits; an activation needs at least 1 \(the sign\)$",
        ),
    ],
)
def test_impossible_formats_of_a_layer(given, sentence):
    with pytest.raises(FormatError, match=sentence):
        Formats(**given)


def test_weights_and_sensitivities_may_have_no_integer_bit():
    assert Formats(weight=Q(-2, 10), sensitivity=Q(-14, 32)).weight.max < 0.125
