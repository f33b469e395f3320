"""Softmax of a vector of logits, without a multiplier: a table of exp(-d) and an exact divider."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from dyadprop import timing
from dyadprop.formats import Q
from dyadprop.tables import SOFTMAX_FRACTION, exp_table
from dyadprop.widths import PROBABILITY
from dyadprop_hw.activation import TableLookup
from dyadprop_hw.claims import claim
from dyadprop_hw.layouts import Fixed
from dyadprop_hw.streams import Queue, connect_stream


class Divider(wiring.Component):
    """``numerator * 2^14 / divisor``, rounded to nearest, ties to even; one quotient a cycle.

    Parameters
    ----------
    bits : int
        Of divisor and numerator, unsigned; ``numerator <= divisor`` and ``divisor > 0``.

    Members
    -------
    numerator : In(bits)
    divisor : In(bits)
        Must hold still while numerators are under way.
    quotient : Out(15)
        0 to 2^14.

    Notes
    -----
    Restoring division, one bit a register stage: ``LATENCY`` = 15 bits and the rounding.
    """

    QUOTIENT_BITS = PROBABILITY.fraction_bits + 1
    LATENCY = QUOTIENT_BITS + 1

    numerator: Signal
    divisor: Signal
    quotient: Signal

    def __init__(self, bits: int) -> None:
        self.bits = bits
        super().__init__({"numerator": In(bits), "divisor": In(bits), "quotient": Out(self.QUOTIENT_BITS)})

    def elaborate(self, platform: object) -> Module:
        """Build one subtractor a bit."""
        m = Module()
        remainder: Any = self.numerator
        quotient: Any = 0
        for bit in range(self.QUOTIENT_BITS):
            fits = remainder >= self.divisor
            # Below the divisor after the subtraction, so twice it fits one bit more.
            remainder_next = Signal(self.bits + 1, name=f"remainder_q{bit + 1}", reset_less=True)
            quotient_next = Signal(bit + 1, name=f"quotient_q{bit + 1}", reset_less=True)
            m.d.sync += [
                remainder_next.eq(Mux(fits, remainder - self.divisor, remainder) << 1),
                quotient_next.eq((quotient << 1) | fits),
            ]
            remainder, quotient = remainder_next, quotient_next
        # The remainder is doubled already: compared with the divisor it says below, at, or above one half.
        up = (remainder > self.divisor) | ((remainder == self.divisor) & quotient[0])
        rounded = Signal(self.QUOTIENT_BITS, reset_less=True)
        m.d.sync += rounded.eq(quotient + up)
        m.d.comb += self.quotient.eq(rounded)
        return m


class Softmax(wiring.Component):
    """Probabilities of one vector after the other (docs/arithmetic.md, section 6).

    Parameters
    ----------
    logit : Q
    outputs : int
        ``n_L``.

    Members
    -------
    logit_in : In(stream of Fixed(logit))
    probability_out : Out(stream of {probability, logit})
        Probability in Q2.14, unsigned.

    Notes
    -----
    Three passes: collect and find the largest; exponentials and their sum; divide. ``3 n_L + SOFTMAX_SUM +
    DIVIDE`` cycles a vector, no multiplier.
    """

    logit_in: Any
    probability_out: Any

    def __init__(self, logit: Q, outputs: int) -> None:
        self.logit = logit
        self.outputs = outputs
        self.answer = data.StructLayout({"probability": unsigned(Divider.QUOTIENT_BITS), "logit": Fixed(logit)})
        super().__init__(
            {
                "logit_in": In(stream.Signature(Fixed(logit))),
                "probability_out": Out(stream.Signature(self.answer)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Sequence the three passes."""
        m = Module()
        n = self.outputs
        sum_bits = SOFTMAX_FRACTION + n.bit_length()  # up to n times 1.0, and 1.0 alone fits too
        table = exp_table(self.logit.fraction_bits)
        m.submodules.logits = logits = Memory(shape=Fixed(self.logit), depth=n, init=[])
        m.submodules.exponentials = exponentials = Memory(shape=unsigned(SOFTMAX_FRACTION + 1), depth=n, init=[])
        m.submodules.lookup = lookup = TableLookup(table, falling=True)
        m.submodules.divider = divider = Divider(sum_bits)
        m.submodules.queue = queue = Queue(self.answer, n)
        connect_stream(m, queue.o, wiring.flipped(self.probability_out))
        logit_write, logit_read = logits.write_port(), logits.read_port()
        exp_write, exp_read = exponentials.write_port(), exponentials.read_port()

        position = Signal(range(n))
        held = Signal(range(n + 1))  # answers that the queue holds or expects
        largest = Signal(Fixed(self.logit), reset_less=True)
        total = Signal(sum_bits, reset_less=True)
        last = position == n - 1

        def step() -> None:
            m.d.sync += position.eq(Mux(last, 0, position + 1))

        m.d.comb += [
            logit_write.addr.eq(position),
            logit_write.data.eq(self.logit_in.payload),
            logit_read.addr.eq(position),
            exp_read.addr.eq(position),
        ]
        exponent_stb, divide_stb = Signal(), Signal()
        exponent_stages = timing.SOFTMAX_SUM - 1
        drained = Signal(range(max(exponent_stages, timing.DIVIDE) + 1))
        with m.FSM():
            with m.State("COLLECT"):
                m.d.comb += self.logit_in.ready.eq(1)
                with m.If(self.logit_in.valid):
                    step()
                    m.d.comb += logit_write.en.eq(1)
                    with m.If((position == 0) | (self.logit_in.payload > largest)):
                        m.d.sync += largest.eq(self.logit_in.payload)
                    with m.If(last):
                        m.d.sync += total.eq(0)
                        m.next = "EXPONENTIAL"
            with m.State("EXPONENTIAL"):
                step()
                m.d.comb += exponent_stb.eq(1)
                with m.If(last):
                    m.d.sync += drained.eq(exponent_stages)
                    m.next = "SUM"
            with m.State("SUM"):
                with m.If(drained != 0):
                    m.d.sync += drained.eq(drained - 1)
                with m.Elif(held == 0):
                    m.next = "DIVIDE"
            with m.State("DIVIDE"):
                step()
                m.d.comb += divide_stb.eq(1)
                with m.If(last):
                    m.d.sync += drained.eq(timing.DIVIDE)
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.sync += drained.eq(drained - 1)
                with m.If(drained == 1):
                    m.next = "COLLECT"

        # Exponentials: memory, distance to the largest, table.
        limit = (1 << (table.range_bits + self.logit.fraction_bits)) - 1
        distance = largest - logit_read.data
        distance_q2 = Signal(len(lookup.argument), reset_less=True)
        m.d.sync += distance_q2.eq(Mux(distance > limit, limit, distance))
        m.d.comb += lookup.argument.eq(distance_q2)
        arrived: Any = exponent_stb
        place: Any = position
        for cycle in range(exponent_stages):
            arrived_next = Signal(name=f"exponent_valid_q{cycle + 1}")
            place_next = Signal.like(position, name=f"exponent_place_q{cycle + 1}", reset_less=True)
            m.d.sync += [arrived_next.eq(arrived), place_next.eq(place)]
            arrived, place = arrived_next, place_next
        m.d.comb += [exp_write.addr.eq(place), exp_write.data.eq(lookup.value), exp_write.en.eq(arrived)]
        with m.If(arrived):
            m.d.sync += total.eq(total + lookup.value)

        # Quotients, and the logits that they belong to.
        m.d.comb += [divider.numerator.eq(exp_read.data), divider.divisor.eq(total)]
        valid: Any = divide_stb
        logit: Any = logit_read.data
        for cycle in range(timing.DIVIDE):
            valid_next = Signal(name=f"divide_valid_q{cycle + 1}")
            m.d.sync += valid_next.eq(valid)
            valid = valid_next
        for cycle in range(Divider.LATENCY):
            logit_next = Signal(signed(self.logit.width), name=f"logit_q{cycle + 1}", reset_less=True)
            m.d.sync += logit_next.eq(logit)
            logit = logit_next
        m.d.comb += [
            queue.i.valid.eq(valid),
            queue.i.payload.probability.eq(divider.quotient),
            queue.i.payload.logit.eq(logit),
        ]
        claim(m, ~queue.i.valid | queue.i.ready)
        m.d.sync += held.eq(held + divide_stb - (queue.o.valid & queue.o.ready))
        return m
