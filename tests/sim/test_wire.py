"""The simulated wire: bytes over a stream and over a UART's pins, ports, and the server between them."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import serial

import dyadprop as dp
from dyadprop_sim.chip_server import ChipServer
from dyadprop_sim.library import BuildOptions, build_library
from dyadprop_sim.ports import PtyPort, TcpPort, open_port
from dyadprop_sim.wire import PINS, STREAMS, Line, WireSimulation

QUICK = BuildOptions(optimize="-O0", random_start=True)

# One place for one byte; it gives back one more than it was given.
ADD_ONE = """
module top(input clk, input rst, input [7:0] rx__payload, input rx__valid, output rx__ready,
           output [7:0] tx__payload, output tx__valid, input tx__ready);
  reg [7:0] word; reg full;
  assign rx__ready = !full; assign tx__valid = full; assign tx__payload = word;
  always @(posedge clk) begin
    if (rx__ready && rx__valid) begin word <= rx__payload + 1; full <= 1; end
    if (tx__valid && tx__ready) full <= 0;
    if (rst) full <= 0;
  end
endmodule
"""
# The line itself, two cycles later.
LOOP = """
module top(input clk, input rst, input rx, output tx);
  reg [1:0] late;
  assign tx = late[1];
  always @(posedge clk) late <= rst ? 2'b11 : {late[0], rx};
