"""Calls in the background: in their order, with their own parameters, and with an end."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.errors import DeviceLost, DyadpropError, RangeError, ShapeError
from dyadprop.network import Network, Parameters
from dyadprop.turns import TurnLock
from dyadprop_sim.devices import FloatDevice, GoldenDevice
from tests.host.test_device import NET, Stub, X, Y, in_a_forked_child


class Slow(Stub):
    """A stub whose first call waits until it may go on."""

    def __init__(self, net: Network) -> None:
        super().__init__(net)
        self.go, self.begun = threading.Event(), threading.Event()

    def _work(self, name: str) -> None:
        self.begun.set()
        assert self.go.wait(20)
        super()._work(name)


@pytest.fixture
def slow() -> Slow:
    device = Slow(NET)
    device.go.set()
    device.load(NET.init())
    device.calls.clear()
    device.go.clear()
    device.begun.clear()
    return device


def scaled(factor: float) -> list[Parameters]:
    return [Parameters(entry.weight * factor, entry.bias) for entry in NET.init()]


def test_every_method_gives_what_it_gives_at_once():
    here, there = GoldenDevice(NET), GoldenDevice(NET)
    calls: list[tuple[str, tuple]] = [
        ("load", (NET.init(),)),
        ("parameters", ()),
        ("predict", (X,)),
        ("gradients", (X, Y)),
        ("vjp", (X, Y, 0.5)),
        ("train", (X, Y)),
        ("checkpoint", ()),
    ]
    calls.append(("resume", (dp.Checkpoint(NET.hash, NET.quantize(NET.init()).parameters, there._no_residuals()),)))
    for name, arguments in calls:
        a, b = there.submit(name, *arguments).result(20), getattr(here, name)(*arguments)
        assert type(a) is type(b)
        if hasattr(a, "outputs"):
            np.testing.assert_array_equal(a.outputs, b.outputs)
    keyword = there.submit("train", X, Y, batch_size=2, epochs=3).result(20)
    assert keyword.position == dp.Position(4, 0)


@pytest.mark.parametrize("kind", [GoldenDevice, FloatDevice])
def test_results_belong_to_the_parameters_loaded_before_them(kind):
    device, alone = kind(NET), kind(NET)
    futures = []
    for factor in range(1, 21):
        device.load(scaled(factor / 8))
        futures.append(device.submit("predict", X + 1))
        if factor % 3 == 0:
            futures.append(device.submit("gradients", X + 1, Y))
    compared = 0
    answers = iter(futures)
    for factor in range(1, 21):
        alone.load(scaled(factor / 8))
        np.testing.assert_array_equal(next(answers).result(20).outputs, alone.predict(X + 1).outputs)
        compared += 1
        if factor % 3 == 0:
            np.testing.assert_array_equal(next(answers).result(20).outputs, alone.gradients(X + 1, Y).outputs)
            compared += 1
    assert compared == 26


def test_a_direct_call_overtakes_nothing(slow):
    first = slow.submit("predict", X)
    second = slow.submit("gradients", X, Y)
    assert slow.begun.wait(20)
    done = []
    thread = threading.Thread(target=lambda: done.append(slow.parameters()))
    thread.start()
    while len(slow._lock._queue) < 2:  # the second job's turn, and behind it the thread's
        time.sleep(0.001)
    third = slow.submit("vjp", X, Y)
    assert not done
    slow.go.set()
    for future in (first, second, third):
        future.result(20)
    thread.join()
    assert slow.calls == ["predict", "gradients", "parameters", "vjp"]
    assert slow.most_inside == 1


def test_what_was_submitted_is_copied(slow):
    x = X + 1.0
    future = GoldenDevice(NET)
    future.load(NET.init())
    expected = future.predict(x).outputs
    release = threading.Event()
    with future._lock:
        late = future.submit("predict", x)
        x[:] = 0.0
        release.set()
    np.testing.assert_array_equal(late.result(20).outputs, expected)


def test_errors_land_in_the_future(slow):
    slow.go.set()
    with pytest.raises(ShapeError, match=r"^inputs x has shape \(2,\)"):
        slow.submit("predict", X[0]).result(20)
    slow.predict(X)
    slow.failure = OSError("cable gone")
    with pytest.raises(OSError, match="cable gone"):
        slow.submit("predict", X).result(20)
    slow.failure = None
    with pytest.raises(DeviceLost, match="an earlier call failed"):
        slow.submit("predict", X).result(20)


@pytest.mark.parametrize("name", ["train_iter", "close", "_call", "fly", "submit"])
def test_what_cannot_be_submitted(slow, name):
    sentence = f"^method '{name}' cannot be submitted; allowed are load, parameters, predict, gradients, vjp, train, ch"
    with pytest.raises(RangeError, match=sentence):
        slow.submit(name)


def test_closing_waits_for_what_was_submitted(slow):
    futures = [slow.submit("predict", X) for _ in range(3)]
    threading.Timer(0.02, slow.go.set).start()
    slow.close()
    assert [future.done() for future in futures] == [True] * 3
    assert slow.calls == ["predict"] * 3
    assert slow.closed == 1
    with pytest.raises(DeviceLost, match=r"^device 'stub' cannot be used: it is closed; open it again$"):
        slow.submit("predict", X).result(20)


def test_closing_can_cancel(slow):
    futures = [slow.submit("predict", X) for _ in range(3)]
    assert slow.begun.wait(20)
    threading.Timer(0.02, slow.go.set).start()
    slow.close(cancel_futures=True)
    futures[0].result(20)
    for future in futures[1:]:
        with pytest.raises(CancelledError):
            future.result(20)
    assert slow.calls == ["predict"]


def test_an_error_in_a_with_block_cancels(slow):
    futures: list[Any] = []

    def fail() -> None:
        with slow:
            futures.extend(slow.submit("predict", X) for _ in range(3))
            assert slow.begun.wait(20)
            slow.go.set()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert slow.closed == 1
    assert sum(future.cancelled() for future in futures) >= 1


def test_a_future_can_be_cancelled(slow):
    futures = [slow.submit(name, X) for name in ("predict", "predict")]
    last = slow.submit("gradients", X, Y)
    assert futures[1].cancel()
    slow.go.set()
    last.result(20)
    assert slow.calls == ["predict", "gradients"]


def test_a_callback_may_use_the_device(slow):
    """The worker's own call does not wait for jobs that only the worker can do."""
    answers: list[Any] = []
    first = slow.submit("predict", X)
    first.add_done_callback(lambda future: answers.append(slow.parameters()))
    second = slow.submit("gradients", X, Y)
    slow.go.set()
    second.result(20)
    assert len(answers) == 1
    assert slow.calls == ["predict", "parameters", "gradients"]


