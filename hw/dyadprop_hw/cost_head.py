"""The last neighbour: compares the outputs with their targets and sends the first sensitivity back."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from dyadprop import timing
from dyadprop.formats import Q
from dyadprop.operations import COUNTER_BITS, HEAD_COUNTERS, SCALE_BITS, Operation
from dyadprop_hw.activation import shift_and_add
from dyadprop_hw.claims import claim
from dyadprop_hw.control_port import ControlPort, CounterReply
from dyadprop_hw.layouts import Fixed, activation_token, control_token, sensitivity_token, target_token
from dyadprop_hw.requantize import Requantize
from dyadprop_hw.softmax import Softmax
from dyadprop_hw.streams import Count, Queue, connect_stream

SCALE_ONE = 1 << SCALE_BITS


class CostHead(wiring.Component):
    """Pass outputs on; where a sample is learnt from, seed ``lambda_L = dC/dx_L`` (docs/arithmetic.md, section 6).

    Parameters
    ----------
    index : int
        Its place on the control chain, ``L + 1``.
    outputs : int
        ``n_L``.
    activation, target, sensitivity : Q
        ``A_L``, the target's format, ``S_L``.
    softmax : bool
        Whether the outputs are logits.
    data_bits : int
        Of the control chain.

    Members
    -------
    activation_in : In(stream of activation_token)
    output : Out(stream of activation_token)
        Does not wait for targets: they may depend on the outputs.
    target_in : In(stream of target_token)
        ``n_L`` words for each sample to be learnt from. With ``seed`` the word is ``lambda_L`` itself.
    sensitivity_out : Out(stream of sensitivity_token)
    control_in, control_out : streams of control_token

    Notes
    -----
    One word a cycle, no multiplier; ``Plan.head_latency`` cycles.
    """

    # More than the way from a joined pair to a word whose place in the queue is free again: one word a cycle.
    SEED_QUEUE = timing.SCALE + timing.REQUANTIZE + timing.QUEUE + timing.RELEASE + 1

    activation_in: Any
    output: Any
    target_in: Any
    sensitivity_out: Any
    control_in: Any
    control_out: Any

    def __init__(
        self, index: int, outputs: int, activation: Q, target: Q, sensitivity: Q, *, softmax: bool, data_bits: int
    ) -> None:
        self.index = index
        self.outputs = outputs
        self.activation = activation
        self.target = target
        self.sensitivity = sensitivity
        self.softmax = softmax
        self.data_bits = data_bits
        super().__init__(
            {
                "activation_in": In(stream.Signature(activation_token(activation))),
                "output": Out(stream.Signature(activation_token(activation))),
                "target_in": In(stream.Signature(target_token(target, sensitivity))),
                "sensitivity_out": Out(stream.Signature(sensitivity_token(sensitivity, activation))),
                "control_in": In(stream.Signature(control_token(data_bits))),
                "control_out": Out(stream.Signature(control_token(data_bits))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Fork outputs, join them with targets."""
        m = Module()
        m.submodules.outputs = outputs = Queue(activation_token(self.activation), 2)
        m.submodules.held = held = Queue(Fixed(self.activation), max(2, self.outputs))
        connect_stream(m, outputs.o, wiring.flipped(self.output))
        token = self.activation_in
        accepted = outputs.i.ready & (held.i.ready | ~token.payload.learn)
        m.d.comb += [
            token.ready.eq(accepted),
            outputs.i.payload.eq(token.payload),
            outputs.i.valid.eq(token.valid & accepted),
            held.i.payload.eq(token.payload.value),
            held.i.valid.eq(token.valid & accepted & token.payload.learn),
        ]

        # What is compared with the target: the output itself, or its softmax.
        if self.softmax:
            m.submodules.softmax = softmax = Softmax(self.activation, self.outputs)
            connect_stream(m, held.o, softmax.logit_in)
            estimate = softmax.probability_out
            value, activation = estimate.payload.probability, estimate.payload.logit
        else:
            estimate = held.o
            value, activation = estimate.payload, estimate.payload

        m.submodules.seeds = seeds = Queue(sensitivity_token(self.sensitivity, self.activation), self.SEED_QUEUE)
        connect_stream(m, seeds.o, wiring.flipped(self.sensitivity_out))
        under_way = Count(self.SEED_QUEUE, "under_way")
        target = self.target_in
        fire = estimate.valid & target.valid & under_way.room
        m.d.comb += [estimate.ready.eq(fire), target.ready.eq(fire)]
        freed = Signal()
        m.d.sync += freed.eq(seeds.o.valid & seeds.o.ready)
        under_way.drive(m, fire, freed)

        difference = value - target.payload.value[: self.target.width].as_signed()
        difference_q1 = Signal(signed(len(difference)), reset_less=True)
        scale = Signal(range(SCALE_ONE + 1), init=SCALE_ONE)
        m.d.sync += difference_q1.eq(difference)
        scaled = shift_and_add(m, difference_q1, scale, timing.SCALE - 1, "scaled")
        m.submodules.requantize = requantize = Requantize(
            len(scaled), self.target.fraction_bits + SCALE_BITS, self.sensitivity
        )
        m.d.comb += requantize.value_in.eq(scaled)
        along = data.StructLayout({"seed": 1, "value": Fixed(self.sensitivity), "activation": Fixed(self.activation)})
        passenger = Signal(along, name="passenger")
        m.d.comb += [
            passenger.seed.eq(target.payload.seed),
            passenger.value.eq(target.payload.value[: self.sensitivity.width]),
            passenger.activation.eq(activation),
        ]
        valid: Any = fire
        for cycle in range(timing.SCALE + Requantize.LATENCY):
            valid_next = Signal(name=f"valid_q{cycle + 1}")
            passenger_next = Signal(along, name=f"passenger_q{cycle + 1}", reset_less=True)
            m.d.sync += [valid_next.eq(valid), passenger_next.eq(passenger)]
            valid, passenger = valid_next, passenger_next
        m.d.comb += [
            seeds.i.valid.eq(valid),
            seeds.i.payload.value.eq(Mux(passenger.seed, passenger.value, requantize.value_out)),
            seeds.i.payload.activation.eq(passenger.activation),
        ]

        claim(m, ~seeds.i.valid | seeds.i.ready)

        saturations = Signal(COUNTER_BITS)
        with m.If(valid & ~passenger.seed & requantize.saturated):
            m.d.sync += saturations.eq(saturations + 1)
        m.submodules.port = port = ControlPort(self.index, self.data_bits)
        m.submodules.counts = counts = CounterReply(HEAD_COUNTERS, port.control_data)
        connect_stream(m, wiring.flipped(self.control_in), port.control_in)
        connect_stream(m, port.control_out, wiring.flipped(self.control_out))
        connect_stream(m, counts.reply, port.reply)
        asked = port.operations[Operation.COUNTERS]
        m.d.comb += [
            counts.start.eq(asked),
            counts.counters[0].eq(saturations),
            port.command.ready.eq(~asked | counts.done),
        ]
        with m.If(port.operations[Operation.RATE]):
            m.d.sync += scale.eq(port.command.payload.data)
        return m
