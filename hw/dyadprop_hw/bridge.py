"""Between messages and the streams of a network."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from dyadprop.plan import Plan
from dyadprop.protocol import MAX_PERIOD, REGISTER_BYTES, Register
from dyadprop_hw.answer_side import AnswerSide
from dyadprop_hw.command_side import CommandSide
from dyadprop_hw.network import control_data_bits, network_ports
from dyadprop_hw.send_window import MessageByte
from dyadprop_hw.streams import Queue, Relay, connect_stream


class Bridge(wiring.Component):
    """Carry out the host's messages on a network (docs/protocol.md, "Messages").

    Parameters
    ----------
    plan : Plan
    identity : bytes

    Members
    -------
    received : In(stream.Signature(8))
    messages : Out(stream of MessageByte)
    input, target, output, control_in, control_out, input_sensitivity : streams
        The network's, seen from the other side.
    committing, refused : Out(1)
    period : In, wanted_period : Out, change_period, keep_period : Out(1)
        As of `CommandSide`.
    register_index : Out, register_value : In, register_there : In(1), arm : Out(1), first_gradient : Out(1)
        As of `AnswerSide`.

    Notes
    -----
    Targets wait in a queue of their own, for as many samples as stage 1 has places for and one more: the inputs behind
    them never wait for a target that the cost head does not want yet.
    """

    received: Any
    messages: Any
    input: Any
    target: Any
    output: Any
    control_in: Any
    control_out: Any
    input_sensitivity: Any
    committing: Signal
    refused: Signal
    period: Signal
    wanted_period: Signal
    change_period: Signal
    keep_period: Signal
    register_index: Signal
    register_value: Signal
    register_there: Signal
    arm: Signal
    first_gradient: Signal

    def __init__(self, plan: Plan, identity: bytes) -> None:
        self.plan = plan
        self.identity = identity
        period = range(MAX_PERIOD + 1)
        ports = network_ports(plan.net, control_data_bits(plan))
        super().__init__(
            {
                **{name: member.flip() for name, member in ports.items()},
                "received": In(stream.Signature(8)),
                "messages": Out(stream.Signature(MessageByte)),
                "committing": Out(1),
                "refused": Out(1),
                "period": In(period),
                "wanted_period": Out(period),
                "change_period": Out(1),
                "keep_period": Out(1),
                "register_index": Out(range(len(Register))),
                "register_value": In(8 * REGISTER_BYTES),
                "register_there": In(1),
                "arm": Out(1),
                "first_gradient": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Connect both sides."""
        m = Module()
        net = self.plan.net
        m.submodules.commands = commands = CommandSide(self.plan)
        m.submodules.answers = answers = AnswerSide(self.plan, self.identity)
        depth = (self.plan.stages[0].samples + 1) * net.outputs
        m.submodules.targets = targets = Queue(self.target.payload.shape(), depth)
        m.submodules.entrance = entrance = Relay(8)
        m.submodules.exit = exit_ = Relay(MessageByte)
        connect_stream(m, wiring.flipped(self.received), entrance.i)
        connect_stream(m, entrance.o, commands.received)
        m.submodules.inputs = inputs = Relay(self.input.payload.shape())
        connect_stream(m, commands.input, inputs.i)
        connect_stream(m, inputs.o, wiring.flipped(self.input))
        connect_stream(m, commands.target, targets.i)
        connect_stream(m, targets.o, wiring.flipped(self.target))
        connect_stream(m, commands.control, wiring.flipped(self.control_in))
        connect_stream(m, commands.request, answers.request)
        connect_stream(m, commands.echoed, answers.echoed)
        m.submodules.replies = replies = Relay(self.control_out.payload.shape())
        connect_stream(m, wiring.flipped(self.control_out), replies.i)
        connect_stream(m, replies.o, answers.control)
        connect_stream(m, answers.messages, exit_.i)
        connect_stream(m, exit_.o, wiring.flipped(self.messages))
        values = [(self.output, answers.outputs)]
        if net.input_gradient:
            values.append((self.input_sensitivity, answers.sensitivities))
        for token, value in values:
            m.d.comb += [
                value.payload.eq(token.payload.value),
                value.valid.eq(token.valid),
                token.ready.eq(value.ready),
            ]
        m.d.comb += [
            commands.output_done.eq(answers.output_done),
            commands.period.eq(self.period),
            answers.register_value.eq(self.register_value),
            answers.register_there.eq(self.register_there),
            self.committing.eq(commands.committing),
            self.refused.eq(commands.refused),
            self.wanted_period.eq(commands.wanted_period),
            self.change_period.eq(commands.change_period),
            self.keep_period.eq(commands.keep_period),
            self.register_index.eq(answers.register_index),
            self.arm.eq(answers.arm),
            self.first_gradient.eq(answers.first_gradient),
        ]
        return m
