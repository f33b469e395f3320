"""Training that Ctrl-C or a saturated value stops: whole batches are done, and the run goes on from there."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.course import CHUNK
from dyadprop_sim.devices import GoldenDevice

NET = dp.Network(2, [dp.Dense(3, "tanh"), dp.Dense(1)])
RNG = np.random.default_rng(7)
SAMPLES = 2 * CHUNK + 100
X, Y = RNG.uniform(-1, 1, (SAMPLES, 2)), RNG.uniform(-1, 1, (SAMPLES, 1))
PARTS = 3


class Interrupted(GoldenDevice):
    """Ctrl-C comes while it learns a certain part, as often as told."""

    part = 2
    times = 1
    seen = 0

    def _train_words(self, *arguments, **options):
        self.seen += 1
        if self.seen == self.part:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)
        return super()._train_words(*arguments, **options)


@pytest.fixture(autouse=True)
def pythons_own_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def opened(kind: type[GoldenDevice] = Interrupted, **options) -> Any:
    device = kind(NET, **options)
    device.load(NET.init())
    return device


def state(device: dp.Device) -> list[list]:
    held = device.checkpoint()
    entries: list[Any] = [*held.parameters, *held.residuals]
    return [[entry.weight.tolist(), entry.bias.tolist()] for entry in entries]


def whole(epochs: int = 1) -> tuple[dp.TrainResult, list[list]]:
    device = opened(GoldenDevice)
    return device.train(X, Y, epochs=epochs, shuffle=True), state(device)


@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_training_stops_behind_the_part_under_way_and_goes_on(part):
    device = opened()
    device.part = part
    with pytest.raises(dp.TrainingInterrupted) as caught:
        device.train(X, Y, epochs=2, shuffle=True)
    assert isinstance(caught.value, KeyboardInterrupt)
    first = caught.value.result
    assert len(first.order) == min(part * CHUNK, SAMPLES)
    assert first.position == (dp.Position(1, part * CHUNK) if part < PARTS else dp.Position(2, 0))
    assert str(caught.value) == (f"training stopped before epoch {first.position.epoch}, batch {first.position.batch}")
    second = device.train(X, Y, epochs=2, shuffle=True, start=first.position)
    expected, end = whole(epochs=2)
    joined = dp.TrainResult.join([first, second])
    np.testing.assert_array_equal(joined.outputs, expected.outputs)
    np.testing.assert_array_equal(joined.costs, expected.costs)
    assert state(device) == end


def test_an_iterator_stops_too():
    device = opened()
    parts = []
    run = device.train_iter(X, Y, shuffle=True)
    parts.append(next(run))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # between two parts it is the caller's own
    with pytest.raises(dp.TrainingInterrupted) as caught:
        next(run)
    parts += [caught.value.result, device.train(X, Y, shuffle=True, start=caught.value.result.position)]
    expected, end = whole()
    np.testing.assert_array_equal(dp.TrainResult.join(parts).outputs, expected.outputs)
    assert state(device) == end


def test_a_second_interrupt_does_not_wait():
    device = opened()
    device.times = 2
    with pytest.raises(KeyboardInterrupt) as caught:
        device.train(X, Y)
    assert not isinstance(caught.value, dp.TrainingInterrupted)
    with pytest.raises(dp.DeviceLost, match=r"an earlier call failed \(KeyboardInterrupt"):
        device.predict(X)


def test_other_threads_and_other_handlers_are_left_alone():
    device = opened(GoldenDevice)
    found: list[dp.TrainResult] = []
    thread = threading.Thread(target=lambda: found.append(device.train(X, Y)))
    thread.start()
    thread.join()
    assert len(found) == 1
    heard = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        opened().train(X, Y)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert heard == [signal.SIGINT]


def test_a_saturated_value_raises_with_what_was_learnt():
    x = X.copy()
    x[CHUNK + 5] = 100.0
    device = opened(GoldenDevice, on_saturation="raise")
    with pytest.raises(dp.SaturationError, match="2 of activation in stage 0") as caught:
        device.train(x, Y)
    first = caught.value.result
    assert isinstance(first, dp.TrainResult)
    assert first.position == dp.Position(1, 2 * CHUNK)
    assert len(first.costs) == 2 * CHUNK
    second = device.train(x, Y, start=first.position)
    counting = opened(GoldenDevice)
    expected = counting.train(x, Y)
    np.testing.assert_array_equal(dp.TrainResult.join([first, second]).outputs, expected.outputs)
    assert state(device) == state(counting)


def test_what_does_not_fit_is_not_loaded():
    device = opened(GoldenDevice, on_saturation="raise")
    device.train(X[:9], Y[:9])
    before = state(device)
    large = [dp.Parameters(e.weight + 100.0, e.bias) for e in NET.init()]
    sentence = (
        r"^parameters do not fit their format: 6 of weight in stage 1, 3 of weight in stage 2; nothing was loaded$"
    )
    with pytest.raises(dp.SaturationError, match=sentence) as caught:
        device.load(large)
    assert caught.value.saturations == [dp.Saturation(1, "weight", 6), dp.Saturation(2, "weight", 3)]
    assert caught.value.result is None
    assert state(device) == before


def test_a_warning_is_told_once_a_call():
    x = X.copy()
    x[[5, CHUNK + 5]] = 100.0
    with pytest.warns(dp.SaturationWarning, match="4 of activation in stage 0") as told:
        opened(GoldenDevice, on_saturation="warn").train(x, Y)
    assert len(told) == 1