def test_no_thread_is_left(slow):
    slow.go.set()
    before = threading.active_count()
    for _ in range(3):
        slow.submit("predict", X).result(20)
    end = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.001)
    assert threading.active_count() == before


def test_a_program_that_ends_does_its_work_first():
    code = (
        "import dyadprop as dp, numpy as np\n"
        "net = dp.Network(2, [dp.Dense(2)])\n"
        "device = dp.open('float', net)\n"
        "device.load(net.init())\n"
        "for i in range(3): device.submit('predict', np.zeros((1, 2))).add_done_callback(lambda f: print('done'))\n"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "done\n" * 3
    )


def test_after_a_fork(slow):
    slow.go.set()
    _, answer = in_a_forked_child(lambda: slow.submit("predict", X))
    assert answer.startswith(f"DeviceLost: device 'stub' was opened by process {os.getpid()} and is used by process")
    with pytest.raises(DyadpropError, match="cannot be pickled or copied"):
        pickle.dumps(slow)


def test_eight_threads():
    device, alone = GoldenDevice(NET), GoldenDevice(NET)
    inputs = [X + i / 8 for i in range(8)]
    for one in (device, alone):
        one.load(NET.init())
    expected = [alone.gradients(x, Y).outputs for x in inputs]
    compared: list[int] = []
    errors: list[BaseException] = []

    def use(i: int) -> None:
        try:
            for turn in range(10):
                if (i + turn) % 2:
                    outputs = device.gradients(inputs[i], Y).outputs
                else:
                    outputs = device.submit("gradients", inputs[i], Y).result(20).outputs
                np.testing.assert_array_equal(outputs, expected[i])
                compared.append(i)
        except BaseException as error:  # a thread's own traceback would be lost
            errors.append(error)

    threads = [threading.Thread(target=use, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(compared) == 80


def test_turns_come_in_the_order_of_tickets():
    lock = TurnLock()
    order = []
    tickets = [lock.ticket() for _ in range(5)]

    def use(number: int) -> None:
        lock.acquire(tickets[number])
        order.append(number)
        with lock:  # again, by the one who has it
            order.append(number)
        lock.release()

    threads = [threading.Thread(target=use, args=(number,)) for number in reversed(range(5))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_whoever_gives_up_waiting_gives_up_the_turn(monkeypatch):
    lock = TurnLock()
    wait = lock._changed.wait
    given_up: list[bool] = []

    def interrupted(*_: Any) -> bool:
        if not given_up:
            given_up.append(True)
            raise KeyboardInterrupt
        return wait()

    first, second, third = lock.ticket(), lock.ticket(), lock.ticket()
    lock.acquire(first)
    monkeypatch.setattr(lock._changed, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lock.acquire(second)
    lock.release()
    lock.acquire(third)
    lock.release()
    assert not lock._queue
