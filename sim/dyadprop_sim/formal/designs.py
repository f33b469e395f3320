# amaranth: UnusedElaboratable=no
"""Small designs that the model checker looks at, and broken ones that it must find out.

Each is a component whose inputs are free in every cycle and whose assertions must hold.
"""

from dataclasses import replace
from typing import Any
from unittest import mock

from amaranth.hdl import Assert, Assume, Cover, Elaboratable, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import wiring

from dyadprop import timing
from dyadprop.formats import Formats, Q
from dyadprop.network import Dense, Network
from dyadprop.plan import Plan, plan_network
from dyadprop_hw import packet_decoder, receive_window
from dyadprop_hw.network import DyadNetwork, control_data_bits
from dyadprop_hw.packet_decoder import PacketDecoder
from dyadprop_hw.receive_window import ReceiveWindow
from dyadprop_hw.softmax import Divider
from dyadprop_hw.stage import Stage
from dyadprop_hw.streams import Queue

# The shortest words that there are: what is proved here are protocols and addresses, not arithmetic.
TINY = Formats(Q(1, 1), Q(1, 1), Q(1, 1))


class Harness(wiring.Component):
    """A design whose inputs are free, with rules for its streams.

    Parameters
    ----------
    design : Component
    retracts : bool
        Break the first output stream on purpose: its valid falls without a transfer.
    """

    def __init__(self, design: Any, *, retracts: bool = False) -> None:
        self._design = design
        self._retracts = retracts
        super().__init__({name: member for name, member in design.signature.members.items() if name != "status"})

    def elaborate(self, platform: object) -> Module:
        """Pass all streams through, and watch those that go out."""
        m = Module()
        m.submodules.design = design = self._design
        m.d.comb += Assume(~ResetSignal())
        retract = Signal()
        m.d.sync += retract.eq(~retract)
        first = True
        for name, member in design.signature.members.items():
            if name == "status":
                continue
            outer, inner = getattr(self, name), getattr(design, name)
            if member.flow == wiring.In:
                wiring.connect(m, wiring.flipped(outer), inner)
                continue
            broken = self._retracts and first
            first = False
            valid = inner.valid & ~retract if broken else inner.valid
            m.d.comb += [
                outer.payload.eq(inner.payload),
                outer.valid.eq(valid),
                inner.ready.eq(outer.ready & (~retract if broken else 1)),
            ]
            payload = Value.cast(inner.payload)
            waiting = Signal(name=f"{name}_waiting")
            offered = Signal(len(payload), name=f"{name}_offered")
            m.d.sync += [waiting.eq(outer.valid & ~outer.ready), offered.eq(payload)]
            # What is offered stays offered, and stays the same, until it is taken.
            m.d.comb += Assert(~waiting | (outer.valid & (payload == offered)))
            m.d.comb += Cover(outer.valid & outer.ready)
        return m


class OneMark(wiring.Component):
    """A queue through which one marked item goes: it leaves marked, in its place, once, and nothing else does.

    Parameters
    ----------
    queue : Component
        With streams ``i`` and ``o`` of one bit.
    room : int
        Items that the queue must always have room for.
    """

    def __init__(self, queue: Any, room: int) -> None:
        self._queue = queue
        self._room = room
        super().__init__(dict(queue.signature.members.items()))

    def elaborate(self, platform: object) -> Module:
        """Count items on both sides."""
        m = Module()
        m.submodules.queue = queue = self._queue
        outer: Any = self
        wiring.connect(m, wiring.flipped(outer.i), queue.i)
        wiring.connect(m, queue.o, wiring.flipped(outer.o))
        m.d.comb += Assume(~ResetSignal())
        entered, left = Signal(5), Signal(5)  # deeper than any proof here
        marked, place = Signal(), Signal(5)
        enters, leaves = queue.i.valid & queue.i.ready, queue.o.valid & queue.o.ready
        m.d.comb += Assume(~(marked & queue.i.valid & queue.i.payload))  # the checker marks at most one item, any one
        with m.If(enters):
            m.d.sync += entered.eq(entered + 1)
            with m.If(queue.i.payload):
                m.d.sync += [marked.eq(1), place.eq(entered)]
        with m.If(leaves):
            m.d.sync += left.eq(left + 1)
        # Which item leaves is known by counting; whether it is the marked one, by its mark.
        m.d.comb += Assert(~queue.o.valid | (queue.o.payload == (marked & (left == place))))
        m.d.comb += Assert(left + queue.o.valid <= entered)
        m.d.comb += Assert(queue.i.ready | (entered - left >= self._room))
        m.d.comb += Cover(leaves & queue.o.payload)
        return m


