"""One weight's step out of its gradient accumulator; what is not a whole step stays in."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from dyadprop import timing
from dyadprop.widths import StageNumbers
from dyadprop_hw.layouts import Fixed

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

        # Twice G, shifted by s: u before rounding, and below it the bit that says "half or more".
        coarse_q1 = Signal(signed(bits + 1), reset_less=True)
        low_q1 = Signal(unsigned(bits - 1), reset_less=True)
        sticky_q1 = Signal(reset_less=True)
        m.d.sync += [
            coarse_q1.eq((self.gradient << 1) >> (shift[_FINE_BITS:] << _FINE_BITS)),
            low_q1.eq(self.gradient & mask),
            sticky_q1.eq((self.gradient & (mask >> 1)).any()),
        ]
        doubled_q2 = Signal.like(coarse_q1)
        low_q2 = Signal.like(low_q1)
        sticky_q2 = Signal(reset_less=True)
        m.d.sync += [doubled_q2.eq(coarse_q1 >> shift[:_FINE_BITS]), low_q2.eq(low_q1), sticky_q2.eq(sticky_q1)]

        # A step beyond twice the weight's range limits the weight however it is rounded: two more bits are enough of u.
        floor = doubled_q2[1:].as_signed()
        limit = 1 << (q.width + 1)
        up = doubled_q2[0] & (sticky_q2 | doubled_q2[1])
        step_q3 = Signal(signed(q.width + 3), reset_less=True)
        up_q3 = Signal(reset_less=True)
        low_q3 = Signal.like(low_q1)
        limited = Mux(floor > limit - 1, limit - 1, Mux(floor < -limit, -limit, floor))
        m.d.sync += [step_q3.eq(limited + up), up_q3.eq(up), low_q3.eq(low_q2)]

        weight: Any = self.weight
        for cycle in range(3):
            weight_next = Signal(Fixed(q), name=f"weight_q{cycle + 1}", reset_less=True)
            m.d.sync += weight_next.eq(weight)
            weight = weight_next
        difference_q4 = Signal(signed(q.width + 4), reset_less=True)
        residual_q4 = Signal(signed(bits), reset_less=True)
        m.d.sync += [
            difference_q4.eq(weight - step_q3),
            residual_q4.eq(Cat(low_q3 | Mux(up_q3, ~mask, 0), up_q3)),
        ]

        weight_q5 = Signal(Fixed(q), reset_less=True)
        residual_q5 = Signal.like(residual_q4)
        saturated_q5 = Signal(reset_less=True)
        above, below = difference_q4 > q.max_int, difference_q4 < q.min_int
        m.d.sync += [
            weight_q5.eq(Mux(above, q.max_int, Mux(below, q.min_int, difference_q4))),
            residual_q5.eq(residual_q4),
            saturated_q5.eq(above | below),
        ]
        m.d.comb += [
            self.weight_out.eq(weight_q5),
            self.residual.eq(residual_q5),
            self.saturated.eq(saturated_q5),
        ]
        return m
