"""Bench of the UART: both directions, at many bit periods, with clocks that differ."""

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from dyadprop.protocol import MAX_PERIOD, MIN_PERIOD
from dyadprop_hw.uart import UartReceiver, UartTransmitter
from dyadprop_sim.benches.serial_line import BITS, LineReceiver, LineSender
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants

PERIODS = (MIN_PERIOD, MIN_PERIOD + 1, 100, 137, 400)
PERIOD = range(MAX_PERIOD + 1)


def make_top() -> Variants:
    """Make one of each."""
    return Variants({"receiver": UartReceiver(), "transmitter": UartTransmitter()})


class ReceiverBench(Testbench):
    """A receiver at the end of a line whose other end has its own idea of a bit."""

    def __init__(self, dut: Any, seed: int, period: int, error: float = 0.0) -> None:
        super().__init__(dut, "receiver", seed)
        self.input("period", PERIOD, period)
        self.line = LineSender(dut.clk, dut.receiver__rx, period / 16 * (1 + error))
        self.drivers.append(self.line)  # type: ignore[arg-type]
        self._quiet.append(self.line)
        self._running.append(self.line)
        self.bytes = self.checker("byte")
        self.errors = 0

    async def watch(self) -> None:
        """Check the bytes that come, count what had no stop bit."""
        edge = RisingEdge(self.dut.clk)
        byte, arrived, error = self.port("byte", 8), self.port("arrived", 1), self.port("framing_error", 1)
        while True:
            await edge
            self.errors += error.bits()
            if arrived.bits():
                self.bytes.check(byte.bits())


@cocotb.test()
@cocotb.parametrize(period=PERIODS, error=[-0.02, 0.0, 0.02])
async def receives(dut: Any, period: int, error: float) -> None:
    """Bytes back to back and with gaps, from a sender that is up to 2 % fast or slow."""
    bench = ReceiverBench(dut, period, period, error)
    await bench.start(bench.watch())
    await bench.cycles(5)
    data = bytes([0x00, 0xFF, 0x55, 0xAA, 0x80, 0x01]) + bench.rng.randbytes(14)
    bench.bytes.expect(data + data[:6])
    bench.line.send(data)
    for byte in data[:6]:
        bench.line.send(bytes([byte]), idle=bench.rng.uniform(0, 3))
    await bench.finish(byte=26)
    assert bench.errors == 0


@cocotb.test()
async def framing_errors(dut: Any) -> None:
    """A byte without a stop bit is lost and counted once, however long the line stays low; a short low is no byte."""
    bench = ReceiverBench(dut, 1, 160)
    await bench.start(bench.watch())
    await bench.cycles(5)
    bench.bytes.expect(b"ab")
    bench.line.send(b"a")
    bench.line.send(b"\x70", stop=0)
    bench.line.send(b"\0\0", stop=0, idle=0.0)
    await bench.cycles(450)
    bench.line.period = 3.0  # a low of three cycles where ten are a bit
    bench.line.send(b"\xff")
    await bench.cycles(100)
    bench.line.period = 10.0
    bench.line.send(b"b", idle=1)
    await bench.finish(byte=2)
    assert bench.errors == 1, f"{bench.errors} framing errors"


@cocotb.test()
@cocotb.parametrize(period=PERIODS)
async def transmits(dut: Any, period: int) -> None:
    """Bytes of ten bits, one cycle apart where they come without a gap."""
    bench = Testbench(dut, "transmitter", period, stalls=False)
    bench.input("period", PERIOD, period)
    busy = bench.port("busy", 1)
    heard = bench.checker("heard")
    line = LineReceiver(dut.clk, dut.transmitter__tx, period / 16, heard.check)
    driver, _ = bench.source("bytes", 8)
    await bench.start(line.run())
    await bench.cycles(3)
    assert not busy.bits()
    data = bytes([0x00, 0xFF, 0x55, 0xAA]) + bench.rng.randbytes(12)
    heard.expect(data)
    driver.send(data)
    await bench.drain()
    assert busy.bits()
    await bench.cycles(period)
    assert not busy.bits()
    await bench.finish(heard=16)
    total = line.starts[-1] - line.starts[0]
    bits = BITS * period * 15 / 16
    assert bits + 15 <= total <= bits + 30, f"16 bytes took {total} cycles"
