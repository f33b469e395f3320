"""What a simulated chip's bytes go through to a driver: a pseudo-terminal, a TCP socket, or a pair of sockets."""

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import tty
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from dyadprop.errors import RangeError

READ_SIZE = 65536

_TCGETS2 = 0x802C542A  # Linux; its termios has the rates themselves, which struct termios has no room for
_TERMIOS2 = struct.Struct("=4IB19B2I")


class Port(ABC):
    """One end of a two-way stream of bytes; nothing here ever blocks but `wait`."""

    @property
    @abstractmethod
    def address(self) -> str:
        """What a driver opens."""

    @abstractmethod
    def handles(self) -> list[int]:
        """Give what `select` waits on for something to read: the line, or whoever wants to be connected."""

    @abstractmethod
    def read(self) -> bytes:
        """Take what has come; nothing if there is nothing."""

    @abstractmethod
    def write(self, data: bytes) -> int:
        """Give bytes; say how many went. What nobody listens to is gone."""

    @abstractmethod
    def write_handles(self) -> list[int]:
        """Give what `select` waits on for room."""

    @property
    def baud(self) -> int | None:
        """The rate that the driver has set; None where there is none."""
        return None

    def drop(self) -> None:  # noqa: B027 - a pair has nothing that comes back
        """Lose the connection, as a cable that is pulled and put in again."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back; a second call does nothing."""


class PtyPort(Port):
    """A pseudo-terminal.

    Parameters
    ----------
    link : str, optional
        A symbolic link of that name leads to it for as long as it is there.
    """

    def __init__(self, link: str | None = None) -> None:
        self._link = None if link is None else Path(link)
        if self._link is not None and (self._link.exists() or self._link.is_symlink()):
            if not self._link.is_symlink() or self._link.exists():
                raise RangeError(f"port {link} is there already; allowed is a name that is free")
            self._link.unlink()  # left by a process that was killed
        self._master = self._slave = -1
        self._open()

    def _open(self) -> None:
        self._master, self._slave = os.openpty()
        # Our own hold on the slave: without it the master reads errors while no driver is there.
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._name = os.ttyname(self._slave)
        if self._link is not None:
            try:
                self._link.symlink_to(self._name)
            except OSError as error:
                os.close(self._master)
                os.close(self._slave)
                self._master = -1
                raise RangeError(f"port {self._link} cannot be made: {error.strerror}") from error

    @property
    def address(self) -> str:
        """The link, or the device itself."""
        return self._name if self._link is None else str(self._link)

    @property
    def baud(self) -> int | None:
        """What the driver set in the terminal's attributes; None before it did."""
        try:
            answer = fcntl.ioctl(self._slave, _TCGETS2, bytes(_TERMIOS2.size))
        except OSError:
            return None
        return int(_TERMIOS2.unpack(answer)[-1]) or None

    def handles(self) -> list[int]:
        """Give the terminal."""
        return [self._master]

    def write_handles(self) -> list[int]:
        """Give the terminal."""
        return [self._master]

    def read(self) -> bytes:
        """Take what the driver wrote."""
        try:
            return os.read(self._master, READ_SIZE)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EIO):
                return b""
            raise

    def write(self, data: bytes) -> int:
        """Give bytes to the driver."""
        try:
            return os.write(self._master, data)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return 0
            raise

    def drop(self) -> None:
        """Hang up, and come back under the same link."""
        self.close()
        self._open()

    def close(self) -> None:
        """Remove terminal and link."""
        if self._master < 0:
            return
        if self._link is not None and self._link.is_symlink() and os.readlink(self._link) == self._name:
            self._link.unlink()
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1


