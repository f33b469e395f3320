"""A bad cable: what stands between a driver and a chip and spoils bytes, reproducibly."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from dyadprop.errors import DyadpropError, RangeError
from dyadprop_sim.ports import Port, Waker

logger = logging.getLogger(__name__)

KINDS: dict[str, str] = {
    "drop": "a byte is lost",
    "flip": "a bit is flipped",
    "duplicate": "up to 40 bytes come twice",
    "delay": "everything stands still for up to 0.2 s",
    "truncate": "the rest of what came in one go is lost",
    "reorder": "up to 200 bytes change places with those behind them",
    "noise": "up to 32 random bytes come in between",
    "close": "the port is closed; it can be opened again",
    "reset": "the chip's power is off for a moment",
}
"""What can happen, each at one byte."""

LARGEST_DELAY = 0.2  # seconds
HELD_SECONDS = 0.01  # what is held to change places and finds no partner goes on after so long
MOST_WAITING = 65536
STOP_SECONDS = 30.0


class Event(NamedTuple):
    """What comes out of a bad cable.

    Attributes
    ----------
    what : str
        ``bytes``, or ``delay``, ``close`` or ``reset`` as in `KINDS`.
    data : bytes
    seconds : float
    """

    what: str
    data: bytes = b""
    seconds: float = 0.0


class Mangler:
    """Spoils one direction.

    Parameters
    ----------
    rates : mapping of str to float
        Chance a byte of each of `KINDS`.
    rng : numpy.random.Generator

    Attributes
    ----------
    count : int
        Faults made.
    """

    def __init__(self, rates: Mapping[str, float], rng: np.random.Generator) -> None:
        self._rates = {kind: rate for kind, rate in rates.items() if rate > 0}
        for kind, rate in self._rates.items():
            if kind not in KINDS or not rate <= 1:
                raise RangeError(f"fault {kind!r} has rate {rate:g}; known are {', '.join(KINDS)}, rates up to 1")
        self._rng = rng
        self._next = {kind: self._gap(kind) for kind in self._rates}
        self._position = 0  # bytes that came until now
        self._held: bytes = b""
        self._swap = 0  # bytes that must come before what is held goes on
        self.count = 0

    def _gap(self, kind: str) -> int:
        return int(self._rng.geometric(self._rates[kind])) - 1

    def feed(self, data: bytes) -> Iterator[Event]:
        """Give what becomes of bytes that came."""
        while data:
            kind, at = min(self._next.items(), key=lambda entry: entry[1], default=("", 1 << 62))
            before = at - self._position
            if before >= len(data):
                self._position += len(data)
                yield from self._pass(data)
                return
            yield from self._pass(data[:before])
            data = data[before:]
            self._position = at
            self.count += 1
            self._next[kind] = at + 1 + self._gap(kind)
            match kind:
                case "drop":
                    data = data[1:]
                    self._position += 1
                case "flip":
                    data = bytes([data[0] ^ 1 << int(self._rng.integers(8))]) + data[1:]
                case "duplicate":
                    yield from self._pass(data[: 1 + int(self._rng.integers(40))])
                case "delay":
                    yield Event("delay", seconds=float(self._rng.uniform(0, LARGEST_DELAY)))
                case "truncate":
                    self._position += len(data)
                    # Its own kind of fault comes once in what is lost, the others as often as they like.
                    return
                case "reorder":
                    yield from self.release()
                    size = 1 + int(self._rng.integers(200))
                    self._held, data = data[:size], data[size:]
                    self._position += len(self._held)
                    self._swap = len(self._held)
                case "noise":
                    yield from self._pass(self._rng.bytes(1 + int(self._rng.integers(32))))
                case _:
                    yield Event(kind)

    def _pass(self, data: bytes) -> Iterator[Event]:
        if data:
            yield Event("bytes", data)
            if self._held:
                self._swap -= len(data)
                if self._swap <= 0:
                    yield from self.release()

    @property
    def holds(self) -> bool:
        """Whether something is held to change places."""
        return bool(self._held)

    def release(self) -> Iterator[Event]:
        """Let go what is held to change places."""
        if self._held:
            held, self._held = self._held, b""
            yield Event("bytes", held)


class FaultProxy:
    """Joins two ports and spoils what passes.

    Parameters
    ----------
    front, back : Port
        To the driver and to the chip; both its own from now on.
    rates : mapping of str to float
        Chance a byte of each of `KINDS`, both ways.
    seed : int
    reset : callable, optional
        Takes the chip's power away, with a seed for what it holds afterwards.

    Attributes
    ----------
    failure : BaseException or None
        What ended it, if it was not `stop`.
    """

    def __init__(
        self,
        front: Port,
        back: Port,
        rates: Mapping[str, float],
        *,
        seed: int = 0,
        reset: Callable[[int], None] | None = None,
    ) -> None:
        if rates.get("reset") and reset is None:
            raise RangeError("fault 'reset' needs a chip whose power can be taken away; this one's cannot")
        self.front, self.back = front, back
        self.failure: BaseException | None = None
        self._reset = reset
        self._rngs = [np.random.default_rng([seed, way]) for way in range(3)]
        self._down, self._up = Mangler({}, self._rngs[0]), Mangler({}, self._rngs[1])
        self._earlier = 0
        self.set_rates(rates)
        self._waker = Waker()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"faults at {front.address}", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """What a driver opens."""
        return self.front.address

    @property
    def faults(self) -> int:
        """Faults made until now."""
        return self._earlier + self._down.count + self._up.count

    def set_rates(self, rates: Mapping[str, float]) -> None:
        """Take other rates from now on."""
        self._earlier = self.faults
        self._down, self._up = Mangler(rates, self._rngs[0]), Mangler(rates, self._rngs[1])

    def stop(self) -> None:
        """End it and close both ports; a second call does nothing."""
        if self._stopping:
            return
        self._stopping = True
        self._waker.wake()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            raise DyadpropError(f"the proxy at {self.address} did not stop within {STOP_SECONDS:g} s")
        self._waker.close()

    def __enter__(self) -> "FaultProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._pump()
        except BaseException as error:  # whoever waits for answers must learn why there are none
            self.failure = error
            logger.exception("the proxy at %s ended", self.front.address)
        finally:
            self.front.close()
            self.back.close()

    def _pump(self) -> None:
        waiting = {self.front: bytearray(), self.back: bytearray()}  # to each port
        last = time.monotonic()
        while not self._stopping:
            readers = [h for port in (self.front, self.back) if len(waiting[port]) < MOST_WAITING
                       for h in self._other(port).handles()]  # fmt: skip
            writers = [h for port, data in waiting.items() if data for h in port.write_handles()]
            held = self._up.holds or self._down.holds
            self._waker.wait(readers, writers, HELD_SECONDS if held else None)
            for port, mangler in ((self.front, self._down), (self.back, self._up)):
                other = self._other(port)
                if len(waiting[other]) < MOST_WAITING and (data := port.read()):
                    last = time.monotonic()
                    self._carry(mangler.feed(data), waiting, other)
                elif time.monotonic() - last > HELD_SECONDS:
                    self._carry(mangler.release(), waiting, other)
            for port, left in waiting.items():
                if left:
                    del left[: port.write(bytes(left))]

    def _other(self, port: Port) -> Port:
        return self.back if port is self.front else self.front

    def _carry(self, events: Iterator[Event], waiting: dict[Port, bytearray], to: Port) -> None:
        for event in events:
            if event.what == "bytes":
                waiting[to].extend(event.data)
                continue
            # What came before it has gone, as far as there is room.
            for port, data in waiting.items():
                del data[: port.write(bytes(data))]
            match event.what:
                case "delay":
                    time.sleep(event.seconds)
                case "close":
                    for data in waiting.values():
                        data.clear()
                    self.front.drop()
                case "reset":
                    assert self._reset is not None
                    for data in waiting.values():
                        data.clear()
                    self._reset(int(self._rngs[2].integers(1 << 31)))
