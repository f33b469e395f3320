"""Batches through a bad cable: each must come back with the golden model's bits, or with an error that says why."""

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dyadprop.comparison import Comparison, compare_checkpoints, compare_results, compare_training
from dyadprop.device import Device, open_device
from dyadprop.errors import DeviceLost, DeviceTimeout, DyadpropError
from dyadprop.formats import Floats
from dyadprop.network import Dense, Network
from dyadprop.plan import plan_network
from dyadprop.results import Result
from dyadprop.serial_device import SerialDevice
from dyadprop_boards.table import find_board
from dyadprop_sim.chip import ChipOptions, simulate_chip
from dyadprop_sim.chip_server import ChipServer
from dyadprop_sim.fault_proxy import KINDS, FaultProxy
from dyadprop_sim.library import BuildOptions
from dyadprop_sim.ports import PairPort, PtyPort

NET = Network(3, [Dense(4, "tanh"), Dense(2)], input_gradient=True, max_batch=5)
"""Small: faults are a matter of the link and not of the network."""

BOARD = "ulx3s-85f"
BUILD = BuildOptions(optimize="-O1", random_start=True)
LEARN_EVERY = 4  # of so many batches one is a run of training, whose steps must be taken once each
HANG_SECONDS = 120.0
OPEN_SECONDS = 60.0
TIMEOUT = 5.0

RATES: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(KINDS, (1e-05, 0.0001, 0.001, 0.01)),
    # The session begins anew at each of these; more often than once in some batches no batch comes through.
    "close": (1e-5, 1e-4, 1e-3),
    "reset": (1e-5, 1e-4, 1e-3),
    "delay": (1e-5, 1e-4, 1e-3),
}
"""Rates a byte at which each kind of fault is tried alone."""

MIXED: dict[str, dict[str, float]] = {
    "mixed, few": {**dict.fromkeys(KINDS, 1e-5)},
    "mixed": {**dict.fromkeys(KINDS, 1e-4), "close": 2e-5, "reset": 2e-5},
    "mixed, many": {**dict.fromkeys(KINDS, 1e-3), "close": 2e-5, "reset": 2e-5, "delay": 1e-4},
}


@dataclass
class Row:
    """What became of batches at one kind and rate of faults.

    Attributes
    ----------
    name : str
    rate : float
        A byte, of all kinds together.
    batches, exact : int
        Asked for; answered with the golden model's bits.
    errors : dict of str to int
        Batches that ended in an error, by its class.
    wrong, lost, double : int
        Batches answered with other bits: a sample or step missing or taken twice, where that explains them.
    hangs : int
        Calls that came to no end by themselves.
    faults, retries, reconnects, reopened : int
        Made by the cable; packets sent again; sessions begun anew within a call; devices opened anew after an error.
    seconds, longest : float
        Wall-clock time of all, and of the longest call.
    """

    name: str
    rate: float
    batches: int = 0
    exact: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    wrong: int = 0
    lost: int = 0
    double: int = 0
    hangs: int = 0
    faults: int = 0
    retries: int = 0
    reconnects: int = 0
    reopened: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    first: str = ""

    @property
    def bad(self) -> int:
        """Batches that nobody may ever see."""
        return self.wrong + self.lost + self.double + self.hangs


