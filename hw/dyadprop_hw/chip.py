"""The whole chip: a network behind a link that carries bytes."""

from typing import Any

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from dyadprop.baud import bit_period
from dyadprop.plan import Plan
from dyadprop.protocol import MAX_PERIOD, RECEIVE_SLOTS, SelfTest
from dyadprop.self_test_program import Program
from dyadprop_hw.bridge import Bridge
from dyadprop_hw.clocked_network import ClockedNetwork
from dyadprop_hw.layouts import StageStatus
from dyadprop_hw.line_rate import LineRate
from dyadprop_hw.link_registers import LinkRegisters
from dyadprop_hw.network import DyadNetwork, control_data_bits, network_ports
from dyadprop_hw.self_test import VERDICT_BITS, PowerOnTest, patience
from dyadprop_hw.session import Session
from dyadprop_hw.streams import Queue, connect_stream
from dyadprop_hw.uart import UartReceiver, UartTransmitter

RECEIVE_BYTES = 15
"""Room in front of the packet decoder: it never waits for long, a commit apart."""


class Core(wiring.Component):
    """A network, and all that it takes to use it through bytes (docs/protocol.md); knows nothing of what carries them.

    Parameters
    ----------
    plan : Plan
    identity : bytes
        What IDENTIFY answers with, behind the nonce.
    clock : float
        Hz; only the trial of a baud rate is measured in seconds.
    baud : int
        Rate at power-on.
    program : Program, optional
        Self-test of the network (`dyadprop.self_test`). It begins with reset; until it is over, messages of the host
        wait. Behind it, bridge and network are as after reset.
    slots : int
        Packets of the session that it has room for, each way: 2, 4, 8 or 16.
    split : bool
        The network has a clock of its own, the domain ``network`` (`ClockedNetwork`); ``clock``, and all cycles that a
        host is told, are those of ``sync``.

    Members
    -------
    rx, tx : In, Out(stream.Signature(8))
        Bytes from and to the host.
    overflow, framing_error : In(1)
        High for a cycle when a byte in front of ``rx`` was lost, or had no stop bit: counted.
    line_busy : In(1)
        Bytes taken from ``tx`` are still on their way to the line; a new bit period waits for its end.
    verdict : Out
        Register SELF_TEST.
    period : Out(16)
        Bit period for a UART.
    status : array of Out(StageStatus)
        Of the network, for messages; zero where it has a clock of its own.
    """

    rx: Any
    tx: Any
    overflow: Signal
    framing_error: Signal
    line_busy: Signal
    verdict: Signal
    period: Signal
    status: Any

    def __init__(
        self,
        plan: Plan,
        identity: bytes,
        clock: float,
        baud: int,
        program: Program | None = None,
        slots: int = RECEIVE_SLOTS,
        *,
        split: bool = False,
    ) -> None:
        self.plan = plan
        self.identity = identity
        self.clock = clock
        self.program = program
        self.slots = slots
        self.split = split
        self.initial_period = bit_period(clock, baud)
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "overflow": In(1),
                "framing_error": In(1),
                "line_busy": In(1),
                "verdict": Out(VERDICT_BITS),
                "period": Out(range(MAX_PERIOD + 1)),
                "status": Out(StageStatus).array(len(plan.stages)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Session, bridge, network."""
        m = Module()
        m.submodules.session = session = Session(self.slots)
        bridge = Bridge(self.plan, self.identity)
        network: Any = ClockedNetwork(self.plan) if self.split else DyadNetwork(self.plan)
        # A session that begins finds both as after power-on, the network's memories apart. Until that is so, the
        # streams to the bridge stand still.
        restart, testing, standing = Signal(), Signal(), Signal()
        m.submodules.bridge = ResetInserter(restart | standing)(bridge)
        if self.split:
            m.submodules.crossing = network
            m.d.comb += [network.restart.eq(restart), standing.eq(network.restarting)]
        else:
            m.submodules.network = ResetInserter(restart)(network)
            m.d.comb += [port.eq(status) for port, status in zip(self.status, network.status, strict=True)]
        m.submodules.registers = registers = LinkRegisters()
        m.submodules.rate = rate = LineRate(self.initial_period, self.clock)

        connect_stream(m, wiring.flipped(self.rx), session.rx)
        connect_stream(m, session.tx, wiring.flipped(self.tx))
        if self.program is None:
            with m.If(~standing):
                connect_stream(m, session.received, bridge.received)
                connect_stream(m, bridge.messages, session.messages)
            m.d.comb += [restart.eq(session.restart), self.verdict.eq(SelfTest.NOT_BUILT_IN)]
        else:
            m.submodules.self_test = test = PowerOnTest(self.program, patience(self.plan))
            m.d.comb += [testing.eq(test.running), self.verdict.eq(test.verdict)]
            with m.If(testing & ~standing):
                connect_stream(m, test.commands, bridge.received)
                connect_stream(m, bridge.messages, test.answers)
            with m.Elif(~standing):
                connect_stream(m, session.received, bridge.received)
                connect_stream(m, bridge.messages, session.messages)
            m.d.comb += restart.eq(Mux(testing, test.finished, session.restart))
        for name, member in network_ports(self.plan.net, control_data_bits(self.plan)).items():
            outer, inner = getattr(bridge, name), getattr(network, name)
            connect_stream(m, *((outer, inner) if member.flow == In else (inner, outer)))
        m.d.comb += [
            session.committing.eq(bridge.committing & ~testing),
            bridge.period.eq(rate.period),
            rate.wanted.eq(bridge.wanted_period),
            rate.change.eq(bridge.change_period),
            rate.keep.eq(bridge.keep_period),
            rate.cancel.eq(session.restart),
            rate.quiet.eq(session.all_sent & ~self.line_busy),
            self.period.eq(rate.period),
            bridge.register_value.eq(registers.value),
            bridge.register_there.eq(registers.there),
            registers.index.eq(bridge.register_index),
            registers.arm.eq(bridge.arm),
            registers.first_gradient.eq(bridge.first_gradient & ~testing),
            registers.first_input.eq(network.input.valid & network.input.ready & ~testing),
            registers.last_output.eq(network.output.valid & network.output.ready & ~testing),
            registers.bad_packet.eq(session.bad),
            registers.unexpected_packet.eq(session.unexpected),
            registers.foreign_packet.eq(session.foreign),
            registers.overflow.eq(self.overflow),
            registers.framing_error.eq(self.framing_error),
            registers.refusal.eq(bridge.refused & ~testing),
            registers.session.eq(session.restart),
            registers.self_test.eq(self.verdict),
        ]
        return m


class Chip(wiring.Component):
    """A core behind a UART.

    Parameters
    ----------
    core : Core

    Members
    -------
    rx : In(1), tx : Out(1)
        The pins.
    led : Out(1)
        The self-test has passed, or there is none.
    """

    rx: Signal
    tx: Signal
    led: Signal

    def __init__(self, core: Core) -> None:
        self.core = core
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "led": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Put the line in front."""
        m = Module()
        m.submodules.core = core = self.core
        m.submodules.receiver = receiver = UartReceiver()
        m.submodules.transmitter = transmitter = UartTransmitter()
        m.submodules.queue = queue = Queue(8, RECEIVE_BYTES)
        connect_stream(m, queue.o, core.rx)
        connect_stream(m, core.tx, transmitter.bytes)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            receiver.period.eq(core.period),
            queue.i.valid.eq(receiver.arrived),
            queue.i.payload.eq(receiver.byte),
            core.overflow.eq(receiver.arrived & ~queue.i.ready),
            core.framing_error.eq(receiver.framing_error),
            transmitter.period.eq(core.period),
            core.line_busy.eq(transmitter.busy),
            self.led.eq((core.verdict == SelfTest.PASSED) | (core.verdict == SelfTest.NOT_BUILT_IN)),
            self.tx.eq(transmitter.tx),
        ]
        return m
