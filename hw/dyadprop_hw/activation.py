"""From a pre-activation to an activation, one unit a cycle, without a multiplier."""

import itertools
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from dyadprop import timing
from dyadprop.tables import TABLE_ACTIVATIONS, Table, phi_table
from dyadprop.widths import StageNumbers
from dyadprop_hw.layouts import Fixed, delayed
from dyadprop_hw.requantize import Requantize, round_half_even


class TableLookup(wiring.Component):
    """A table's value at a non-negative argument, linear between its entries.

    Parameters
    ----------
    table : Table
    falling : bool
        Whether the steps go down from entry to entry (exp(-d)) instead of up.

    Members
    -------
    argument : In(unsigned)
        ``range_bits + step_bits + gap_bits`` bits: already limited to the table's range.
    value : Out(unsigned)

    Notes
    -----
    Free running; latency ``LATENCY``, interval 1. One ROM of ``2^index_bits`` words of ``value_bits + slope_bits``
    (18 for tanh and
    sigmoid at 12 fraction bits). The product of step and gap is a sum of shifted steps: no multiplier.
    """

    LATENCY = timing.TABLE_LOOKUP
    ENTRY_LATENCY = 3
    """Cycles from an argument to its entry at the adders: the ROM, and two registers."""
    SUMMED = LATENCY - ENTRY_LATENCY - 1
    """Cycles of the product of step and gap; the sum's register is behind it."""

    argument: Signal
    value: Signal

    def __init__(self, table: Table, *, falling: bool = False) -> None:
        self.table = table
        self.falling = falling
        super().__init__(
            {
                "argument": In(unsigned(max(1, table.index_bits + table.gap_bits))),
                "value": Out(unsigned(table.value_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Read, interpolate, add."""
        m = Module()
        table = self.table
        word = data.StructLayout({"value": unsigned(table.value_bits), "step": unsigned(table.slope_bits)})
        entries = [v | s << table.value_bits for v, s in zip(table.value, table.step, strict=True)]
        m.submodules.rom = rom = Memory(shape=word.as_shape(), depth=len(entries), init=entries)
        read = rom.read_port()
        gap_q3 = delayed(m, self.argument[: table.gap_bits], self.ENTRY_LATENCY, "gap")
        # Alone behind the ROM, so that a build can move the first one into the block, which is far from the adders.
        entry_q2, entry_q3 = (Signal(word, reset_less=True, name=name) for name in ("entry_q2", "entry_q3"))
        m.d.comb += read.addr.eq(self.argument[table.gap_bits :])
        m.d.sync += [entry_q2.eq(read.data), entry_q3.eq(entry_q2)]

        value = delayed(m, entry_q3.value, self.SUMMED, "entry_value")
        way: Any = 0
        if table.gap_bits:
            product = shift_and_add(m, entry_q3.step, gap_q3, self.SUMMED, "way")
            way = round_half_even(Cat(product, 0).as_signed(), table.gap_bits)
        value_next = Signal(unsigned(table.value_bits), reset_less=True)
        # Between two entries: the sum never leaves value_bits.
        m.d.sync += value_next.eq(value - way if self.falling else value + way)
        m.d.comb += self.value.eq(value_next)
        return m


class Activation(wiring.Component):
    """``x = phi(acc)`` of one stage (docs/arithmetic.md, sections 2 and 3).

    Parameters
    ----------
    numbers : StageNumbers

    Members
    -------
    accumulator : In(signed(accumulator_bits))
    activation : Out(Fixed(A_l))
    saturated : Out(1)

    Attributes
    ----------
    latency : int
        ``timing.activation``: longer for tanh and sigmoid than for the others. Free running, interval 1.
    """

    accumulator: Signal
    activation: Signal
    saturated: Signal
    latency: int

    def __init__(self, numbers: StageNumbers) -> None:
        self.numbers = numbers
        self.latency = timing.activation(numbers.activation)
        super().__init__(
            {
                "accumulator": In(signed(numbers.accumulator_bits)),
                "activation": Out(Fixed(numbers.output)),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Choose the activation's own path."""
        m = Module()
        if self.numbers.activation in TABLE_ACTIVATIONS:
            self._table(m)
        else:
            self._linear(m)
        return m

    def _linear(self, m: Module) -> None:
        numbers = self.numbers
        acc = self.accumulator
        leak = numbers.leak_bits if numbers.activation == "leaky_relu" else 0
        value = {
            "identity": acc,
            "relu": Mux(acc < 0, 0, acc),
            "leaky_relu": Mux(acc < 0, acc, acc << leak),
        }[numbers.activation]
        m.submodules.requantize = requantize = Requantize(
            numbers.accumulator_bits + leak, numbers.accumulator_fraction + leak, numbers.output
        )
        m.d.comb += [
            requantize.value_in.eq(value),
            self.activation.eq(requantize.value_out),
            self.saturated.eq(requantize.saturated),
        ]

    def _table(self, m: Module) -> None:
        numbers = self.numbers
        fraction = numbers.output.fraction_bits
        table = phi_table(numbers.activation, fraction)
        z = round_half_even(self.accumulator, numbers.accumulator_fraction - fraction)
        z_q1 = Signal(signed(len(z)), reset_less=True)
        m.d.sync += z_q1.eq(z)

        m.submodules.lookup = lookup = TableLookup(table)
        sign = z_q1[-1]
        magnitude_q2 = Signal(len(z), reset_less=True)  # of the most negative number too
        # What the table reaches to is all ones.
        bits = table.range_bits + fraction
        beyond_q3 = Signal(reset_less=True)
        argument_q4 = Signal(len(lookup.argument), reset_less=True)
        m.d.sync += [
            magnitude_q2.eq((z_q1 ^ sign.replicate(len(z))).as_unsigned() + sign),
            beyond_q3.eq(magnitude_q2[bits:].any()),
            argument_q4.eq(delayed(m, magnitude_q2[:bits], 1, "within") | beyond_q3.replicate(bits)),
        ]
        m.d.comb += lookup.argument.eq(argument_q4)

        negative = delayed(m, sign, 3 + TableLookup.LATENCY, "negative")
        value_next = Signal(Fixed(numbers.output), reset_less=True)
        mirror = 0 if numbers.activation == "tanh" else 1 << fraction
        # mirror - value is its complement and mirror + 1.
        word = Cat(lookup.value, Const(0, len(value_next)))[: len(value_next)] ^ negative.replicate(len(value_next))
        m.d.sync += value_next.eq(word + Mux(negative, mirror + 1, 0))
        m.d.comb += self.activation.eq(value_next)


def shift_and_add(m: Module, value: Any, factor: Any, cycles: int, name: str) -> Any:
    """Multiply by a short unsigned factor as a tree of sums of shifted values, without a multiplier.

    Each cycle adds as few terms at once as the number of cycles allows; two need one carry chain and nothing else. The
    sums lie in registers called ``name``, cycle and place.
    """
    terms: list[Any] = [Mux(factor[k], value << k, 0) for k in range(len(factor))]
    together = next(count for count in itertools.count(1) if count**cycles >= len(terms))
    for cycle in range(1, cycles + 1):
        sums = []
        for first in range(0, len(terms), together):
            factor_bits = min(len(factor), (first + together) * together ** (cycle - 1))
            part = Signal(
                Shape(len(value) + factor_bits, signed=value.shape().signed),
                name=f"{name}_q{cycle}_{first // together}",
                reset_less=True,
            )
            m.d.sync += part.eq(sum(terms[first + 1 : first + together], terms[first]))
            sums.append(part)
        terms = sums
    (total,) = terms
    return total
