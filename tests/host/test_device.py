"""What every device does before and after its backing works: doors, locks, errors, names."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest

import dyadprop as dp
from dyadprop import device as device_module
from dyadprop.device import Device, DeviceInfo
from dyadprop.errors import DeviceLost, DyadpropError, RangeError, Refused, ShapeError
from dyadprop.network import Dense, Network, Parameters
from dyadprop.results import Result, Saturation, Stats

NET = Network(2, [Dense(3, "tanh"), Dense(2)])
X, Y = np.zeros((4, 2)), np.ones((4, 2))


class Stub(Device):
    """A device that answers zeros, and does what a test asks for in between."""

    kind = "stub"
    OPTIONS: tuple[str, ...] = ("address", "baud")

    def __init__(self, net: Network, *, on_saturation: str = "count", address: str = "", baud: str = "") -> None:
        super().__init__(net, on_saturation=on_saturation)
        self.address, self.baud = address, baud
        self.calls: list[str] = []
        self.failure: BaseException | None = None
        self.saturations: list[Saturation] = []
        self.inside = self.most_inside = self.closed = 0
        self.params: list[Parameters] = []
        self.scale = 0.0

    @property
    def info(self) -> DeviceInfo:
        return DeviceInfo(self.kind, self.net.hash, "", "", 0.0, (), (), self.net.max_batch)

    def _work(self, name: str) -> None:
        self.calls.append(name)
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        time.sleep(0.001)
        self.inside -= 1
        if self.failure is not None:
            raise self.failure

    def _result(self, name: str, batch: int) -> Result:
        self._work(name)
        return Result(np.zeros((batch, 2)), None, [], None, None, Stats(samples=batch, saturations=self.saturations))

    def _count_load(self, params: list[Parameters]) -> list[Saturation]:
        return self.saturations

    def _load(self, params: list[Parameters]) -> list[Saturation]:
        self._work("load")
        self.params = params
        return self.saturations

    def _parameters(self) -> list[Parameters]:
        self._work("parameters")
        return self.params

    def _predict(self, x) -> Result:
        return self._result("predict", len(x))

    def _gradients(self, x, y) -> Result:
        return self._result("gradients", len(x))

    def _vjp(self, x, dy, scale: float | None) -> Result:
        self.scale = self._auto_scale(dy) if scale is None else scale
        return self._result("vjp", len(x))

    def _close(self) -> None:
        self.closed += 1


@pytest.fixture
def stub() -> Stub:
    device = Stub(NET)
    device.load(NET.init())
    device.calls.clear()
    return device


CALLS = {
    "load": lambda d: d.load(NET.init()),
    "parameters": lambda d: d.parameters(),
    "predict": lambda d: d.predict(X),
    "gradients": lambda d: d.gradients(X, Y),
    "vjp": lambda d: d.vjp(X, Y),
}
every_call = pytest.mark.parametrize("name", CALLS)


# -- the door ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda d: d.predict(X[0]), ShapeError, r"inputs x has shape \(2,\); network expects \(batch, 2\)"),
        (lambda d: d.predict(X[:, :1]), ShapeError, r"inputs x has shape \(4, 1\); network expects \(batch, 2\)"),
        (lambda d: d.predict(X[:0]), ShapeError, r"inputs x has shape \(0, 2\); a batch has at least 1 sample"),
        (lambda d: d.predict(X + np.nan), RangeError, r"inputs x is nan at index \(0, 0\); every entry must be finite"),
        (lambda d: d.predict(X + 1j), RangeError, "inputs x holds complex128; expected real numbers"),
        (lambda d: d.predict([["a", "b"]]), RangeError, "inputs x holds <U1; expected real numbers"),
        (lambda d: d.gradients(X, Y[:3]), ShapeError, "targets y have 3 samples; inputs x have 4"),
        (lambda d: d.gradients(X, Y[:, :1]), ShapeError, r"targets y has shape \(4, 1\); network expects \(batch, 2\)"),
        (lambda d: d.gradients(X, Y - np.inf), RangeError, r"targets y is -inf at index \(0, 0\); every entry must be"),
        (lambda d: d.vjp(X, Y[:3]), ShapeError, "seeds dy have 3 samples; inputs x have 4"),
        (lambda d: d.vjp(X, Y.T), ShapeError, r"seeds dy has shape \(2, 4\); network expects \(batch, 2\)"),
        (lambda d: d.vjp(X, Y, 3), RangeError, "scale is 3; allowed are 'auto' and positive powers of two"),
        (lambda d: d.vjp(X, Y, -2.0), RangeError, "scale is -2.0; allowed are 'auto' and positive powers of two"),
        (lambda d: d.vjp(X, Y, 0), RangeError, "scale is 0; allowed are"),
        (lambda d: d.vjp(X, Y, np.inf), RangeError, "scale is inf; allowed are"),
        (lambda d: d.vjp(X, Y, "max"), RangeError, "scale is 'max'; allowed are"),
        (lambda d: d.vjp(X, Y, None), RangeError, "scale is None; allowed are"),
        (lambda d: d.load(NET.init()[:1]), ShapeError, "1 layers of parameters given; network expects 2"),
    ],
)
def test_what_fails_at_the_door_has_done_nothing(stub, call, error, sentence):
    with pytest.raises(error, match=f"^{sentence}"):
        call(stub)
    assert stub.calls == []
    stub.predict(X)
    assert stub.calls == ["predict"]


def test_an_unknown_answer_to_saturation_is_refused():
    with pytest.raises(RangeError, match=r"^on_saturation is 'ignore'; allowed are count, warn, raise$"):
        Stub(NET, on_saturation="ignore")


@every_call
def test_only_load_comes_before_parameters(name):
    device = Stub(NET)
    if name == "load":
        CALLS[name](device)
    else:
        with pytest.raises(DyadpropError, match=r"^device 'stub' has no parameters yet; call load\(params\) first$"):
            CALLS[name](device)
        device.load(NET.init())
        CALLS[name](device)
    assert device.calls == (["load"] if name == "load" else ["load", name])


# -- saturation -------------------------------------------------------------------------------------------------------

SATURATED = [Saturation(1, "activation", 3), Saturation(2, "sensitivity", 1)]
TOLD = (
    "values were limited to their format: 3 of activation in stage 1, 1 of sensitivity in stage 2; "
    "gradients are no longer exact"
)
NOT_LOADED = (
    "parameters do not fit their format: 3 of activation in stage 1, 1 of sensitivity in stage 2; nothing was loaded"
)


@pytest.mark.parametrize("name", ["load", "predict", "gradients", "vjp"])
def test_saturation_is_counted_told_or_raised(name):
    for answer in ("count", "warn", "raise"):
        device = Stub(NET, on_saturation=answer)
        device.load(NET.init())
        CALLS[name](device)  # nothing saturates: nothing is said
        device.saturations = SATURATED
        if answer == "raise":
            calls = len(device.calls)
            with pytest.raises(dp.SaturationError, match=f"^{NOT_LOADED if name == 'load' else TOLD}$") as caught:
                CALLS[name](device)
            assert isinstance(caught.value, RangeError)
            assert caught.value.saturations == SATURATED
            if name == "load":  # and nothing was done
                assert caught.value.result is None
                assert len(device.calls) == calls
            else:
                assert isinstance(caught.value.result, Result)
                assert caught.value.result.stats.saturations == SATURATED
            device.saturations = []
            CALLS[name](device)  # and the device is still of use
        elif answer == "warn":
            with pytest.warns(dp.SaturationWarning, match=f"^{TOLD}$") as told:
                CALLS[name](device)
            assert [w.filename for w in told] == [__file__]
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                result: Any = CALLS[name](device)
            assert (result if name == "load" else result.stats.saturations) == SATURATED


# -- vjp --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_automatic_scale_is_the_largest_that_saturates_nothing(stub, seed):
    rng = np.random.default_rng(seed)
    form = NET.layer_formats(2).sensitivity
    compared = 0
    for exponent in (-300, -40, -9, -1, 0, 3, 70, 300):
        dy = rng.normal(0, 1, (4, 2)) * 10.0**exponent
        stub.vjp(X, dy)
        assert np.frexp(stub.scale)[0] == 0.5
        assert form.to_ints(dy * stub.scale).saturations == 0
        assert form.to_ints(dy * stub.scale * 2).saturations > 0
        compared += 1
    assert compared == 8


@pytest.mark.parametrize(
    ("largest", "scale"),
    [
        (1.0, 1.0),  # 2.0 is no word of Q2.14
        (-1.0, 2.0),  # but -2.0 is
        (2.0 - 2.0**-14, 1.0),  # the largest word
        (2.0 - 2.0**-15, 0.5),  # half way to 2.0: a tie that rounds out of the format
        (2.0 - 2.0**-15 - 2.0**-30, 1.0),
        (-2.0 - 2.0**-15, 1.0),  # the tie at the other end rounds into it
        (0.0, 1.0),
        (5e-324, 2.0**1023),
    ],
)
def test_automatic_scale_at_the_edges(stub, largest, scale):
    dy = np.zeros((4, 2))
    dy[2, 1] = largest
    stub.vjp(X, dy)
    assert stub.scale == scale


@pytest.mark.parametrize("scale", [1, 0.25, 2.0**20, np.float32(4.0), np.int64(8)])
def test_a_callers_power_of_two_is_taken(stub, scale):
    stub.vjp(X, Y, scale)
    assert stub.scale == scale


# -- parameters that come along with each call -----------------------------------------------------------------------


def test_parameters_are_loaded_only_where_they_changed(stub):
    one, other = NET.init(1), NET.init(2)
    stub.saturations = SATURATED
    for params, loads in ((one, 1), (NET.init(1), 1), (other, 2), (other, 2), (one, 3)):
        with stub.holding(params) as saturations:
            stub.predict(X)
            assert saturations == SATURATED
        assert stub.calls.count("load") == loads
    changed = NET.init(1)
    changed[1].bias[0] += 2.0**-50  # in place, as an optimiser does
    with stub.holding(changed):
        pass
    stub.load(other)
    with stub.holding(changed):
        pass
    assert stub.calls.count("load") == 6
    for wrong, sentence in (
        (one[:1], "^1 layers of parameters given; network expects 2$"),
        ([one[0], (1, 2)], r"^weight of stage 2 has shape \(\); network expects \(2, 3\)$"),
    ):
        with pytest.raises(ShapeError, match=sentence), stub.holding(wrong):
            raise AssertionError("lent")
    assert stub.calls.count("load") == 6


def test_what_the_device_learnt_is_not_taken_for_what_was_loaded():
    net = Network(2, [Dense(1)])
    params = net.init(0)
    with dp.open("golden", net) as device:
        with device.holding(params):
            before = device.predict([[1.0, 0.5]]).outputs
        device.train([[1.0, 0.5]], [[3.0]], 0.5)
        assert device.predict([[1.0, 0.5]]).outputs != before
        with device.holding(params):
            assert device.predict([[1.0, 0.5]]).outputs == before
        device.train([[1.0, 0.5]], [[3.0]], 0.5)
        device.resume(device.checkpoint())
        with device.holding(params):
            assert device.predict([[1.0, 0.5]]).outputs == before


def test_a_load_that_failed_is_not_held(stub):
    stub.failure = Refused("not today")
    with pytest.raises(RangeError, match=r"^not today$"), stub.holding(NET.init(3)):
        raise AssertionError("lent")
    stub.failure = None
    stub.calls.clear()
    with stub.holding(NET.init(3)):
        pass
    assert stub.calls == ["load"]


def test_other_threads_wait_while_a_device_is_lent(stub):
    done: list[str] = []

    def load() -> None:
        stub.load(NET.init(2))
        done.append("loaded")

    with stub.holding(NET.init(1)):
        thread = threading.Thread(target=load)
        thread.start()
        thread.join(0.2)
        assert done == []
        stub.predict(X)
    thread.join()
    assert done == ["loaded"]


def test_the_last_figures_are_kept(stub):
    assert stub.stats == Stats()
    assert stub.stats is not stub.predict(X).stats
    result = stub.vjp(X, Y)
    assert stub.stats is result.stats
    assert stub.stats.seconds > 0


# -- life of a device -------------------------------------------------------------------------------------------------


@every_call
def test_a_closed_device_says_so(stub, name):
    stub.close()
    stub.close()
    assert stub.closed == 1
    with pytest.raises(DeviceLost, match=r"^device 'stub' cannot be used: it is closed; open it again$"):
        CALLS[name](stub)


def test_leaving_the_context_closes():
    with Stub(NET) as device:
        device.load(NET.init())
    assert device.closed == 1


@every_call
def test_a_failure_inside_leaves_the_device_unusable_and_says_why(stub, name):
    stub.failure = OSError("cable gone")
    with pytest.raises(OSError, match="cable gone"):
        CALLS[name](stub)
    stub.failure = None
    sentence = r"^device 'stub' cannot be used: an earlier call failed \(OSError: cable gone\); open it again$"
    with pytest.raises(DeviceLost, match=sentence) as caught:
        stub.predict(X)
    assert isinstance(caught.value, ConnectionError)
    stub.close()
    assert stub.closed == 1


def test_an_interrupt_inside_leaves_the_device_unusable(stub):
    stub.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        stub.predict(X)
    stub.failure = None
    with pytest.raises(DeviceLost, match=r"an earlier call failed \(KeyboardInterrupt: \)"):
        stub.parameters()


def test_what_a_backing_turns_down_leaves_the_device_usable(stub):
    stub.failure = Refused("not today")
    with pytest.raises(RangeError, match=r"^not today$"):
        stub.predict(X)
    stub.failure = None
    stub.predict(X)


def test_a_device_that_cannot_learn_says_so_and_goes_on(stub):
    checkpoint = stub.checkpoint()
    for call in (lambda: stub.train(X, Y), lambda: stub.train_iter(X, Y), lambda: stub.resume(checkpoint)):
        with pytest.raises(DyadpropError, match=r"^device 'stub' cannot learn on its own; take its gradients, step on"):
            call()
    stub.predict(X)


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_device_is_neither_pickled_nor_copied(stub, way):
    with pytest.raises(DyadpropError, match=r"^device 'stub' cannot be pickled or copied: .*call dyadprop.open\(\)"):
        way(stub)
    stub.predict(X)


def in_a_forked_child(work: Callable[[], object]) -> tuple[int, str]:
    """Give the child's number, and what ``work`` came to in there."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: other tests' threads
        warnings.simplefilter("ignore", RuntimeWarning)  # JAX, where another test has imported it
        child = os.fork()
    if child == 0:  # no pytest in here: answer and go
        answer = "no error"
        try:
            work()
        except BaseException as error:  # whatever it is, the parent judges
            answer = f"{type(error).__name__}: {error}"
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return child, answer


