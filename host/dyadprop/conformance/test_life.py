"""How a device lives: what it refuses and survives, threads, forks, and its end."""

import copy
import os
import pickle
import re
import signal
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.conformance.cases import Case

Open = Callable[..., dp.Device]

THREADS = 4


def test_what_is_wrong_at_the_door_is_told_and_does_nothing(first: Case, opening: Open) -> None:
    device = opening(first)
    n, m = first.net.inputs, first.net.outputs
    x, y = first.inputs(4), first.targets(4)
    before = device.gradients(x, y)
    nan, inf = x.copy(), y.copy()
    nan[2, 0], inf[1, -1] = np.nan, -np.inf
    layers = len(first.net.layers)
    wide = [dp.Parameters(np.zeros((1, n + 1)), np.zeros(1)), *first.params[1:]]
    bad = [dp.Parameters(np.full_like(entry.weight, np.nan), entry.bias) for entry in first.params]
    refused: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: device.predict(x[0]), dp.ShapeError, f"inputs x has shape ({n},); network expects (batch, {n})"),
        (
            lambda: device.predict(np.zeros((4, n + 1))),
            dp.ShapeError,
            f"inputs x has shape (4, {n + 1}); network expects",
        ),
        (lambda: device.predict(x[:0]), dp.ShapeError, f"inputs x has shape (0, {n}); a batch has at least 1 sample"),
        (lambda: device.predict(nan), dp.RangeError, "inputs x is nan at index (2, 0); every entry must be finite"),
        (lambda: device.predict(x + 1j), dp.RangeError, "inputs x holds complex128; expected real numbers"),
        (lambda: device.gradients(x, y[:3]), dp.ShapeError, "targets y have 3 samples; inputs x have 4"),
        (lambda: device.gradients(x, inf), dp.RangeError, f"targets y is -inf at index (1, {m - 1}); every entry must"),
        (lambda: device.vjp(x, y[:3]), dp.ShapeError, "seeds dy have 3 samples; inputs x have 4"),
        (lambda: device.vjp(x, inf), dp.RangeError, f"seeds dy is -inf at index (1, {m - 1}); every entry must"),
        (lambda: device.vjp(x, y, 3), dp.RangeError, "scale is 3; allowed are 'auto' and positive powers of two"),
        (lambda: device.vjp(x, y, -2.0), dp.RangeError, "scale is -2.0; allowed are 'auto' and positive powers of"),
        (lambda: device.load([]), dp.ShapeError, f"0 layers of parameters given; network expects {layers}"),
        (lambda: device.load(wide), dp.ShapeError, "weight of stage 1 has shape"),
        (
            lambda: device.load(bad),
            dp.RangeError,
            "weight of stage 1 is nan at index (0, 0); every entry must be finite",
        ),
    ]
    for call, error, sentence in refused:
        with pytest.raises(error, match=f"^{re.escape(sentence)}"):
            call()
        assert device.predict(x).outputs.shape == (4, m)
    after = device.gradients(x, y)
    for a, b in zip(before.gradients, after.gradients, strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)
        np.testing.assert_array_equal(a.bias, b.bias)


def test_parameters_come_first(first: Case, opening: Open) -> None:
    device = opening(first, load=False)
    x, y = first.inputs(2), first.targets(2)
    calls: list[Callable[[], object]] = [
        lambda: device.predict(x),
        lambda: device.gradients(x, y),
        lambda: device.vjp(x, y),
        device.parameters,
        device.checkpoint,
    ]
    for call in calls:
        with pytest.raises(dp.DyadpropError, match=r"has no parameters yet; call load\(params\) first$"):
            call()
    device.load(first.params)
    for call in calls:
        call()


def test_an_unknown_option_is_refused(first: Case, device_name: str) -> None:
    for option in ({"no_such_option": 1}, {"on_saturation": "ignore"}):
        with pytest.raises(dp.RangeError, match="allowed are"):
            dp.open(device_name, first.net, **option).close()


