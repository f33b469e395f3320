from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.data import digits, permutation
from dyadprop.plots import learning_curves
from dyadprop.training import EpochFigures, Learner, Momentum
from tests import wrong_devices

NET = dp.Network(3, [dp.Dense(4, "tanh"), dp.Dense(2)])
PARAMETERS = 4 * (3 + 1) + 2 * (4 + 1)
COUNTS = 3 * 2 + 2 + 1


def data(samples: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    return rng.uniform(-1, 1, (samples, 3)), np.eye(2)[rng.integers(0, 2, samples)]


def test_momentum_by_hand() -> None:
    """Two steps of v <- m v - r/n G, p <- p + v in numbers that float64 holds exactly."""
    optimizer = Momentum(0.5, 0.25)
    start = [dp.Parameters(np.array([[1.0, 2.0]]), np.array([4.0]))]
    gradient = [dp.Parameters(np.array([[8.0, -16.0]]), np.array([32.0]))]
    once = optimizer.step(start, gradient, samples=4)  # v = (-1, 2), -4
    twice = optimizer.step(once, gradient, samples=2)  # v = (-0.25, 0.5), -1  +  (-2, 4), -8
    np.testing.assert_array_equal(once[0].weight, [[0.0, 4.0]])
    np.testing.assert_array_equal(once[0].bias, [0.0])
    np.testing.assert_array_equal(twice[0].weight, [[-2.25, 8.5]])
    np.testing.assert_array_equal(twice[0].bias, [-9.0])
    np.testing.assert_array_equal(start[0].weight, [[1.0, 2.0]])


def test_without_momentum_it_is_plain_descent() -> None:
    optimizer = Momentum(0.5, 0.0)
    params = [dp.Parameters(np.array([[1.0]]), np.array([0.0]))]
    gradient = [dp.Parameters(np.array([[2.0]]), np.array([2.0]))]
    for value in (0.0, -1.0, -2.0):
        params = optimizer.step(params, gradient, samples=1)
        assert params[0].weight[0, 0] == value


@pytest.mark.parametrize(
    ("rate", "momentum", "message"),
    [
        (0.0, 0.9, "learning rate is 0.0; it must be above 0"),
        (float("nan"), 0.9, "learning rate is nan"),
        (float("inf"), 0.9, "learning rate is inf"),
        (0.1, 1.0, "momentum is 1.0; allowed is 0 up to, but not, 1"),
        (0.1, -0.1, "momentum is -0.1"),
        (0.1, float("nan"), "momentum is nan"),
    ],
)
def test_momentum_refuses(rate: float, momentum: float, message: str) -> None:
    with pytest.raises(dp.RangeError, match=message):
        Momentum(rate, momentum)


def test_permutation_is_the_same_everywhere() -> None:
    assert permutation(8, 0).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]
    assert sorted(permutation(1000, 1, 2)) == list(range(1000))
    assert permutation(50, 1, 2).tolist() != permutation(50, 1, 3).tolist()


def test_digits_are_split_once_and_completely() -> None:
    from sklearn.datasets import load_digits

    split = digits()
    pixels, labels = load_digits(return_X_y=True)
    assert (split.train_x.shape, split.test_x.shape) == ((1437, 64), (360, 64))
    assert (split.train_y.shape, split.test_y.shape) == ((1437, 10), (360, 10))
    # Every sample with its label, once.
    ours = np.column_stack(
        [np.vstack([split.train_x, split.test_x]) * 16, np.vstack([split.train_y, split.test_y]).argmax(axis=1)]
    )
    theirs = np.column_stack([pixels, labels])
    assert sorted(map(tuple, ours)) == sorted(map(tuple, theirs))
    # Words of the default format hold them without rounding.
    assert np.array_equal(dp.Q(4, 12).to_floats(dp.Q(4, 12).to_ints(split.train_x).words), split.train_x)


@pytest.mark.parametrize("seed", [0, 7])
def test_an_epoch_takes_each_sample_once_in_an_order_of_its_own(seed: int) -> None:
    x, y = data(23)
    orders = []
    with dp.open("float", NET) as device:
        learner = Learner(device, NET.init(seed=1), Momentum(0.01))
        for _ in range(2):
            steps = list(learner.epoch(x, y, 5, seed))
            assert [step.batch for step in steps] == [0, 1, 2, 3, 4]
            assert [len(step.samples) for step in steps] == [5, 5, 5, 5, 3]
            orders.append([int(i) for step in steps for i in step.samples])
            assert sorted(orders[-1]) == list(range(23))
        again = Learner(device, NET.init(seed=1), Momentum(0.01))
        repeated = [int(i) for step in again.epoch(x, y, 5, seed) for i in step.samples]
    assert orders[0] != orders[1]
    assert repeated == orders[0]


