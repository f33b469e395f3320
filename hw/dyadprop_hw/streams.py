"""Streams between blocks: connecting them safely, and queueing them."""

from typing import Any

from amaranth.hdl import Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
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


class Count:
    """How many of something there are, with both extremes in registers: what they decide needs no comparison first.

    Parameters
    ----------
    limit : int
        At least 1.
    name : str
        Of its signals.

    Attributes
    ----------
    value : Signal
    some, room : Signal
        It is not zero; it is not ``limit``.
    """

    def __init__(self, limit: int, name: str) -> None:
        self.limit = limit
        self.value = Signal(range(limit + 1), name=name)
        self.some = Signal(name=f"{name}_some")
        self.room = Signal(name=f"{name}_room", init=1)

    def drive(self, m: Module, up: Any, down: Any) -> None:
        """Count.

        Parameters
        ----------
        m : Module
        up, down : Value
            One more, one less; both at once change nothing. Never more than ``limit``, nor less than none.
        """
        with m.If(up & ~down):
            m.d.sync += [self.value.eq(self.value + 1), self.some.eq(1), self.room.eq(self.value != self.limit - 1)]
        with m.If(down & ~up):
            m.d.sync += [self.value.eq(self.value - 1), self.some.eq(self.value != 1), self.room.eq(1)]


class Buffer(wiring.Component):
    """Memory and output register of a queue: ``lib.fifo.SyncFIFOBuffered``, cycle for cycle, by a `Count`.

    That one compares its level before it says whether it takes a word, and so do its neighbours on both sides before
    they do anything.

    Parameters
    ----------
    width : int
    depth : int
        Places in the memory; a word in the output register is one more.

    Members
    -------
    w_data, w_en : In
    w_rdy : Out(1)
        There is room.
    r_data, r_rdy : Out
    r_en : In(1)
    """

    w_data: Signal
    w_en: Signal
    w_rdy: Signal
    r_data: Signal
    r_en: Signal
    r_rdy: Signal

    def __init__(self, width: int, depth: int) -> None:
        self.width = width
        self.depth = depth
        super().__init__(
            {
                "w_data": In(width),
                "w_en": In(1),
                "w_rdy": Out(1),
                "r_data": Out(width),
                "r_en": In(1),
                "r_rdy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Write behind the words, read in front of them."""
        m = Module()
        depth = self.depth
        m.submodules.storage = storage = Memory(shape=self.width, depth=depth, init=[])
        write, read = storage.write_port(), storage.read_port()
        level = Count(depth, "inner_level")
        produce, consume = Signal(range(depth)), Signal(range(depth))
        writes, reads = Signal(), Signal()
        m.d.comb += [
            writes.eq(self.w_en & level.room),
            reads.eq(level.some & (~self.r_rdy | self.r_en)),
            self.w_rdy.eq(level.room),
            write.addr.eq(produce),
            write.data.eq(self.w_data),
            write.en.eq(writes),
            read.addr.eq(consume),
            read.en.eq(reads),
            self.r_data.eq(read.data),
        ]
        level.drive(m, writes, reads)
        for moves, place in ((writes, produce), (reads, consume)):
            with m.If(moves):
                m.d.sync += place.eq(Mux(place == depth - 1, 0, place + 1))
        with m.If(reads):
            m.d.sync += self.r_rdy.eq(1)
        with m.Elif(self.r_en):
            m.d.sync += self.r_rdy.eq(0)
        return m


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
        Cycles from an accepted item to a valid one: 2; 4 above ``timing.SHALLOW`` items.

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
        """Wrap a buffer, and behind a block RAM two more registers."""
        m = Module()
        bits = Value.cast(self.i.payload)
        # All places are in the memory: the output register takes a word only a cycle after it came, too late for
        # `depth` words in a row.
        m.submodules.fifo = buffer = Buffer(len(bits), self.depth)
        m.d.comb += [
            buffer.w_data.eq(bits),
            buffer.w_en.eq(self.i.valid),
            self.i.ready.eq(buffer.w_rdy),
        ]
        out = Value.cast(self.o.payload)
        if self.latency == timing.QUEUE:
            m.d.comb += [out.eq(buffer.r_data), self.o.valid.eq(buffer.r_rdy), buffer.r_en.eq(self.o.ready)]
        else:
            # A block RAM answers late in the cycle: behind it is a register that a build can move into the block. Who
            # takes the items may be far away: whether that register moves on is known without asking, as an item that
            # is not taken yet can step aside.
            word, aside, last = (Signal.like(out, reset_less=True, name=name) for name in ("word", "aside", "last"))
            word_valid, aside_valid = Signal(), Signal()
            m.d.comb += [out.eq(last), buffer.r_en.eq(~word_valid | ~aside_valid)]
            with m.If(buffer.r_en):
                m.d.sync += [word.eq(buffer.r_data), word_valid.eq(buffer.r_rdy)]
            with m.If(~aside_valid):
                m.d.sync += aside.eq(word)
            with m.If(~self.o.valid | self.o.ready):
                m.d.sync += [
                    last.eq(Mux(aside_valid, aside, word)),
                    self.o.valid.eq(aside_valid | word_valid),
                    aside_valid.eq(0),
                ]
            with m.Elif(~aside_valid):
                m.d.sync += aside_valid.eq(word_valid)
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