class Trials:
    """A chip behind a bad cable, and the golden model beside it.

    Parameters
    ----------
    net : Network, optional
    seed : int
        Of parameters, batches and faults.
    """

    def __init__(self, net: Network | None = None, seed: int = 0) -> None:
        self.net = NET if net is None else net
        self._seed = seed
        self._rng = np.random.default_rng([seed, 0])
        self._folder = tempfile.TemporaryDirectory(prefix="dyadprop-faults-")
        chip = simulate_chip(plan_network(self.net), find_board(BOARD), ChipOptions(seed=seed, build=BUILD))
        back, inner = PairPort.pair()
        self._server = ChipServer(chip, inner)
        link = Path(self._folder.name) / "tty"
        self._proxy = FaultProxy(PtyPort(str(link)), back, {}, seed=seed, reset=self._server.power_on)
        self._golden = open_device("golden", self.net)
        self._params = self.net.init(seed)
        self._device: Device | None = None

    def close(self) -> None:
        """Give everything back."""
        if self._device is not None:
            self._device.close()
        self._golden.close()
        self._proxy.stop()
        self._server.stop()
        self._folder.cleanup()

    def __enter__(self) -> "Trials":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, name: str, rates: Mapping[str, float], batches: int) -> Row:
        """Run batches at some rates of faults; stops at the first that hangs."""
        row = Row(name, sum(rates.values()))
        self._proxy.set_rates({})
        self._open(row)
        row.retries = row.reconnects = row.reopened = 0
        faults = self._proxy.faults
        self._proxy.set_rates(rates)
        start = time.perf_counter()
        for _ in range(batches):
            if self._device is None:
                self._open(row)
            self._batch(row)
            if row.hangs:
                break
        row.seconds = time.perf_counter() - start
        row.faults = self._proxy.faults - faults
        self._proxy.set_rates({})
        for part in (self._server, self._proxy):
            if part.failure is not None:
                raise DyadpropError(f"the simulation failed: {part.failure}") from part.failure
        return row

    def _open(self, row: Row) -> None:
        """Open the device, however often that takes, and load; the golden model too."""
        limit = time.monotonic() + OPEN_SECONDS
        while True:
            try:
                if self._device is None:
                    row.reopened += 1
                    self._device = SerialDevice(self.net, address=self._proxy.address, timeout=TIMEOUT)
                self._device.load(self._params)
                break
            except (DeviceLost, DeviceTimeout) as error:
                self._forget()
                if time.monotonic() > limit:
                    raise DyadpropError(
                        f"the device could not be opened within {OPEN_SECONDS:g} s through faults of kind {row.name} "
                        f"at {row.rate:g} a byte; the last error: {error}"
                    ) from error
        self._golden.load(self._params)

    def _forget(self) -> None:
        if self._device is not None:
            self._device.close()
            self._device = None

    def _batch(self, row: Row) -> None:
        learns = row.batches % LEARN_EVERY == LEARN_EVERY - 1
        row.batches += 1
        count = int(self._rng.integers(1, 2 * self.net.max_batch + 2))
        x = self._rng.uniform(-1, 1, (count, self.net.inputs))
        y = self._rng.uniform(-1, 1, (count, self.net.outputs))
        start = time.perf_counter()
        alarm = threading.Timer(HANG_SECONDS, self._proxy.stop)  # the port goes away, and the call with it
        alarm.daemon = True
        alarm.start()
        try:
            found = self._learn(row, x, y) if learns else self._ask(row, x, y)
        except DyadpropError as error:
            name = type(error).__name__
            row.errors[name] = row.errors.get(name, 0) + 1
            row.first = row.first or str(error)
            self._forget()
        else:
            if found.first is None:
                row.exact += 1
            else:
                row.first = row.first or str(found.first)
        finally:
            alarm.cancel()
        seconds = time.perf_counter() - start
        row.longest = max(row.longest, seconds)
        row.hangs += seconds >= HANG_SECONDS

    def _ask(self, row: Row, x: Floats, y: Floats) -> Comparison:
        assert self._device is not None
        got = self._device.gradients(x, y)
        row.retries += got.stats.retries
        row.reconnects += got.stats.wire.reconnects
        found = compare_results(self.net, got, self._golden.gradients(x, y))
        if found.first is not None:
            for what, other_x, other_y in _mishaps(x, y):
                if _same_gradients(got, self._golden.gradients(other_x, other_y)):
                    setattr(row, what, getattr(row, what) + 1)
                    return found
            row.wrong += 1
        return found

    def _learn(self, row: Row, x: Floats, y: Floats) -> Comparison:
        assert self._device is not None
        before = self._golden.checkpoint()
        options: dict[str, Any] = {"learning_rate": 2.0**-6, "batch_size": 1 + len(x) % 3}
        got = self._device.train(x, y, **options)
        row.retries += got.stats.retries
        row.reconnects += got.stats.wire.reconnects
        found = compare_training(self.net, got, self._golden.train(x, y, **options))
        held = self._device.checkpoint()
        found += compare_checkpoints(self.net, held, self._golden.checkpoint())
        if found.first is not None:
            after = self._golden.checkpoint()
            for what, other_x, other_y in _mishaps(x, y):
                self._golden.resume(before)
                self._golden.train(other_x, other_y, **options)
                if compare_checkpoints(self.net, held, self._golden.checkpoint()).first is None:
                    setattr(row, what, getattr(row, what) + 1)
                    break
            else:
                row.wrong += 1
            self._golden.resume(after)
            self._forget()
        return found


def _mishaps(x: Floats, y: Floats) -> Iterator[tuple[str, Floats, Floats]]:
    """Give what the batch would be without one of its samples, with one twice, and with all twice."""
    everything = list(range(len(x)))
    for i in everything if len(x) > 1 else ():
        rest = everything[:i] + everything[i + 1 :]
        yield "lost", x[rest], y[rest]
    for i in everything:
        more = [*everything[: i + 1], *everything[i:]]
        yield "double", x[more], y[more]
    yield "double", np.concatenate([x, x]), np.concatenate([y, y])


def _same_gradients(one: Result, two: Result) -> bool:
    assert one.raw is not None
    assert two.raw is not None
    return all(
        np.array_equal(a.weight, b.weight) and np.array_equal(a.bias, b.bias)
        for a, b in zip(one.raw.gradients, two.raw.gradients, strict=True)
    )
