"""The equations against exact rationals, against apytypes, and the tables over all of their inputs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction

import apytypes
import numpy as np
import pytest

from dyadprop.formats import Formats, Ints, Q
from dyadprop.network import ACTIVATIONS, COSTS, Dense, Network, RawParameters
from dyadprop.tables import phi_table
from dyadprop.widths import StageNumbers, stage_numbers
from dyadprop_sim import arithmetic

SEEDS = range(12)


def rational_word(value: Fraction, form: Q) -> int:
    """Quantise as section 1 says it; `round` of a Fraction is exact and takes ties to the even integer."""
    return min(max(round(value * 2**form.fraction_bits), form.min_int), form.max_int)


def random_format(rng: random.Random, *, activation: bool = False, small: bool = False) -> Q:
    width = rng.randint(4, 8 if small else 18)
    low = 1 if activation else max(-3, width - 32)
    m = rng.randint(low, max(low, min(6, width - 1)))
    return Q(m, width - m)


def one_stage(
    rng: random.Random, activation: str, *, inputs: int = 5, outputs: int = 4, cost: str = "squared_error"
) -> StageNumbers:
    net = Network(
        inputs,
        [
            Dense(
                outputs,
                activation,
                formats=Formats(random_format(rng, activation=True), random_format(rng), random_format(rng)),
                slope=2.0 ** -rng.randint(1, 15),
            )
        ],
        cost,
        formats=Formats(random_format(rng, activation=True), random_format(rng), random_format(rng)),
        input_gradient=True,
    )
    return stage_numbers(net)[0]


def random_words(rng: random.Random, form: Q, *shape: int) -> Ints:
    flat = [
        rng.choice((form.min_int, form.max_int, 0, 1, -1))
        if rng.random() < 0.2
        else rng.randint(form.min_int, form.max_int)
        for _ in range(math.prod(shape))
    ]
    return np.array(flat, dtype=np.int64).reshape(shape)


def apy(values: Ints, fraction_bits: int, bits: int = 80):
    return apytypes.APyFixedArray(values.tolist(), bits=bits, frac_bits=fraction_bits)


def apy_cast(values, form: Q) -> Ints:
    cast = values.cast(
        int_bits=form.integer_bits,
        frac_bits=form.fraction_bits,
        quantization=apytypes.QuantizationMode.TIES_EVEN,
        overflow=apytypes.OverflowMode.SAT,
    )
    bits = np.array(cast.to_bits(), dtype=object)
    return np.where(bits > form.max_int, bits - (1 << form.width), bits).astype(np.int64)


# -- section 1 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [-3, -1, 0, 1, 2, 3, 5, 8, 10])
def test_rounding_equals_exact_rationals(k):
    v = np.arange(-2050, 2051, dtype=np.int64)
    expected = [round(Fraction(int(i)) / Fraction(2) ** k) for i in v]
    got = arithmetic.round_half_even(v, k)
    assert got.tolist() == expected
    assert len(got) == 4101


@pytest.mark.parametrize("k", [33, 47, 61, 62, 63, 64, 65, 90])
def test_rounding_of_the_widest_values(k):
    ends = [2**62, 2**62 - 1, 2**61, 2**61 + 1, 2**60 + 2**59, 3, 1, 0]
    v = np.array(ends + [-i for i in ends], dtype=np.int64)
    expected = [round(Fraction(int(i), 2**k)) for i in v]
    assert arithmetic.round_half_even(v, k).tolist() == expected


def test_rounding_leaves_its_argument_alone():
    v = np.arange(-8, 8, dtype=np.int64)
    arithmetic.round_half_even(v, 2)
    assert v.tolist() == list(range(-8, 8))


def test_requantize_equals_apytypes_on_every_word_of_18_bits():
    before, after = Q(6, 12), Q(4, 8)
    words = np.arange(before.min_int, before.max_int + 1, dtype=np.int64)
    got = arithmetic.requantize(words, 12, after)
    expected = apy_cast(apy(words, 12), after)
    assert len(words) == 1 << 18
    np.testing.assert_array_equal(got.words, expected)
    # The tie below the smallest word goes to it (even), the one above the largest goes away from it.
    np.testing.assert_array_equal(got.saturated, (words < -(2**15) - 8) | (words >= 2**15 - 8))


@pytest.mark.parametrize("seed", SEEDS)
def test_requantize_equals_apytypes_at_ties_and_clip_edges(seed):
    rng = random.Random(seed)
    compared = saturated = ties = 0
    for _ in range(60):
        form, k = random_format(rng), rng.randint(0, 50)
        shift = k - form.fraction_bits
        lsb = 1 << max(shift, 0)  # of the result, in units of v; below 1 every shift is exact
        values = [rng.randint(-(1 << 44), 1 << 44) >> rng.randint(0, 44) for _ in range(20)]
        for _ in range(20):  # odd multiples of half an lsb, of both signs, and their neighbours
            tie = (2 * rng.randint(form.min_int, form.max_int) + 1) * lsb // 2
            values += [tie, tie - 1, tie + 1]
            ties += shift > 0
        for edge in (form.min_int, form.max_int):
            at = edge * lsb if shift >= 0 else edge >> -shift
            values += [
                at + d
                for d in (0, -1, 1, -lsb // 2, lsb // 2, lsb // 2 - 1, lsb // 2 + 1, -lsb // 2 - 1, -lsb // 2 + 1)
            ]
        v = np.array([i for i in values if abs(i) <= 1 << 62], dtype=np.int64)
        got = arithmetic.requantize(v, k, form)
        np.testing.assert_array_equal(got.words, apy_cast(apy(v, k, 100), form))
        exact = [round(Fraction(int(i)) * Fraction(2) ** -shift) for i in v]
        np.testing.assert_array_equal(got.saturated, [not form.min_int <= i <= form.max_int for i in exact])
        compared += len(v)
        saturated += int(got.saturated.sum())
    assert compared >= 5000
    assert saturated > 200
    assert ties > 200


@pytest.mark.parametrize("v", [2**62, -(2**62), 2**40, -(2**40), 1, -1, 0])
def test_requantize_to_the_left_never_wraps(v):
    form = Q(-14, 32)
    got = arithmetic.requantize(np.array([v], dtype=np.int64), 0, form)
    assert got.words[0] == rational_word(Fraction(v), form)
    assert got.saturated[0] == (v != 0)


# -- matrix products --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_product_equals_apytypes(seed):
    rng = random.Random(seed)
    a_form, b_form = random_format(rng), random_format(rng)
    a, b = random_words(rng, a_form, 7, 11), random_words(rng, b_form, 11, 5)
    got = arithmetic.matmul(a, b, a_form.width, b_form.width)
    product = apytypes.APyFixedArray(a.tolist(), bits=a_form.width, frac_bits=0) @ apytypes.APyFixedArray(
        b.tolist(), bits=b_form.width, frac_bits=0
    )
    bits = np.array(product.to_bits(), dtype=object)
    expected = np.where(bits >= 1 << (product.bits - 1), bits - (1 << product.bits), bits)
    assert got.shape == (7, 5)
    assert got.dtype == np.int64
    assert (got == expected).all()


@pytest.mark.parametrize(
    ("width", "terms"),
    [
        pytest.param(27, 1, id="float64"),
        pytest.param(27, 2, id="int64, one term too many for float64"),
        pytest.param(31, 5, id="int64"),
        pytest.param(32, 1, id="int64, widest"),
    ],
)
def test_product_is_exact_up_to_its_bound(width, terms):
    # All terms of one sign and the largest size, and one odd unit that float64 would drop first.
    low = -(1 << (width - 1))
    a = np.full((1, terms), low, dtype=np.int64)
    b = np.full((terms, 2), low, dtype=np.int64)
    b[0, 1] = low + 1
    a[0, 0] = low + 1
    expected = [[sum(int(a[0, j]) * int(b[j, i]) for j in range(terms)) for i in range(2)]]
    assert arithmetic.matmul(a, b, width, width).tolist() == expected


def test_product_refuses_what_int64_cannot_hold():
    a = np.zeros((1, 2), dtype=np.int64)
    with pytest.raises(OverflowError, match=r"2 products of 32 by 33 bits do not fit into int64"):
        arithmetic.matmul(a, a.T, 32, 33)


@pytest.mark.parametrize("sign", [-1, 1])
def test_accumulators_hold_the_worst_case_of_the_widest_layer(sign):
    wide = Q(18, 0)
    formats = Formats(wide, wide, wide)
    net = Network(4096, [Dense(2)], formats=formats, input_gradient=True)
    stage = stage_numbers(net)[0]
    low, high = wide.min_int, wide.max_int
    w = np.full((2, 4096), low if sign > 0 else high, dtype=np.int64)
    params = RawParameters(w, np.full(2, sign * high, dtype=np.int64), 0)
    acc = arithmetic.accumulate(stage, params, np.full((1, 4096), low, dtype=np.int64))
    assert acc.tolist() == [[4096 * int(w[0, 0]) * low + sign * high] * 2]
    assert abs(int(acc[0, 0])) < 1 << (stage.accumulator_bits - 1)
    assert stage.accumulator_bits <= 54

    back = Network(2, [Dense(4096)], formats=formats, input_gradient=True)
    stage = stage_numbers(back)[0]
    delta = np.full((1, 4096), low, dtype=np.int64)
    total = arithmetic.matmul(delta, w.T.copy(), 18, 18)
    assert total.tolist() == [[4096 * int(w[0, 0]) * low] * 2]
    assert abs(int(total[0, 0])) < 1 << (stage.sensitivity_sum_bits - 1)


@pytest.mark.parametrize("max_batch", [1, 31, 32, 255, 65535])
@pytest.mark.parametrize("sign", [-1, 1])
def test_gradient_accumulator_holds_the_worst_case_of_max_batch(max_batch, sign):
    net = Network(
        1, [Dense(1, formats=Formats(Q(4, 14), Q(4, 14), Q(2, 16)))], formats=Formats(Q(4, 14)), max_batch=max_batch
    )
    stage = stage_numbers(net)[0]
    form = stage.sensitivity
    delta = np.full((max_batch, 1), form.min_int if sign > 0 else form.max_int, dtype=np.int64)
    x = np.full((max_batch, 1), stage.input.min_int, dtype=np.int64)
    g = arithmetic.gradient(stage, delta, x)
    assert g.weight.tolist() == [[max_batch * int(delta[0, 0]) * stage.input.min_int]]
    assert g.bias.tolist() == [max_batch * int(delta[0, 0]) * 2**14]
    assert -(1 << (stage.gradient_bits - 1)) <= g.weight[0, 0] < 1 << (stage.gradient_bits - 1)


def test_default_words_need_the_widths_that_the_page_names():
    def bits(max_batch: int) -> int:
        return stage_numbers(Network(1, [Dense(1)], max_batch=max_batch))[0].gradient_bits

    assert bits(31) == 36
    assert bits(32) == 37
    assert bits(255) == 39


# -- section 2 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("activation", ["identity", "relu", "leaky_relu"])
def test_forward_equals_exact_rationals(activation, seed):
    rng = random.Random(seed)
    compared = 0
    for _ in range(10):
        stage = one_stage(rng, activation)
        w, b = random_words(rng, stage.weight, 4, 5), random_words(rng, stage.weight, 4)
        x = random_words(rng, stage.input, 3, 5)
        got = arithmetic.forward(stage, RawParameters(w, b, stage.weight.fraction_bits), x)
        for s in range(3):
            for i in range(4):
                a = sum(Fraction(int(w[i, j]), 2**stage.weight.fraction_bits) * int(x[s, j]) for j in range(5))
                a = a / 2**stage.input.fraction_bits + Fraction(int(b[i]), 2**stage.weight.fraction_bits)
                if a < 0:
                    a *= {"identity": 1, "relu": 0, "leaky_relu": Fraction(1, 2**stage.leak_bits)}[activation]
                assert got.words[s, i] == rational_word(a, stage.output)
                exact = round(a * 2**stage.output.fraction_bits)
                assert got.saturated[s, i] == (not stage.output.min_int <= exact <= stage.output.max_int)
                compared += 1
    assert compared == 120


# -- section 3 --------------------------------------------------------------------------------------------------------

PHI: dict[str, Callable] = {"tanh": np.tanh, "sigmoid": lambda z: 1 / (1 + np.exp(-z))}


@pytest.mark.parametrize("f", range(1, 18))
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_table_keeps_its_promises_over_all_inputs(activation, f):
    R = 1 << phi_table(activation, f).range_bits
    z = np.arange(-(R << f) - 5, (R << f) + 6, dtype=np.int64)
    x = arithmetic.look_up(z, f, activation, f)
    one = 1 << f
    assert (np.diff(x) >= 0).all()
    assert x.max() == one - 1
    assert x.max() <= Q(1, f).max_int
    if activation == "tanh":
        assert x.min() == -(one - 1)
        np.testing.assert_array_equal(x, -x[::-1])
    else:
        assert x.min() == 1
        np.testing.assert_array_equal(x, one - x[::-1])
    # The exact pre-activation lies anywhere within half an lsb of z, and phi is monotone: the ends are the worst.
    phi = PHI[activation]
    for end in (-0.5, 0.5):
        error = np.abs(x - phi((z + end) / one) * one)
        assert error.max() < arithmetic.table_error(activation, f)
    assert one - x[-1] < 2  # and so it is for every larger one
    assert len(z) == 2 * (R << f) + 11


@pytest.mark.parametrize("f", [1, 5, 8, 12, 17])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
@pytest.mark.parametrize("more", [-1, 1, 2, 7, 20, 45])
def test_table_rounds_the_pre_activation_half_to_even(activation, f, more):
    rng = random.Random(f * 100 + more)
    K = max(f + more, 0)
    values = [rng.randint(-(1 << 46), 1 << 46) >> rng.randint(0, 46) for _ in range(300)]
    if f < K:
        values += [(2 * rng.randint(-(2 << f), 2 << f) + 1) << (K - f - 1) for _ in range(300)]
    acc = np.array(values, dtype=np.int64)
    z = [round(Fraction(int(v), 2**K) * 2**f) for v in acc]
    top = 32 << f  # beyond every table
    clipped = np.array([min(max(i, -top), top) for i in z], dtype=np.int64)
    np.testing.assert_array_equal(
        arithmetic.look_up(acc, K, activation, f), arithmetic.look_up(clipped, f, activation, f)
    )
    assert len(acc) >= 300


@pytest.mark.parametrize("f", [1, 7, 11, 14, 17])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_table_interpolates_as_the_page_says(activation, f):
    # The section's formulas once more, with rationals and with nothing from host/.
    phi = {"tanh": math.tanh, "sigmoid": lambda a: 1 / (1 + math.exp(-a))}[activation]
    R = 1
    while (1 - phi(R)) * 2**f > 0.5:
        R *= 2
    t = min(f, 10 - (R.bit_length() - 1))
    g = f - t

    def value(i: int) -> int:
        return min(round(phi(i * 2.0**-t) * 2**f), 2**f - 1)

    rng = random.Random(f)
    z = np.array([rng.randint(-R * 2**f - 9, R * 2**f + 9) for _ in range(2000)] + [0, 1, -1], dtype=np.int64)
    expected = []
    for v in z.tolist():
        m = min(abs(v), R * 2**f - 1)
        i, r = divmod(m, 2**g)
        y = value(i) + round(Fraction((value(i + 1) - value(i)) * r, 2**g))
        expected.append(y if v >= 0 else -y if activation == "tanh" else 2**f - y)
    assert arithmetic.look_up(z, f, activation, f).tolist() == expected


# -- section 4 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_delta_equals_exact_rationals_on_any_words(activation, seed):
    rng = random.Random(seed)
    compared = 0
    for _ in range(10):
        stage = one_stage(rng, activation)
        S, f = stage.sensitivity, stage.output.fraction_bits
        p = min(2 * f, max(14, S.width - 2))
        x, lam = random_words(rng, stage.output, 6, 4), random_words(rng, S, 6, 4)
        got = arithmetic.delta(stage, lam, x)
        for index in np.ndindex(6, 4):
            v, s = Fraction(int(x[index]), 2**f), Fraction(int(lam[index]), 2**S.fraction_bits)
            if activation == "relu":
                s = s if v > 0 else Fraction(0)
            elif activation == "leaky_relu":
                s = s if v > 0 else s / 2**stage.leak_bits
            elif activation in ("tanh", "sigmoid"):
                slope = Fraction(rational_word(1 - v * v if activation == "tanh" else v - v * v, Q(2, p)), 2**p)
                s = s * slope
            assert got[index] == rational_word(s, S)
            compared += 1
    assert compared == 240


@pytest.mark.parametrize("f", range(1, 18))
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
@pytest.mark.parametrize("width", [4, 16, 18])
def test_delta_is_never_larger_than_the_sensitivity(activation, f, width):
    formats = Formats(Q(1, f), Q(4, 12), Q(1, width - 1))
    stage = stage_numbers(Network(1, [Dense(1, activation, formats=formats)]))[0]
    x = np.arange(1 if activation == "sigmoid" else 1 - 2**f, 2**f, dtype=np.int64)
    s = arithmetic.slope(stage, x)
    assert s.min() >= 0
    assert s.max() <= 1 << stage.slope.fraction_bits
    for lam in (formats.sensitivity.min_int, formats.sensitivity.max_int, -1, 1):
        delta = arithmetic.delta(stage, np.full_like(x, lam), x)
        assert (np.abs(delta) <= abs(lam)).all()
        assert (delta * lam >= 0).all()
    assert len(x) >= 1


# -- section 5 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_sensitivity_and_gradient_equal_apytypes(seed):
    rng = random.Random(seed)
    for _ in range(5):
        stage = one_stage(rng, "identity")
        w = random_words(rng, stage.weight, 4, 5)
        delta, x = random_words(rng, stage.sensitivity, 6, 4), random_words(rng, stage.input, 6, 5)
        params = RawParameters(w, np.zeros(4, dtype=np.int64), stage.weight.fraction_bits)
        got = arithmetic.backward(stage, params, delta)
        product = apy(delta, stage.sensitivity.fraction_bits, 40) @ apy(w, stage.weight.fraction_bits, 40)
        np.testing.assert_array_equal(got.words, apy_cast(product, stage.input_sensitivity))

        g = arithmetic.gradient(stage, delta, x)
        assert g.fraction_bits == stage.sensitivity.fraction_bits + stage.input.fraction_bits
        for i in range(4):
            assert g.bias[i] == sum(int(v) for v in delta[:, i]) << stage.input.fraction_bits
            for j in range(5):
                assert g.weight[i, j] == sum(int(delta[s, i]) * int(x[s, j]) for s in range(6))
        assert got.words.shape == (6, 5)


# -- section 6 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cost", COSTS)
def test_seed_equals_exact_rationals(cost, seed):
    rng = random.Random(seed)
    activation = {"squared_error": "tanh", "sigmoid_cross_entropy": "sigmoid", "softmax_cross_entropy": "identity"}[
        cost
    ]
    compared = saturated = 0
    for _ in range(20):
        stage = one_stage(rng, activation, cost=cost)
        target_form = Q(2, 14) if cost == "softmax_cross_entropy" else stage.output
        x, y = random_words(rng, stage.output, 5, 4), random_words(rng, target_form, 5, 4)
        got = arithmetic.seed(stage, cost, x, y)
        left = arithmetic.softmax(x, stage.output.fraction_bits) if cost == "softmax_cross_entropy" else x
        for index in np.ndindex(5, 4):
            exact = Fraction(int(left[index]) - int(y[index]), 2**target_form.fraction_bits)
            assert got.words[index] == rational_word(exact, stage.sensitivity)
            word = round(exact * 2**stage.sensitivity.fraction_bits)
            assert got.saturated[index] == (not stage.sensitivity.min_int <= word <= stage.sensitivity.max_int)
            compared += 1
        saturated += int(got.saturated.sum())
    assert compared == 400
    assert saturated > 0


@pytest.mark.parametrize("f", range(18))
def test_softmax_follows_the_page(f):
    # The section's formulas once more, with rationals and with nothing from host/.
    t = min(f, 6)
    g = f - t

    def value(i: int) -> int:
        return round(math.exp(-i * 2.0**-t) * 2**16)

    rng = random.Random(f)
    for n in (1, 2, 3, 10):
        top = min(2**17 - 1, 20 * 2**f)
        x = np.array(
            [[rng.randint(-top, top) >> rng.randint(0, 6) for _ in range(n)] for _ in range(20)], dtype=np.int64
        )
        for row, got in zip(x.tolist(), arithmetic.softmax(x, f).tolist(), strict=True):
            e = []
            for v in row:
                i, r = divmod(min(max(row) - v, 16 * 2**f - 1), 2**g)
                e.append(value(i) - round(Fraction((value(i) - value(i + 1)) * r, 2**g)))
            assert 65536 <= sum(e) <= n * 65536
            assert got == [round(Fraction(v * 2**14, sum(e))) for v in e]


def test_softmax_takes_ties_to_the_even_probability():
    # Ties are rare. Three logits, the exponentials of the last two adding up to that of the first: s = 2^17, p = e / 8.
    f, g = 12, 6
    entries = [round(math.exp(-i / 64) * 2**16) for i in range(1025)]
    distance = {}
    for d in range(16 << f):
        i, r = divmod(d, 1 << g)
        distance[entries[i] - round(Fraction((entries[i] - entries[i + 1]) * r, 1 << g))] = d
    pairs = [(e, 65536 - e) for e in distance if e % 8 == 4 and 65536 - e in distance]
    x = np.array([[0, -distance[a], -distance[b]] for a, b in pairs], dtype=np.int64)
    expected = [[8192, round(Fraction(a, 8)), round(Fraction(b, 8))] for a, b in pairs]
    assert arithmetic.softmax(x, f).tolist() == expected
    assert len(pairs) > 100
    assert {(a // 8) % 2 for a, _ in pairs} == {0, 1}  # half of them go down, half of them up


@pytest.mark.parametrize("n", [1, 2, 3, 10, 100, 1000])
@pytest.mark.parametrize("f", [0, 3, 6, 7, 10, 12, 14, 17])
def test_softmax_is_as_close_to_the_real_one_as_promised(f, n):
    rng = np.random.default_rng(100 * f + n)
    high = 2**17 - 1
    compared = 0
    for spread in (0.01, 0.3, 1.0, 4.0, 17.0):
        x = np.clip(np.rint(rng.normal(0, spread, (50, n)) * 2**f), -high, high).astype(np.int64)
        if spread == 1.0:
            x[:] = x[:, :1]  # all equal
        p = arithmetic.softmax(x, f)
        real = np.exp((x - x.max(axis=1, keepdims=True)) * 2.0**-f)
        real /= real.sum(axis=1, keepdims=True)
        assert np.abs(p - real * 2**14).max() <= 2 + n / 4
        assert p.min() >= 0
        assert p.max() <= 16384
        compared += p.size
    assert compared == 250 * n


def test_softmax_of_two_logits_over_all_differences():
    f = 10
    d = np.arange(0, 20 << f, dtype=np.int64)
    p = arithmetic.softmax(np.stack([np.zeros_like(d), -d], axis=1), f)
    assert (np.diff(p[:, 0]) >= 0).all()
    assert (np.diff(p[:, 1]) <= 0).all()
    assert p[0].tolist() == [8192, 8192]
    assert len(d) == 20480


# -- what only mutants of this model would do -------------------------------------------------------------------------


def test_a_huge_pre_activation_with_few_fraction_bits_reaches_the_end_of_the_table() -> None:
    # Shifted left by 17 without a limit, 2**47 would leave 64 bits.
    acc = np.array([1 << 47, -(1 << 47), 1 << 46, 0], dtype=np.int64)
    got = arithmetic.look_up(acc, 0, "tanh", 17)
    top = (1 << 17) - 1
    assert got.tolist() == [top, -top, top, 0]


def test_sums_beyond_53_bits_are_exact() -> None:
    terms = (1 << 19) + 2
    a = np.full((1, terms), -(1 << 17), dtype=np.int64)
    b = np.full((terms, 1), -(1 << 17), dtype=np.int64)
    a[0, 0] = b[0, 0] = 1
    expected = (terms - 1) * (1 << 34) + 1
    assert expected > 1 << 53
    assert int(arithmetic.matmul(a, b, 18, 18)[0, 0]) == expected
