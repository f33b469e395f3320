"""What a device that learns has learnt, in which order, and where a stopped run goes on."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.conformance.cases import Case
from dyadprop.conformance.judge import Judge
from dyadprop.data import permutation
from dyadprop.rates import exponents, nearest_rate

Open = Callable[..., dp.Device]
Judging = Callable[[Case], Judge]

SAMPLES = 11


@pytest.fixture
def learning(opening: Open) -> Open:
    """Give `opening`; what cannot learn says so, and is asked no more."""

    def open_one(case: Case, **options: Any) -> dp.Device:
        device = opening(case, **options)
        if not device.learns:
            with pytest.raises(dp.DyadpropError, match="cannot learn on its own"):
                device.train(case.inputs(2), case.targets(2))
            pytest.skip(f"device {device.kind} does not learn")
        return device

    return open_one


@pytest.fixture(autouse=True)
def pythons_own_handler() -> Iterator[None]:
    """Ctrl-C is Python's here, whoever runs the suite."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _rate(case: Case, batch: int) -> float:
    """Give a rate that fits: about 2^-5, or the nearest one that the formats allow."""
    fitting = exponents(case.net, batch)
    if not fitting:
        pytest.skip("the formats of this network leave no learning rate")
    return 0.75 * 2.0 ** -min(max(5, fitting[0]), fitting[-1])


def test_a_run(case: Case, learning: Open, judging: Judging) -> None:
    device, judge = learning(case), judging(case)
    x, y = case.inputs(SAMPLES), case.targets(SAMPLES)
    compared = 0
    for batch in sorted({1, min(3, case.net.max_batch)}):
        options: dict[str, Any] = {"learning_rate": _rate(case, batch), "batch_size": batch, "epochs": 2}
        options |= {"shuffle": True, "seed": 5}
        device.load(case.params)
        result = device.train(x, y, **options)
        assert result.learning_rate == nearest_rate(options["learning_rate"]).value
        order = np.concatenate([permutation(SAMPLES, 5, epoch) for epoch in (1, 2)])
        np.testing.assert_array_equal(result.order, order)
        assert len(result.costs) == 2 * -(-SAMPLES // batch)
        assert result.position == dp.Position(3, 0)
        assert result.stats.samples == 2 * SAMPLES
        compared += judge.training(device, result, x, y, **options)
    assert compared > 0 or judge.golden is None


def test_an_iterator_gives_the_same_run_in_parts(first: Case, learning: Open) -> None:
    device = learning(first)
    x, y = first.inputs(SAMPLES), first.targets(SAMPLES)
    options: dict[str, Any] = {"learning_rate": _rate(first, 1), "epochs": 2}
    whole = device.train(x, y, **options)
    held = device.parameters()
    device.load(first.params)
    parts = []
    for part in device.train_iter(x, y, chunk=4, **options):
        parts.append(part)
        device.predict(x[:1])  # between two parts it is the user's
        device.gradients(x[:2], y[:2])
    assert [len(part.order) for part in parts] == [4, 4, 3] * 2
    joined = dp.TrainResult.join(parts)
    np.testing.assert_array_equal(joined.outputs, whole.outputs)
    np.testing.assert_array_equal(joined.costs, whole.costs)
    _same(device.parameters(), held)


def test_a_checkpoint_goes_on_in_another_device(case: Case, learning: Open) -> None:
    batch = min(2, case.net.max_batch)
    x, y = case.inputs(SAMPLES), case.targets(SAMPLES)
    options: dict[str, Any] = {"learning_rate": _rate(case, batch), "batch_size": batch, "shuffle": True}
    device = learning(case)
    device.train(x, y, epochs=2, **options)
    wanted = device.checkpoint()
    device.load(case.params)
    half = device.train(x, y, epochs=1, **options)
    kept = device.checkpoint(half.position)
    assert kept.position == dp.Position(2, 0)
    assert kept.network == case.net.hash
    device.close()
    device = learning(case, load=False)
    device.resume(kept)
    device.gradients(x[:2], y[:2])  # what steps left in the accumulators is not touched
    device.train(x, y, epochs=2, start=kept.position, **options)
    _same_state(device.checkpoint(), wanted)


def test_a_load_forgets_what_steps_left(first: Case, learning: Open) -> None:
    device = learning(first)
    x, y = first.inputs(SAMPLES), first.targets(SAMPLES)
    fresh = device.gradients(x, y)
    device.train(x, y, learning_rate=_rate(first, 1))
    device.load(first.params)
    again = device.gradients(x, y)
    _same(again.gradients, fresh.gradients)
    state = device.checkpoint()
    assert not any(entry.weight.any() or entry.bias.any() for entry in state.residuals)


def test_what_cannot_be_learnt_is_refused_and_changes_nothing(first: Case, learning: Open) -> None:
    device = learning(first)
    x, y = first.inputs(4), first.targets(4)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"learning_rate": 0.0}, "learning rate is 0.0; it must be above 0"),
        ({"learning_rate": float("nan")}, "learning rate is nan; it must be above 0"),
        ({"batch_size": 0}, "batch_size is 0; allowed are whole numbers from 1 to"),
        (
            {"batch_size": first.net.max_batch + 1},
            f"batch_size is {first.net.max_batch + 1}; allowed are whole numbers",
        ),
        ({"epochs": 0}, "epochs is 0; allowed are whole numbers from 1 to"),
        ({"seed": -1}, "seed is -1; allowed are whole numbers from 0 to"),
        ({"epochs": 1, "start": dp.Position(2, 0)}, "the run of 1 epochs is over before epoch 2"),
    ]
    for options, sentence in refused:
        with pytest.raises(dp.RangeError, match=f"^{sentence}"):
            device.train(x, y, **options)
    with pytest.raises(dp.ShapeError, match=r"^targets y have 3 samples; inputs x have 4$"):
        device.train(x, y[:3])
    before = device.parameters()
    other = dp.Checkpoint("another", before, [], dp.Position())
    with pytest.raises(dp.NetworkMismatch, match="checkpoint"):
        device.resume(other)
    _same(device.parameters(), before)


def test_ctrl_c_stops_between_batches_and_the_run_goes_on(first: Case, learning: Open) -> None:
    device = learning(first)
    x, y = first.inputs(SAMPLES), first.targets(SAMPLES)
    options: dict[str, Any] = {"learning_rate": _rate(first, 1) / 8, "epochs": 10**6}
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(dp.TrainingInterrupted, match=r"^training stopped before epoch") as caught:
        device.train(x, y, **options)
    timer.join()
    first_part = caught.value.result
    assert isinstance(caught.value, KeyboardInterrupt)
    done = first_part.position
    assert len(first_part.order) == (done.epoch - 1) * SAMPLES + done.batch
    options["epochs"] = done.epoch
    last = device.train(x, y, start=done, **options)
    held = device.parameters()
    device.load(first.params)
    whole = device.train(x, y, **options)
    np.testing.assert_array_equal(dp.TrainResult.join([first_part, last]).outputs, whole.outputs)
    _same(device.parameters(), held)


def _same(one: list[dp.Parameters], two: list[dp.Parameters]) -> None:
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)
        np.testing.assert_array_equal(a.bias, b.bias)


def _same_state(one: dp.Checkpoint, two: dp.Checkpoint) -> None:
    _same(one.parameters, two.parameters)
    for a, b in zip(one.residuals, two.residuals, strict=True):
        assert a.fraction_bits == b.fraction_bits
        np.testing.assert_array_equal(a.weight, b.weight)
        np.testing.assert_array_equal(a.bias, b.bias)
