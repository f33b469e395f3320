"""The only place that narrows a number: round half to even, then saturate."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from dyadprop import timing
from dyadprop.formats import Q
from dyadprop_hw.layouts import Fixed


def round_half_even(value: Value, shift: int) -> Value:
    """Give ``value / 2^shift`` rounded to nearest, ties to even.

    Parameters
    ----------
    value : Value
        Signed.
    shift : int
        Bits to drop; 0 or less shifts left, exactly.

    Returns
    -------
    Value
        Signed, wide enough for every result: combinational.
    """
    if shift <= 0:
        return Cat(Const(0, -shift), value).as_signed()
    # Half less one bit, and one more where the kept word is odd: a tie rounds up only to make it even. That bit is the
    # carry into the one adder, so nothing has to look at the dropped bits before.
    bits = Cat(value, value[-1].replicate(max(1, shift + 2 - len(value))))
    odd, almost_half = bits[shift], Const((1 << shift - 1) - 1, shift)
    return (Cat(1, bits).as_signed() + Cat(odd, almost_half))[1 + shift : 1 + len(bits)].as_signed()


class Requantize(wiring.Component):
    """Narrow an exact number to a format: round half to even, saturate, say so.

    Parameters
    ----------
    width : int
        Bits of the (signed) number that comes in.
    fraction_bits : int
        Its fraction bits.
    q : Q
        The format that goes out.

    Members
    -------
    value_in : In(signed(width))
    value_out : Out(Fixed(q))
    saturated : Out(1)
        ``value_out`` was limited.

    Notes
    -----
    Free running; latency ``LATENCY``, interval 1. ``requantize`` of docs/arithmetic.md, section 1.
    """

    LATENCY = timing.REQUANTIZE

    value_in: Signal
    value_out: Signal
    saturated: Signal

    def __init__(self, width: int, fraction_bits: int, q: Q) -> None:
        self.width = width
        self.fraction_bits = fraction_bits
        self.q = q
        super().__init__({"value_in": In(signed(width)), "value_out": Out(Fixed(q)), "saturated": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Round in the first cycle, look at what is too much for the format in the second, saturate in the third."""
        m = Module()
        rounded = round_half_even(self.value_in, self.fraction_bits - self.q.fraction_bits)
        rounded_q1 = Signal(signed(len(rounded)), reset_less=True)
        value_q2, value_q3 = (Signal(Fixed(self.q), reset_less=True, name=name) for name in ("value_q2", "value_q3"))
        outside_q2, below_q2, saturated_q3 = (
            Signal(name=name, reset_less=True) for name in ("outside_q2", "below_q2", "saturated_q3")
        )
        below = rounded_q1[-1]
        above_value = rounded_q1[self.q.width - 1 :]  # bits that are all the sign, in a number of the format
        m.d.sync += [
            rounded_q1.eq(rounded),
            value_q2.eq(rounded_q1),
            below_q2.eq(below),
            outside_q2.eq((above_value ^ below.replicate(len(above_value))).any()),
            value_q3.eq(Mux(outside_q2, Mux(below_q2, self.q.min_int, self.q.max_int), value_q2)),
            saturated_q3.eq(outside_q2),
        ]
        m.d.comb += [self.value_out.eq(value_q3), self.saturated.eq(saturated_q3)]
        return m
