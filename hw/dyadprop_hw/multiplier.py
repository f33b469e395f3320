"""A signed product between registers, as the hard multipliers of FPGAs have them."""

from typing import Any

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from dyadprop import timing


class Multiplier(wiring.Component):
    """``product = a * b``, with registers for the operands, inside, and for the product.

    Parameters
    ----------
    a_bits, b_bits : int

    Members
    -------
    a, b : In(signed)
    product : Out(signed(a_bits + b_bits))

    Notes
    -----
    Free running; latency ``LATENCY``, interval 1. Registers without reset or enable stand alone in front of the product
    and behind it, so that a build can move them into the block (ECP5: `dyadprop_boards.ecp5_packing`), all but the last
    one: a block is far from the adder that takes its product.
    """

    LATENCY = timing.MULTIPLIER

    a: Signal
    b: Signal
    product: Signal

    def __init__(self, a_bits: int, b_bits: int) -> None:
        self.a_bits = a_bits
        self.b_bits = b_bits
        super().__init__({"a": In(signed(a_bits)), "b": In(signed(b_bits)), "product": Out(signed(a_bits + b_bits))})

    def elaborate(self, platform: object) -> Module:
        """One rank in front, the others behind."""
        m = Module()
        a_q1 = Signal.like(self.a, reset_less=True)
        b_q1 = Signal.like(self.b, reset_less=True)
        product: Any = a_q1 * b_q1
        m.d.sync += [a_q1.eq(self.a), b_q1.eq(self.b)]
        for rank in range(1, self.LATENCY):
            product_next = Signal.like(self.product, name=f"product_q{rank + 1}", reset_less=True)
            m.d.sync += product_next.eq(product)
            product = product_next
        m.d.comb += self.product.eq(product)
        return m
