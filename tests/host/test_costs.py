"""Targets as users give them, and costs against sums written out."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from dyadprop.costs import real_cost, real_targets, squared_error_words
from dyadprop.errors import RangeError, ShapeError
from dyadprop.network import Dense, Network

LAST = {"squared_error": "tanh", "sigmoid_cross_entropy": "sigmoid", "softmax_cross_entropy": "identity"}


def network(cost: str, outputs: int) -> Network:
    return Network(2, [Dense(outputs, LAST[cost])], cost)


@pytest.mark.parametrize("cost", ["sigmoid_cross_entropy", "softmax_cross_entropy"])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int32])
def test_labels_become_one_hot_rows(cost, dtype):
    got = real_targets(network(cost, 4), np.array([3, 0, 1], dtype=dtype), 3)
    assert got.tolist() == [[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]
    assert got.dtype == np.float64


@pytest.mark.parametrize("labels", [[0, 1, 1], [False, True, True]])
def test_labels_of_a_single_sigmoid_are_its_targets(labels):
    assert real_targets(network("sigmoid_cross_entropy", 1), labels, 3).tolist() == [[0.0], [1.0], [1.0]]


def test_two_dimensional_integers_are_targets_and_not_labels():
    assert real_targets(network("softmax_cross_entropy", 2), [[0, 1]], 1).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("cost", "outputs", "targets", "error", "sentence"),
    [
        ("softmax_cross_entropy", 3, [0, 3], RangeError, r"^label of sample 1 is 3; allowed are 0 to 2$"),
        ("softmax_cross_entropy", 3, [-1, 0], RangeError, r"^label of sample 0 is -1; allowed are 0 to 2$"),
        ("sigmoid_cross_entropy", 1, [0, 2], RangeError, r"^label of sample 1 is 2; allowed are 0 to 1$"),
        ("softmax_cross_entropy", 3, [0, 1, 2], ShapeError, r"^labels have shape \(3,\); network expects \(2,\)$"),
        (
            "softmax_cross_entropy",
            3,
            [0.0, 1.0],
            ShapeError,
            r"^targets y has shape \(2,\); network expects \(batch, 3\)$",
        ),
        ("squared_error", 3, [0, 1], ShapeError, r"^targets y has shape \(2,\); network expects \(batch, 3\)$"),
        (
            "squared_error",
            3,
            [[0.0], [1.0]],
            ShapeError,
            r"^targets y has shape \(2, 1\); network expects \(batch, 3\)$",
        ),
        ("squared_error", 1, [[0.0]], ShapeError, r"^targets y have 1 samples; inputs x have 2$"),
        (
            "squared_error",
            1,
            [[0.0], [np.nan]],
            RangeError,
            r"^targets y is nan at index \(1, 0\); every entry must be finite$",
        ),
        ("squared_error", 1, [["a"], ["b"]], RangeError, r"^targets y holds <U1; expected real numbers$"),
    ],
)
def test_targets_that_do_not_fit_are_refused(cost, outputs, targets, error, sentence):
    with pytest.raises(error, match=sentence):
        real_targets(network(cost, outputs), targets, 2)


def test_targets_are_copied():
    y = np.zeros((1, 3))
    real_targets(network("squared_error", 3), y, 1)[0, 0] = 5.0
    assert y[0, 0] == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_squared_error_of_words_is_exact(seed):
    rng = random.Random(seed)
    x = [[rng.choice((-(2**17), 2**17 - 1, rng.randint(-9, 9))) for _ in range(7)] for _ in range(40)]
    y = [[rng.choice((-(2**17), 2**17 - 1, rng.randint(-9, 9))) for _ in range(7)] for _ in range(40)]
    expected = sum((a - b) ** 2 for r, s in zip(x, y, strict=True) for a, b in zip(r, s, strict=True))
    got = squared_error_words(np.array(x), np.array(y))
    assert type(got) is int
    assert got == expected
    assert expected > 2**36


@pytest.mark.parametrize("seed", range(6))
def test_costs_equal_their_definitions(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0.01, 0.99, (5, 4)), rng.uniform(0, 1, (5, 4))
    pairs = [(float(a), float(b)) for a, b in zip(x.ravel(), y.ravel(), strict=True)]
    assert real_cost(network("squared_error", 4), x, y) == pytest.approx(
        sum((a - b) ** 2 for a, b in pairs) / 2, rel=1e-14
    )
    expected = -sum(b * math.log(a) + (1 - b) * math.log(1 - a) for a, b in pairs)
    assert real_cost(network("sigmoid_cross_entropy", 4), x, y) == pytest.approx(expected, rel=1e-13)
    expected = 0.0
    for row, target in zip(x.tolist(), y.tolist(), strict=True):
        total = sum(math.exp(v) for v in row)
        expected -= sum(t * math.log(math.exp(v) / total) for v, t in zip(row, target, strict=True))
    assert real_cost(network("softmax_cross_entropy", 4), x, y) == pytest.approx(expected, rel=1e-13)


def test_costs_at_the_ends():
    zero_one = np.array([[0.0, 1.0]])
    assert real_cost(network("sigmoid_cross_entropy", 2), zero_one, zero_one) == 0.0
    assert real_cost(network("sigmoid_cross_entropy", 2), zero_one, 1 - zero_one) == math.inf
    assert (
        real_cost(network("softmax_cross_entropy", 2), np.array([[1000.0, -1000.0]]), np.array([[0.0, 1.0]])) == 2000.0
    )