def test_use_after_a_fork_is_refused(stub):
    child, answer = in_a_forked_child(lambda: stub.predict(X))
    assert answer == (
        f"DeviceLost: device 'stub' was opened by process {os.getpid()} and is used by process {child} after a fork; "
        "open it again there"
    )
    stub.predict(X)


def test_closing_in_a_forked_child_is_no_business_of_the_parents(stub):
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with stub._lock:  # as a call in another thread does, which no child ever sees the end of
            held.set()
            free.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    def close() -> None:
        signal.alarm(20)  # a child that waits for the lock dies and gives no answer
        stub.close()
        assert stub.closed == 0

    try:
        _, answer = in_a_forked_child(close)
    finally:
        free.set()
        thread.join()
    assert answer == "no error"
    stub.predict(X)


def test_threads_take_turns(stub):
    errors: list[BaseException] = []

    def use() -> None:
        try:
            for _ in range(10):
                stub.predict(X)
        except BaseException as error:  # a thread's own traceback would be lost
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(stub.calls) == 80
    assert stub.most_inside == 1


def test_seconds_are_measured(stub):
    assert 0.001 <= stub.predict(X).stats.seconds < 5


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stub_kind(monkeypatch):
    """Make `stub` and a kind with a missing package the only ones installed."""
    entries = [
        EntryPoint("stub", f"{__name__}:Stub", device_module.ENTRY_POINT_GROUP),
        EntryPoint("broken", "dyadprop_no_such_package:Device", device_module.ENTRY_POINT_GROUP),
    ]
    monkeypatch.setattr(EntryPoint, "load", lambda self: Stub if self.name == "stub" else __import__(self.module))
    monkeypatch.setattr(device_module, "entry_points", lambda group: [e for e in entries if e.group == group])


