"""Decides when a stage's next pass begins."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Pacer(wiring.Component):
    """Start passes that all take the same number of cycles, one right behind the other where they are ready.

    What a decision needs (samples, queues) and what a pass moves (memories, lane 0) may lie far apart: the pacer counts
    for itself, and nothing comes back from the pass.

    Parameters
    ----------
    cycles : int
        Of a pass; one that is shorter than `LEAST` starts so often at most.

    Members
    -------
    ready : In(1)
        The next pass has all that it needs; tells of the one behind it ``LEAST`` cycles after the decision.
    start : Out(1)
        It begins: high for a cycle, ``timing.START`` after the decision; the pass's first cycle is the next one.

    Notes
    -----
    Interval ``cycles``.
    """

    LEAST = 4
    """Cycles from a decision until counts and flags tell of the next pass."""

    ready: Signal
    start: Signal

    def __init__(self, cycles: int) -> None:
        self.cycles = max(cycles, self.LEAST)
        super().__init__({"ready": In(1), "start": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Count down what is left of a pass."""
        m = Module()
        left = Signal(range(self.cycles - 1))
        free = Signal(init=1)
        decided = self.ready & free
        m.d.sync += [
            self.start.eq(decided),
            left.eq(Mux(free, self.cycles - 2, left - 1)),
            free.eq(Mux(free, ~self.ready, left == 0)),
        ]
        return m
