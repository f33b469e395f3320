"""The order in which a stage's words are stored and read: row by row, each row's bias last."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from dyadprop_hw.lane import LaneShape


class WordCounter(wiring.Component):
    """Walk over the words of a stage in row-major order and say where each one lives.

    Parameters
    ----------
    shape : LaneShape

    Members
    -------
    restart, step : In(1)
        Go back to the first word, or on to the next one (from the last to the first).
    lane, address : Out
        Where the present word lives: row ``i = r P + q`` in lane ``P - 1 - q``, address ``r (n_in + 1) + j``.
    last : Out(1)
        It is the stage's last word.
    """

    restart: Signal
    step: Signal
    lane: Signal
    address: Signal
    last: Signal

    def __init__(self, shape: LaneShape) -> None:
        self.shape = shape
        super().__init__(
            {
                "restart": In(1),
                "step": In(1),
                "lane": Out(shape.forward["lane"].shape),
                "address": Out(shape.forward["address"].shape),
                "last": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count columns, lanes and row groups."""
        m = Module()
        columns, outputs = self.shape.numbers.columns, self.shape.numbers.outputs
        lanes, groups = self.shape.lanes, self.shape.groups
        column = Signal(range(columns))
        row = Signal(range(outputs))
        lane = Signal(range(lanes), init=lanes - 1)
        group_address = Signal.like(self.address)
        # Known a cycle ahead. A row has two columns or more.
        column_end, row_end, group_end, last = Signal(), Signal(init=outputs == 1), Signal(), Signal()
        with m.If(self.step):
            m.d.sync += [
                column.eq(Mux(column_end, 0, column + 1)),
                column_end.eq(column == columns - 2),
                group_end.eq((column == columns - 2) & (lane == 0)),
                last.eq((column == columns - 2) & row_end),
            ]
            with m.If(column_end):
                m.d.sync += [row.eq(row + 1), row_end.eq(row == outputs - 2), lane.eq(lane - 1)]
            # Behind the only row group the stage's last word has come, and all of it begins again.
            if groups > 1:
                with m.If(group_end):
                    m.d.sync += [lane.eq(lanes - 1), group_address.eq(group_address + columns)]
        with m.If(self.restart | (self.step & last)):
            m.d.sync += [
                column.eq(0),
                column_end.eq(0),
                group_end.eq(0),
                last.eq(0),
                row.eq(0),
                row_end.eq(outputs == 1),
                lane.eq(lanes - 1),
                group_address.eq(0),
            ]
        m.d.comb += [
            self.lane.eq(lane),
            self.address.eq(group_address + column),
            self.last.eq(last),
        ]
        return m
