"""A signed product between registers, as the hard multipliers of FPGAs have them."""

from typing import Any

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from dyadprop import timing

ECP5_BITS = 18


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
    Free running; latency ``LATENCY``, interval 1. On ECP5 one MULT18X18D with its own three ranks of registers, for
    operands of up to 18 bits: yosys packs no register into it. Elsewhere registers and ``*``; synthesis retimes them
    where it can.
    """

    LATENCY = timing.MULTIPLIER

    a: Signal
    b: Signal
    product: Signal

    def __init__(self, a_bits: int, b_bits: int) -> None:
        self.a_bits = a_bits
        self.b_bits = b_bits
        super().__init__({"a": In(signed(a_bits)), "b": In(signed(b_bits)), "product": Out(signed(a_bits + b_bits))})

    def elaborate(self, platform: Any) -> Module:
        """Take the family's multiplier where there is one."""
        m = Module()
        if getattr(platform, "family", None) == "ecp5" and max(self.a_bits, self.b_bits) <= ECP5_BITS:
            self._ecp5(m)
            return m
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

    def _ecp5(self, m: Module) -> None:
        a, b = (Signal(signed(ECP5_BITS), name=name) for name in ("a_wide", "b_wide"))
        product = Signal(signed(2 * ECP5_BITS))
        m.d.comb += [a.eq(self.a), b.eq(self.b), self.product.eq(product)]
        ports: dict[str, Any] = {"i_CLK0": ClockSignal(), "i_CE0": Const(1), "i_RST0": Const(0)}
        for unused in (1, 2, 3):
            ports |= {f"i_CLK{unused}": Const(0), f"i_CE{unused}": Const(1), f"i_RST{unused}": Const(0)}
        ports |= {"i_SIGNEDA": Const(1), "i_SIGNEDB": Const(1), "i_SOURCEA": Const(0), "i_SOURCEB": Const(0)}
        for bit in range(ECP5_BITS):
            ports |= {f"i_A{bit}": a[bit], f"i_B{bit}": b[bit], f"i_C{bit}": Const(0)}
        for bit in range(2 * ECP5_BITS):
            ports[f"o_P{bit}"] = product[bit]
        for register in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT"):
            ports |= {
                f"p_REG_{register}_CLK": "CLK0",
                f"p_REG_{register}_CE": "CE0",
                f"p_REG_{register}_RST": "RST0",
            }
        ports |= {"p_REG_INPUTC_CLK": "NONE", "p_CLK0_DIV": "ENABLED", "p_GSR": "DISABLED", "p_SOURCEB_MODE": "B_SHIFT"}
        ports |= {"p_MULT_BYPASS": "DISABLED", "p_RESETMODE": "SYNC"}
        m.submodules.block = Instance("MULT18X18D", **ports)
