"""From a sensitivity to delta = phi'(a) * lambda, one unit a cycle, where the sensitivity enters its stage."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from dyadprop import timing
from dyadprop.widths import StageNumbers
from dyadprop_hw.layouts import Fixed, delayed
from dyadprop_hw.multiplier import Multiplier
from dyadprop_hw.requantize import Requantize


class Delta(wiring.Component):
    """``delta = phi'(a) * lambda``, the slope taken from the stored output (docs/arithmetic.md, section 4).

    Parameters
    ----------
    numbers : StageNumbers

    Members
    -------
    sensitivity : In(Fixed(S_l))
        ``lambda_l``.
    activation : In(Fixed(A_l))
        ``x_l`` of the same unit and sample.
    delta : Out(Fixed(S_l))

    Attributes
    ----------
    latency : int
        1 where there is nothing to multiply, 2 with a leak, 11 with a slope. Free running, interval 1.

    Notes
    -----
    Multipliers: 2 with a slope (``x^2``, ``slope * lambda``), else none.
    """

    sensitivity: Signal
    activation: Signal
    delta: Signal
    latency: int

    def __init__(self, numbers: StageNumbers) -> None:
        self.numbers = numbers
        self.latency = timing.delta(numbers)
        super().__init__(
            {
                "sensitivity": In(Fixed(numbers.sensitivity)),
                "activation": In(Fixed(numbers.output)),
                "delta": Out(Fixed(numbers.sensitivity)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Choose the activation's own path."""
        m = Module()
        numbers = self.numbers
        if numbers.has_slope_product:
            self._product(m)
        elif numbers.activation == "leaky_relu" and not numbers.matched:
            self._leak(m)
        else:
            delta_q1 = Signal(Fixed(numbers.sensitivity), reset_less=True)
            blocked = (self.activation <= 0) if numbers.activation == "relu" and not numbers.matched else 0
            m.d.sync += delta_q1.eq(Mux(blocked, 0, self.sensitivity))
            m.d.comb += self.delta.eq(delta_q1)
        return m

    def _leak(self, m: Module) -> None:
        numbers = self.numbers
        leak = numbers.leak_bits
        # x > 0: lambda, as 2^k times itself with k more fraction bits, so that one exit serves both.
        m.submodules.requantize = requantize = Requantize(
            numbers.sensitivity.width + leak, numbers.sensitivity.fraction_bits + leak, numbers.sensitivity
        )
        m.d.comb += [
            requantize.value_in.eq(Mux(self.activation > 0, self.sensitivity << leak, self.sensitivity)),
            self.delta.eq(requantize.value_out),
        ]

    def _product(self, m: Module) -> None:
        numbers = self.numbers
        fraction = numbers.output.fraction_bits
        # tanh: 1 - x^2; sigmoid: x - x^2; both with 2 f fraction bits.
        m.submodules.square = square = Multiplier(numbers.output.width, numbers.output.width)
        m.d.comb += [square.a.eq(self.activation), square.b.eq(self.activation)]
        start: Any = 1 << (2 * fraction)
        if numbers.activation == "sigmoid":
            start = delayed(m, self.activation, Multiplier.LATENCY, "activation") << fraction
        difference: Any = start - square.product
        m.submodules.slope = slope = Requantize(len(difference), 2 * fraction, numbers.slope)
        m.d.comb += slope.value_in.eq(delayed(m, difference, 1, "difference"))

        m.submodules.product = product = Multiplier(numbers.slope.width, numbers.sensitivity.width)
        m.d.comb += [
            product.a.eq(slope.value_out),
            product.b.eq(delayed(m, self.sensitivity, Multiplier.LATENCY + 1 + Requantize.LATENCY, "sensitivity")),
        ]
        m.submodules.requantize = requantize = Requantize(
            len(product.product), numbers.slope.fraction_bits + numbers.sensitivity.fraction_bits, numbers.sensitivity
        )
        m.d.comb += [requantize.value_in.eq(product.product), self.delta.eq(requantize.value_out)]
