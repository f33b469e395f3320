"""The far end of a serial line, bit by bit."""

import math
from collections.abc import Callable
from typing import Any

from cocotb.triggers import RisingEdge

BITS = 10  # of a byte, with start and stop


class LineSender:
    """Put bytes on a pin.

    Parameters
    ----------
    clock, pin : cocotb handles
    period : float
        Cycles a bit; it need not be whole.
    """

    def __init__(self, clock: Any, pin: Any, period: float) -> None:
        self._edge = RisingEdge(clock)
        self._pin = pin
        self.period = period
        self._waiting: list[tuple[int, float]] = []

    def send(self, data: bytes, *, idle: float = 0.0, stop: int = 1) -> None:
        """Queue bytes, each with so many bits of idle line behind; ``stop`` 0: without a stop bit."""
        self._waiting += [((stop << 9) | (byte << 1), idle) for byte in data]

    @property
    def open(self) -> int:
        """Bytes that are not sent."""
        return len(self._waiting)

    def quiet(self) -> None:
        """Leave the line high."""
        self._pin.value = 1

    async def run(self) -> None:
        """Drive for ever; bits begin at the nearest cycle."""
        now, start = 0, 0.0
        while True:
            await self._edge
            now += 1
            self._pin.value = 1
            if not self._waiting:
                start = now + 1.0
                continue
            bits, idle = self._waiting[0]
            position = math.floor((now - start) / self.period)
            if 0 <= position < BITS:
                self._pin.value = (bits >> position) & 1
            if now + 1 - start >= (BITS + idle) * self.period:
                self._waiting.pop(0)
                start += (BITS + idle) * self.period


class LineReceiver:
    """Take bytes from a pin.

    Parameters
    ----------
    clock, pin : cocotb handles
    period : float
        Cycles a bit.
    hear : callable
        Is given each byte.

    Attributes
    ----------
    starts : list of int
        Cycles in which start bits began.
    """

    def __init__(self, clock: Any, pin: Any, period: float, hear: Callable[[int], object]) -> None:
        self._edge = RisingEdge(clock)
        self._pin = pin
        self.period = period
        self._hear = hear
        self.starts: list[int] = []

    async def run(self) -> None:
        """Watch for ever; each bit must be one level from end to end, a cycle at its edges apart."""
        now = 0
        while True:
            await self._edge
            now += 1
            if str(self._pin.value) != "0":
                continue
            start = now
            self.starts.append(start)
            bits = [0] * BITS
            for bit in range(BITS):
                while now - start < (bit + 0.5) * self.period - 0.5:
                    await self._edge
                    now += 1
                bits[bit] = int(str(self._pin.value))
            assert bits[0] == 0
            assert bits[9] == 1, "no stop bit"
            self._hear(sum(value << k for k, value in enumerate(bits[1:9])))
            # The middle of the stop bit: the next start bit is still to come.