class TcpPort(Port):
    """A TCP socket for one connection at a time; a second is refused.

    Parameters
    ----------
    host : str
    port : int
        0: any that is free; it is kept from then on.
    """

    def __init__(self, host: str = "localhost", port: int = 0) -> None:
        self._host, self._port = host, port
        self._listener: socket.socket | None = None
        self._peer: socket.socket | None = None
        self._listen()

    def _listen(self) -> None:
        try:
            family, kind, number, _, where = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = socket.socket(family, kind, number)
        except OSError as error:
            raise RangeError(f"port socket://{self._host}:{self._port} cannot be had: {error}") from error
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(1)
        except OSError as error:
            listener.close()
            raise RangeError(f"port socket://{self._host}:{self._port} cannot be had: {error}") from error
        listener.setblocking(False)
        self._port = listener.getsockname()[1]
        self._listener = listener

    @property
    def address(self) -> str:
        """A pyserial address."""
        return f"socket://{self._host}:{self._port}"

    def handles(self) -> list[int]:
        """Give the connection, or who waits for one."""
        open_socket = self._peer or self._listener
        return [] if open_socket is None else [open_socket.fileno()]

    def write_handles(self) -> list[int]:
        """Give the connection, if there is one."""
        return [] if self._peer is None else [self._peer.fileno()]

    def read(self) -> bytes:
        """Take what the driver sent, or the driver that wants to be connected."""
        if self._peer is None:
            try:
                assert self._listener is not None
                self._peer, _ = self._listener.accept()
            except BlockingIOError:
                return b""
            self._peer.setblocking(False)
            self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._listener.close()  # a second one is refused from now on
            self._listener = None
        try:
            data = self._peer.recv(READ_SIZE)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.drop()
        return data

    def write(self, data: bytes) -> int:
        """Give bytes to the driver."""
        if self._peer is None:
            return len(data)
        try:
            return self._peer.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.drop()
            return len(data)

    def drop(self) -> None:
        """End the connection and wait for the next one."""
        if self._peer is not None:
            self._peer.close()
            self._peer = None
            self._listen()

    def close(self) -> None:
        """End everything."""
        for open_socket in (self._peer, self._listener):
            if open_socket is not None:
                open_socket.close()
        self._peer = self._listener = None


class PairPort(Port):
    """One end of a pair of sockets within this process."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setblocking(False)

    @classmethod
    def pair(cls) -> tuple["PairPort", "PairPort"]:
        """Make both ends."""
        one, two = socket.socketpair()
        return cls(one), cls(two)

    @property
    def address(self) -> str:
        """Nothing that could be opened."""
        return ""

    def handles(self) -> list[int]:
        """Give the socket."""
        return [self._end.fileno()]

    def write_handles(self) -> list[int]:
        """Give the socket."""
        return [self._end.fileno()]

    def read(self) -> bytes:
        """Take what has come."""
        try:
            return self._end.recv(READ_SIZE)
        except (BlockingIOError, ConnectionError):
            return b""

    def write(self, data: bytes) -> int:
        """Give bytes."""
        try:
            return self._end.send(data)
        except BlockingIOError:
            return 0
        except ConnectionError:
            return len(data)

    def close(self) -> None:
        """Close this end."""
        self._end.close()


def open_port(name: str | None) -> Port:
    """Make a port by its name.

    Parameters
    ----------
    name : str or None
        ``socket://HOST:PORT`` (port 0: any), the name of a link to a new pseudo-terminal, or None: a pseudo-terminal
        under its own name.
    """
    if name is None or not name.startswith("socket://"):
        return PtyPort(name)
    host, colon, number = name.removeprefix("socket://").rpartition(":")
    if not colon or not number.isdecimal() or int(number) > 65535:
        raise RangeError(f"port is {name!r}; allowed are socket://HOST:PORT and the name of a link to make")
    return TcpPort(host or "localhost", int(number))


class Waker:
    """What another thread ends a `wait` with."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def wake(self) -> None:
        """End the wait that is under way, or the next one."""
        with contextlib.suppress(BlockingIOError):  # full of it: good enough
            os.write(self._write, b"!")

    def wait(self, readers: Sequence[int], writers: Sequence[int], seconds: float | None) -> None:
        """Wait until there is something to read, room to write, or somebody who wakes us."""
        ready, _, _ = select.select([self._read, *readers], writers, [], seconds)
        if self._read in ready:
            os.read(self._read, 4096)

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self._read)
        os.close(self._write)
