"""One weight's step out of its gradient accumulator; what is not a whole step stays in."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from dyadprop import timing
from dyadprop.widths import StageNumbers
from dyadprop_hw.layouts import Fixed, delayed

_FINE_BITS = 2
_FINE = 1 << _FINE_BITS  # each shift is by one of so many multiples


def rate_layout(gradient_bits: int) -> data.StructLayout:
    """Lay out a learning rate: ``shift`` is ``s`` of docs/arithmetic.md, ``mask`` has its ``s`` low bits set.

    A residual of ``s - 1`` bits and a sign fits the accumulator beside a sample (section 8): ``s < gradient_bits``.
    """
    largest = gradient_bits - 1
    return data.StructLayout({"shift": unsigned(largest.bit_length()), "mask": unsigned(largest)})


def _select(places: Any, inner: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Give one of four in two LUTs of four inputs: where the first chooses none of its own, it tells the second which.

    ``inner`` is whether it is ``b`` or ``c``, from a register of its own: yosys, which finds three or four LUTs for the
    usual form, would put it back if it knew.
    """
    low, high, inner = (bit.replicate(len(a)) for bit in (*places, inner))
    first = (~high & ~low & a) | (high & low & d) | (high & ~low)
    return (~inner & first) | (inner & ((first & c) | (~first & b)))


