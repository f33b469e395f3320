"""Drivers and monitors of ready/valid streams.

All of them wake at rising edges of the clock and at nothing else. What they read then are the values from before the
edge; what they write counts from then on.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from cocotb.triggers import RisingEdge

from dyadprop_sim.benches.ports import Item, Port, Unknown


class Stalls:
    """When a stream's end does not take part.

    Parameters
    ----------
    rng : random.Random
    share : float
        Chance of a stall in a cycle.
    """

    def __init__(self, rng: random.Random, share: float) -> None:
        self._rng = rng
        self.share = share

    def __call__(self) -> bool:
        """Say whether it stalls in the cycle to come."""
        return self.share > 0 and self._rng.random() < self.share


class Stream:
    """The signals of one stream.

    Parameters
    ----------
    dut : cocotb handle
        Of the top module.
    name : str
        Of the stream's ports, without ``__payload`` and the others.
    shape : shape-castable
        Of the payload.
    """

    def __init__(self, dut: Any, name: str, shape: Any) -> None:
        self.clock = dut.clk
        self.reset = dut.rst
        self.name = name
        self.payload = Port(getattr(dut, f"{name}__payload"), shape)
        self.valid = getattr(dut, f"{name}__valid")
        self.ready = getattr(dut, f"{name}__ready")

    def flag(self, handle: Any) -> bool:
        """Read ``valid`` or ``ready``, which must be known."""
        text = str(handle.value)
        if text not in ("0", "1"):
            raise Unknown(f"{handle._path} is {text}")
        return text == "1"


class StreamDriver:
    """Offer items in order; what is offered stays until it is taken.

    Parameters
    ----------
    stream : Stream
    stalls : Stalls
    rng : random.Random
        Of the payload's bits while nothing is offered.
    """

    def __init__(self, stream: Stream, stalls: Stalls, rng: random.Random) -> None:
        self.stream = stream
        self.stalls = stalls
        self._rng = rng
        self._waiting: deque[Item] = deque()
        self._offered = False

    def send(self, items: Iterable[Item]) -> None:
        """Queue items."""
        self._waiting.extend(items)

    @property
    def open(self) -> int:
        """Items not yet taken."""
        return len(self._waiting)

    def quiet(self) -> None:
        """Offer nothing."""
        self.stream.valid.value = 0
        self.stream.payload.set_bits(self._rng.getrandbits(self.stream.payload.codec.width))

    async def run(self) -> None:
        """Drive for ever."""
        stream = self.stream
        edge = RisingEdge(stream.clock)
        while True:
            if self._offered and stream.flag(stream.ready):
                self._waiting.popleft()
                self._offered = False
                self.quiet()
            if not self._offered and self._waiting and not self.stalls():
                stream.payload.set(self._waiting[0])
                stream.valid.value = 1
                self._offered = True
            await edge


class StreamSink:
    """Take items, not in every cycle.

    Parameters
    ----------
    stream : Stream
    stalls : Stalls
    """

    def __init__(self, stream: Stream, stalls: Stalls) -> None:
        self.stream = stream
        self.stalls = stalls

    def quiet(self) -> None:
        """Take nothing."""
        self.stream.ready.value = 0

    async def run(self) -> None:
        """Drive for ever."""
        edge = RisingEdge(self.stream.clock)
        while True:
            self.stream.ready.value = int(not self.stalls())
            await edge


class StreamMonitor:
    """Watch a stream: report what is transferred, and hold both ends to the rules.

    The rules: ``valid`` and ``ready`` are known after reset; ``valid`` does not fall and the payload does not change
    before the transfer; an offered payload is known.

    Parameters
    ----------
    stream : Stream
    now : callable
        Gives the present cycle.

    Attributes
    ----------
    offered, taken : list of int
        Cycles in which each item was offered first, and taken.
    """

    def __init__(self, stream: Stream, now: Callable[[], int]) -> None:
        self.stream = stream
        self.offered: list[int] = []
        self.taken: list[int] = []
        self._now = now
        self._callbacks: list[Callable[[Item], object]] = []

    def call(self, callback: Callable[[Item], object]) -> None:
        """Call with each item that is transferred."""
        self._callbacks.append(callback)

    async def run(self) -> None:
        """Watch for ever."""
        stream = self.stream
        edge = RisingEdge(stream.clock)
        held: int | None = None
        while True:
            await edge
            valid, ready = stream.flag(stream.valid), stream.flag(stream.ready)
            if not valid:
                assert held is None, f"{stream.name}: valid fell in cycle {self._now()} before the transfer"
                continue
            bits = stream.payload.bits()
            if held is None:
                self.offered.append(self._now())
            else:
                assert bits == held, f"{stream.name}: the payload changed in cycle {self._now()} before the transfer"
            held = None if ready else bits
            if ready:
                self.taken.append(self._now())
                item = stream.payload.codec.decode(bits)
                for callback in self._callbacks:
                    callback(item)
