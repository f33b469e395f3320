"""A chip in simulation, addressed in bytes: what a UART would carry, or the UART's own waveform."""

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from dyadprop.baud import BITS_A_BYTE
from dyadprop.protocol import TRIAL_SECONDS, SelfTest
from dyadprop_sim.library import Ports
from dyadprop_sim.simulation import Simulation

STREAMS = Ports(inputs=("rx",), outputs=("tx",), wire=True)
"""A chip without its UART: a byte a transfer."""

PINS = Ports(inputs=(), outputs=(), wire=True, pins=("rx", "tx"))
"""A chip with its UART: a level a cycle."""

FRACTION = 1 << 16  # of a clock cycle, in which wire.cpp counts
PAUSE = 64  # cycles without a byte after which those that came are handed over
CHUNK = 1000  # cycles in one go: a host that sends more meanwhile is heard so late at most
TRIAL = 1.1 * TRIAL_SECONDS
ROOM = 4096  # bytes taken in one go

_FOREVER = 1 << 62


class Pace(IntEnum):
    """Why an exchange ended."""

    CYCLES = 0
    ROOM = 1
    PAUSE = 2
    IDLE = 3
    """Nothing waits, nothing moves, and nothing has moved for long."""


class Chip(Protocol):
    """What a server puts behind a port: a simulation in RTL, or a model."""

    @property
    def seconds(self) -> float:
        """Simulated time."""

    def exchange(self, data: bytes) -> tuple[int, bytes, bool]:
        """Run for a while: bytes taken, bytes given, and whether nothing is left to be done."""

    def power_on(self, seed: int) -> None:
        """Begin again, as after the power was off."""

    def set_baud(self, baud: int) -> None:
        """Take the host's rate from now on."""

    def close(self) -> None:
        """Give everything back."""


@dataclass
class Line:
    """How bytes come and go.

    Attributes
    ----------
    clock : float
        Of the chip, Hz.
    baud : float
        Of the host, bits a second. 0: as fast as bytes are taken; not with pins.
    error : float
        By how much the host's rate is wrong: 0.02 is 2 % too fast.
    """

    clock: float
    baud: float = 0.0
    error: float = 0.0

    @property
    def period(self) -> int:
        """Of a bit, in ``1 / FRACTION`` of a cycle."""
        return round(FRACTION * self.clock / (self.baud * (1.0 + self.error))) if self.baud else 0


class WireSimulation:
    """A running simulation of a chip.

    Parameters
    ----------
    path : Path
        Of a library with `STREAMS` or `PINS`.
    ports : Ports
    line : Line
    patience : int
        Cycles without a byte after which nothing is expected any more.
    seed : int
        Of what registers and memories hold at power-on.
    """

    def __init__(self, path: Path, ports: Ports, line: Line, *, patience: int, seed: int = 0) -> None:
        assert line.baud or not ports.pins
        self._path, self._ports = path, ports
        self._patience = patience
        self.line = line
        self._past = 0
        self._timed = bool(line.baud) and "period" in ports.status
        self._may_test = "verdict" in ports.status
        self._buffer = ctypes.create_string_buffer(ROOM)
        self._taken, self._given = ctypes.c_uint64(), ctypes.c_uint64()
        self._start(seed)

    def _start(self, seed: int) -> None:
        self._simulation = Simulation(self._path, self._ports, seed=seed, randomize=True)
        library = self._simulation.library
        library.dyad_wire.restype = ctypes.c_void_p
        library.dyad_wire_framing_errors.restype = ctypes.c_uint64
        self._library = library
        self._wire = ctypes.c_void_p(library.dyad_wire(self._simulation.handle))
        self._on = True
        self._set_period()
        self._chip_period = self._status("period") if self._timed else 0
        self._trial_end = 0  # cycle

    def _status(self, name: str) -> int:
        return self._simulation.status()[self._ports.status.index(name)]

    def _set_period(self) -> None:
        self._library.dyad_wire_period(self._wire, ctypes.c_uint64(self.line.period))

    @property
    def cycle(self) -> int:
        """Clock cycles, those before the last power-on included."""
        return self._past + (self._simulation.cycle if self._on else 0)

    @property
    def seconds(self) -> float:
        """Simulated time."""
        return self.cycle / self.line.clock

    @property
    def framing_errors(self) -> int:
        """Bytes from the chip without a stop bit, since power-on; only where it has pins."""
        return int(self._library.dyad_wire_framing_errors(self._wire))

    def set_baud(self, baud: int) -> None:
        """Take the host's rate from now on; nothing where bytes move as fast as they can."""
        if self.line.baud and self.line.baud != baud:
            self.line.baud = baud
            self._set_period()

    def exchange(self, data: bytes, cycles: int = CHUNK) -> tuple[int, bytes, bool]:
        """Run for at most so many cycles.

        Parameters
        ----------
        data : bytes
            What waits to be sent to the chip.
        cycles : int

        Returns
        -------
        taken : int
            Bytes of ``data`` that went.
        given : bytes
        idle : bool
            Whether all went and nothing has moved for so long that nothing more will.
        """
        busy = self._simulation.cycle < self._trial_end or self._is_testing()
        ended = self._library.dyad_wire_run(
            self._wire,
            bytes(data),
            ctypes.c_uint64(len(data)),
            ctypes.byref(self._taken),
            self._buffer,
            ctypes.c_uint64(ROOM),
            ctypes.byref(self._given),
            ctypes.c_uint64(cycles),
            ctypes.c_uint64(PAUSE + (BITS_A_BYTE * self.line.period >> 15)),
            ctypes.c_uint64(_FOREVER if busy else self._patience),
        )
        idle = ended == Pace.IDLE and not self._on_trial() and not self._is_testing()
        return self._taken.value, ctypes.string_at(self._buffer, self._given.value), idle

    def _on_trial(self) -> bool:
        """Whether the chip may have begun to try another rate, and to wait for what the host says to it."""
        if not self._timed:
            return False
        period = self._status("period")
        if period != self._chip_period:
            self._chip_period = period
            self._trial_end = self._simulation.cycle + round(TRIAL * self.line.clock)
        return self._simulation.cycle < self._trial_end

    def _is_testing(self) -> bool:
        """Whether the chip still tests itself, which it does without a byte."""
        return self._may_test and self._status("verdict") == SelfTest.RUNNING

    def power_on(self, seed: int) -> None:
        """Begin again, with other random contents; the cycles go on to be counted."""
        self.close()
        self._start(seed)

    def close(self) -> None:
        """Free the simulation; a second call does nothing."""
        if self._on:
            self._past = self.cycle
            self._on = False
            self._library.dyad_wire_free(self._wire)
            self._simulation.close()
