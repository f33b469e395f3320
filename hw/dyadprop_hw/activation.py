"""From a pre-activation to an activation, one unit a cycle, without a multiplier."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
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
        gap_q3 = delayed(m, self.argument[: table.gap_bits], 3, "gap")
        # Alone behind the ROM, so that a build can move the first one into the block, which is far from the adders.
        entry_q2, entry_q3 = (Signal(word, reset_less=True, name=name) for name in ("entry_q2", "entry_q3"))
        m.d.comb += read.addr.eq(self.argument[table.gap_bits :])
        m.d.sync += [entry_q2.eq(read.data), entry_q3.eq(entry_q2)]

        way_q5 = Signal(signed(table.slope_bits + table.gap_bits + 1), reset_less=True)
        m.d.sync += way_q5.eq(shift_and_add(m, entry_q3.step, gap_q3, "way_q4"))
        value_q5 = delayed(m, entry_q3.value, 2, "entry_value")

        value_q6 = Signal(unsigned(table.value_bits), reset_less=True)
        rounded = round_half_even(way_q5, table.gap_bits) if table.gap_bits else 0
        # Between two entries: the sum never leaves value_bits.
        m.d.sync += value_q6.eq(value_q5 - rounded if self.falling else value_q5 + rounded)
        m.d.comb += self.value.eq(value_q6)
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
        2 for identity, relu and leaky_relu; 10 for tanh and sigmoid. Free running, interval 1.
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
        limit = (1 << (table.range_bits + fraction)) - 1
        magnitude_q2 = Signal(len(z), reset_less=True)  # of the most negative number too
        argument_q3 = Signal(len(lookup.argument), reset_less=True)
        m.d.sync += [
            magnitude_q2.eq(Mux(z_q1 < 0, -z_q1, z_q1)),
            argument_q3.eq(Mux(magnitude_q2 > limit, limit, magnitude_q2)),
        ]
        m.d.comb += lookup.argument.eq(argument_q3)

        negative = delayed(m, z_q1 < 0, 2 + TableLookup.LATENCY, "negative")
        value_q10 = Signal(Fixed(numbers.output), reset_less=True)
        mirror = 0 if numbers.activation == "tanh" else 1 << fraction
        m.d.sync += value_q10.eq(Mux(negative, mirror - lookup.value, lookup.value))
        m.d.comb += self.activation.eq(value_q10)


def shift_and_add(m: Module, value: Any, factor: Any, name: str) -> Any:
    """Multiply by a short unsigned factor as a sum of shifted values, without a multiplier, a cycle later.

    Sums of three lie in registers, called ``name`` and a number; theirs is combinational.
    """
    terms = [Mux(factor[k], value << k, 0) for k in range(len(factor))]
    sums = []
    for k in range(0, len(terms), 3):
        part: Any = sum(terms[k + 1 : k + 3], terms[k])
        part_next = Signal.like(part, name=f"{name}_{k}", reset_less=True)
        m.d.sync += part_next.eq(part)
        sums.append(part_next)
    return sum(sums[1:], sums[0]) if sums else 0
