"""What REGISTERS reads: times and counters (docs/protocol.md, "Registers")."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from dyadprop.protocol import REGISTER_BYTES, Register

BITS = 8 * REGISTER_BYTES

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
        Counted in each cycle in which they are high.
    first_input : In(1)
        The network took an input; the first one since ``arm`` is written down.
    last_output, first_gradient : In(1)
        The latest cycle in which they were high is written down.
    arm : In(1)
        The registers are being read: NOW is held for that, FIRST_INPUT is overwritten by the next input.
    self_test : In(32)
    index : In
        Of a `Register`.
    value : Out(32)

    Notes
    -----
    No reset but that of power-on. ``value`` follows ``index`` in the same cycle.
    """

    first_input: Signal
    last_output: Signal
    first_gradient: Signal
    arm: Signal
    self_test: Signal
    index: Signal
    value: Signal

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
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count."""
        m = Module()
        now = Signal(BITS)
        m.d.sync += now.eq(now + 1)
        registers = {register: Signal(BITS, name=register.name.lower()) for register in Register}
        armed = Signal(init=1)
        with m.If(self.first_input & armed):
            m.d.sync += [registers[Register.FIRST_INPUT].eq(now), armed.eq(0)]
        with m.If(self.arm):
            m.d.sync += [registers[Register.NOW].eq(now), armed.eq(1)]
        with m.If(self.last_output):
            m.d.sync += registers[Register.LAST_OUTPUT].eq(now)
        with m.If(self.first_gradient):
            m.d.sync += registers[Register.FIRST_GRADIENT].eq(now)
        for name, register in COUNTERS.items():
            with m.If(getattr(self, name)):
                m.d.sync += registers[register].eq(registers[register] + 1)
        m.d.comb += registers[Register.SELF_TEST].eq(self.self_test)
        with m.Switch(self.index):
            for register, value in registers.items():
                with m.Case(register):
                    m.d.comb += self.value.eq(value)
        return m
