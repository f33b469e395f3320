"""Byte ports: a serial adapter, a socket or whatever else pyserial opens; what goes wrong becomes `DeviceLost`."""

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import serial
from serial.tools import list_ports

from dyadprop.errors import DeviceLost, RangeError

try:
    from termios import error as _TerminalError  # noqa: N812 - a class whose module gives it a small letter
except ImportError:  # Windows has none
    _TerminalError = OSError  # type: ignore[misc, assignment]

WRITE_SECONDS = 2.0
"""A port that takes no bytes for so long is lost."""

_READ_SECONDS = 0.01  # of one read where nothing can be waited for, so that closing and Ctrl-C are seen
_READ_BYTES = 1 << 16


class Port(Protocol):
    """What a link needs of a port.

    Attributes
    ----------
    name : str
        As errors call it.
    baud : int
        Bits a second; 0 where that means nothing. To set it waits until all that was written has left.
    """

    name: str

    @property
    def baud(self) -> int:
        """Bits a second."""

    @baud.setter
    def baud(self, value: int) -> None: ...

    def write(self, data: bytes) -> None:
        """Send all bytes."""

    def read(self, seconds: float) -> bytes:
        """Give bytes that have come; wait for the first at most so long, and give none then."""

    def clock(self) -> float:
        """Seconds, from any start."""

    def pause(self, seconds: float) -> None:
        """Let time pass."""

    def close(self) -> None:
        """Give the port back."""


class SerialPort:
    """A port that pyserial opens.

    Parameters
    ----------
    address : str
        A device file or name, ``socket://host:port``, or another URL that pyserial knows.
    baud : int

    Raises
    ------
    RangeError
        If that is no address, or the port takes no such rate.
    DeviceLost
        If it cannot be opened, or somebody else has it.
    """

    def __init__(self, address: str, baud: int) -> None:
        self.name = address
        try:
            port: Any = serial.serial_for_url(address, do_not_open=True)
        except (ValueError, serial.SerialException) as error:
            raise RangeError(f"port {address!r} cannot be understood: {_one_line(error)}") from error
        self._port = port
        self._socket = address.startswith("socket://")
        real = isinstance(port, serial.Serial)
        try:
            port.baudrate, port.timeout, port.write_timeout = baud, _READ_SECONDS, WRITE_SECONDS
            if real:
                port.exclusive = True
            port.open()
            self._waits = _waitable(port)
        except (ValueError, OverflowError) as error:
            raise RangeError(f"port {address} takes no rate of {baud} baud: {_one_line(error)}") from error
        except (serial.SerialException, OSError, _TerminalError, TypeError) as error:
            raise DeviceLost(_not_opened(address, error)) from error
        if self._socket:
            _send_at_once(port)
        if real:
            with contextlib.suppress(Exception):  # only some adapters have it, and only on Linux
                port.set_low_latency_mode(True)
        self.forget()

    @property
    def baud(self) -> int:
        """Bits a second; 0 on a socket."""
        return 0 if self._socket else int(self._port.baudrate)

    @baud.setter
    def baud(self, value: int) -> None:
        with self._losses():
            if not self._socket:
                self._port.flush()
                try:
                    self._port.baudrate = value
                except (ValueError, OverflowError) as error:
                    raise RangeError(f"port {self.name} takes no rate of {value} baud: {_one_line(error)}") from error

    def forget(self) -> None:
        """Drop bytes of earlier programs, both ways."""
        with self._losses():
            self._port.reset_output_buffer()
            self._port.reset_input_buffer()

    def write(self, data: bytes) -> None:
        """Send all bytes."""
        with self._losses():
            self._port.write(data)

    def read(self, seconds: float) -> bytes:
        """Give bytes that have come; wait for the first at most so long, and give none then."""
        with self._losses():
            if self._waits:
                descriptor = self._port.fileno()
                if not select.select([descriptor], [], [], max(seconds, 0.0))[0]:
                    return b""
                data = os.read(descriptor, _READ_BYTES)
                if not data:
                    raise OSError("the other end is gone")
                return data
            end = time.monotonic() + seconds
            while True:
                data = self._port.read(max(1, min(self._port.in_waiting, _READ_BYTES)))
                if data or time.monotonic() >= end:
                    return bytes(data)

    def clock(self) -> float:
        """Seconds, from any start."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    def close(self) -> None:
        """Give the port back; what is wrong with it does not matter any more."""
        with contextlib.suppress(Exception):
            self._port.reset_output_buffer()  # or a port that takes nothing keeps us for half a minute
        with contextlib.suppress(Exception):
            if self._port.exclusive:
                self._port.exclusive = False  # a forked child's copy would go on keeping others out
        connection = getattr(self._port, "_socket", None)
        with contextlib.suppress(Exception):
            self._port.close()
        if connection is not None:  # pyserial leaves it open when the other end is gone
            with contextlib.suppress(Exception):
                connection.close()

    @contextmanager
    def _losses(self) -> Iterator[None]:
        """Turn all that pyserial and the system throw at a lost port into DeviceLost: the one place that does."""
        try:
            yield
        except RangeError:
            raise
        except (serial.SerialException, OSError, _TerminalError, TypeError, ValueError) as error:
            # TypeError and ValueError: how a descriptor is found to be None, or its file closed.
            raise DeviceLost(f"port {self.name} was lost: {_one_line(error)}") from error


def port_names(*, usb: bool = False) -> list[str]:
    """Give the names of the serial ports that the system has; of USB adapters only, where asked."""
    try:
        found = list(list_ports.comports())
    except (OSError, TypeError, ValueError):  # a system that hides what it has
        return []
    return sorted(port.device for port in found if port.vid is not None or not usb)


def _waitable(port: Any) -> bool:
    """Whether its bytes can be waited for and read through a file descriptor."""
    if os.name != "posix":
        return False
    try:
        return isinstance(port.fileno(), int)
    except (OSError, AttributeError):  # io.UnsupportedOperation is an OSError
        return False


def _send_at_once(port: Any) -> None:
    with contextlib.suppress(Exception), socket.socket(fileno=os.dup(port.fileno())) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _not_opened(address: str, error: BaseException) -> str:
    number = getattr(error, "errno", None)
    if number in (errno.EAGAIN, errno.EACCES, errno.EBUSY) and "lock" in str(error):
        return f"port {address} cannot be opened: another program uses it"
    if number == errno.EBUSY:
        return f"port {address} cannot be opened: another program uses it"
    if number in (errno.EACCES, errno.EPERM):
        return f"port {address} cannot be opened: this user may not; its group (often dialout) may"
    if number == errno.ENOENT:
        return f"port {address} cannot be opened: there is none; found are {', '.join(port_names()) or 'none'}"
    return f"port {address} cannot be opened: {_one_line(error)}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
