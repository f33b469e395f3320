"""Streams between blocks: connecting them safely, and queueing them."""

from typing import Any

from amaranth.hdl import Module, ShapeLike, Signal, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from dyadprop import timing


def connect_stream(m: Module, source: Any, sink: Any) -> None:
    """Connect a stream to its sink, refusing different payloads.

    Parameters
    ----------
    m : Module
    source, sink : stream.Interface
        As ports of submodules; outer ports go through ``wiring.flipped``.

    Raises
    ------
    TypeError
        If the payloads' shapes differ. ``wiring.connect`` alone compares only their widths, and would take Q4.12 for
        Q2.14.
    """
    if source.signature != sink.signature.flip():
        raise TypeError(f"stream {source.signature!r} cannot feed {sink.signature.flip()!r}: the payloads differ")
    wiring.connect(m, source, sink)


class Queue(wiring.Component):
    """First-in first-out stream buffer that keeps its payload's shape (``lib.fifo`` has none).

    Parameters
    ----------
    shape : shape-castable
        Of the payload.
    depth : int
        Items that it always has room for, at least 1, also when they come in consecutive cycles.

    Members
    -------
    i : In(stream.Signature(shape))
    o : Out(stream.Signature(shape))

    Attributes
    ----------
    latency : int
        Cycles from an accepted item to a valid one: 2; 3 above ``timing.SHALLOW`` items.

    Notes
    -----
    Interval 1 (2 for depth 1). Neither ``i.ready`` nor ``o.valid`` depends on the other side combinationally.
    """

    i: Any
    o: Any
    depth: int
    latency: int

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        if depth < 1:
            raise ValueError(f"depth of a queue is {depth}; it must be at least 1")
        self.shape = shape
        self.depth = depth
        self.latency = timing.queue(depth)
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        """Wrap the library's buffered FIFO."""
        m = Module()
        bits = Value.cast(self.i.payload)
        # The library's output register takes a word only a cycle after it came: one place more, or `depth` words in a
        # row would not fit.
        m.submodules.fifo = buffer = fifo.SyncFIFOBuffered(width=len(bits), depth=self.depth + 1)
        m.d.comb += [
            buffer.w_data.eq(bits),
            buffer.w_en.eq(self.i.valid),
            self.i.ready.eq(buffer.w_rdy),
        ]
        out = Value.cast(self.o.payload)
        if self.latency == timing.QUEUE:
            m.d.comb += [out.eq(buffer.r_data), self.o.valid.eq(buffer.r_rdy), buffer.r_en.eq(self.o.ready)]
        else:
            # A block RAM answers late in the cycle. Its register, which a build can move into the block, is an item's
            # last place.
            word = Signal.like(out, reset_less=True)
            m.d.comb += [out.eq(word), buffer.r_en.eq(~self.o.valid | self.o.ready)]
            with m.If(buffer.r_en):
                m.d.sync += [word.eq(buffer.r_data), self.o.valid.eq(buffer.r_rdy)]
        return m


class Relay(wiring.Component):
    """One place between two blocks, so that no path leads from one through the other.

    Parameters
    ----------
    shape : shape-castable
        Of the payload.

    Members
    -------
    i : In(stream.Signature(shape))
    o : Out(stream.Signature(shape))

    Notes
    -----
    Latency 1, interval 2. A register for each bit, and one more.
    """

    i: Any
    o: Any

    def __init__(self, shape: ShapeLike) -> None:
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        """Take an item while there is none."""
        m = Module()
        word = Signal.like(Value.cast(self.o.payload), reset_less=True)
        m.d.comb += [Value.cast(self.o.payload).eq(word), self.i.ready.eq(~self.o.valid)]
        with m.If(~self.o.valid):
            m.d.sync += [word.eq(Value.cast(self.i.payload)), self.o.valid.eq(self.i.valid)]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        return m
