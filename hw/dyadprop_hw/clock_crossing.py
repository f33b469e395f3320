"""A stream from one clock to another, without a path from either side's logic to the other."""

from typing import Any

from amaranth.hdl import Module, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out


class ClockCrossing(wiring.Component):
    """Hand items over one at a time: the sender says "there is one", the taker "I have it", each by changing a bit.

    Where words are as far apart as a serial line's, this is enough, and nobody counts: the counters of
    `amaranth.lib.fifo.AsyncFIFO`, compared and coded, were the slowest paths of a whole network.

    Parameters
    ----------
    shape : shape-castable
        Of the payload.
    source, sink : str
        Clock domains of ``i`` and of ``o``. Both are to be reset at once, for so long that each side's bit has reached
        the other: three cycles of either.

    Members
    -------
    i : In(stream.Signature(shape))
        In ``source``; ``ready`` is a register.
    o : Out(stream.Signature(shape))
        In ``sink``; all of it are registers.

    Notes
    -----
    Behind the edge that accepts an item, two to three periods of ``sink`` pass until it is offered, and then, if it is
    taken at once, three to four of ``source`` until the edge that accepts the next. Two registers for each bit.
    """

    i: Any
    o: Any

    def __init__(self, shape: ShapeLike, source: str, sink: str) -> None:
        self._source = source
        self._sink = sink
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        """Change a bit for each item, and answer by the same change."""
        m = Module()
        word, taken_word = (Signal.like(Value.cast(self.i.payload), reset_less=True, name=n) for n in ("sent", "got"))
        given, taken = Signal(), Signal()  # change with each item
        given_there, taken_here = Signal(), Signal()
        m.submodules.given = FFSynchronizer(given, given_there, o_domain=self._sink)
        m.submodules.taken = FFSynchronizer(taken, taken_here, o_domain=self._source)

        with m.If(self.i.ready & self.i.valid):
            m.d[self._source] += [word.eq(Value.cast(self.i.payload)), given.eq(~given), self.i.ready.eq(0)]
        with m.Elif(taken_here == given):
            m.d[self._source] += self.i.ready.eq(1)

        m.d.comb += Value.cast(self.o.payload).eq(taken_word)
        with m.If(~self.o.valid & (given_there != taken)):
            # `word` has been still since before its bit changed.
            m.d[self._sink] += [taken_word.eq(word), self.o.valid.eq(1), taken.eq(given_there)]
        with m.If(self.o.valid & self.o.ready):
            m.d[self._sink] += self.o.valid.eq(0)
        return m