def test_after_its_end(first: Case, opening: Open) -> None:
    with opening(first) as device:
        device.predict(first.inputs(1))
    device.close()
    x, y = first.inputs(2), first.targets(2)
    calls: list[Callable[[], object]] = [
        lambda: device.load(first.params),
        lambda: device.predict(x),
        lambda: device.gradients(x, y),
        lambda: device.vjp(x, y),
        device.parameters,
        device.checkpoint,
    ]
    for call in calls:
        with pytest.raises(dp.DeviceLost, match=r"cannot be used: it is closed; open it again$"):
            call()
    opening(first).predict(x)  # and again


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_is_neither_pickled_nor_copied(way: Callable[[Any], Any], first: Case, opening: Open) -> None:
    device = opening(first)
    with pytest.raises(dp.DyadpropError, match=r"cannot be pickled or copied: .*call dyadprop.open\(\)"):
        way(device)
    device.predict(first.inputs(1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_told_and_harms_nobody(first: Case, opening: Open) -> None:
    device = opening(first)
    x, y = first.inputs(3), first.targets(3)
    before = device.gradients(x, y)
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: the device's own threads
        child = os.fork()
    if child == 0:  # no pytest in here: answer and go
        signal.alarm(20)
        answer = "no error"
        try:
            device.predict(x)
        except BaseException as error:  # whatever it is, the parent judges
            answer = f"{type(error).__name__}: {error}"
        try:
            device.close()
        except BaseException as error:
            answer += f"; close gave {type(error).__name__}: {error}"
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    assert re.fullmatch(
        rf"DeviceLost: device '.*' was opened by process {os.getpid()} and is used by process {child} after a fork; "
        "open it again there",
        answer,
    )
    np.testing.assert_array_equal(device.gradients(x, y).gradients[0].weight, before.gradients[0].weight)


def test_threads_take_turns(first: Case, opening: Open) -> None:
    device = opening(first)
    samples = [(first.inputs(n), first.targets(n)) for n in range(1, 6)]
    expected = [device.gradients(*pair) for pair in samples]
    answers: list[list[dp.Result]] = [[] for _ in range(THREADS)]
    errors: list[BaseException] = []

    def use(mine: list[dp.Result]) -> None:
        try:
            mine.extend(device.gradients(*pair) for pair in samples)
        except BaseException as error:  # a thread's own traceback would be lost
            errors.append(error)

    threads = [threading.Thread(target=use, args=(mine,)) for mine in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
        assert not thread.is_alive()
    assert errors == []
    for mine in answers:
        for got, wanted in zip(mine, expected, strict=True):
            np.testing.assert_array_equal(got.outputs, wanted.outputs)
            for a, b in zip(got.gradients, wanted.gradients, strict=True):
                np.testing.assert_array_equal(a.weight, b.weight)


def test_calls_in_the_background(first: Case, opening: Open) -> None:
    device = opening(first)
    samples = [(first.inputs(n), first.targets(n)) for n in range(1, 6)]
    expected = [device.gradients(*pair) for pair in samples]
    futures = [device.submit("gradients", *pair) for pair in samples]
    for future, wanted in zip(futures, expected, strict=True):
        got = future.result(300)
        np.testing.assert_array_equal(got.outputs, wanted.outputs)
        assert got.cost == wanted.cost
        for a, b in zip(got.gradients, wanted.gradients, strict=True):
            np.testing.assert_array_equal(a.weight, b.weight)
    with pytest.raises(dp.ShapeError, match=r"^targets y have 2 samples; inputs x have 1$"):
        device.submit("gradients", samples[0][0], samples[1][1]).result(300)
    with pytest.raises(dp.RangeError, match=r"^method 'close' cannot be submitted; allowed are load, parameters,"):
        device.submit("close")
    # A load is behind what was asked before it, and before what is asked behind it.
    other = [dp.Parameters(0.5 * entry.weight, entry.bias) for entry in first.params]
    before, _, after = (
        device.submit("predict", samples[4][0]),
        device.submit("load", other),
        device.submit("predict", samples[4][0]),
    )
    np.testing.assert_array_equal(before.result(300).outputs, expected[4].outputs)
    np.testing.assert_array_equal(after.result(300).outputs, device.predict(samples[4][0]).outputs)