class Swapping(wiring.Component):
    """A broken queue: it gives two items in the other order."""

    def __init__(self) -> None:
        super().__init__(dict(Queue(1, 2).signature.members.items()))

    def elaborate(self, platform: object) -> Module:
        """Hold two items and give the younger first."""
        m = Module()
        outer: Any = self
        items, held = Signal(2), Signal(range(3))
        with m.If(outer.i.valid & outer.i.ready):
            m.d.sync += [items.eq((items << 1) | outer.i.payload), held.eq(held + 1)]
        with m.If(outer.o.valid & outer.o.ready):
            m.d.sync += [items.eq(items >> 1), held.eq(held - 1)]
        giving = Signal()
        m.d.sync += giving.eq(Mux(giving, held > 1, held == 2))
        m.d.comb += [outer.i.ready.eq((held != 2) & ~giving), outer.o.valid.eq(giving), outer.o.payload.eq(items[0])]
        return m


def deep_queue(depth: int) -> Queue:
    """Make a small queue as deep ones are made."""
    with mock.patch.object(timing, "SHALLOW", 0):
        return Queue(1, depth)


class Exact(wiring.Component):
    """The divider against its definition: twice the remainder is at most the divisor, and even where it is equal."""

    def __init__(self, *, off_by: int = 0) -> None:
        self._divider = Divider(4)
        self._off_by = off_by
        members = self._divider.signature.members
        super().__init__({name: members[name] for name in ("numerator", "divisor")})

    def elaborate(self, platform: object) -> Module:
        """Hold one pair of operands and wait for its quotient."""
        m = Module()
        m.submodules.divider = divider = self._divider
        outer: Any = self
        age = Signal(range(Divider.LATENCY + 2))
        numerator, divisor = Signal(4), Signal(4)
        m.d.sync += [
            age.eq(Mux(age > Divider.LATENCY, age, age + 1)),
            numerator.eq(outer.numerator),
            divisor.eq(outer.divisor),
        ]
        m.d.comb += [
            divider.numerator.eq(outer.numerator),
            divider.divisor.eq(outer.divisor),
            Assume(~ResetSignal()),
            Assume(outer.divisor != 0),
            Assume(outer.numerator <= outer.divisor),
            Assume((age == 0) | ((numerator == outer.numerator) & (divisor == outer.divisor))),
        ]
        quotient = divider.quotient + self._off_by
        scaled = outer.numerator << (Divider.QUOTIENT_BITS - 1)
        below = (quotient * outer.divisor) << 1
        distance = Mux(below > (scaled << 1), below - (scaled << 1), (scaled << 1) - below)
        with m.If(age == Divider.LATENCY):
            m.d.comb += Assert((distance < outer.divisor) | ((distance == outer.divisor) & ~quotient[0]))
            m.d.comb += Cover(distance == outer.divisor)
        return m