endmodule
"""


def stream_chip(**line) -> WireSimulation:
    path = build_library("a byte", "add one", lambda: ADD_ONE, STREAMS, QUICK)
    return WireSimulation(path, STREAMS, Line(1e6, **line), patience=500)


def pin_chip(baud: float, error: float = 0.0) -> WireSimulation:
    path = build_library("a line", "loop", lambda: LOOP, PINS, QUICK)
    return WireSimulation(path, PINS, Line(1e6, baud, error), patience=500)


def everything(chip: WireSimulation, data: bytes, cycles: int = 10**6) -> bytes:
    """Send all, and take what comes until nothing does."""
    answer = b""
    for _ in range(10_000):
        taken, given, idle = chip.exchange(data, cycles)
        data, answer = data[taken:], answer + given
        if idle:
            return answer
    raise AssertionError(f"{len(data)} bytes left, {len(answer)} came")


BYTES = np.random.default_rng(1).bytes(700)


def test_bytes_go_as_fast_as_they_are_taken():
    chip = stream_chip()
    assert everything(chip, BYTES) == bytes((b + 1) % 256 for b in BYTES)
    assert chip.cycle < 2 * 700 + 600  # two cycles a byte, and the wait at the end
    chip.close()
    assert chip.cycle >= 1400


def test_bytes_go_at_the_hosts_rate():
    chip = stream_chip(baud=80_000)  # 12.5 cycles a bit, 125 a byte
    everything(chip, BYTES)
    assert 699 * 125 <= chip.cycle - 501 < 699 * 125 + 130
    chip.set_baud(100_000)
    before = chip.cycle
    everything(chip, BYTES)
    assert 699 * 100 <= chip.cycle - before - 501 < 699 * 100 + 110
    chip.close()


@pytest.mark.parametrize("cycles", [1, 7, 1000])
def test_the_length_of_a_call_changes_nothing(cycles):
    whole, parts = (pin_chip(130_000) for _ in range(2))
    assert everything(whole, BYTES[:30]) == everything(parts, BYTES[:30], cycles) == BYTES[:30]
    whole.close()
    parts.close()


@pytest.mark.parametrize("period", [4.0, 4.3, 8.0, 13.77])
def test_a_waveform_comes_back_as_the_bytes_it_was_made_of(period):
    chip = pin_chip(1e6 / period)
    assert everything(chip, BYTES) == BYTES
    assert chip.framing_errors == 0
    assert 7000 * period <= chip.cycle <= 7000 * period + 600  # back to back
    chip.close()


def test_the_rate_of_the_host_may_be_wrong():
    assert Line(1e6, 1e5, 0.02).period == pytest.approx(65536 * 10 / 1.02, abs=1)
    chip = pin_chip(1e5, -0.02)
    everything(chip, BYTES[:100])
    assert 1000 * 10 / 0.98 <= chip.cycle - 500 < 1000 * 10 / 0.98 + 20
    chip.close()


def test_power_on_forgets_what_was_under_way_but_not_the_time():
    chip = stream_chip(baud=1000)
    taken, given, idle = chip.exchange(b"abc", 100)
    assert (taken, given, idle) == (1, b"b", False)
    chip.power_on(2)
    assert chip.cycle == 100
    assert everything(chip, b"x") == b"y"
    chip.close()
    chip.close()


# -- ports and server -------------------------------------------------------------------------------------------------


def test_a_driver_finds_the_chip_under_the_link(tmp_path: Path):
    link = tmp_path / "ttyDYAD"
    with ChipServer(stream_chip(), PtyPort(str(link))) as server:
        assert server.address == str(link)
        with serial.Serial(str(link), 3_000_000, timeout=10) as port:
            port.write(BYTES)
            assert port.read(700) == bytes((b + 1) % 256 for b in BYTES)
        with serial.Serial(str(link), 115_200, timeout=10) as port:  # and once more
            port.write(b"\0\x11\x13\r\n\x04")
            assert port.read(6) == b"\x01\x12\x14\x0e\x0b\x05"
        assert server.received == server.sent == 706
    assert not link.is_symlink()
    assert server.failure is None


def test_the_drivers_rate_is_the_rate_of_the_line(tmp_path: Path):
    chip = pin_chip(250_000)
    with ChipServer(chip, PtyPort()) as server:
        with serial.Serial(server.address, 123_000, timeout=10) as port:
            port.write(BYTES[:50])
            assert port.read(50) == BYTES[:50]
            assert chip.line.baud == 123_000
            port.baudrate = 80_000
            port.write(BYTES[:50])
            assert port.read(50) == BYTES[:50]
            assert chip.line.baud == 80_000


def test_time_stands_still_when_there_is_nothing_to_do():
    chip = stream_chip()
    with ChipServer(chip, PtyPort()) as server, serial.Serial(server.address, timeout=10) as port:
        port.write(b"a")
        assert port.read(1) == b"b"
        time.sleep(0.1)
        cycle = chip.cycle
        time.sleep(0.2)
        assert chip.cycle == cycle < 1000


def test_one_connection_at_a_time_over_tcp():
    with ChipServer(stream_chip(), open_port("socket://localhost:0")) as server:
        number = int(server.address.rpartition(":")[2])
        for _ in range(2):
            with serial.serial_for_url(server.address, timeout=10) as port:
                port.write(b"abc")
                assert port.read(3) == b"bcd"
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("localhost", number), timeout=10)
            limit = time.monotonic() + 10
            while True:  # until the server has seen that the driver is gone
                try:
                    socket.create_connection(("localhost", number), timeout=10).close()
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < limit
            time.sleep(0.05)


def test_a_host_that_does_not_read_loses_nothing():
    with ChipServer(stream_chip(), PtyPort()) as server, serial.Serial(server.address, timeout=20) as port:
        data = BYTES * 100
        writer = threading.Thread(target=port.write, args=(data,))
        writer.start()
        time.sleep(0.3)
        assert port.read(len(data)) == bytes((b + 1) % 256 for b in data)
        writer.join()


def test_a_pulled_cable_comes_back_under_the_same_link(tmp_path: Path):
    link = tmp_path / "tty"
    port = PtyPort(str(link))
    first = os.readlink(link)
    driver = serial.Serial(str(link), timeout=1)
    port.drop()
    with pytest.raises(serial.SerialException):
        driver.read(1)
    driver.close()
    assert os.readlink(link)
    with serial.Serial(str(link), timeout=10) as driver:
        driver.write(b"abc")
        time.sleep(0.05)
        assert port.read() == b"abc"
    port.close()
    assert not link.is_symlink()
    assert first.startswith("/dev/pts/")


def test_what_is_no_port(tmp_path: Path):
    taken = tmp_path / "file"
    taken.touch()
    with pytest.raises(dp.RangeError, match=rf"^port {taken} is there already; allowed is a name that is free$"):
        open_port(str(taken))
    (tmp_path / "stale").symlink_to("/dev/pts/no-such")
    open_port(str(tmp_path / "stale")).close()
    with pytest.raises(dp.RangeError, match=r"^port .*/nowhere/tty cannot be made: No such file or directory$"):
        open_port(str(tmp_path / "nowhere" / "tty"))
    for name in ("socket://localhost", "socket://localhost:x", "socket://localhost:70000"):
        with pytest.raises(dp.RangeError, match=r"^port is '.*'; allowed are socket://HOST:PORT and the name of a"):
            open_port(name)
    first = open_port("socket://localhost:0")
    assert isinstance(first, TcpPort)
    with pytest.raises(dp.RangeError, match=r"^port socket://localhost:[0-9]+ cannot be had: "):
        open_port(first.address)
    first.close()


def test_a_chip_that_fails_is_a_known_end():
    class Broken:
        seconds = 0.0

        def exchange(self, data: bytes) -> tuple[int, bytes, bool]:
            raise ValueError("broken")

        def power_on(self, seed: int) -> None: ...
        def set_baud(self, baud: int) -> None: ...
        def close(self) -> None: ...

    server = ChipServer(Broken(), PtyPort())
    with serial.Serial(server.address) as port:
        port.write(b"a")
        server.wait(10)
    assert isinstance(server.failure, ValueError)
    server.stop()
