"""The bit period of the line, and the trial of another (docs/protocol.md, "Baud rate")."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from dyadprop.protocol import MAX_PERIOD, TRIAL_SECONDS


class LineRate(wiring.Component):
    """Switch to another bit period when nothing is being sent, and back unless somebody says in time that it works.

    Parameters
    ----------
    period : int
        At power-on.
    clock : float
        Hz.

    Members
    -------
    wanted : In, change : In(1)
        Try this period, as soon as the line is quiet.
    quiet : In(1)
        All that was to be sent has left.
    keep : In(1)
        The period on trial stays.
    cancel : In(1)
        A change that has not happened yet will not.
    period : Out

    Notes
    -----
    No reset but that of power-on.
    """

    wanted: Signal
    change: Signal
    quiet: Signal
    keep: Signal
    cancel: Signal
    period: Signal

    def __init__(self, period: int, clock: float) -> None:
        self._initial = period
        self.trial_cycles = max(1, round(clock * TRIAL_SECONDS))
        shape = range(MAX_PERIOD + 1)
        super().__init__(
            {
                "wanted": In(shape),
                "change": In(1),
                "quiet": In(1),
                "keep": In(1),
                "cancel": In(1),
                "period": Out(shape, init=period),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count the trial's cycles down."""
        m = Module()
        kept = Signal.like(self.period, init=self._initial)
        coming = Signal.like(self.period, reset_less=True)
        waiting = Signal()
        left = Signal(range(self.trial_cycles + 1))
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
            with m.If(left == 1):
                m.d.sync += self.period.eq(kept)
        with m.If(waiting & self.quiet):
            m.d.sync += [waiting.eq(0), self.period.eq(coming), left.eq(self.trial_cycles)]
        with m.If(self.cancel):
            m.d.sync += waiting.eq(0)
        with m.If(self.change):
            m.d.sync += [waiting.eq(1), coming.eq(self.wanted)]
        with m.If(self.keep):
            m.d.sync += [kept.eq(self.period), left.eq(0)]
        return m