class Alive(wiring.Component):
    """A network that must give a whole sample's outputs and take its sensitivities, however its streams stall.

    Inputs and targets are offered, outputs taken, in cycles of the checker's choice; no stream stalls twice in a row.

    Parameters
    ----------
    plan : Plan
    patience : int
        Cycles without a word at the outer streams that are too many.
    """

    def __init__(self, plan: Plan, patience: int) -> None:
        self._design = DyadNetwork(plan)
        self._patience = patience
        super().__init__({"stall_input": wiring.In(1), "stall_target": wiring.In(1), "stall_output": wiring.In(1)})

    def elaborate(self, platform: object) -> Module:
        """Drive all streams, count the quiet cycles."""
        m = Module()
        m.submodules.design = design = self._design
        outer: Any = self
        m.d.comb += Assume(~ResetSignal())
        streams = (
            (outer.stall_input, design.input.valid, design.input.ready),
            (outer.stall_target, design.target.valid, design.target.ready),
            (outer.stall_output, design.output.ready, design.output.valid),
        )
        moves: Any = 0
        for k, (stall, driven, answered) in enumerate(streams):
            stalled, offered = Signal(name=f"stalled_{k}"), Signal(name=f"offered_{k}")
            m.d.sync += [stalled.eq(stall), offered.eq(driven & ~answered)]
            m.d.comb += [Assume(~(stall & stalled)), driven.eq(~stall | offered)]
            moves = moves | (driven & answered)
        m.d.comb += [design.input.payload.learn.eq(1), design.control_out.ready.eq(1)]
        quiet = Signal(range(self._patience + 2))
        m.d.sync += quiet.eq(Mux(moves, 0, quiet + 1))
        m.d.comb += Assert(quiet <= self._patience)
        return m


class Resynchronises(wiring.Component):
    """Two decoders in any two states, given the same bytes: once a delimiter has passed, nobody can tell them apart.

    So no state is one in which a decoder stays lost, and what it writes is what one after reset would write.

    Parameters
    ----------
    kind : type
        Of both decoders.
    """

    def __init__(self, kind: type[PacketDecoder] = PacketDecoder) -> None:
        self._decoders = kind(), kind()
        super().__init__({"byte": wiring.In(8), "valid": wiring.In(1)})

    def elaborate(self, platform: object) -> Module:
        """Compare all that they say."""
        m = Module()
        outer: Any = self
        m.submodules.one, m.submodules.other = one, other = self._decoders
        m.d.comb += Assume(~ResetSignal())
        moves = Signal()
        for decoder in (one, other):
            m.d.comb += [
                decoder.bytes.payload.eq(outer.byte),
                decoder.bytes.valid.eq(moves),
                decoder.packet.ready.eq(1),
            ]
        # Registers of the harness itself start as they are told.
        ready, was_ready = one.bytes.ready & other.bytes.ready, Signal(init=1, name="start_ready")
        passed, settled = Signal(name="start_passed"), Signal(name="start_settled")
        written = Signal(8, name="start_written")
        m.d.comb += moves.eq(outer.valid & ready)
        m.d.sync += [was_ready.eq(ready), settled.eq(passed)]
        with m.If(moves & (outer.byte == 0)):
            m.d.sync += [passed.eq(1), written.eq(0)]
        with m.Elif(one.write):
            m.d.sync += written.eq(written + 1)
        # Nobody keeps them waiting, so they wait one cycle at most.
        m.d.comb += Assert(ready | was_ready)
        with m.If(settled):
            m.d.comb += [
                Assert(one.bytes.ready == other.bytes.ready),
                Assert(one.packet.valid == other.packet.valid),
                Assert(one.bad == other.bad),
                Assert(one.write == other.write),
                # Bytes go to one place behind the other, so none to a place beyond the buffer.
                Assert(~one.write | ((one.offset == other.offset) & (one.byte == other.byte))),
                Assert(~one.write | (one.offset == written)),
            ]
            m.d.comb += Cover(one.write)
        return m


class Deaf(PacketDecoder):
    """A broken decoder: it takes another byte for the delimiter."""

    def elaborate(self, platform: object) -> Module:
        """Build the decoder with that constant."""
        with mock.patch.object(packet_decoder, "DELIMITER", 1):
            return super().elaborate(platform)


