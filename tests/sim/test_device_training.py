"""`Device.train` on the golden model and in float64: order, costs, positions, checkpoints, and what may lie between."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.data import permutation
from dyadprop.rates import Rate, nearest_rate
from dyadprop.widths import target_format
from dyadprop_sim import golden, reference
from dyadprop_sim.devices import GoldenDevice

SMALL = dp.Formats(dp.Q(2, 6), dp.Q(2, 6), dp.Q(2, 6))
NET = dp.Network(5, [dp.Dense(7, "tanh"), dp.Dense(3)], formats=SMALL)
SAMPLES = 43
RNG = np.random.default_rng(4)
X = RNG.uniform(-1, 1, (SAMPLES, 5))
Y = RNG.uniform(-1, 1, (SAMPLES, 3))
RUN: dict[str, Any] = {"learning_rate": 0.011, "batch_size": 4, "epochs": 3, "shuffle": True, "seed": 8}
BATCHES = 11  # an epoch

both = pytest.mark.parametrize("kind", ["golden", "float"])


def opened(kind: str, net: dp.Network = NET, **options) -> dp.Device:
    device = dp.open(kind, net, **options)
    device.load(net.init(1))
    return device


def same(one: dp.Checkpoint, other: dp.Checkpoint) -> int:
    """Compare two states bit for bit; give how many numbers."""
    compared = 0
    assert one.network == other.network
    assert len(one.residuals) == len(other.residuals)
    left: list[Any] = [*one.parameters, *one.residuals]
    right: list[Any] = [*other.parameters, *other.residuals]
    for a, b in zip(left, right, strict=True):
        for mine, its in ((a.weight, b.weight), (a.bias, b.bias)):
            assert mine.dtype == its.dtype
            np.testing.assert_array_equal(mine, its)
            compared += mine.size
    return compared


STATE = {"golden": 2 * (7 * 6 + 3 * 8), "float": 7 * 6 + 3 * 8}


@both
def test_a_run_by_hand(kind):
    """Order, outputs, costs and parameters, from the functions below the device."""
    device = opened(kind)
    result = device.train(X, Y, **RUN)
    rate = nearest_rate(0.011)
    assert rate == Rate(6, 180)
    assert result.learning_rate == 180 / 256 / 64
    order = np.concatenate([permutation(SAMPLES, 8, epoch) for epoch in (1, 2, 3)])
    assert result.order.tolist() == order.tolist()
    if kind == "golden":
        form = SMALL.activation
        model = golden.Model(NET, NET.quantize(NET.init(1)).raw)
        words, targets = form.to_ints(X).words, target_format(NET).to_ints(Y).words
        raw = np.concatenate(
            [
                model.train(words[part], targets[part], batch_size=4, exponent=6, scale=180).outputs
                for part in np.split(order, 3)
            ]
        )
        outputs, y, params = form.to_floats(raw), form.to_floats(targets), [entry.decode() for entry in model.params]
        assert result.raw is not None
        assert (result.raw.outputs == raw).all()
        assert result.raw.costs is not None
        assert [cost * 2.0**-result.raw.cost_fraction_bits for cost in result.raw.costs] == result.costs.tolist()
    else:
        params, y = NET.init(1), Y
        parts = []
        for part in np.split(order, 3):
            params, answer = reference.train(
                NET, params, X[part], Y[part], batch_size=4, learning_rate=result.learning_rate
            )
            parts.append(answer)
        outputs = np.concatenate(parts)
        assert result.raw is None
    np.testing.assert_array_equal(result.outputs, outputs)
    for held, expected in zip(device.parameters(), params, strict=True):
        np.testing.assert_array_equal(held.weight, expected.weight)
        np.testing.assert_array_equal(held.bias, expected.bias)
    squares = 0.5 * ((outputs - y[order]) ** 2).sum(axis=1)
    sizes = ([4] * 10 + [3]) * 3
    costs = [part.sum() for part in np.split(squares, np.cumsum(sizes)[:-1])]
    np.testing.assert_allclose(result.costs, costs, rtol=1e-14)
    assert result.epochs.tolist() == [1] * BATCHES + [2] * BATCHES + [3] * BATCHES
    assert result.cost == pytest.approx(squares.sum(), rel=1e-14)
    by_epoch = {e: squares[(e - 1) * SAMPLES : e * SAMPLES].sum() for e in (1, 2, 3)}
    assert result.epoch_costs == pytest.approx(by_epoch, rel=1e-14)
    assert result.position == dp.Position(4, 0)
    assert result.stats.samples == 3 * SAMPLES
    assert result.stats.ticks == (0 if kind == "float" else 3 * SAMPLES + 3 * BATCHES * 3)


def test_float_takes_the_real_gradient_step():
    device = opened("float")
    gradients = device.gradients(X[:4], Y[:4]).gradients
    result = device.train(X[:4], Y[:4], learning_rate=0.25, batch_size=4)
    assert result.learning_rate == 0.25
    for before, g, after in zip(NET.init(1), gradients, device.parameters(), strict=True):
        np.testing.assert_array_equal(after.weight, before.weight - 0.25 * g.weight)
        np.testing.assert_array_equal(after.bias, before.bias - 0.25 * g.bias)


@both
@pytest.mark.parametrize(("chunk", "parts"), [(1, 3 * BATCHES), (9, 3 * 6), (40, 3 * 2), (1000, 3)])
def test_an_iterator_gives_the_same_run_in_parts(kind, chunk, parts):
    whole, other = opened(kind), opened(kind)
    result = whole.train(X, Y, **RUN)
    found = list(other.train_iter(X, Y, **RUN, chunk=chunk))
    assert len(found) == parts
    joined = dp.TrainResult.join(found)
    np.testing.assert_array_equal(joined.outputs, result.outputs)
    np.testing.assert_array_equal(joined.costs, result.costs)
    np.testing.assert_array_equal(joined.order, result.order)
    np.testing.assert_array_equal(joined.epochs, result.epochs)
    assert joined.position == result.position
    assert joined.stats.samples == result.stats.samples
    assert joined.stats.saturations == result.stats.saturations
    if kind == "golden":
        assert joined.raw is not None
        assert result.raw is not None
        assert joined.raw.costs == result.raw.costs
    assert same(whole.checkpoint(), other.checkpoint()) == STATE[kind]


@both
def test_without_shuffling_samples_come_as_they_are(kind):
    result = opened(kind).train(X, Y, epochs=2)
    assert result.order.tolist() == list(range(SAMPLES)) * 2
    assert len(result.costs) == 2 * SAMPLES
    assert result.learning_rate == 2**-6


@both
@pytest.mark.parametrize("stop", range(0, 9, 2))
def test_a_run_that_goes_on_from_a_file_is_the_uninterrupted_one(kind, stop, tmp_path):
    whole = opened(kind)
    uninterrupted = whole.train(X, Y, **RUN)
    first = opened(kind)
    parts = []
    for index, part in enumerate(first.train_iter(X, Y, **RUN, chunk=16)):
        parts.append(part)
        if index == stop:
            break
    assert parts[-1].position == dp.Position(1 + (stop + 1) // 3, (stop + 1) % 3 * 4)
    dp.save_checkpoint(tmp_path / "run.npz", first.checkpoint(parts[-1].position))
    first.close()

    checkpoint = dp.load_checkpoint(tmp_path / "run.npz", NET)
    second = dp.open(kind, NET)  # nothing loaded
    second.resume(checkpoint)
    assert same(second.checkpoint(), checkpoint) == STATE[kind]
    if stop < 8:
        parts.append(second.train(X, Y, **RUN, start=checkpoint.position))
    result = dp.TrainResult.join(parts)
    np.testing.assert_array_equal(result.outputs, uninterrupted.outputs)
    np.testing.assert_array_equal(result.costs, uninterrupted.costs)
    np.testing.assert_array_equal(result.order, uninterrupted.order)
    assert same(second.checkpoint(), whole.checkpoint()) == STATE[kind]


def test_residuals_matter():
    """Without them the continued run would be another one."""
    device = opened("golden")
    device.train(X, Y, **RUN)
    kept = device.checkpoint()
    assert sum(int(np.count_nonzero(entry.weight)) for entry in kept.residuals) > 50
    device.train(X, Y)
    device.resume(kept)
    device.train(X, Y)
    one = device.checkpoint()
    device.load(kept.parameters)
    assert all(not entry.weight.any() and not entry.bias.any() for entry in device.checkpoint().residuals)
    device.train(X, Y)
    other = device.checkpoint()
    assert any((a.weight != b.weight).any() for a, b in zip(one.parameters, other.parameters, strict=True))


class Keeping(GoldenDevice):
    """Hardware keeps its accumulators when parameters are loaded, and answers gradients from what they hold."""

    def _load_words(self, params):
        kept = None if self._model is None else self._model.residuals
        super()._load_words(params)
        if kept is not None:
            self._held.load_residuals(kept)

    def _gradient_words(self, x, targets, *, seeds):
        assert not any(entry.weight.any() or entry.bias.any() for entry in self._held.residuals)
        return super()._gradient_words(x, targets, seeds=seeds)


def test_accumulators_are_cleared_by_load_and_lent_to_gradients():
    keeping, fresh = Keeping(NET), opened("golden")
    keeping.load(NET.init(0))
    keeping.train(X, Y)
    keeping.gradients(X, Y)
    keeping.load(NET.init(1))
    keeping.gradients(X, Y)
    for device in (keeping, fresh):
        device.train(X, Y)
    assert same(keeping.checkpoint(), fresh.checkpoint()) == STATE["golden"]


@both
def test_other_calls_between_batches_change_nothing(kind):
    plain, used, fresh = opened(kind), opened(kind), opened(kind)
    for _ in plain.train_iter(X, Y, **RUN, chunk=8):
        pass
    calls = 0
    for _ in used.train_iter(X, Y, **RUN, chunk=8):
        fresh.load(used.parameters())
        # Gradients of cleared accumulators, over more than one part of the batch.
        many = np.vstack([X] * 7), np.vstack([Y] * 7)
        for name, arguments in (("gradients", many), ("vjp", many), ("predict", many[:1])):
            got, expected = getattr(used, name)(*arguments), getattr(fresh, name)(*arguments)
            np.testing.assert_array_equal(got.outputs, expected.outputs)
            for a, b in zip(got.gradients, expected.gradients, strict=True):
                np.testing.assert_array_equal(a.weight, b.weight)
                np.testing.assert_array_equal(a.bias, b.bias)
            calls += 1
        used.checkpoint()
    assert calls == 3 * 3 * 6
    assert same(used.checkpoint(), plain.checkpoint()) == STATE[kind]


@both
def test_an_abandoned_run_leaves_the_device_usable(kind):
    device = opened(kind)
    run = device.train_iter(X, Y, **RUN, chunk=4)
    next(run)
    found = []
    thread = threading.Thread(target=lambda: found.append(device.predict(X)))  # another one: the lock must be free
    thread.start()
    thread.join(timeout=10)
    assert len(found) == 1
    del run
    device.train(X, Y)


@pytest.mark.parametrize("cost", ["sigmoid_cross_entropy", "softmax_cross_entropy"])
@both
def test_labels_and_cross_entropies(kind, cost):
    net = dp.Network(5, [dp.Dense(3, "sigmoid" if cost == "sigmoid_cross_entropy" else "identity")], cost)
    labels = RNG.integers(0, 3, SAMPLES)
    device = opened(kind, net)
    before = device.gradients(X, labels).cost
    result = device.train(X, labels, learning_rate=0.1, batch_size=3, epochs=5)
    assert result.raw is None or result.raw.costs is None
    assert before is not None
    assert result.epoch_costs[1] > result.epoch_costs[5]
    after = device.gradients(X, labels).cost
    assert after is not None
    assert after < before
    assert list(result.epoch_costs) == [1, 2, 3, 4, 5]


# -- saturation -------------------------------------------------------------------------------------------------------

LOUD: dict[str, Any] = {"learning_rate": 1.0, "batch_size": 4}
MESSAGE = r"values were limited to their format: .* of weight in stage 1"


def test_saturated_steps_are_counted():
    result = opened("golden").train(4 * X, 4 * Y, **LOUD)
    counts = {(s.stage, s.signal): s.count for s in result.stats.saturations}
    assert counts[1, "weight"] > 0
    assert counts[2, "weight"] > 0
    assert counts[0, "activation"] > 0
    assert counts[2, "target"] > 0


def test_saturation_can_warn_and_raise():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        opened("golden", on_saturation="warn").train(4 * X, 4 * Y, **LOUD)
        for _ in opened("golden", on_saturation="warn").train_iter(4 * X, 4 * Y, **LOUD):
            pass
    assert [entry.filename for entry in caught] == [__file__, __file__]
    assert all(entry.category is dp.SaturationWarning for entry in caught)
    device = opened("golden", on_saturation="raise")
    with pytest.raises(dp.RangeError, match=MESSAGE):
        device.train(4 * X, 4 * Y, **LOUD)
    device.parameters()  # still usable


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"learning_rate": 0.0}, dp.RangeError, "learning rate is 0.0; it must be above 0"),
        ({"learning_rate": float("nan")}, dp.RangeError, "learning rate is nan"),
        ({"learning_rate": float("inf")}, dp.RangeError, "learning rate is inf"),
        ({"batch_size": 0}, dp.RangeError, "batch_size is 0; allowed are whole numbers from 1 to 255"),
        ({"batch_size": 256}, dp.RangeError, "batch_size is 256; allowed are whole numbers from 1 to 255"),
        ({"batch_size": 2.0}, dp.RangeError, "batch_size is 2.0; allowed are whole"),
        ({"epochs": 0}, dp.RangeError, "epochs is 0; allowed are whole numbers from 1 to"),
        ({"seed": -1}, dp.RangeError, "seed is -1; allowed are whole numbers from 0 to"),
        ({"start": (0, 0)}, dp.RangeError, "epoch to start in is 0; allowed are whole numbers from 1 to"),
        ({"start": (1, 11)}, dp.RangeError, "batch to start with is 11; allowed are whole numbers from 0 to 10"),
        ({"start": (4, 0)}, dp.RangeError, "the run of 3 epochs is over before epoch 4, where it was to go on"),
        ({"x": X[:, :2]}, dp.ShapeError, r"inputs x has shape \(43, 2\); network expects \(batch, 5\)"),
        ({"y": Y[:9]}, dp.ShapeError, "targets y have 9 samples; inputs x have 43"),
        ({"x": X + np.nan}, dp.RangeError, "inputs x is nan"),
    ],
)
@both
def test_the_door(kind, change, error, sentence):
    device = opened(kind)
    before = device.checkpoint()
    for call in (device.train, device.train_iter):
        with pytest.raises(error, match=r"^" + sentence):
            call(**{"x": X, "y": Y, **RUN, **change})
    assert same(device.checkpoint(), before) == STATE[kind]


def test_chunks_are_whole_numbers():
    with pytest.raises(dp.RangeError, match=r"^chunk is 0; allowed are whole numbers from 1 to"):
        opened("golden").train_iter(X, Y, chunk=0)


@pytest.mark.parametrize(
    ("rate", "size", "sentence"),
    [
        (
            2.0**-20,
            4,
            "learning rate 9.53674e-07 with batch_size 4 is too small for stage 1: its 23-bit accumulators cannot hold "
            "what a step leaves; allowed are 7.69e-06 to 64; a larger max_batch (now 255) or a smaller batch_size "
            "takes smaller rates",
        ),
        (
            128.0,
            1,
            "learning rate 128 with batch_size 1 is too large for stage 1: its gradients are coarser than such steps "
            "of its weights; allowed are 7.69e-06 to 64; more fraction bits of sensitivities or fewer of weights take "
            "larger rates",
        ),
    ],
)
def test_rates_that_do_not_fit_say_what_does(rate, size, sentence):
    device = opened("golden")
    with pytest.raises(dp.RangeError) as caught:
        device.train(X, Y, rate, size)
    assert str(caught.value) == sentence
    # What the sentence allows is allowed, to both ends.
    for allowed in (129 / 256 * 2.0**-16, 64.0):
        assert device.train(X, Y, allowed, size).learning_rate == allowed
    opened("float").train(X, Y, min(rate, 2.0**-6), size)


def test_formats_that_no_rate_fits():
    fine = dp.Formats(dp.Q(2, 16), dp.Q(2, 2), dp.Q(2, 16))
    coarse = dp.Formats(dp.Q(2, 2), dp.Q(-14, 32), dp.Q(2, 2))
    net = dp.Network(2, [dp.Dense(2, formats=fine), dp.Dense(2, formats=coarse)], formats=coarse, max_batch=1)
    with pytest.raises(dp.RangeError, match="allowed are none, as what the stages can take does not overlap"):
        opened("golden", net).train(np.zeros((1, 2)), np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("asked", "rate"),
    [
        (1.0, Rate(0, 256)),
        (2.0**-6, Rate(6, 256)),
        (0.75, Rate(0, 192)),
        (3.0, Rate(-2, 192)),
        (0.5, Rate(1, 256)),
        (129 / 256, Rate(0, 129)),
        (128.5 / 256, Rate(0, 129)),  # of two equally near ones the larger
        (128.4 / 256, Rate(1, 256)),
        (255.5 / 256, Rate(0, 256)),
        (255.4 / 256, Rate(0, 255)),
        (255.75 / 512, Rate(1, 256)),
        (np.float32(0.25), Rate(2, 256)),
    ],
)
def test_the_nearest_rate(asked, rate):
    assert nearest_rate(asked) == rate
    assert 129 <= rate.scale <= 256
    assert abs(rate.value / asked - 1) <= 1 / 257


def test_float_says_that_it_diverged():
    device = opened("float")
    with pytest.raises(dp.RangeError, match=r"^training diverged; try a smaller learning rate than 64$"):
        device.train(X, Y, 64.0, epochs=50)


# -- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_words_goes_to_words_only(tmp_path):
    words, reals = opened("golden"), opened("float")
    words.train(X, Y)
    with pytest.raises(dp.RangeError, match=r"^checkpoint holds residuals of words, which device 'float' has not"):
        reals.resume(words.checkpoint())
    with pytest.raises(
        dp.RangeError, match=r"^checkpoint holds residuals of 0 stages; device 'golden' needs those of 2"
    ):
        words.resume(reals.checkpoint())
    kept = words.checkpoint()
    third = [dp.Parameters(entry.weight + 1 / 3, entry.bias) for entry in kept.parameters]
    with pytest.raises(dp.RangeError, match=r"^checkpoint's parameters are no words, so device 'golden' cannot"):
        words.resume(dp.Checkpoint(kept.network, third, kept.residuals))
    large = [entry._replace(weight=entry.weight + (1 << 40)) for entry in kept.residuals]
    with pytest.raises(dp.RangeError, match=r"^weight residuals of stage 1 reach from .* an accumulator of 23 bits"):
        words.resume(dp.Checkpoint(kept.network, kept.parameters, large))
    other = dp.Network(5, [dp.Dense(7, "tanh"), dp.Dense(3)])
    with pytest.raises(dp.NetworkMismatch, match=f"^checkpoint belongs to network {NET.hash}"):
        dp.open("golden", other).resume(kept)
    assert same(words.checkpoint(), kept) == STATE["golden"]


def test_checkpoint_files(tmp_path):
    device = opened("golden")
    device.train(X, Y)
    path = tmp_path / "c.npz"
    dp.save_checkpoint(path, device.checkpoint(dp.Position(3, 7)))
    assert dp.load_checkpoint(path, NET).position == dp.Position(3, 7)
    other = dp.Network(5, [dp.Dense(7, "tanh"), dp.Dense(3)])
    with pytest.raises(dp.NetworkMismatch, match=f"belongs to network {NET.hash}; this network is {other.hash}"):
        dp.load_checkpoint(path, other)
    for name, error, sentence in (
        ("c.txt", dp.RangeError, "ends in '.txt'; allowed is .npz"),
        ("none.npz", dp.RangeError, "cannot be read: .*No such file"),
        ("broken.npz", dp.RangeError, "cannot be read"),
        ("params.npz", dp.ShapeError, "holds no array 'layout'"),
        ("old.npz", dp.RangeError, "has layout 0; this version reads layout 1"),
    ):
        broken = tmp_path / name
        if name == "broken.npz":
            broken.write_bytes(path.read_bytes()[:900])
        if name == "params.npz":
            dp.save_parameters(broken, NET, device.parameters())
        if name == "old.npz":
            with np.load(path) as archive:
                np.savez(broken, **{**dict(archive), "layout": np.array(0)})
        with pytest.raises(error, match=sentence):
            dp.load_checkpoint(broken, NET)
    with pytest.raises(dp.RangeError, match=r"ends in '.bin'; allowed is .npz"):
        dp.save_checkpoint(tmp_path / "c.bin", device.checkpoint())
    with pytest.raises(dp.RangeError, match=r"cannot be written: No such file"):
        dp.save_checkpoint(tmp_path / "no" / "c.npz", device.checkpoint())
