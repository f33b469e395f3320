"""One layer of the network as a stage that talks only to its two neighbours."""

import itertools
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from dyadprop import timing
from dyadprop.operations import COUNTER_BITS
from dyadprop.plan import StagePlan
from dyadprop_hw.activation import Activation
from dyadprop_hw.backward_pass import BackwardPass
from dyadprop_hw.claims import claim
from dyadprop_hw.control_port import ControlPort, StageControl
from dyadprop_hw.delta_loader import DeltaLoader
from dyadprop_hw.forward_pass import ForwardPass
from dyadprop_hw.lane import Lane, LaneShape
from dyadprop_hw.layouts import (
    StageStatus,
    activation_token,
    control_token,
    register_wave,
    sensitivity_token,
)
from dyadprop_hw.pacer import Pacer
from dyadprop_hw.requantize import Requantize
from dyadprop_hw.sample_memory import SampleMemory
from dyadprop_hw.streams import Count, Queue, connect_stream


class Stage(wiring.Component):
    """Layer ``l``: weights, gradient accumulators, a short memory of past inputs, ``P`` dyad lanes.

    ::

        x_{l-1}      ->  | memory -> forward pass  -> lanes -> phi -> queue    |  -> x_l
        lambda_{l-1} <-  | queue <- round <- lanes <- backward pass <- phi'    |  <- lambda_l
        control      ->  | weights in, read-outs and counters                  |  -> control

    Each pass starts on its own tokens: forward when an input vector is whole and a place for all its outputs is
    reserved; backward
    when a vector of deltas is whole, its sample is the oldest of the memory, and a place for all its outputs is
    reserved. Nothing stalls between.

    Parameters
    ----------
    plan : StagePlan
        Numbers, lanes, depth of the memory, places in the queues.
    data_bits : int
        Of the control chain.

    Members
    -------
    activation_in, activation_out : streams of activation_token
    sensitivity_in, sensitivity_out : streams of sensitivity_token
        ``sensitivity_out`` only where the stage has a sensitivity pass.
    control_in, control_out : streams of control_token
    status : Out(StageStatus)

    Notes
    -----
    A tick (one forward and one backward pass, which overlap) takes ``StagePlan.tick`` cycles in steady state.
    Latencies of an idle stage: ``StagePlan.forward_latency`` and ``backward_latency``.
    """

    activation_in: Any
    activation_out: Any
    sensitivity_in: Any
    sensitivity_out: Any
    control_in: Any
    control_out: Any
    status: data.View

    def __init__(self, plan: StagePlan, data_bits: int) -> None:
        self.plan = plan
        self.numbers = plan.numbers
        self.data_bits = data_bits
        n = self.numbers
        members: dict[str, Any] = {
            "activation_in": In(stream.Signature(activation_token(n.input))),
            "activation_out": Out(stream.Signature(activation_token(n.output))),
            "sensitivity_in": In(stream.Signature(sensitivity_token(n.sensitivity, n.output))),
            "control_in": In(stream.Signature(control_token(data_bits))),
            "control_out": Out(stream.Signature(control_token(data_bits))),
            "status": Out(StageStatus),
        }
        if n.has_sensitivity:
            members["sensitivity_out"] = Out(stream.Signature(sensitivity_token(n.input_sensitivity, n.input)))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Wire the blocks of one stage."""
        m = Module()
        numbers, plan = self.numbers, self.plan
        shape = LaneShape(plan)
        m.submodules.port = port = ControlPort(numbers.index, self.data_bits)
        m.submodules.control = control = StageControl(shape, self.data_bits)
        m.submodules.memory = memory = SampleMemory(numbers, plan.samples)
        m.submodules.forward = forward = ForwardPass(shape)
        m.submodules.backward = backward = BackwardPass(shape)
        m.submodules.forward_pacer = forward_pacer = Pacer(plan.groups * plan.forward_pitch)
        m.submodules.backward_pacer = backward_pacer = Pacer(plan.backward_cycles)
        m.submodules.loader = loader = DeltaLoader(shape)
        lanes = [Lane(shape, p) for p in range(plan.lanes)]
        for p, lane in enumerate(lanes):
            m.submodules[f"lane_{p}"] = lane

        connect_stream(m, wiring.flipped(self.control_in), port.control_in)
        connect_stream(m, port.control_out, wiring.flipped(self.control_out))
        connect_stream(m, port.command, control.command)
        connect_stream(m, control.reply, port.reply)
        m.d.comb += control.operations.eq(port.operations)
        connect_stream(m, wiring.flipped(self.activation_in), memory.activation_in)
        connect_stream(m, wiring.flipped(self.sensitivity_in), loader.sensitivity_in)

        # Waves enter lane 0 and walk.
        first, last = lanes[0], lanes[-1]
        m.d.comb += [
            first.forward_in.eq(forward.wave),
            first.backward_in.eq(backward.wave),
            first.delta_in.eq(loader.wave),
        ]
        m.d.comb += [
            first.rate_in.eq(control.rate),
            first.partial_in.eq(control.partial),
        ]
        for before, after in itertools.pairwise(lanes):
            m.d.comb += [
                after.forward_in.eq(before.forward_out),
                after.backward_in.eq(before.backward_out),
                after.delta_in.eq(before.delta_out),
                after.partial_in.eq(before.partial_out),
                after.result_in.eq(before.result_out),
                after.rate_in.eq(before.rate_out),
                after.saturated_in.eq(before.saturated_out),
            ]

        activation_saturated = self._forward_exit(m, last, forward_pacer, forward, backward, memory)
        sensitivity_saturated, room = self._backward_exit(m, last, control, backward_pacer.start)

        # A bank is free again when lane 0 has read its last delta.
        ended = Signal()
        m.d.sync += ended.eq(backward.end)
        m.d.comb += [
            forward.write.eq(control.write),
            forward.learn.eq(memory.forward_learn),
            forward.update.eq(memory.forward_update),
            forward.activation.eq(memory.forward_activation),
            forward.start.eq(forward_pacer.start),
            memory.forward_start.eq(forward_pacer.start),
            memory.forward_next.eq(forward.next_column),
            memory.forward_row.eq(forward.row_end),
            memory.forward_end.eq(forward.end),
            backward.read.eq(control.read),
            backward_pacer.ready.eq(memory.backward_ready & loader.loaded & room),
            backward.start.eq(backward_pacer.start),
            backward.activation.eq(memory.backward_activation),
            backward.fresh.eq(control.fresh),
            backward.update.eq(memory.backward_update),
            memory.backward_start.eq(backward_pacer.start),
            memory.backward_next.eq(backward.next_column),
            memory.backward_end.eq(backward.end),
            loader.start.eq(backward_pacer.start),
            loader.end.eq(ended),
            control.learnt.eq(backward.end),
        ]

        # Parameters move only while no sample is in flight, and gradients only after the last one is written. Behind a
        # step the last lane's count of limited weights has arrived as well.
        drained = Lane.UPDATE_LATENCY + plan.lanes + 2
        draining = Signal(range(drained + 1))
        with m.If(backward.busy):
            m.d.sync += draining.eq(Mux(memory.backward_update, drained, Lane.GRADIENT_LATENCY))
        with m.Elif(draining != 0):
            m.d.sync += draining.eq(draining - 1)
        # Deltas in the lanes and a backward pass belong to a sample that the memory holds; one that is dropped is
        # counted until its last column is at lane 0.
        quiet = Signal()
        m.d.sync += quiet.eq((memory.stored == 0) & (draining == 0))
        m.d.comb += [
            control.quiet.eq(quiet),
            self.status.forward.eq(forward.busy),
            self.status.backward.eq(backward.busy),
            self.status.stored.eq(memory.stored),
            self.status.waiting.eq(memory.waiting),
        ]
        for position, events in enumerate((activation_saturated, sensitivity_saturated, last.saturated_out)):
            count = Signal(COUNTER_BITS, name=f"saturations_{position}")
            # The lanes are far from whoever asks for the count: on its way it has a register, and one at its end.
            sent, limited = (Signal.like(events, name=f"{name}_{position}") for name in ("sent", "limited"))
            m.d.sync += [sent.eq(events), limited.eq(sent), count.eq(count + limited)]
            m.d.comb += control.counters[position].eq(count)
        return m

    def _forward_exit(
        self,
        m: Module,
        last: Lane,
        pacer: Pacer,
        forward: ForwardPass,
        backward: BackwardPass,
        memory: SampleMemory,
    ) -> Any:
        """Round results into activations and queue them; return the saturation strobe."""
        numbers, plan = self.numbers, self.plan
        m.submodules.activation = activation = Activation(numbers)
        m.submodules.activations = queue = Queue(activation_token(numbers.output), plan.output_words)
        connect_stream(m, queue.o, wiring.flipped(self.activation_out))

        # Rows that do not exist leave too, as the last ones of their sample; they are not taken.
        rows = plan.groups * plan.lanes
        result = last.result_out
        valid: Any = result.valid
        if rows > numbers.outputs:
            row = Signal(range(rows))
            with m.If(result.valid):
                m.d.sync += row.eq(Mux(row == rows - 1, 0, row + 1))
            valid = result.valid & (row < numbers.outputs)
        flags: Any = Cat(result.learn, result.update)
        m.d.comb += activation.accumulator.eq(result.value)
        for cycle in range(activation.latency):
            valid_next = Signal(name=f"result_valid_q{cycle + 1}")
            flags_next = Signal(2, name=f"result_flags_q{cycle + 1}", reset_less=True)
            m.d.sync += [valid_next.eq(valid), flags_next.eq(flags)]
            valid, flags = valid_next, flags_next
        _enqueue(m, "activation", queue, valid, value=activation.activation, learn=flags[0], update=flags[1])
        room = _reserve(m, "output", pacer.start, queue, plan.output_vectors, numbers.outputs)
        # Behind the last sample of a batch no forward pass begins before its step is in all lanes: the next one follows
        # the step's wave so closely that each lane reads a new weight just after it was written.
        # `Pacer.LEAST` leaves time to tell of the pass that has just started.
        stepping, begins, ends = Signal(), Signal(), Signal()
        told = 2  # a register in front of the count, and one behind it
        settled = Lane.UPDATE_LATENCY - timing.ADDRESSED - timing.START - timing.SHOWN - told
        settling = Signal(range(settled + 1))
        m.d.sync += [
            begins.eq(forward.busy & memory.forward_update),
            ends.eq(backward.end & memory.backward_update),
        ]
        with m.If(begins):
            m.d.sync += stepping.eq(1)
        with m.If(ends):
            m.d.sync += settling.eq(settled)
        with m.Elif(settling != 0):
            m.d.sync += settling.eq(settling - 1)
            with m.If(settling == 1):
                m.d.sync += stepping.eq(0)
        m.d.comb += pacer.ready.eq(memory.forward_ready & room & ~stepping)
        return valid & activation.saturated

    def _backward_exit(self, m: Module, last: Lane, control: StageControl, start: Any) -> tuple[Any, Any]:
        """Take read-outs; sum, round and queue sensitivities; return the saturation strobe and "there is room"."""
        numbers, plan = self.numbers, self.plan
        wave = last.backward_out
        for cycle in range(Lane.PARTIAL_LATENCY - 1):
            later = Signal(wave.shape(), name=f"tail_q{cycle + 1}")
            register_wave(m, wave, later)
            wave = later
        reads = wave.operation[1]  # READ_WEIGHT or READ_GRADIENT
        m.d.comb += [control.word_valid.eq(wave.valid & reads), control.word_data.eq(last.partial_out)]
        if not numbers.has_sensitivity:
            return Const(0, 1), 1

        # The sum over all rows fits (widths.sum_bits), and the groups' parts add up to it; bits above repeat the sign.
        bits = numbers.sensitivity_sum_bits
        total_q1 = Signal(signed(bits), reset_less=True)
        m.submodules.requantize = requantize = Requantize(
            numbers.sensitivity_sum_bits, numbers.sensitivity_sum_fraction, numbers.input_sensitivity
        )
        before = Mux(wave.first, 0, total_q1) if plan.groups > 1 else 0
        m.d.sync += total_q1.eq((last.partial_out[:bits].as_signed() + before)[:bits].as_signed())
        m.d.comb += requantize.value_in.eq(total_q1)
        valid = wave.valid & wave.last & ~wave.bias  # only a LEARN wave has a last one
        operand = wave.operand
        for cycle in range(1 + Requantize.LATENCY):
            valid_next = Signal(name=f"sensitivity_valid_q{cycle + 1}")
            operand_next = Signal.like(wave.operand, name=f"sensitivity_operand_q{cycle + 1}", reset_less=True)
            m.d.sync += [valid_next.eq(valid), operand_next.eq(operand)]
            valid, operand = valid_next, operand_next

        token = sensitivity_token(numbers.input_sensitivity, numbers.input)
        m.submodules.sensitivities = queue = Queue(token, plan.sensitivity_words)
        connect_stream(m, queue.o, wiring.flipped(self.sensitivity_out))
        passed = operand[: numbers.input.width]
        _enqueue(m, "sensitivity", queue, valid, value=requantize.value_out, activation=passed)
        room = _reserve(m, "sensitivity", start, queue, plan.sensitivity_vectors, numbers.inputs)
        return valid & requantize.saturated, room


def _enqueue(m: Module, name: str, queue: Queue, valid: Any, **fields: Any) -> None:
    """Put a token into a queue, out of a register: the queue may be far from what rounds."""
    word = Signal(queue.shape, name=f"rounded_{name}", reset_less=True)
    word_valid = Signal(name=f"rounded_{name}_valid")
    m.d.sync += [word_valid.eq(valid), *(word[field].eq(value) for field, value in fields.items())]
    m.d.comb += [queue.i.valid.eq(word_valid), queue.i.payload.eq(word)]


def _reserve(m: Module, name: str, start: Any, queue: Queue, vectors: int, words: int) -> Any:
    """Count the vectors that a queue holds or expects; return whether one more fits: it can never be full."""
    reserved = Count(vectors, f"{name}_reserved")
    word = Signal(range(words), name=f"{name}_word")
    taken = queue.o.valid & queue.o.ready
    last = Signal(name=f"{name}_last", init=words == 1)  # of the words
    released = taken & last
    with m.If(taken):
        m.d.sync += word.eq(Mux(last, 0, word + 1))
        if words > 1:
            m.d.sync += last.eq(word == words - 2)
    freed = Signal(name=f"{name}_freed")
    m.d.sync += freed.eq(released)
    reserved.drive(m, start, freed)
    claim(m, ~queue.i.valid | queue.i.ready)
    return reserved.room