class Once(wiring.Component):
    """A window into which packets of any numbers come, also repeated ones: it takes each number once.

    Parameters
    ----------
    lax : bool
        Take repeated ones too: the broken design.
    """

    def __init__(self, *, lax: bool = False) -> None:
        with mock.patch.object(receive_window, "MAX_PAYLOAD", 2):
            self._window = ReceiveWindow(2)
        self._lax = lax
        super().__init__({"number": wiring.In(16), "comes": wiring.In(1), "marks": wiring.In(1), "ready": wiring.In(1)})

    def elaborate(self, platform: object) -> Module:
        """Mark any one number that is taken; it is never taken again, and what leaves was taken."""
        m = Module()
        outer: Any = self
        window: Any = self._window
        changes: dict[str, Any] = {"MAX_PAYLOAD": 2}
        if self._lax:
            changes["claim"] = lambda *_: None  # it says the same
        with mock.patch.multiple(receive_window, **changes):
            inner = window.elaborate(platform)
        m.submodules.window = inner
        m.d.comb += Assume(~ResetSignal())
        wanted = window.expected | (window.behind if self._lax else 0)
        accepted = outer.comes & wanted & window.room
        # A packet stands still for a cycle before it is judged.
        number_q1, accepted_q1 = Signal(16), Signal()
        m.d.sync += [number_q1.eq(outer.number), accepted_q1.eq(accepted)]
        m.d.comb += Assume(~outer.comes | ((outer.number == number_q1) & ~accepted_q1))
        m.d.comb += [
            window.number.eq(outer.number),
            window.length.eq(1),
            window.accept.eq(accepted),
            window.received.ready.eq(outer.ready),
        ]
        marked, mark = Signal(), Signal(16)
        took, left = Signal(5), Signal(5)  # deeper than any proof here
        m.d.sync += [took.eq(took + accepted), left.eq(left + (window.received.valid & outer.ready))]
        with m.If(accepted & outer.marks & ~marked):
            m.d.sync += [marked.eq(1), mark.eq(outer.number)]
        m.d.comb += [
            Assert(~(accepted & marked & (outer.number == mark))),
            Assert(window.acknowledge == took),
            Assert(left + window.received.valid <= took),
            Cover(accepted & marked),
        ]
        return m


def tiny_plan(**changes: Any) -> Plan:
    """Give a plan of two stages, one with a row group for each unit, one with a lane each; changes are its stages'."""
    net = Network(2, [Dense(2, "relu", lanes=1), Dense(2, "identity", lanes=2)], formats=TINY, max_batch=3)
    plan = plan_network(net)
    return replace(plan, stages=tuple(replace(stage, **changes) for stage in plan.stages))


def smallest_plan() -> Plan:
    """Give a plan of one unit."""
    return plan_network(Network(1, [Dense(1)], formats=TINY, max_batch=3))


def softmax_plan() -> Plan:
    """Give a plan of two units behind a softmax."""
    return plan_network(Network(1, [Dense(2)], "softmax_cross_entropy", formats=TINY, max_batch=3))


def stage(position: int, **changes: Any) -> Stage:
    """Make a stage of the tiny plan."""
    plan = tiny_plan(**changes)
    return Stage(plan.stages[position], control_data_bits(plan))


class NoRoom(Stage):
    """A broken stage: its queues hold three words, whatever it reserves."""

    def elaborate(self, platform: object) -> Module:
        """Build the stage with other queues."""

        def few_places(queue: Queue, shape: Any, depth: int) -> None:
            original(queue, shape, depth)
            queue.depth = 1  # and one more place, and the output register

        original = Queue.__init__
        with mock.patch.object(Queue, "__init__", few_places):
            return super().elaborate(platform)


def no_room(position: int) -> Elaboratable:
    """Make such a stage of the tiny plan, with more vectors reserved than its queues hold."""
    plan = tiny_plan(output_vectors=4)
    return Harness(NoRoom(plan.stages[position], control_data_bits(plan)))
