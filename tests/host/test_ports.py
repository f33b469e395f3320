"""Byte ports: bytes in and out, and one kind of error whatever goes wrong."""

from __future__ import annotations

import os
import pty
import termios
import tty
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import serial

from dyadprop import ports
from dyadprop.errors import DeviceLost, RangeError
from dyadprop.ports import SerialPort, port_names


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    yield ours, os.ttyname(theirs)
    for descriptor in (ours, theirs):
        os.close(descriptor)


def test_bytes_go_both_ways(terminal):
    ours, name = terminal
    port = SerialPort(name, 115200)
    assert (port.name, port.baud) == (name, 115200)
    port.write(bytes(range(256)))
    assert os.read(ours, 1000) == bytes(range(256))
    os.write(ours, b"\0\x11\x13\xff\n\r")
    assert port.read(1.0) == b"\0\x11\x13\xff\n\r"
    start = port.clock()
    assert port.read(0.05) == b""
    assert 0.04 < port.clock() - start < 1.0
    port.baud = 3_000_000
    assert port.baud == 3_000_000
    port.close()
    port.close()


def test_bytes_of_earlier_programs_are_dropped(terminal):
    ours, name = terminal
    os.write(ours, b"stale")
    port = SerialPort(name, 115200)
    assert port.read(0.02) == b""
    port.close()


def test_a_port_without_a_descriptor():
    port = SerialPort("loop://", 9600)
    assert port.read(0.0) == b""
    port.write(b"abc")
    assert port.read(1.0) == b"abc"
    port.close()


@pytest.mark.parametrize(
    "use",
    [
        lambda port: port.write(b"x"),
        lambda port: port.read(0.0),
        lambda port: setattr(port, "baud", 9600),
        lambda port: port.forget(),
    ],
)
@pytest.mark.parametrize("address", ["pty", "loop://"])
def test_a_closed_port(terminal, address, use):
    port = SerialPort(terminal[1] if address == "pty" else address, 9600)
    port.close()
    with pytest.raises(DeviceLost, match=f"^port {port.name} was lost: .+") as caught:
        use(port)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        serial.SerialException("device disconnected\nor so"),
        serial.SerialTimeoutException("Write timeout"),
        serial.PortNotOpenError(),
        OSError(5, "Input/output error"),
        termios.error(5, "Input/output error"),
        TypeError("an integer is required"),
        ValueError("I/O operation on closed file"),
        OSError(),
    ],
)
def test_whatever_is_thrown(terminal, monkeypatch, error):
    port = SerialPort(terminal[1], 9600)

    def fail(data: bytes) -> None:
        raise error

    monkeypatch.setattr(port._port, "write", fail)
    with pytest.raises(DeviceLost, match=f"^port {port.name} was lost: .+") as caught:
        port.write(b"x")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    port.close()


def test_a_port_that_takes_nothing(terminal, monkeypatch):
    monkeypatch.setattr(ports, "WRITE_SECONDS", 0.05)
    port = SerialPort(terminal[1], 9600)
    with pytest.raises(DeviceLost, match=r"^port .* was lost: Write timeout$"):
        port.write(bytes(1 << 20))
    port.close()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(16, "Device or resource busy"), "another program uses it"),
        (OSError(13, "Permission denied"), "this user may not; its group .often dialout. may"),
        (serial.SerialException(2, "No such file"), "there is none; found are"),
        (serial.SerialException("no such luck"), "no such luck"),
        (TypeError("expected str"), "expected str"),
    ],
)
def test_a_port_that_cannot_be_opened(monkeypatch, error, sentence):
    def fail(self) -> None:
        raise error

    monkeypatch.setattr(serial.Serial, "open", fail)
    with pytest.raises(DeviceLost, match=f"^port /dev/ttyUSB7 cannot be opened: {sentence}"):
        SerialPort("/dev/ttyUSB7", 9600)


def test_a_rate_that_the_adapter_does_not_take(terminal, monkeypatch):
    port = SerialPort(terminal[1], 9600)

    def refuse(self, force_update: bool = False) -> None:
        raise ValueError("Failed to set custom baud rate (12345678)")

    monkeypatch.setattr(serial.Serial, "_reconfigure_port", refuse)
    with pytest.raises(RangeError, match=r"^port .* takes no rate of 12345678 baud: Failed to set custom baud rate"):
        port.baud = 12345678
    with pytest.raises(RangeError, match=r"^port .* takes no rate of 12345678 baud: Failed to set custom baud rate"):
        SerialPort(terminal[1], 12345678)
    monkeypatch.undo()
    port.close()


def test_the_systems_ports(monkeypatch):
    found = [SimpleNamespace(device=name, vid=vid) for name, vid in (("b", 1), ("console", None), ("a", 2))]
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: found)
    assert port_names() == ["a", "b", "console"]
    assert port_names(usb=True) == ["a", "b"]

    def hide() -> None:
        raise OSError("no /sys")

    monkeypatch.setattr("serial.tools.list_ports.comports", hide)
    assert port_names() == []
