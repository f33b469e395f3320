"""One weight's step out of its gradient accumulator; what is not a whole step stays in."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from dyadprop import timing
from dyadprop.widths import StageNumbers
from dyadprop_hw.layouts import Fixed, delayed

_FINE = 4  # shifts are by one of four multiples
_FINE_BITS = 2


def rate_layout(gradient_bits: int) -> data.StructLayout:
    """Lay out a learning rate: ``shift`` is ``s`` of docs/arithmetic.md, ``mask`` has its ``s`` low bits set.

    A residual of ``s - 1`` bits and a sign fits the accumulator beside a sample (section 8): ``s < gradient_bits``.
    """
    largest = gradient_bits - 1
    return data.StructLayout({"shift": unsigned(largest.bit_length()), "mask": unsigned(largest)})


def _select(places: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Give one of four in two LUTs of four inputs: where the first chooses none of its own, it tells the second which.

    Yosys finds three or four LUTs for the usual form.
    """
    low, high = (bit.replicate(len(a)) for bit in places)
    first = (high & low) | (~high & ((low & b) | (~low & a)))
    return (~high & first) | (high & ((first & d) | (~first & c)))


def _shift(value: Any, places: Any, step: int) -> Any:
    """Shift right by ``places`` (two bits) times ``step``; give the bits that are there for every shift."""
    bits = len(value) - 3 * step
    return _select(places, *(value[place * step : place * step + bits] for place in range(4)))


def _shift_signed(value: Any, places: Any, step: int, bits: int) -> Any:
    """Do the same with a signed value, which has a sign for each bit above it; give ``bits``."""
    negative = value[-1]
    low, high = places
    # Where two are the sign the second bit of what chooses may be the sign itself: one LUT.
    sign_or_low = (high & negative) | (~high & low)
    result = []
    for bit in range(bits):
        a, b, c, d = (value[place] if (place := bit + k * step) < len(value) else negative for k in range(4))
        if bit + 2 * step < len(value) - 1:
            result.append(_select(places, a, b, c, d))
        elif bit + step < len(value) - 1:
            result.append((high & sign_or_low) | (~high & ((sign_or_low & b) | (~sign_or_low & a))))
        else:
            result.append(Mux(high | low, negative, a))
    return Cat(*result)


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
        mask = self.rate.mask
        # No accumulator has more than 54 bits: three times one of four.
        shift = Cat(self.rate.shift, Const(0, 3 * _FINE_BITS))[: 3 * _FINE_BITS]

        # Twice G, shifted by s: u before rounding, and below it the bit that says "half or more". A step beyond twice
        # the weight's range limits the weight however it is rounded: one more bit than the weight's is enough of u.
        step_bits = q.width + 1
        doubled = self.gradient << 1
        negative = doubled[-1]

        # First by 16s and 4s, then by ones. The mask holds a bit for each place that is shifted off.
        window = 1 + step_bits + _FINE - 1
        coarse_q1 = Signal(unsigned(window), reset_less=True)
        low_q1 = Signal(unsigned(bits - 1), reset_less=True)
        negative_q1, sticky_q1, far_q1 = (
            Signal(name=name, reset_less=True) for name in ("negative_q1", "sticky_q1", "far_q1")
        )
        by_16 = _shift_signed(doubled, shift[2 * _FINE_BITS :], _FINE**2, window + 3 * _FINE)
        sticky: Any = Const(0, 1)
        far: Any = Const(0, 1)
        for place in range(0, bits, _FINE):
            shifted_off = mask[place + _FINE - 1] if place + _FINE <= len(mask) else Const(0, 1)
            sticky |= shifted_off & doubled[place : place + _FINE].any()
            above = doubled[window + place : window + place + _FINE]
            if len(above):
                far |= ~shifted_off & (above ^ negative.replicate(len(above))).any()
        m.d.sync += [
            coarse_q1.eq(_shift(by_16, shift[_FINE_BITS : 2 * _FINE_BITS], _FINE)),
            low_q1.eq(self.gradient),
            sticky_q1.eq(sticky),
            far_q1.eq(far),
            negative_q1.eq(negative),
        ]

        fine = shift[:_FINE_BITS]
        half_q2, sticky_q2, negative_q2, far_q2 = (
            Signal(name=name, reset_less=True) for name in ("half_q2", "sticky_q2", "negative_q2", "far_q2")
        )
        floor_q2 = Signal(signed(step_bits), reset_less=True)
        low_q2 = Signal.like(low_q1)
        below = Cat(coarse_q1[place] & (fine > place) for place in range(_FINE - 1))
        # Bits of the window above u, and u's own sign.
        outside = Cat((coarse_q1[step_bits + place] ^ negative_q1) & (fine <= place) for place in range(_FINE))
        m.d.sync += [
            Cat(half_q2, floor_q2).eq(_shift(coarse_q1, fine, 1)),
            low_q2.eq(low_q1),
            sticky_q2.eq(sticky_q1 | below.any()),
            negative_q2.eq(negative_q1),
            far_q2.eq(far_q1 | outside.any()),
        ]

        up = half_q2 & (sticky_q2 | floor_q2[0])
        step_q3 = Signal(signed(step_bits), reset_less=True)
        up_q3 = Signal(reset_less=True)
        low_q3 = Signal.like(low_q1)
        m.d.sync += [step_q3.eq(floor_q2), up_q3.eq(up), low_q3.eq(low_q2)]

        weight = delayed(m, self.weight, 3, "weight")
        far_q4 = delayed(m, far_q2, 2, "far_later")
        negative_step_q4 = delayed(m, negative_q2, 2, "negative_later")
        difference_q4 = Signal(signed(q.width + 2), reset_less=True)
        residual_q4 = Signal(signed(bits), reset_less=True)
        m.d.sync += [
            # W - u - up with one carry chain: W + ~u + ~up, and 1 as the carry into ~up.
            difference_q4.eq((Cat(1, weight).as_signed() + Cat(~up_q3, ~step_q3).as_signed())[1:].as_signed()),
            residual_q4.eq(Cat((low_q3 & mask) | (up_q3.replicate(bits - 1) & ~mask), up_q3)),
        ]

        # A limited weight is its sign, and all other bits the other way: cleared, or with ones over them.
        low_bits = q.width - 1
        low_weight_q5 = Signal(low_bits, reset_less=True)
        negative_q5, saturated_q5, ones_q5 = (
            Signal(name=name, reset_less=True) for name in ("negative_q5", "saturated_q5", "ones_q5")
        )
        residual_q5 = Signal.like(residual_q4)
        negative_q4 = Mux(far_q4, ~negative_step_q4, difference_q4[-1])
        outside_q4 = far_q4 | (difference_q4[low_bits:-1] ^ difference_q4[-1].replicate(2)).any()
        m.d.sync += [
            low_weight_q5.eq(Mux(outside_q4, 0, difference_q4)),
            negative_q5.eq(negative_q4),
            ones_q5.eq(outside_q4 & ~negative_q4),
            residual_q5.eq(residual_q4),
            saturated_q5.eq(outside_q4),
        ]
        m.d.comb += [
            self.weight_out.eq(Cat(low_weight_q5 | ones_q5.replicate(low_bits), negative_q5)),
            self.residual.eq(residual_q5),
            self.saturated.eq(saturated_q5),
        ]
        return m
