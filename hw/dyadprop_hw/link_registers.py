"""What REGISTERS reads: times and counters (docs/protocol.md, "Registers")."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from dyadprop.protocol import REGISTER_BYTES, Register

BITS = 8 * REGISTER_BYTES
INDEX_BITS = (len(Register) - 1).bit_length()
AGE_BITS = 5  # nothing waits for longer than two times, seven counters, three cycles each, and three more

COUNTERS = {
    "bad_packet": Register.BAD_PACKETS,
    "unexpected_packet": Register.UNEXPECTED_PACKETS,
    "foreign_packet": Register.FOREIGN_PACKETS,
    "overflow": Register.OVERFLOWS,
    "framing_error": Register.FRAMING_ERRORS,
    "refusal": Register.REFUSALS,
    "session": Register.SESSIONS,
}
"""Inputs that are counted."""


class LinkRegisters(wiring.Component):
    """Count what happens, and write down when it did.

    Members
    -------
    bad_packet, unexpected_packet, foreign_packet, overflow, framing_error, refusal, session : In(1)
        Counted in each cycle in which they are high; of those less than 30 cycles apart one may be missed.
    first_input : In(1)
        The network took an input; the first one since ``arm`` is written down.
    last_output, first_gradient : In(1)
        The latest cycle in which they were high is written down. ``first_gradient`` at most every 30 cycles.
    arm : In(1)
        The registers are being read: NOW is written down for that, FIRST_INPUT is overwritten by the next input.
    self_test : In(32)
    index : In
        Of a `Register`.
    value : Out(32), there : Out(1)
        Of that register, once ``there`` is high.

    Notes
    -----
    No reset but that of power-on; time begins when all registers are cleared, 16 cycles behind it. One memory of 16
    words and one adder for all: what happens is noted in a bit, and written a few cycles later, one after the other. So
    a time is written as the cycle minus its age.
    """

    first_input: Signal
    last_output: Signal
    first_gradient: Signal
    arm: Signal
    self_test: Signal
    index: Signal
    value: Signal
    there: Signal

    def __init__(self) -> None:
        members: dict[str, Any] = dict.fromkeys(COUNTERS, In(1))
        super().__init__(
            {
                **members,
                "first_input": In(1),
                "last_output": In(1),
                "first_gradient": In(1),
                "arm": In(1),
                "self_test": In(BITS),
                "index": In(range(len(Register))),
                "value": Out(BITS),
                "there": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Note, then write one thing after the other."""
        m = Module()
        m.submodules.words = words = Memory(shape=BITS, depth=1 << INDEX_BITS, init=[])
        write, read = words.write_port(), words.read_port()
        now = Signal(BITS)
        armed = Signal(init=1)
        clearing = Signal(INDEX_BITS + 1, init=1 << INDEX_BITS)
        with m.If(clearing[-1]):
            m.d.sync += clearing.eq(clearing + 1)
        with m.Else():
            m.d.sync += now.eq(now + 1)

        first = self.first_input & armed
        with m.If(first):
            m.d.sync += armed.eq(0)
        with m.If(self.arm):
            m.d.sync += armed.eq(1)
        # In the order in which they are written; a new output takes the place of one that still waits.
        times = {
            Register.FIRST_INPUT: first,
            Register.FIRST_GRADIENT: self.first_gradient,
            Register.NOW: self.arm,
        }
        events = {**times, **{register: getattr(self, name) for name, register in COUNTERS.items()}}
        events[Register.LAST_OUTPUT] = self.last_output
        aged = (Register.FIRST_INPUT, Register.FIRST_GRADIENT, Register.LAST_OUTPUT)

        noted = {register: Signal(name=f"noted_{register.name.lower()}") for register in events}
        idle = Signal()  # nothing is on its way
        counts, stamps = Signal(), Signal()  # what is chosen: a counter, the present cycle
        chosen = Signal(INDEX_BITS)
        age = Signal(AGE_BITS)
        for register, event in events.items():
            done = Signal(name=f"done_{register.name.lower()}")
            with m.If(event):
                m.d.sync += noted[register].eq(1)
            with m.Elif(done):
                m.d.sync += noted[register].eq(0)
            if register in aged:
                old = Signal(AGE_BITS, name=f"age_{register.name.lower()}", reset_less=True)
                m.d.sync += old.eq(old + 1)
                with m.If(event):
                    m.d.sync += old.eq(1)
            before = Cat(*(noted[r] for r in list(events)[: list(events).index(register)])).any()
            with m.If(noted[register] & ~before & idle):
                m.d.comb += [done.eq(1), chosen.eq(register)]
                if register in COUNTERS.values():
                    m.d.comb += counts.eq(1)
                else:
                    m.d.comb += stamps.eq(1)
                if register in aged:
                    m.d.comb += age.eq(old)

        # Two cycles later it is written, by one adder: a counter that was read in between and one, or the present cycle
        # less the age of what happened.
        counts_q1, counts_q2, stamps_q1, stamps_q2 = Signal(), Signal(), Signal(), Signal()
        chosen_q1 = Signal(INDEX_BITS, reset_less=True)
        age_q1 = Signal(AGE_BITS, reset_less=True)
        summand_q2 = Signal(signed(AGE_BITS + 2))  # 0 while registers are cleared
        m.d.sync += [
            counts_q1.eq(counts),
            stamps_q1.eq(stamps),
            counts_q2.eq(counts_q1),
            stamps_q2.eq(stamps_q1),
            age_q1.eq(age),
            summand_q2.eq(Mux(counts_q1, 1, Mux(stamps_q1, -2 - age_q1, 0))),
        ]
        with m.If(idle):
            m.d.sync += chosen_q1.eq(chosen)
        m.d.comb += [
            idle.eq(~(counts_q1 | stamps_q1 | counts_q2 | stamps_q2 | clearing[-1])),
            write.en.eq(counts_q2 | stamps_q2 | clearing[-1]),
            write.addr.eq(Mux(clearing[-1], clearing, chosen_q1)),
            write.data.eq(Mux(counts_q2, read.data, now) + summand_q2),
            read.addr.eq(Mux(counts_q1, chosen_q1, self.index)),
            # So yosys need not build what a read of a word gives that is being written.
            read.en.eq(~write.en),
        ]
        index_q1 = Signal.like(self.index, reset_less=True)
        stale = Signal(init=1)  # what was read is no register that is asked for
        m.d.sync += [
            index_q1.eq(self.index),
            stale.eq(counts_q1 | write.en | noted[Register.NOW] | self.arm),
        ]
        m.d.comb += [self.there.eq(~stale & (index_q1 == self.index)), self.value.eq(read.data)]
        with m.If(self.index == Register.SELF_TEST):
            m.d.comb += self.value.eq(self.self_test)
        return m
