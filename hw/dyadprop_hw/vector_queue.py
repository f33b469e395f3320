"""A queue that knows when a whole vector waits in it."""

from typing import Any

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from dyadprop_hw.streams import Queue, connect_stream


class VectorQueue(wiring.Component):
    """Hold vectors of one length.

    Parameters
    ----------
    shape : shape-castable
        Of a word.
    length : int
        Words of a vector.
    vectors : int
        That it has room for.

    Members
    -------
    i, o : In, Out(stream.Signature(shape))
    whole : Out(1)
        The vector at the head is here to its end.
    arrived : Out(1)
        High for the cycle in which a vector's last word comes.

    Notes
    -----
    ``whole`` comes with the last word's place at the queue's end: the queue's latency after that word.
    """

    i: Any
    o: Any
    whole: Signal
    arrived: Signal

    def __init__(self, shape: ShapeLike, length: int, vectors: int) -> None:
        self.shape = shape
        self.length = length
        self.vectors = vectors
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "whole": Out(1),
                "arrived": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count words on both sides."""
        m = Module()
        m.submodules.queue = queue = Queue(self.shape, self.length * self.vectors)
        connect_stream(m, wiring.flipped(self.i), queue.i)
        connect_stream(m, queue.o, wiring.flipped(self.o))
        left = Signal()
        for stream_, ended in ((self.i, self.arrived), (self.o, left)):
            position = Signal(range(self.length))
            moved = stream_.valid & stream_.ready
            last = position == self.length - 1
            m.d.comb += ended.eq(moved & last)
            with m.If(moved):
                m.d.sync += position.eq(position + 1)
                with m.If(last):
                    m.d.sync += position.eq(0)
        held = Signal(range(self.vectors + 4))  # the queue holds a word or two more than asked for: vectors, at most
        arrived: Any = self.arrived
        for cycle in range(1, queue.latency):
            arrived_next = Signal(name=f"arrived_q{cycle}")
            m.d.sync += arrived_next.eq(arrived)
            arrived = arrived_next
        m.d.sync += held.eq(held + arrived - left)
        m.d.comb += self.whole.eq(held != 0)
        return m