def test_figures_of_an_epoch() -> None:
    """The parameters hardly move at this rate, so the figures are those of the whole set at the start."""
    x, y = data(40)
    with dp.open("golden", NET) as device:
        params = NET.init(seed=1)
        learner = Learner(device, params, Momentum(1e-12, 0.0))
        for _ in learner.epoch(x, y, 16, seed=0):
            assert np.isnan(learner.history[-1].test_accuracy)
        accuracy, comparison = learner.test(x, y)
        device.load(params)
        whole = device.gradients(x, y)
    figures = learner.history[0]
    assert whole.cost is not None
    right = np.count_nonzero(whole.outputs.argmax(axis=1) == y.argmax(axis=1)) / 40
    assert comparison.words == 0
    assert 0 < right < 1
    assert (figures.epoch, figures.samples, figures.cycles, figures.saturations) == (1, 40, 0, 0)
    assert figures.cost == pytest.approx(whole.cost / 40, abs=1e-6)
    assert figures.train_accuracy == figures.test_accuracy == accuracy == right
    assert figures.gradients_per_second == pytest.approx(40 / figures.seconds)
    assert learner.device_seconds > figures.seconds


def test_the_gradient_that_is_used_is_the_mean_over_the_batch() -> None:
    x, y = data(6)
    start = NET.init(seed=1)
    with dp.open("float", NET) as device:
        learner = Learner(device, start, Momentum(0.5, 0.0))
        (step,) = learner.epoch(x, y, 6, seed=0)
        device.load(start)
        sums = device.gradients(x, y).gradients
    for before, after, total in zip(start, learner.params, sums, strict=True):
        np.testing.assert_allclose(after.weight, before.weight - 0.5 * total.weight / 6, rtol=0, atol=1e-12)
        np.testing.assert_allclose(after.bias, before.bias - 0.5 * total.bias / 6, rtol=0, atol=1e-12)
    assert step.result.stats.samples == 6


def test_it_learns() -> None:
    """An exclusive or of two signs, which no single layer can tell."""
    net = dp.Network(3, [dp.Dense(8, "tanh"), dp.Dense(2)])
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (200, 3))
    y = np.eye(2)[(x[:, 0] * x[:, 1] > 0).astype(int)]
    with dp.open("golden", net) as device:
        learner = Learner(device, net.init(seed=2), Momentum(0.05))
        for _ in range(40):
            for _ in learner.epoch(x, y, 20, seed=0):
                pass
        accuracy, _ = learner.test(x, y)
    assert learner.history[0].train_accuracy < 0.7
    assert accuracy > 0.9


def test_saturated_weights_and_values_are_counted() -> None:
    x, y = data(10)
    big = [dp.Parameters(np.full(entry.weight.shape, 9.0), entry.bias) for entry in NET.init(seed=0)]
    with dp.open("golden", NET) as device:
        learner = Learner(device, big, Momentum(1e-9))
        (step,) = learner.epoch(x, y, 10, seed=0)
    inside = sum(entry.count for entry in step.result.stats.saturations)
    assert inside > 0
    assert learner.history[0].saturations == 4 * 3 + 2 * 4 + inside


def test_divergence_is_a_sentence() -> None:
    x, y = data(20)
    with dp.open("float", NET) as device:
        learner = Learner(device, NET.init(seed=0), Momentum(1e9))
        message = r"training diverged on device 'float' in epoch 1, batch 0: a parameter of stage 1 has size .*smaller"
        with pytest.raises(dp.RangeError, match=message):
            list(learner.epoch(x, y, 20, seed=0))


def test_a_right_device_agrees_in_every_word(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_devices.install(monkeypatch)
    x, y = data(10)
    with dp.open("twin", NET) as device, dp.open("golden", NET) as golden:
        learner = Learner(device, NET.init(seed=0), Momentum(0.1), golden)
        words = [step.comparison.words for step in learner.epoch(x, y, 4, seed=0)]
        _, comparison = learner.test(x, y)
    # counts of loading; outputs, cost, gradients, counts
    assert words == [COUNTS + n * 2 + 1 + PARAMETERS + COUNTS for n in (4, 4, 2)]
    assert comparison.words == 10 * 2 + COUNTS
    assert comparison.first is None


def test_a_wrong_word_stops_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_devices.install(monkeypatch)
    x, y = data(10)
    start = NET.init(seed=0)
    with dp.open("crooked?stage=2&sample=1", NET) as device, dp.open("golden", NET) as golden:
        learner = Learner(device, start, Momentum(0.1), golden)
        step = next(learner.epoch(x, y, 4, seed=0))
    assert step.comparison.different == 1
    assert step.comparison.first is not None
    assert (step.comparison.first.stage, step.comparison.first.signal) == (2, "weight gradient")
    assert step.comparison.first.index == (1, 3)
    assert learner.params is start


@pytest.mark.parametrize("epochs", [1, 12])
def test_picture(tmp_path: Path, epochs: int) -> None:
    history = [EpochFigures(e, 10, 1.0 / e, 0.8, 0.9) for e in range(1, epochs + 1)]
    path = tmp_path / "loss.png"
    learning_curves(path, history, history, name="golden", title="a title")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    assert len(content) > 10_000


def test_picture_that_cannot_be_written(tmp_path: Path) -> None:
    history = [EpochFigures(1, 10, 1.0, 0.8, 0.9)]
    with pytest.raises(dp.RangeError, match=r"picture .*loss\.png cannot be written: No such file"):
        learning_curves(tmp_path / "nowhere" / "loss.png", history, history, name="golden", title="a title")
