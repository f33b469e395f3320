"""Ctrl-C in the middle of a batch: the part under way is done, the others are not, and the device stays usable."""

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

NET = dp.Network(2, [dp.Dense(3, "tanh"), dp.Dense(1, "sigmoid")], "sigmoid_cross_entropy", max_batch=10)
RNG = np.random.default_rng(5)
X, Y = RNG.uniform(-1, 1, (45, 2)), RNG.integers(0, 2, (45, 1)).astype(float)
LONG = RNG.uniform(-1, 1, (3 * CHUNK, 2))


class Interrupted(GoldenDevice):
    """Ctrl-C comes in one of its parts, as often as told."""

    at = 0
    times = 1
    parts = 0

    def _part(self) -> None:
        self.parts += 1
        if self.parts == self.at:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)

    def _forward_words(self, x):
        self._part()
        return super()._forward_words(x)

    def _gradient_words(self, x, targets, *, seeds):
        self._part()
        return super()._gradient_words(x, targets, seeds=seeds)

    def _load_words(self, params):
        self._part()
        super()._load_words(params)

    def _read_words(self):
        self._part()
        return super()._read_words()


@pytest.fixture(autouse=True)
def pythons_own_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def opened(*, trained: bool) -> Interrupted:
    device = Interrupted(NET)
    device.load(NET.init())
    if trained:
        device.train(X, Y, batch_size=3)
    device.parts = 0
    return device


def state(device: dp.Device) -> list[list]:
    held = device.checkpoint()
    entries: list[Any] = [*held.parameters, *held.residuals]
    return [[entry.weight.tolist(), entry.bias.tolist()] for entry in entries]


CALLS = {
    "predict": (3, lambda d: d.predict(LONG)),
    "gradients": (5, lambda d: d.gradients(X, Y)),
    "vjp": (6, lambda d: d.vjp(X, Y)),
    "load": (1, lambda d: d.load(NET.init())),
    "parameters": (1, lambda d: d.parameters()),
}


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_an_interrupt_in_any_part(name, trained):
    parts, call = CALLS[name]
    for at in range(1, parts + 1):
        device, untouched = opened(trained=trained), opened(trained=trained)
        device.at = at
        with pytest.raises(KeyboardInterrupt) as caught:
            call(device)
        assert type(caught.value) is KeyboardInterrupt
        assert device.parts == at
        if name == "load":  # it has been done
            call(untouched)
        device.at = 0
        assert state(device) == state(untouched)
        a, b = device.gradients(X, Y), untouched.gradients(X, Y)
        np.testing.assert_array_equal(a.outputs, b.outputs)
        assert a.raw is not None
        assert b.raw is not None
        for left, right in zip(a.raw.gradients, b.raw.gradients, strict=True):
            np.testing.assert_array_equal(left.weight, right.weight)
        device.train(X, Y, batch_size=3)
        untouched.train(X, Y, batch_size=3)
        assert state(device) == state(untouched)


@pytest.mark.parametrize("name", CALLS)
def test_a_second_interrupt_does_not_wait(name):
    device = opened(trained=True)
    device.at, device.times = 1, 2
    with pytest.raises(KeyboardInterrupt):
        CALLS[name][1](device)
    with pytest.raises(dp.DeviceLost, match=r"an earlier call failed \(KeyboardInterrupt"):
        device.predict(X)


def test_a_submitted_call_is_not_interrupted():
    device = opened(trained=False)
    begun, go = threading.Event(), threading.Event()
    forward = device._forward_words

    def wait(x):
        begun.set()
        assert go.wait(20)
        return forward(x)

    device._forward_words = wait  # type: ignore[method-assign]
    future = device.submit("predict", X)
    assert begun.wait(20)
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.05, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        future.result(20)
    go.set()
    assert len(future.result(20).outputs) == 45


def test_long_batches_are_run_in_parts():
    device = opened(trained=False)
    result = device.predict(LONG)
    assert device.parts == 3
    assert result.stats.ticks == len(LONG) + 3
