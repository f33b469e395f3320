"""Bring a returning vector's deltas into the lanes, while the lanes still work with the vector before."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from dyadprop_hw.delta import Delta
from dyadprop_hw.lane import LaneShape
from dyadprop_hw.layouts import register_wave, sensitivity_token
from dyadprop_hw.streams import Count


class DeltaLoader(wiring.Component):
    """Multiply sensitivities by their slopes and send the deltas down the lanes, into one of `StagePlan.banks` banks.

    Parameters
    ----------
    shape : LaneShape

    Members
    -------
    sensitivity_in : In(stream.Signature(sensitivity_token))
        ``n_out`` words a sample.
    wave : Out(delta_wave)
        To lane 0. Rows that do not exist (``R P > n_out``) get a delta of zero, so that they add nothing to a
        sensitivity.
    loaded : Out(1)
        A bank is whole; a backward wave that starts now reads it.
    start, end : In(1)
        A backward pass takes the oldest whole bank; it is done with it.

    Notes
    -----
    ``R P`` cycles a vector at most one word a cycle; ``Delta.latency + 1`` from an accepted word to lane 0.
    """

    sensitivity_in: Any
    wave: data.View
    loaded: Signal
    start: Signal
    end: Signal

    def __init__(self, shape: LaneShape) -> None:
        self.shape = shape
        numbers = shape.numbers
        super().__init__(
            {
                "sensitivity_in": In(stream.Signature(sensitivity_token(numbers.sensitivity, numbers.output))),
                "wave": Out(shape.delta),
                "loaded": Out(1),
                "start": In(1),
                "end": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Accept, multiply, count into lanes."""
        m = Module()
        numbers, lanes, groups = self.shape.numbers, self.shape.lanes, self.shape.groups
        rows, banks = lanes * groups, self.shape.plan.banks
        token = self.sensitivity_in
        claimed, whole = Count(banks, "claimed"), Count(banks, "whole")

        # Accepting side: a vector claims a bank with its first word; rows that do not exist follow by themselves.
        entry = Signal(range(rows))
        first = Signal(init=1)  # of the entry: it begins a vector
        exists: Any = Signal(init=1) if rows > numbers.outputs else Const(1)  # it is a row that exists
        room = ~first | claimed.room
        step = room & (token.valid | ~exists)
        m.d.comb += token.ready.eq(room & exists)
        with m.If(step):
            last_entry = entry == rows - 1
            m.d.sync += [
                entry.eq(Mux(last_entry, 0, entry + 1)),
                first.eq(last_entry),
            ]
            if rows > numbers.outputs:
                m.d.sync += exists.eq(last_entry | (entry + 1 < numbers.outputs))

        m.submodules.delta = delta = Delta(numbers)
        m.d.comb += [
            delta.sensitivity.eq(token.payload.value),
            delta.activation.eq(token.payload.activation),
        ]
        valid = step
        for cycle in range(delta.latency):
            valid_next = Signal(name=f"valid_q{cycle + 1}")
            m.d.sync += valid_next.eq(valid)
            valid = valid_next

        # Leaving side, in the same order: where each delta belongs.
        lane = Signal(range(lanes), init=lanes - 1)
        group = Signal(range(groups))
        left = Signal(range(rows))
        bank = self.shape.first_bank()
        ends = Signal(init=rows == 1)  # it is the vector's last row
        last = valid & ends
        with m.If(valid):
            m.d.sync += [left.eq(Mux(ends, 0, left + 1)), lane.eq(lane - 1)]
            if rows > 1:
                m.d.sync += ends.eq(left == rows - 2)
            with m.If(lane == 0):
                m.d.sync += [lane.eq(lanes - 1), group.eq(Mux(ends, 0, group + 1))]
        with m.If(last):
            m.d.sync += bank.eq(self.shape.next_bank(bank))
        out = Signal(self.shape.delta)
        m.d.comb += [
            out.valid.eq(valid),
            out.lane.eq(lane),
            out.delta.eq(bank + group),
            out.value.eq(Mux(left < numbers.outputs, delta.delta, 0)),
        ]
        register_wave(m, out, self.wave)

        claimed.drive(m, step & first, self.end)
        whole.drive(m, last, self.start)
        m.d.comb += self.loaded.eq(whole.some)
        return m
