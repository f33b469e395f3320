"""Sequence the forward pass of a stage: one row group after the other, each over all columns."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from dyadprop import timing
from dyadprop_hw.claims import claim
from dyadprop_hw.lane import LaneShape
from dyadprop_hw.layouts import Fixed, delayed, register_wave


class ForwardPass(wiring.Component):
    """Turn one sample of the memory into the forward wave that enters lane 0; pass parameter writes on in between.

    Parameters
    ----------
    shape : LaneShape

    Members
    -------
    start : In(1)
        A sample waits and a place in the output queue is free; right behind the pass before at the earliest.
    learn, update : In(1)
        Flags of the sample in its pass.
    activation : In(Fixed(A_{l-1}))
        The memory's answer, one cycle after the column was shown.
    next_column, row_end, end : Out(1)
        To the sample memory.
    busy : Out(1)
    write : In(forward_wave)
        A parameter write, only while nothing runs; at lane 0 ``timing.ENTRY`` later.
    wave : Out(forward_wave)
        To lane 0, ``LATENCY`` after its column was shown to the memory.

    Notes
    -----
    A pass takes ``R * max(n_in + 1, P)`` cycles and starts in the cycle after ``start``. With more lanes than columns a
    row group waits, because the ``P`` results of the one before leave at one a cycle.
    """

    LATENCY = timing.ISSUE

    start: Signal
    learn: Signal
    update: Signal
    activation: Any
    next_column: Signal
    row_end: Signal
    end: Signal
    busy: Signal
    write: data.View
    wave: data.View

    def __init__(self, shape: LaneShape) -> None:
        self.shape = shape
        super().__init__(
            {
                "start": In(1),
                "learn": In(1),
                "update": In(1),
                "activation": In(Fixed(shape.numbers.input)),
                "next_column": Out(1),
                "row_end": Out(1),
                "end": Out(1),
                "busy": Out(1),
                "write": In(shape.forward),
                "wave": Out(shape.forward),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count columns and row groups; build the wave."""
        m = Module()
        numbers, groups = self.shape.numbers, self.shape.groups
        columns, pitch = numbers.columns, self.shape.plan.forward_pitch
        column = Signal(range(pitch))
        group = Signal(range(groups))
        address = Signal.like(self.wave.address)
        # What the counters are compared with is known a cycle ahead: a stage decides by these.
        group_end: Any = Signal() if groups > 1 else Const(1)
        more = Signal(init=numbers.inputs > 1)  # input columns behind this one
        bias = Signal()
        beyond: Any = Signal() if pitch > columns else Const(0)
        more_after = Mux(self.row_end, numbers.inputs > 1, more & (column != numbers.inputs - 2))
        # The sample memory may be far from here: what it is told comes out of a register.
        m.d.sync += self.next_column.eq(Mux(self.busy, more_after & (~self.end | self.start), more & self.start))
        with m.If(self.busy):
            m.d.sync += [
                column.eq(Mux(self.row_end, 0, column + 1)),
                bias.eq(column == columns - 2),
                more.eq(more_after),
                self.row_end.eq(column == pitch - 2),
                self.end.eq((column == pitch - 2) & group_end),
            ]
            if pitch > columns:
                m.d.sync += beyond.eq(~self.row_end & (beyond | bias))
            with m.If(~beyond):
                m.d.sync += address.eq(address + 1)
        if groups > 1:
            with m.If(self.row_end):
                m.d.sync += [
                    group.eq(Mux(group_end, 0, group + 1)),
                    group_end.eq(~group_end & (group == groups - 2)),
                ]
        with m.If(self.end):
            m.d.sync += [self.busy.eq(0), address.eq(0)]
        with m.If(self.start):
            m.d.sync += self.busy.eq(1)
        claim(m, ~self.start | ~self.busy | self.end)

        # One cycle later the memory answers; a register stands alone behind it, so that a build can move it into the
        # block. The bias column's activation is 1.0.
        show, show_q1, show_q2 = (Signal(self.shape.forward, name=name) for name in ("show", "show_q1", "show_q2"))
        activation_q2 = Signal.like(self.activation, reset_less=True)
        bias_q2 = delayed(m, bias, timing.ISSUE - 1, "bias")
        m.d.comb += [
            show.valid.eq(self.busy & ~beyond),
            show.first.eq(column == 0),
            show.last.eq(bias),
            show.learn.eq(self.learn),
            show.update.eq(self.update),
            show.address.eq(address),
        ]
        register_wave(m, show, show_q1)
        register_wave(m, show_q1, show_q2)
        m.d.sync += activation_q2.eq(self.activation)
        out, write_q1 = Signal(self.shape.forward), Signal(self.shape.forward)
        register_wave(m, self.write, write_q1)  # it comes from afar as well
        m.d.comb += [out.eq(show_q2), out.operand.eq(Mux(bias_q2, numbers.one, activation_q2))]
        with m.If(write_q1.valid):
            m.d.comb += out.eq(write_q1)
        claim(m, ~write_q1.valid | ~show_q2.valid)
        register_wave(m, out, self.wave)
        return m
