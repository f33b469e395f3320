"""A stand-in for the chip that place and route is done with in seconds: it has the chip's pins and arithmetic."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class SmallChip(wiring.Component):
    """Shifts bits in, multiplies, keeps words in a block RAM, and shifts them out.

    With a clock each for link and network, the LED is all that blinks with the link's.
    """

    rx: Signal
    tx: Signal
    led: Signal

    def __init__(self, *, split: bool = False) -> None:
        self.domain = "network" if split else "sync"
        super().__init__({"rx": In(1, init=1), "tx": Out(1), "led": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.words = memory = Memory(shape=signed(16), depth=256, init=[], attrs={"ram_style": "block"})
        write, read = memory.write_port(domain=self.domain), memory.read_port(domain=self.domain)
        a = Signal(signed(16))
        b = Signal(signed(16))
        word = Signal(signed(16))
        product = Signal(signed(32))
        m.d.comb += [write.addr.eq(a[:8]), write.data.eq(b), write.en.eq(a[8]), read.addr.eq(b[:8])]
        m.d.sync += self.led.eq(~self.led)
        m.d[self.domain] += [
            a.eq((a << 1) | self.rx),
            b.eq((b << 1) | a[-1]),
            word.eq(read.data),
            product.eq(word * a),
            self.tx.eq(product.xor()),
        ]
        return m
