"""Sequence the backward pass of a stage, and its read-outs: one column after the other, each over all row groups."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from dyadprop import timing
from dyadprop_hw.claims import claim
from dyadprop_hw.lane import LaneShape
from dyadprop_hw.layouts import BackwardOperation, Fixed, register_wave


class BackwardPass(wiring.Component):
    """Turn a bank of deltas and its sample into the wave that enters lane 0; pass read-outs on in between.

    Parameters
    ----------
    shape : LaneShape

    Members
    -------
    start : In(1)
        The oldest sample waits, its deltas are in the lanes, and a place in the sensitivity queue is free; right behind
        the pass before at the earliest.
    activation : In(Fixed(A_{l-1}))
        The memory's answer, one cycle after the column was shown.
    fresh, update : In(1)
        Gradients start from zero; the sample in its pass takes the step.
    next_column, end : Out(1)
        To the sample memory and the delta banks.
    busy : Out(1)
    read : In(backward_wave)
        One word's read-out, only while nothing runs; at lane 0 ``timing.ENTRY`` later.
    wave : Out(backward_wave)
        To lane 0, ``LATENCY`` after its column was shown to the memory.

    Notes
    -----
    A pass takes ``R * max(n_in + 1, ceil(H / R))`` cycles, ``H = Lane.GRADIENT_LATENCY``: no gradient is read before
    its last sum is written.
    """

    LATENCY = timing.ISSUE

    start: Signal
    activation: Any
    fresh: Signal
    update: Signal
    next_column: Signal
    end: Signal
    busy: Signal
    read: data.View
    wave: data.View

    def __init__(self, shape: LaneShape) -> None:
        self.shape = shape
        super().__init__(
            {
                "start": In(1),
                "activation": In(Fixed(shape.numbers.input)),
                "fresh": In(1),
                "update": In(1),
                "next_column": Out(1),
                "end": Out(1),
                "busy": Out(1),
                "read": In(shape.backward),
                "wave": Out(shape.backward),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count row groups and columns; build the wave."""
        m = Module()
        numbers, groups = self.shape.numbers, self.shape.groups
        columns, pitch = numbers.columns, self.shape.plan.backward_pitch
        column = Signal(range(pitch))
        group = Signal(range(groups))
        address = Signal.like(self.wave.address)
        bank = self.shape.first_bank()
        # What the counters are compared with is known a cycle ahead: a stage decides by these.
        group_end: Any = Signal() if groups > 1 else Const(1)
        more = Signal(init=numbers.inputs > 1)  # input columns behind this one
        bias, ends = Signal(), Signal()
        beyond: Any = Signal() if pitch > columns else Const(0)
        more_after = Mux(group_end, Mux(ends, numbers.inputs > 1, more & (column != numbers.inputs - 2)), more)
        group_end_after = (~group_end & (group == groups - 2)) if groups > 1 else Const(1)
        # The sample memory may be far from here: what it is told comes out of a register.
        m.d.sync += self.next_column.eq(
            Mux(self.busy, more_after & group_end_after & (~self.end | self.start), more & group_end & self.start)
        )
        with m.If(self.busy):
            # While a column lasts, ``ends`` does not change.
            m.d.sync += self.end.eq((ends & (group == groups - 2)) if groups > 1 else (column == pitch - 2))
            if groups > 1:
                m.d.sync += [
                    group.eq(Mux(group_end, 0, group + 1)),
                    group_end.eq(group_end_after),
                    address.eq(address + columns),
                ]
            m.d.sync += more.eq(more_after)
            with m.If(group_end):
                m.d.sync += [
                    column.eq(Mux(ends, 0, column + 1)),
                    bias.eq(column == columns - 2),
                    ends.eq(column == pitch - 2),
                ]
                if pitch > columns:
                    m.d.sync += beyond.eq(~ends & (beyond | bias))
                m.d.sync += address.eq(Mux(ends, 0, column + 1))
        with m.If(self.end):
            m.d.sync += [self.busy.eq(0), bank.eq(self.shape.next_bank(bank))]
        with m.If(self.start):
            m.d.sync += self.busy.eq(1)
        claim(m, ~self.start | ~self.busy | self.end)

        # One cycle later the memory answers; a register stands alone behind it, so that a build can move it into the
        # block.
        show, show_q1, show_q2 = (Signal(self.shape.backward, name=name) for name in ("show", "show_q1", "show_q2"))
        activation_q2 = Signal.like(self.activation, reset_less=True)
        m.d.comb += [
            show.valid.eq(self.busy & ~beyond),
            show.operation.eq(BackwardOperation.LEARN),
            show.fresh.eq(self.fresh),
            show.update.eq(self.update),
            show.first.eq(group == 0),
            show.last.eq(group_end),
            show.bias.eq(bias),
            show.address.eq(address),
            show.delta.eq(bank + group),
        ]
        register_wave(m, show, show_q1)
        register_wave(m, show_q1, show_q2)
        m.d.sync += activation_q2.eq(self.activation)
        out, read_q1 = Signal(self.shape.backward), Signal(self.shape.backward)
        register_wave(m, self.read, read_q1)  # it comes from afar as well
        m.d.comb += [out.eq(show_q2), out.operand.eq(Mux(show_q2.bias, numbers.one, activation_q2))]
        with m.If(read_q1.valid):
            m.d.comb += out.eq(read_q1)
        claim(m, ~read_q1.valid | ~show_q2.valid)
        register_wave(m, out, self.wave)
        return m
