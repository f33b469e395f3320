"""One weight's step out of its gradient accumulator; what is not a whole step stays in."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from dyadprop import timing
from dyadprop.widths import StageNumbers
from dyadprop_hw.layouts import Fixed, delayed

_FINE_BITS = 3


def rate_layout(gradient_bits: int) -> data.StructLayout:
    """Lay out a learning rate: ``shift`` is ``s`` of docs/arithmetic.md, ``mask`` has its ``s`` low bits set.

    A residual of ``s - 1`` bits and a sign fits the accumulator beside a sample (section 8): ``s < gradient_bits``.
    """
    largest = gradient_bits - 1
    return data.StructLayout({"shift": unsigned(largest.bit_length()), "mask": unsigned(largest)})


class WeightStep(wiring.Component):
    """``u = rhe(G, s);  W <- clamp(W - u);  G <- G - u 2^s`` (docs/arithmetic.md, section 8).

    Parameters
    ----------
    numbers : StageNumbers

    Members
    -------
    gradient : In(signed(gradient_bits))
        ``G``, with the last sample's product.
    weight : In(Fixed(W_l))
    rate : In(rate_layout)
        Holds still while steps are taken.
    weight_out : Out(Fixed(W_l))
    residual : Out(signed(gradient_bits))
    saturated : Out(1)
        The weight was limited; what could not be applied is dropped.

    Notes
    -----
    Free running; latency ``LATENCY``, interval 1; no multiplier. The residual needs no subtraction: ``G - u 2^s`` is
    the ``s`` low bits of ``G``, less ``2^s`` where ``u`` was rounded up, and ``-2^s`` is the complement of the mask.
    """

    LATENCY = timing.WEIGHT_STEP

    gradient: Signal
    weight: Any
    rate: data.View
    weight_out: Any
    residual: Signal
    saturated: Signal

    def __init__(self, numbers: StageNumbers) -> None:
        self.numbers = numbers
        super().__init__(
            {
                "gradient": In(signed(numbers.gradient_bits)),
                "weight": In(Fixed(numbers.weight)),
                "rate": In(rate_layout(numbers.gradient_bits)),
                "weight_out": Out(Fixed(numbers.weight)),
                "residual": Out(signed(numbers.gradient_bits)),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Shift, round, subtract, limit."""
        m = Module()
        q = self.numbers.weight
        bits = self.numbers.gradient_bits
        mask, shift = self.rate.mask, self.rate.shift

        # Twice G, shifted by s: u before rounding, and below it the bit that says "half or more". A step beyond twice
        # the weight's range limits the weight however it is rounded: two more bits than the weight's are enough of u.
        step_bits = q.width + 2
        fine = 1 << _FINE_BITS
        window = 1 + step_bits + fine - 1
        doubled = self.gradient << 1
        negative = doubled[-1]
        coarse_q1 = Signal(unsigned(window), reset_less=True)
        low_q1 = Signal(unsigned(bits - 1), reset_less=True)
        negative_q1, sticky_q1, far_q1 = (
            Signal(name=name, reset_less=True) for name in ("negative_q1", "sticky_q1", "far_q1")
        )
        with m.Switch(shift[_FINE_BITS:]):
            for place in range(-(-bits // fine)):
                with m.Case(place):
                    shifted = (doubled >> (place * fine)).as_signed()
                    m.d.sync += coarse_q1.eq(shifted)
                    above = shifted[window:] if len(shifted) > window else Const(0, 0)
                    m.d.sync += far_q1.eq((above ^ negative.replicate(len(above))).any() if len(above) else 0)
            with m.Default():
                m.d.sync += [coarse_q1.eq(negative.replicate(window)), far_q1.eq(0)]
        m.d.sync += [
            low_q1.eq(self.gradient),
            sticky_q1.eq((self.gradient & (mask >> 1)).any()),
            negative_q1.eq(negative),
        ]

        placed = coarse_q1 >> shift[:_FINE_BITS]
        half_q2, sticky_q2, negative_q2, far_q2 = (
            Signal(name=name, reset_less=True) for name in ("half_q2", "sticky_q2", "negative_q2", "far_q2")
        )
        floor_q2 = Signal(signed(step_bits), reset_less=True)
        low_q2 = Signal.like(low_q1)
        # Bits of the window above u, and u's own sign. The rate holds still: which these are lies in a register.
        beyond = Signal(fine, reset_less=True)
        m.d.sync += beyond.eq(Const((1 << fine) - 1) << shift[:_FINE_BITS])
        outside = (coarse_q1[step_bits:] ^ negative_q1.replicate(fine)) & beyond
        m.d.sync += [
            Cat(half_q2, floor_q2).eq(placed),
            low_q2.eq(low_q1),
            sticky_q2.eq(sticky_q1),
            negative_q2.eq(negative_q1),
            far_q2.eq(far_q1 | outside.any()),
        ]

        up = half_q2 & (sticky_q2 | floor_q2[0])
        step_q3 = Signal(signed(step_bits), reset_less=True)
        up_q3 = Signal(reset_less=True)
        low_q3 = Signal.like(low_q1)
        limited = Mux(far_q2, Cat((~negative_q2).replicate(step_bits - 1), negative_q2).as_signed(), floor_q2)
        m.d.sync += [step_q3.eq(limited), up_q3.eq(up), low_q3.eq(low_q2)]

        weight = delayed(m, self.weight, 3, "weight")
        difference_q4 = Signal(signed(q.width + 3), reset_less=True)
        residual_q4 = Signal(signed(bits), reset_less=True)
        m.d.sync += [
            # W - u - up with one carry chain: W + ~u + ~up, and 1 as the carry into ~up.
            difference_q4.eq((Cat(1, weight).as_signed() + Cat(~up_q3, ~step_q3).as_signed())[1:].as_signed()),
            residual_q4.eq(Cat((low_q3 & mask) | (up_q3.replicate(bits - 1) & ~mask), up_q3)),
        ]

        weight_q5 = Signal(Fixed(q), reset_less=True)
        residual_q5 = Signal.like(residual_q4)
        saturated_q5 = Signal(reset_less=True)
        negative_q4 = difference_q4[-1]
        outside_q4 = (difference_q4[q.width - 1 : -1] ^ negative_q4.replicate(3)).any()
        m.d.sync += [
            weight_q5.eq(Mux(outside_q4, Cat((~negative_q4).replicate(q.width - 1), negative_q4), difference_q4)),
            residual_q5.eq(residual_q4),
            saturated_q5.eq(outside_q4),
        ]
        m.d.comb += [
            self.weight_out.eq(weight_q5),
            self.residual.eq(residual_q5),
            self.saturated.eq(saturated_q5),
        ]
        return m
