"""A serial line: 8 data bits, no parity, one stop bit, least significant bit first."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from dyadprop.protocol import MAX_PERIOD, PERIOD_FRACTION_BITS

CYCLE = 1 << PERIOD_FRACTION_BITS
DATA_BITS = 8


class BitTimer(wiring.Component):
    """Say when a bit ends; bits have whole numbers of cycles, their mean is the period.

    Members
    -------
    period : In
        In sixteenths of a cycle.
    start, half : In(1)
        Begin a bit with the next cycle; its end comes after half a period where ``half`` is set.
    end : Out(1)
        The last cycle of a bit.

    Notes
    -----
    Each end is at most one cycle late, and the lateness does not add up.
    """

    period: Signal
    start: Signal
    half: Signal
    end: Signal

    def __init__(self) -> None:
        super().__init__({"period": In(range(MAX_PERIOD + 1)), "start": In(1), "half": In(1), "end": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Count sixteenths down."""
        m = Module()
        left = Signal.like(self.period, reset_less=True)
        m.d.comb += self.end.eq(left <= CYCLE)
        m.d.sync += left.eq(left - CYCLE + Mux(self.end, self.period, 0))
        with m.If(self.start):
            # An edge of the line is seen up to one cycle late, and so is each end: one cycle on average, taken off.
            m.d.sync += left.eq(Mux(self.half, (self.period >> 1) - CYCLE, self.period))
        return m


class UartReceiver(wiring.Component):
    """Take bytes from a line.

    Members
    -------
    rx : In(1)
        The pin; it needs no relation to the clock.
    period : In
        Bit period in sixteenths of a clock cycle.
    byte : Out(8)
    arrived : Out(1)
        High for the cycle in which ``byte`` is one that came.
    framing_error : Out(1)
        High for a cycle: a byte had no stop bit. It is lost, and the next one begins after the line was high.

    Notes
    -----
    Samples in the middle of each bit, the start bit too: a shorter low is no byte. It is ready again half a bit before
    the stop bit ends; a sender may be 2 % fast or slow.
    """

    rx: Signal
    period: Signal
    byte: Signal
    arrived: Signal
    framing_error: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "rx": In(1, init=1),
                "period": In(range(MAX_PERIOD + 1)),
                "byte": Out(DATA_BITS),
                "arrived": Out(1),
                "framing_error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wait for a low, then sample."""
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1)
        m.submodules.timer = timer = BitTimer()
        # Bits move down from the top; when the one that was put there has left, the byte is whole.
        bits = Signal(DATA_BITS + 1, reset_less=True)
        m.d.comb += [timer.period.eq(self.period), timer.half.eq(1), self.byte.eq(bits[1:])]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += timer.start.eq(1)
                with m.If(~line):
                    m.next = "START"
            with m.State("START"):
                m.d.sync += bits.eq(1 << DATA_BITS)
                with m.If(timer.end):
                    with m.If(line):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "DATA"
            with m.State("DATA"), m.If(timer.end):
                m.d.sync += bits.eq(Cat(bits[1:], line))
                with m.If(bits[1]):
                    m.next = "STOP"
            with m.State("STOP"), m.If(timer.end):
                m.d.comb += [self.arrived.eq(line), self.framing_error.eq(~line)]
                with m.If(line):
                    m.next = "IDLE"
                with m.Else():
                    m.next = "BREAK"
            with m.State("BREAK"), m.If(line):
                m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Put bytes on a line.

    Members
    -------
    bytes : In(stream.Signature(8))
    period : In
        Bit period in sixteenths of a clock cycle; to be changed only while not busy.
    tx : Out(1)
        The pin.
    busy : Out(1)
        A byte is on the line, or one is offered.

    Notes
    -----
    A byte's start bit begins the cycle after it was taken; the next byte is taken after its stop bit.
    """

    bytes: Any
    period: Signal
    tx: Signal
    busy: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "bytes": In(stream.Signature(DATA_BITS)),
                "period": In(range(MAX_PERIOD + 1)),
                "tx": Out(1, init=1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Shift."""
        m = Module()
        m.submodules.timer = timer = BitTimer()
        # What has yet to be sent, and a one that marks its end; the line itself is the lowest bit.
        bits = Signal(DATA_BITS + 3, init=1)
        idle = bits[1:] == 0
        m.d.comb += [
            timer.period.eq(self.period),
            timer.start.eq(idle),
            self.bytes.ready.eq(idle),
            self.tx.eq(bits[0]),
            self.busy.eq(~idle | self.bytes.valid),
        ]
        with m.If(idle):
            with m.If(self.bytes.valid):
                m.d.sync += bits.eq(Cat(Const(0, 1), self.bytes.payload, Const(3, 2)))
        with m.Elif(timer.end):
            m.d.sync += bits.eq(bits[1:])
        return m