def _shift(m: Module, value: Any, places: Any, step: int, bits: int) -> Any:
    """Shift right by ``places`` (two bits) times ``step``; give the low ``bits``, with zeros from above."""
    inner = Signal(reset_less=True, name=f"inner_{step}")
    m.d.sync += inner.eq(places[0] ^ places[1])  # the rate holds still
    parts = [value[place * step : place * step + bits] for place in range(4)]
    count = len(parts[2])
    a, b, c, d = (Cat(part, Const(0, bits))[:bits] for part in parts)
    return Cat(
        _select(places, inner, *(part[:count] for part in (a, b, c, d))),
        Mux(places[1], 0, Mux(places[0], b[count:], a[count:])),
    )


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
    update : In(1)
        Whether a step is taken: else the residual is the gradient.
    weight_out : Out(Fixed(W_l))
    residual : Out(signed(gradient_bits))
    saturated : Out(1)
        The weight was limited; what could not be applied is dropped.

    Notes
    -----
    Free running; latency ``LATENCY``, of the residual ``RESIDUAL_LATENCY``; interval 1; no multiplier. The residual
    needs no subtraction: ``G - u 2^s`` is the ``s`` low bits of ``G``, less ``2^s`` where ``u`` was rounded up, and
    ``-2^s`` is the complement of the mask.
    """

    LATENCY = timing.WEIGHT_STEP
    RESIDUAL_LATENCY = timing.RESIDUAL

    gradient: Signal
    weight: Any
    rate: data.View
    update: Signal
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
                "update": In(1),
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
        # No accumulator has more than 53 bits: three times one of four is enough.
        shift = Cat(self.rate.shift, Const(0, 3 * _FINE_BITS))[: 3 * _FINE_BITS]

        # Twice G, shifted by s: u before rounding, and below it the bit that says "half or more". A step beyond twice
        # the weight's range limits the weight however it is rounded: one more bit than the weight's is enough of u.
        step_bits = q.width + 1
        doubled = self.gradient << 1
        negative = doubled[-1]

        # No bit of G is left, the field of the shift has room for that: u is 0, which is -1 and 1 below zero.
        beyond = Signal(reset_less=True)
        m.d.sync += beyond.eq(mask[-1] & (self.rate.shift != bits - 1))  # bits or more

        # By 16s, by 4s, by ones; zeros come in above, the sign takes their place where the step is subtracted. The mask
        # has a bit for each place that is shifted off.
        def shifted(places: int) -> Any:
            return mask[places - 1] if places <= len(mask) else beyond

        fine = shift[:_FINE_BITS]
        window = 1 + step_bits + _FINE - 1
        by_16_q1 = Signal(window + 3 * _FINE, reset_less=True)
        by_4_q2 = Signal(window, reset_less=True)
        half_q3, sticky_q3, far_q3, far_q4, negative_q3, negative_q4 = (
            Signal(name=name, reset_less=True)
            for name in ("half_q3", "sticky_q3", "far_q3", "far_q4", "negative_q3", "negative_q4")
        )
        floor_q3 = Signal(step_bits, reset_less=True)
        stickies, fars = [], []
        for place in range(0, bits, _FINE):
            stickies.append(shifted(place + _FINE) & doubled[place : place + _FINE].any())
            above = doubled[window + place : window + place + _FINE]
            if len(above):
                fars.append(~shifted(place + _FINE) & (above ^ negative.replicate(len(above))).any())
        m.d.sync += [
            by_16_q1.eq(_shift(m, doubled, shift[2 * _FINE_BITS :], _FINE**2, len(by_16_q1))),
            by_4_q2.eq(_shift(m, by_16_q1, shift[_FINE_BITS : 2 * _FINE_BITS], _FINE, window)),
            Cat(half_q3, floor_q3).eq(_shift(m, by_4_q2, fine, 1, 1 + step_bits)),
        ]
        gradient_q3 = delayed(m, self.gradient, 3, "gradient")
        update_q3 = delayed(m, self.update, 3, "update")
        sticky_q2, far_q2 = (Signal(name=name, reset_less=True) for name in ("sticky_q2", "far_q2"))
        m.d.sync += [
            sticky_q2.eq(delayed(m, Cat(stickies), 1, "stickies").any()),
            far_q2.eq(delayed(m, Cat(fars), 1, "fars").any()),
        ]
        negative_q2 = delayed(m, negative, 2, "negative")
        below = Cat(by_4_q2[place] & (fine > place) for place in range(_FINE - 1))
        # Bits of the window above u, and u's own sign, as far as they are bits of G.
        outside = [
            (by_4_q2[place] ^ negative_q2)
            & (fine <= place - step_bits if place - step_bits < _FINE - 1 else 1)
            & ~shifted(-(-(bits + 1 - place) // _FINE) * _FINE)
            for place in range(step_bits, min(window, bits + 1))
        ]
        m.d.sync += [
            sticky_q3.eq(sticky_q2 | below.any()),
            far_q3.eq(far_q2 | Cat(outside).any()),
            negative_q3.eq(negative_q2),
        ]

        up = Mux(beyond, negative_q3, half_q3 & (sticky_q3 | floor_q3[0]))
        weight = delayed(m, self.weight, 3, "weight")
        is_sign = Cat(shifted(bits - place) if place < bits else Const(1, 1) for place in range(step_bits))
        step = (floor_q3 | (is_sign & negative_q3.replicate(step_bits))).as_signed()
        complement_q4 = Signal(signed(q.width + 2), reset_less=True)
        m.d.sync += [
            far_q4.eq(far_q3),
            negative_q4.eq(negative_q3),
            # ~(W - u - up) is u + ~W + up: one carry chain, in which 1 + up makes the carry, and no operand to invert
            # that has more than one input.
            complement_q4.eq((Cat(1, step).as_signed() + Cat(up, ~weight).as_signed())[1:].as_signed()),
        ]

        # A LUT of four inputs a bit.
        kept = Cat(mask, 0) | (~update_q3).replicate(bits)
        residual = (gradient_q3 & kept) | (up.replicate(bits) & ~kept)

        # A limited weight is its sign, and all other bits the other way: cleared, or with ones over them. What is set
        # begins so too: ECP5's registers cannot begin with one value and be set to another.
        low_bits = q.width - 1
        complement_q5 = Signal(low_bits, init=(1 << low_bits) - 1, reset_less=True)
        below_q5, saturated_q5, ones_q5 = (
            Signal(name=name, reset_less=True) for name in ("below_q5", "saturated_q5", "ones_q5")
        )
        below_q4 = Mux(far_q4, ~negative_q4, ~complement_q4[-1])
        outside_q4 = far_q4 | (complement_q4[low_bits:-1] ^ complement_q4[-1].replicate(2)).any()
        m.d.sync += [
            complement_q5.eq(Mux(outside_q4, -1, complement_q4)),
            below_q5.eq(below_q4),
            ones_q5.eq(outside_q4 & ~below_q4),
            saturated_q5.eq(outside_q4),
        ]
        m.d.comb += [
            self.weight_out.eq(Cat(~complement_q5 | ones_q5.replicate(low_bits), below_q5)),
            self.residual.eq(residual),
            self.saturated.eq(saturated_q5),
        ]
        return m
