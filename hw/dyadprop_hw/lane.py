"""The dyad lane: three products in every cycle over one copy of the weights."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from dyadprop import timing
from dyadprop.plan import StagePlan
from dyadprop_hw.layouts import BackwardOperation, backward_wave, delta_wave, forward_wave, register_wave, result_wave


class LaneShape:
    """Layouts and widths that all lanes of a stage share.

    Parameters
    ----------
    plan : StagePlan

    Attributes
    ----------
    numbers : StageNumbers
    lanes, groups, words : int
        ``P``; row groups ``R = ceil(n_out / P)``, lane ``p`` holds the rows ``r P + P - 1 - p``; ``R * (n_in + 1)``
        weights and as many gradient accumulators a lane.
    deltas : int
        Deltas a lane: ``R`` for each of `StagePlan.banks` vectors.
    partial_bits : int
        Width of the chain that carries partial sums and read-outs.
    """

    def __init__(self, plan: StagePlan) -> None:
        self.plan = plan
        self.numbers = numbers = plan.numbers
        self.lanes = plan.lanes
        self.groups = plan.groups
        self.words = plan.words
        address_bits = max(1, (self.words - 1).bit_length())
        self.deltas = plan.banks * plan.groups
        delta_bits = max(1, (self.deltas - 1).bit_length())
        lane_bits = max(1, (self.lanes - 1).bit_length())
        self.forward = forward_wave(numbers.operand_bits, numbers.weight.width, address_bits, lane_bits)
        self.backward = backward_wave(numbers.operand_bits, address_bits, delta_bits, lane_bits)
        self.delta = delta_wave(numbers.sensitivity, delta_bits, lane_bits)
        self.result = result_wave(numbers.accumulator_bits)
        # A read-out carries a weight or a gradient; the sensitivity's sum needs its own width.
        self.partial_bits = max(
            numbers.gradient_bits, numbers.weight.width, numbers.sensitivity_sum_bits if numbers.has_sensitivity else 0
        )

    def next_bank(self, base: Any) -> Any:
        """Give the address of the first delta in the bank behind the one that begins at ``base``."""
        return Mux(base == self.deltas - self.groups, 0, base + self.groups)


class Lane(wiring.Component):
    """Weights, gradients and multipliers of the rows ``i = P - 1 - index (mod P)`` of one stage.

    ::

        forward      acc <= W[r,j] * x_j      + (first ? 0 : acc)
        sensitivity  sum <= W[r,j] * delta[r] + sum of the previous lane
        gradient     G   <= delta[r] * x'_j   + (fresh ? 0 : G)

    Waves enter at ``*_in`` and leave at ``*_out`` one cycle later; nothing stalls. Results walk one lane in two
    cycles, so that
    those of all lanes, each one cycle later than its predecessor's, leave the last lane in consecutive cycles, its
    own first.

    Parameters
    ----------
    shape : LaneShape
    index : int
        ``p``, 0 to ``P - 1``; lane 0 is where waves enter.

    Members
    -------
    forward_in, forward_out : forward_wave
    backward_in, backward_out : backward_wave
    delta_in, delta_out : delta_wave
    partial_in, partial_out : signed(partial_bits)
        Sensitivity sum or read-out of the column; ``PARTIAL_LATENCY`` after the backward wave.
    result_in, result_out : result_wave

    Notes
    -----
    Multipliers: 2, and 1 more with a sensitivity pass. Memory: ``R (n_in + 1)`` weights (two readers; the writer
    shares the forward
    reader's address, as the two never act together) and as many gradients (one reader, one writer), ``B R`` deltas (`StagePlan.banks`).
    A gradient written by one wave is seen by reads that start ``GRADIENT_LATENCY`` cycles later or more; the stage
    keeps that distance.
    """

    RESULT_LATENCY = timing.RESULT
    """Cycles from a row's last column at ``forward_in`` to its result at this lane's ``result_out``."""
    PARTIAL_LATENCY = timing.PARTIAL
    """Cycles from ``backward_in`` to ``partial_out``."""
    GRADIENT_LATENCY = timing.GRADIENT
    """Cycles from ``backward_in`` until a read sees the new gradient."""

    shape: LaneShape
    index: int
    forward_in: data.View
    forward_out: data.View
    backward_in: data.View
    backward_out: data.View
    delta_in: data.View
    delta_out: data.View
    partial_in: Signal
    partial_out: Signal
    result_in: data.View
    result_out: data.View

    def __init__(self, shape: LaneShape, index: int) -> None:
        if not 0 <= index < shape.lanes:
            raise ValueError(f"lane index is {index}; allowed are 0 to {shape.lanes - 1}")
        self.shape = shape
        self.index = index
        super().__init__(
            {
                "forward_in": In(shape.forward),
                "forward_out": Out(shape.forward),
                "backward_in": In(shape.backward),
                "backward_out": Out(shape.backward),
                "delta_in": In(shape.delta),
                "delta_out": Out(shape.delta),
                "partial_in": In(signed(shape.partial_bits)),
                "partial_out": Out(signed(shape.partial_bits)),
                "result_in": In(shape.result),
                "result_out": Out(shape.result),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the lane."""
        m = Module()
        numbers = self.shape.numbers
        for name in ("forward", "backward", "delta"):
            register_wave(m, getattr(self, f"{name}_in"), getattr(self, f"{name}_out"))

        m.submodules.weights = weights = Memory(shape=signed(numbers.weight.width), depth=self.shape.words, init=[])
        m.submodules.gradients = gradients = Memory(
            shape=signed(numbers.gradient_bits), depth=self.shape.words, init=[]
        )
        m.submodules.deltas = deltas = Memory(
            shape=signed(numbers.sensitivity.width), depth=self.shape.deltas, init=[]
        )
        weight_write = weights.write_port()
        weight_forward = weights.read_port()
        weight_backward = weights.read_port()
        gradient_write = gradients.write_port()
        gradient_read = gradients.read_port()
        delta_write = deltas.write_port()
        delta_read = deltas.read_port()

        self._forward(m, weight_write, weight_forward)
        self._backward(m, weight_backward, gradient_read, gradient_write, delta_read)
        m.d.comb += [
            delta_write.addr.eq(self.delta_in.delta),
            delta_write.data.eq(self.delta_in.value),
            delta_write.en.eq(self.delta_in.valid & (self.delta_in.lane == self.index)),
        ]
        return m

    def _forward(self, m: Module, write: Any, read: Any) -> None:
        numbers = self.shape.numbers
        wave = self.forward_in
        m.d.comb += [
            write.addr.eq(wave.address),
            write.data.eq(wave.operand[: numbers.weight.width]),
            write.en.eq(wave.valid & wave.write & (wave.lane == self.index)),
            read.addr.eq(wave.address),
            read.en.eq(~write.en),
        ]

        frame = Cat(wave.valid & wave.last & ~wave.write, wave.first, wave.learn)
        frame_q1, frame_q2, frame_q3, frame_q4 = (Signal(3, name=f"forward_frame_q{i}") for i in range(1, 5))
        operand = wave.operand[: numbers.operand_bits].as_signed()
        operand_q1 = Signal(signed(numbers.operand_bits), reset_less=True)
        operand_q2 = Signal.like(operand_q1)
        weight_q2 = Signal(signed(numbers.weight.width), reset_less=True)
        product_q3 = Signal(signed(numbers.weight.width + numbers.operand_bits), reset_less=True)
        sum_q4 = Signal(signed(numbers.accumulator_bits), reset_less=True)
        m.d.sync += [
            Cat(frame_q1, frame_q2, frame_q3, frame_q4).eq(Cat(frame, frame_q1, frame_q2, frame_q3)),
            operand_q1.eq(operand),
            operand_q2.eq(operand_q1),
            weight_q2.eq(read.data),
            product_q3.eq(weight_q2 * operand_q2),
            # accumulator_bits hold every sum of the columns' products (widths.sum_bits); padding columns come after
            # the last one.
            sum_q4.eq(product_q3 + Mux(frame_q3[1], 0, sum_q4)),
        ]

        result, result_q5 = (Signal(self.shape.result, name=name) for name in ("result", "result_q5"))
        m.d.comb += [
            result.valid.eq(frame_q4[0] | self.result_in.valid),
            result.learn.eq(Mux(frame_q4[0], frame_q4[2], self.result_in.learn)),
            result.value.eq(Mux(frame_q4[0], sum_q4, self.result_in.value)),
        ]
        register_wave(m, result, result_q5)
        register_wave(m, result_q5, self.result_out)

    def _backward(self, m: Module, weight_read: Any, gradient_read: Any, gradient_write: Any, delta_read: Any) -> None:
        numbers = self.shape.numbers
        wave = self.backward_in
        m.d.comb += [
            weight_read.addr.eq(wave.address),
            gradient_read.addr.eq(wave.address),
            delta_read.addr.eq(wave.delta),
        ]

        learn = wave.valid & (wave.operation == BackwardOperation.LEARN)
        # The read-out puts one lane's word on the chain: weight or gradient of the lane that the wave names.
        selected = wave.valid & ~learn & (wave.lane == self.index)
        frame = Cat(learn, selected, wave.operation == BackwardOperation.READ_WEIGHT, wave.fresh)
        frame_q1, frame_q2, frame_q3, frame_q4 = (Signal(4, name=f"backward_frame_q{i}") for i in range(1, 5))
        address_q1, address_q2, address_q3, address_q4 = (
            Signal.like(wave.address, name=f"address_q{i}", reset_less=True) for i in range(1, 5)
        )
        operand_q1 = Signal(signed(numbers.operand_bits), reset_less=True)
        operand_q2 = Signal.like(operand_q1)
        weight_q2 = Signal(signed(numbers.weight.width), reset_less=True)
        weight_q3 = Signal.like(weight_q2)
        delta_q2 = Signal(signed(numbers.sensitivity.width), reset_less=True)
        gradient_q2 = Signal(signed(numbers.gradient_bits), reset_less=True)
        gradient_q3 = Signal.like(gradient_q2)
        gradient_product_q3 = Signal(signed(numbers.sensitivity.width + numbers.operand_bits), reset_less=True)
        gradient_q4 = Signal.like(gradient_q2)
        m.d.sync += [
            Cat(frame_q1, frame_q2, frame_q3, frame_q4).eq(Cat(frame, frame_q1, frame_q2, frame_q3)),
            Cat(address_q1, address_q2, address_q3, address_q4).eq(
                Cat(wave.address, address_q1, address_q2, address_q3)
            ),
            operand_q1.eq(wave.operand),
            operand_q2.eq(operand_q1),
            weight_q2.eq(weight_read.data),
            weight_q3.eq(weight_q2),
            delta_q2.eq(delta_read.data),
            gradient_q2.eq(gradient_read.data),
            gradient_q3.eq(Mux(frame_q2[3], 0, gradient_q2)),
            gradient_product_q3.eq(delta_q2 * operand_q2),
            # gradient_bits hold max_batch worst-case products (widths.sum_bits).
            gradient_q4.eq(gradient_q3 + gradient_product_q3),
        ]
        m.d.comb += [
            gradient_write.addr.eq(address_q4),
            gradient_write.data.eq(gradient_q4),
            gradient_write.en.eq(frame_q4[0]),
        ]

        word = Mux(frame_q3[2], weight_q3, gradient_q3)
        partial_q4 = Signal(signed(self.shape.partial_bits), reset_less=True)
        m.d.comb += self.partial_out.eq(partial_q4)
        if numbers.has_sensitivity:
            product_q3 = Signal(signed(numbers.weight.width + numbers.sensitivity.width), reset_less=True)
            m.d.sync += product_q3.eq(weight_q2 * delta_q2)
            # partial_bits hold the sum of all rows (widths.sum_bits), and a read-out alone on the chain.
            addend = Mux(frame_q3[0], product_q3, Mux(frame_q3[1], word, 0))
            m.d.sync += partial_q4.eq(self.partial_in + addend)
        else:
            m.d.sync += partial_q4.eq(Mux(frame_q3[1], word, self.partial_in))
