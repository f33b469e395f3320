"""The experiment on rounding: its lossless words are the golden model's, its real numbers the reference's."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.cli import main
from dyadprop.data import Dataset, digits, mnist
from dyadprop.rates import Rate
from dyadprop.widths import stage_numbers, target_format
from dyadprop_sim import golden, reference
from dyadprop_sim.commands import bench_learning
from dyadprop_sim.learning import RealLearner, Recipe, WordLearner, learn

Q = dp.Q
MIXED = dp.Network(
    9,
    [
        dp.Dense(8, "tanh", formats=dp.Formats(Q(1, 5), Q(2, 4), Q(1, 6))),
        dp.Dense(5, "tanh", formats=dp.Formats(Q(2, 9), Q(2, 3), Q(0, 8))),
        dp.Dense(3, formats=dp.Formats(Q(3, 5), Q(1, 5), Q(2, 4))),
    ],
    formats=dp.Formats(Q(2, 3), Q(2, 3), Q(1, 4)),
)


def samples(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.5, 1.5, (count, 9))
    return np.where(rng.random(x.shape) < 0.6, 0.0, x), rng.uniform(-2, 2, (count, 3))


@pytest.mark.parametrize(("batch_size", "rate"), [(1, Rate(4, 256)), (1, Rate(-1, 177)), (8, Rate(5, 130))])
def test_lossless_learning_is_the_golden_model_s(batch_size, rate):
    x, y = samples(600)
    model = golden.Model(MIXED, MIXED.quantize(MIXED.init(2)).raw)
    words, targets = MIXED.formats.activation.to_ints(x).words, target_format(MIXED).to_ints(y).words
    learner = WordLearner(MIXED, MIXED.init(2), Recipe(rate, batch_size))
    inputs, wanted = learner.inputs(x), learner.targets(y)
    for i in range(0, len(x), batch_size):
        learner.step(inputs[i : i + batch_size], wanted[i : i + batch_size])
    trained = model.train(words, targets, batch_size=batch_size, exponent=rate.exponent, scale=rate.scale)
    compared = 0
    for s, mine, sums, entry, residual in zip(
        stage_numbers(MIXED), learner.params, learner.sums, model.params, model.residuals, strict=True
    ):
        expected = entry.decode()
        np.testing.assert_array_equal(mine.weight, expected.weight)
        np.testing.assert_array_equal(mine.bias, expected.bias)
        np.testing.assert_array_equal(sums[:-1].T, residual.weight)
        np.testing.assert_array_equal(sums[-1], residual.bias)
        compared += s.outputs * s.columns
    assert compared == 8 * 10 + 5 * 9 + 3 * 6
    assert rate.exponent > 0 or trained.saturations[3, "weight"] > 0
    outputs = model.predict(words).outputs
    np.testing.assert_array_equal(learner.predict(inputs), outputs)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_real_learning_is_the_reference_s(batch_size):
    x, y = samples(200)
    learner = RealLearner(MIXED, MIXED.init(2), Recipe(Rate(5, 200), batch_size))
    inputs = learner.inputs(x)
    for i in range(0, len(x), batch_size):
        learner.step(inputs[i : i + batch_size], y[i : i + batch_size])
    params, _ = reference.train(MIXED, MIXED.init(2), x, y, batch_size=batch_size, learning_rate=200 / 256 / 32)
    for mine, expected in zip(learner.params, params, strict=True):
        np.testing.assert_allclose(mine.weight, expected.weight, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(mine.bias, expected.bias, rtol=1e-9, atol=1e-12)


ONE = dp.Network(1, [dp.Dense(1)], formats=dp.Formats(Q(2, 6), Q(4, 4), Q(2, 6)))


def steps_of(rounding: str, count: int, seed: int = 0, target: float = -1 / 64) -> list[float]:
    """Let one weight see the same small gradient many times: a fifth of a step of it each."""
    learner = WordLearner(ONE, [dp.Parameters(np.zeros((1, 1)), np.zeros(1))], Recipe(Rate(2, 256)), rounding, seed)
    found = []
    for _ in range(count):
        # s = 10: a gradient of 205 is a fifth of a step of 1024.
        learner.update(0, slice(None), np.array([[205.0], [0.0]]))
        found.append(learner.params[0].weight[0, 0] * 16)
    return found


def test_what_each_rounding_makes_of_a_fifth_of_a_step():
    assert steps_of("lossless", 10) == [0, 0, -1, -1, -1, -1, -1, -2, -2, -2]
    assert steps_of("nearest", 10) == [0] * 10
    ends = [steps_of("stochastic", 100, seed)[-1] for seed in range(40)]
    assert -22.5 < np.mean(ends) < -17.5
    assert np.std(ends) > 2


@pytest.mark.parametrize("bits", [2, 3])
def test_momentum_loses_nothing(bits):
    """W * 2^(s - j) - G + the sum of all gradients never changes, and W is never far from real heavy ball."""
    recipe = Recipe(Rate(3, 256), momentum_bits=bits)
    start = [dp.Parameters(np.zeros((1, 1)), np.zeros(1))]
    words, real = WordLearner(ONE, start, recipe), RealLearner(ONE, start, recipe)
    rng = np.random.default_rng(bits)
    total, moved = 0.0, set()
    for _ in range(400):
        g = float(rng.integers(-900, 900))
        total += g
        words.update(0, slice(None), np.array([[g], [0.0]]))
        real.update(0, slice(None), np.array([[g * 2.0**-12], [0.0]]))
        w = words.weights[0][0, 0]
        assert w * 2.0 ** (11 - bits) - words.sums[0][0, 0] + total == 0.0
        assert abs(w / 16 - real.weights[0][0, 0]) < 2.0**bits / 16
        moved.add(w)
    assert len(moved) > 5


def test_decay_is_real_decay_in_words():
    recipe = Recipe(Rate(3, 256), decay_bits=4)
    start = [dp.Parameters(np.full((1, 1), 7.0), np.zeros(1))]
    words, real = WordLearner(ONE, start, recipe), RealLearner(ONE, start, recipe)
    for _ in range(40):
        for learner in (words, real):
            learner.update(0, slice(None), np.zeros((2, 1)))
    assert real.weights[0][0, 0] == pytest.approx(7 * (15 / 16) ** 40)
    assert abs(words.params[0].weight[0, 0] - real.weights[0][0, 0]) < 1 / 16


def test_refusals():
    other = dp.Network(2, [dp.Dense(2, "relu")])
    with pytest.raises(
        dp.RangeError, match="cannot be learnt here; allowed are tanh and identity before a squared error"
    ):
        RealLearner(other, other.init(0), Recipe(Rate(3, 256)))
    with pytest.raises(dp.RangeError, match=r"^rounding is 'up'; allowed are lossless, nearest, stochastic$"):
        WordLearner(ONE, ONE.init(0), Recipe(Rate(3, 256)), "up")
    with pytest.raises(dp.RangeError, match="too small for stage 1"):
        WordLearner(ONE, ONE.init(0), Recipe(Rate(40, 256)))


def test_a_run_can_stop_after_some_steps():
    x, y = samples(50)
    data = Dataset("some", x, y, x, y)
    counts = []

    class Counting(RealLearner):
        taken = 0

        def step(self, x, y):
            self.taken += 1
            counts.append(len(x))

    learner = Counting(MIXED, MIXED.init(0), Recipe(Rate(3, 256), 8))
    learn(learner, data, 100, 0, steps=16)
    assert counts == [8] * 6 + [2] + [8] * 6 + [2] + [8] * 2
    seen: list[int] = []
    learn(learner, data, 2, 0, watch=lambda one: seen.append(len(counts)))
    assert seen == [16, 23, 30]


def test_mnist_is_split_once_and_completely():
    data = mnist()
    assert (data.train_x.shape, data.test_x.shape) == ((4000, 784), (1000, 784))
    assert (data.train_y.sum(axis=0) + data.test_y.sum(axis=0)).tolist() == [500.0] * 10
    assert data.train_x.min() == 0.0
    assert data.train_x.max() == 255 / 256
    assert not np.any(data.train_x * 256 % 1)


def test_the_suite_says_what_misses_its_goal(monkeypatch, capsys, tmp_path):
    """A short run of the whole suite, on little data."""
    full = digits()
    few = replace(full, train_x=full.train_x[:80], train_y=full.train_y[:80])
    monkeypatch.setattr(bench_learning, "digits", lambda: few)
    monkeypatch.setattr(bench_learning, "mnist", lambda: replace(few, name="mnist"))
    monkeypatch.setattr(bench_learning, "DRIFT_STEPS", 100)
    monkeypatch.setattr(bench_learning, "GOALS", {8: -1.0, 6: 1.0})
    picture, figures = tmp_path / "p.png", tmp_path / "f.json"
    argv = ["bench", "learning", "--runs", "2", "--picture", str(picture), "--json", str(figures), "--seed", "3"]
    assert main(argv) == 1
    document = json.loads(figures.read_text())
    assert [case["data"] for case in document["cases"]] == ["digits", "digits", "mnist", "mnist"]
    assert len(document["failures"]) == 4
    assert document["failures"][0].startswith("digits, 64-32-10, batch 1: lossless at 8 bits is ")
    assert document["failures"][0].endswith(" below float64; allowed is -1.0")
    for case in document["cases"]:
        assert [row["bits"] for row in case["rows"]] == [16, 12, 8, 6]
        for row in case["rows"]:
            assert list(row["accuracies"]) == ["float64", "lossless", "nearest", "stochastic"]
            assert all(len(runs) == 2 for runs in row["accuracies"].values())
    # Words of 18 bits elsewhere: what is left is the rounding of the weights, half an lsb at most from the step.
    assert len(document["drift"]) == 8
    for entry in document["drift"]:
        assert all(stage["of_the_step"] <= 0.5 for stage in entry["stages"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count("failed: ") == 4
