"""Wires between a driver and a model of the chip: in the same process with faults and a clock of their own, or real."""

from __future__ import annotations

import os
import pty
import select
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from dyadprop.errors import DeviceLost
from dyadprop_sim.chip_model import ChipModel

BITS = 10


@dataclass
class Faults:
    """Chances of what can happen to bytes on their way, each way.

    ``lost`` and ``flipped`` are a byte's; ``cut``, ``twice``, ``late`` and ``swapped`` are a write's or an answer's.
    """

    lost: float = 0.0
    flipped: float = 0.0
    cut: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    swapped: float = 0.0

    def happen(self, data: bytes, rng: np.random.Generator) -> list[bytes]:
        """Give what arrives of some bytes now; the last entry arrives with the bytes that come next."""
        array = np.frombuffer(data, dtype=np.uint8)
        if self.flipped:
            bits = (rng.random(len(array)) < self.flipped) << rng.integers(0, 8, len(array))
            array = array ^ bits.astype(np.uint8)
        if self.lost:
            array = array[rng.random(len(array)) >= self.lost]
        data = array.tobytes()
        if self.cut and rng.random() < self.cut:
            data = data[: int(rng.integers(0, len(data) + 1))]
        pieces = [piece + b"\0" for piece in data.split(b"\0")]
        pieces[-1] = pieces[-1][:-1]
        if self.swapped and len(pieces) > 2 and rng.random() < self.swapped:
            i = int(rng.integers(0, len(pieces) - 2))
            pieces[i], pieces[i + 1] = pieces[i + 1], pieces[i]
        data = b"".join(pieces)
        if self.twice and rng.random() < self.twice:
            data += data
        if self.late and rng.random() < self.late:
            return [b"", data]
        return [data, b""]


@dataclass
class Wire:
    """A port whose other end is a model; its clock stands still while anything can be read.

    ``events`` are done when so many bytes have been written in all; ``cut_off`` is how a port is lost.
    """

    chip: ChipModel
    faults: Faults = field(default_factory=Faults)
    seed: int = 0
    rate: int = 1_000_000
    name: str = "wire"
    pieces: bool = True  # whether reads give pieces of any size
    now: float = 0.0
    events: list[tuple[int, Callable[[Wire], None]]] = field(default_factory=list)
    written: int = 0
    most_unread: int = 0
    cut_off: bool = False
    returns: float = float("inf")  # when it can be opened again
    opened: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.chip._now = self.clock
        self._coming = b""
        self._late = {"in": b"", "out": b""}

    def open(self, address: str, baud: int) -> Wire:
        """Stand in for `SerialPort`."""
        self.cut_off = self.cut_off and self.now < self.returns
        if self.cut_off:
            raise DeviceLost(f"port {address} cannot be opened: it is gone")
        self.rate = baud
        self.opened += 1
        self._coming = b""
        return self

    @property
    def baud(self) -> int:
        return self.rate

    @baud.setter
    def baud(self, value: int) -> None:
        self.rate = value

    def _pass(self, data: bytes, way: str) -> bytes:
        if abs(self.rate / self.chip.baud - 1) > 0.03:
            return bytes(self.rng.integers(0, 256, len(data), dtype=np.uint8))
        now, late = self.faults.happen(data, self.rng)
        now, self._late[way] = self._late[way] + now, late
        return now

    def write(self, data: bytes) -> None:
        if self.cut_off:
            raise DeviceLost(f"port {self.name} was lost: it is gone")
        self.written += len(data)
        self.now += len(data) * BITS / self.rate
        while self.events and self.written >= self.events[0][0]:
            self.events.pop(0)[1](self)
        arrived = self._pass(data, "out")
        before = self.chip.baud
        answer = self.chip.receive(arrived)
        if abs(self.rate / before - 1) > 0.03:
            answer = bytes(self.rng.integers(0, 256, len(answer), dtype=np.uint8))
        else:
            now, late = self.faults.happen(answer, self.rng)
            answer, self._late["in"] = self._late["in"] + now, late
        self._coming += answer
        self.most_unread = max(self.most_unread, len(self._coming))

    def read(self, seconds: float) -> bytes:
        if self.cut_off:
            raise DeviceLost(f"port {self.name} was lost: it is gone")
        if not self._coming:
            self.now += max(seconds, 1e-6)
            self._coming, self._late["in"] = self._late["in"], b""
        size = len(self._coming)
        if self.pieces and self.rng.random() < 0.5:
            size = int(self.rng.integers(0, size + 1))
        data, self._coming = self._coming[:size], self._coming[size:]
        self.now += len(data) * BITS / self.rate
        return data

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def close(self) -> None:
        pass


@contextmanager
def pty_chip(chip: ChipModel) -> Iterator[str]:
    """Put a model behind a pseudo-terminal; give its name."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    name = os.ttyname(theirs)
    stop_read, stop_write = os.pipe()

    def serve() -> None:
        while True:
            ready, _, _ = select.select([ours, stop_read], [], [])
            if stop_read in ready:
                return
            try:
                answer = chip.receive(os.read(ours, 4096))
                while answer:
                    answer = answer[os.write(ours, answer) :]
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield name
    finally:
        os.write(stop_write, b"x")
        thread.join()
        for descriptor in (ours, theirs, stop_read, stop_write):
            os.close(descriptor)


@contextmanager
def socket_chip(chip: ChipModel) -> Iterator[str]:
    """Put a model behind a socket, for one host at a time; give its address."""
    server = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            ready, _, _ = select.select([server], [], [], 0.05)
            if not ready:
                continue
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while not stop.is_set():
                    ready, _, _ = select.select([connection], [], [], 0.05)
                    try:
                        data = connection.recv(4096) if ready else None
                    except OSError:
                        break
                    if data == b"":
                        break
                    if data:
                        connection.sendall(chip.receive(data))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"socket://127.0.0.1:{server.getsockname()[1]}"
    finally:
        stop.set()
        thread.join()
        server.close()