@pytest.mark.usefixtures("stub_kind")
class TestNames:
    def test_kind_alone(self):
        device = dp.open("stub", NET)
        assert isinstance(device, Stub)
        assert (device.address, device.baud) == ("", "")
        assert device.net is NET

    def test_address_and_options(self):
        device = dp.open("stub:/dev/ttyUSB0?baud=3000000&on-saturation=warn", NET)
        assert isinstance(device, Stub)
        assert (device.address, device.baud) == ("/dev/ttyUSB0", "3000000")
        with pytest.raises(RangeError, match=r"^on_saturation is 'x'; allowed are"):
            dp.open("stub?on_saturation=x", NET)

    def test_options_as_arguments(self):
        device = dp.open("stub", NET, baud="9600", on_saturation="raise")
        assert isinstance(device, Stub)
        assert device.baud == "9600"

    def test_unknown_kind(self):
        with pytest.raises(RangeError, match=r"^device 'gpu:0' is of no known kind; available are broken, stub$"):
            dp.open("gpu:0", NET)

    def test_unknown_option(self):
        sentence = r"^device 'stub' knows no option 'speed'; allowed are address, baud, on_saturation$"
        with pytest.raises(RangeError, match=sentence):
            dp.open("stub?speed=9", NET)

    def test_missing_package(self):
        sentence = r"^device 'broken' needs a package that is not installed: No module named 'dyadprop_no_such_package'"
        with pytest.raises(RangeError, match=sentence):
            dp.open("broken", NET)

    def test_the_environment_names_the_default(self, monkeypatch):
        monkeypatch.setenv("DYADPROP_DEVICE", "stub?baud=1")
        device = dp.open(None, NET)
        assert isinstance(device, Stub)
        assert device.baud == "1"
        monkeypatch.setenv("DYADPROP_DEVICE", "")
        with pytest.raises(RangeError, match=r"^device 'golden' is of no known kind"):
            dp.open(None, NET)

    def test_listing(self):
        assert dp.devices() == {
            "broken": "not available: No module named 'dyadprop_no_such_package'",
            "stub": "A device that answers zeros, and does what a test asks for in between.",
        }
