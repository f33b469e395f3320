"""What steps leave in the accumulators, and the room that the next batch needs there."""

from __future__ import annotations

import numpy as np
import pytest

import dyadprop as dp
from dyadprop_sim import golden

TIGHT = dp.Network(1, [dp.Dense(1)], max_batch=3, formats=dp.Formats(dp.Q(1, 7), dp.Q(4, 4), dp.Q(1, 7)))
TOO_MUCH = (
    r"^accumulators of stage 1 hold up to {} of earlier steps; with batch_size 3 allowed are 16383: take a smaller "
    r"batch_size or a larger max_batch \(now 3\), or load the parameters again, which clears them$"
)


def lone(**options) -> dp.Device:
    device = dp.open("golden", TIGHT, **options)
    device.load([dp.Parameters(np.zeros((1, 1)), np.zeros(1))])
    return device


def test_a_residual_of_another_rate_leaves_room_for_the_batch():
    x, y = np.full((3, 1), -1.0), np.full((3, 1), 0.99)
    device = lone()
    device.train(x[:2], y[:2], 2.0**-6, 1)  # leaves up to 2^15
    held = device.checkpoint()
    largest = max(entry.largest for entry in held.residuals)
    assert largest > 16383
    iterator = device.train_iter(x, y, 2.0**-6, 1)
    for call in (device.train, device.train_iter):
        with pytest.raises(dp.RangeError, match=TOO_MUCH.format(2**15)):
            call(x, y, 2.0**-4, 3)
    after = device.checkpoint()
    assert [a.weight.tolist() for a in after.residuals] == [a.weight.tolist() for a in held.residuals]
    assert [a.weight.tolist() for a in after.parameters] == [a.weight.tolist() for a in held.parameters]
    model = golden.Model(TIGHT, [dp.RawParameters(np.zeros((1, 1), np.int64), np.zeros(1, np.int64), 4)])
    model.load_residuals([dp.RawParameters(np.full((1, 1), -16384), np.zeros(1, np.int64), 14)])
    words = np.full((3, 1), -128), np.full((3, 1), 127)
    with pytest.raises(dp.RangeError, match=TOO_MUCH.format(16384)):
        model.train(*words, batch_size=3, exponent=4)
    model.train(*words, batch_size=2, exponent=4)
    # What a checkpoint brings counts as it is.
    other = lone()
    for largest, fits in ((16383, True), (16384, False)):
        residual = dp.RawParameters(np.array([[-largest]]), np.zeros(1, np.int64), 14)
        other.resume(dp.Checkpoint(held.network, held.parameters, [residual]))
        if fits:
            other.train(x, y, 2.0**-4, 3)
        else:
            with pytest.raises(dp.RangeError, match=TOO_MUCH.format(largest)):
                other.train(x, y, 2.0**-4, 3)
    # And loading clears.
    device.load(device.parameters())
    device.train(x, y, 2.0**-4, 3)
    assert next(iterator).position == dp.Position(2, 0)


def test_a_run_is_checked_again_when_another_came_between():
    x, y = np.full((6, 1), -1.0), np.full((6, 1), 0.99)
    device = lone()
    run = device.train_iter(x, y, 2.0**-4, 3, chunk=3)
    next(run)
    device.train(x[:1], y[:1], 2.0**-6, 1)
    with pytest.raises(dp.RangeError, match=TOO_MUCH.format(2**15)):
        next(run)
    device.predict(x)  # still usable


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("position", np.array([1]), r"position is int64 of shape \(1,\); expected integers of shape \(2,\)"),
        ("position", np.array(3), r"position is int64 of shape \(\); expected"),
        ("position", np.array([1.5, 0.0]), r"position is float64 of shape \(2,\); expected"),
        ("layout", np.array([1, 1]), r"layout is int64 of shape \(2,\); expected integers of shape \(\)"),
        ("layout", np.array("one"), r"layout is <U3 of shape \(\); expected"),
        ("1.fraction bits", np.array([7, 7]), r"1.fraction bits is int64 of shape \(2,\); expected"),
    ],
)
def test_a_checkpoint_file_of_other_shapes_is_a_sentence(name, value, sentence, tmp_path):
    path = tmp_path / "c.npz"
    dp.save_checkpoint(path, lone().checkpoint())
    with np.load(path) as archive:
        arrays = {**dict(archive), name: value}
    np.savez(path, **arrays)
    with pytest.raises(dp.ShapeError, match=f"^checkpoint {path}: {sentence}"):
        dp.load_checkpoint(path, TIGHT)
