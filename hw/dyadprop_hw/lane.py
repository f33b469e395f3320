"""The dyad lane: three products in every cycle over one copy of the weights."""

import itertools
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from dyadprop import timing
from dyadprop.plan import StagePlan
from dyadprop_hw.claims import claim
from dyadprop_hw.layouts import (
    BackwardOperation,
    backward_wave,
    delayed,
    delta_wave,
    forward_wave,
    register_wave,
    result_wave,
)
from dyadprop_hw.multiplier import Multiplier
from dyadprop_hw.weight_step import WeightStep, rate_layout

# What a cycle of the backward wave does, as it moves down a lane's pipeline: what is known first, and what follows.
_FIRST = data.StructLayout({"learns": 1, "updates": 1, "selected": 1, "operation": BackwardOperation, "fresh": 1})
_FRAME = data.StructLayout({"learns": 1, "updates": 1, "reads": 1, "reads_weight": 1, "stores": 1, "accumulates": 1})


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
        self.rate = rate_layout(numbers.gradient_bits)
        # A read-out carries a weight or a gradient; the sensitivity's sum needs its own width.
        self.partial_bits = max(
            numbers.gradient_bits, numbers.weight.width, numbers.sensitivity_sum_bits if numbers.has_sensitivity else 0
        )

    def is_full(self, lane: int) -> bool:
        """Whether a lane has a row in the last row group too."""
        return (self.groups - 1) * self.lanes + self.lanes - 1 - lane < self.numbers.outputs

    def first_bank(self) -> Signal:
        """Make a register for the address of a bank's first delta; it begins with bank 0."""
        return Signal(range(self.deltas - self.groups + 1), name="bank")

    def next_bank(self, base: Any) -> Any:
        """Give the address of the first delta in the bank behind the one that begins at ``base``."""
        return Mux(base == self.deltas - self.groups, 0, base + self.groups)


def _write(m: Module, port: Any, address: Any, word: Any, enable: Any) -> None:
    """Write a cycle later: a block RAM is far from the logic that chooses what is written."""
    address_q1, word_q1 = (Signal.like(member, reset_less=True) for member in (port.addr, port.data))
    m.d.sync += [address_q1.eq(address), word_q1.eq(word), port.en.eq(enable)]
    m.d.comb += [port.addr.eq(address_q1), port.data.eq(word_q1)]


def _extend(value: Any, bits: int) -> Any:
    return Cat(value, value[-1].replicate(max(0, bits - len(value))))[:bits]


class Lane(wiring.Component):
    """Weights, gradients and multipliers of the rows ``i = P - 1 - index (mod P)`` of one stage.

    ::

        forward      acc <= W[r,j] * x_j      + (first ? 0 : acc)
        sensitivity  sum <= W[r,j] * delta[r] + sum of the previous lane
        gradient     G   <= delta[r] * x'_j   + (fresh ? 0 : G)
    step         u = round(G / 2^s);  W <= W - u;  G <= G - u 2^s    with the last sample's products, in the same pass

    Waves enter at ``*_in`` and leave at ``*_out`` one cycle later; nothing stalls. Results walk one lane in two cycles,
    so that those of all lanes, each one cycle later than its predecessor's, leave the last lane in consecutive cycles,
    its own first.

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
        Sensitivity sum or read-out of the column; ``PARTIAL_LATENCY`` after the backward wave. Where no sensitivity
        goes out it is of use behind a read-out alone.
    result_in, result_out : result_wave
    rate_in, rate_out : rate_layout
        The learning rate; holds still while steps are taken.
    saturated_in, saturated_out : In, Out
        Weights limited by one wave's step; ``SATURATED_LATENCY`` after that wave.

    Notes
    -----
    Multipliers: 2, and 1 more with a sensitivity pass. Memory: ``R (n_in + 1)`` weights (two readers; the writer
    shares the forward reader's address, as the two never act together) and as many gradients (one reader, one writer),
    ``B R`` deltas (`StagePlan.banks`). A gradient written by one wave is seen by reads that start
    ``GRADIENT_LATENCY`` cycles later or more; the stage keeps that distance.
    """

    RESULT_LATENCY = timing.RESULT
    """Cycles from a row's last column at ``forward_in`` to its result at this lane's ``result_out``."""
    PARTIAL_LATENCY = timing.PARTIAL
    """Cycles from ``backward_in`` to ``partial_out``."""
    GRADIENT_LATENCY = timing.GRADIENT
    """Cycles from ``backward_in`` until a read sees the new gradient."""
    UPDATE_LATENCY = timing.UPDATE
    """Cycles from a ``backward_in`` that steps until reads see the new weight and the residual."""
    SATURATED_LATENCY = timing.SATURATED
    """Cycles from a ``backward_in`` that steps to its count at ``saturated_out``."""

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
    rate_in: data.View
    rate_out: data.View
    saturated_in: Signal
    saturated_out: Signal

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
                "rate_in": In(shape.rate),
                "rate_out": Out(shape.rate),
                "saturated_in": In(range(shape.lanes + 1)),
                "saturated_out": Out(range(shape.lanes + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the lane."""
        m = Module()
        numbers = self.shape.numbers
        for name in ("forward", "backward", "delta"):
            register_wave(m, getattr(self, f"{name}_in"), getattr(self, f"{name}_out"))

        rate_q1 = Signal.like(self.rate_in, reset_less=True)
        m.d.sync += rate_q1.eq(self.rate_in)
        m.d.comb += self.rate_out.eq(rate_q1)

        m.submodules.weights = weights = Memory(shape=signed(numbers.weight.width), depth=self.shape.words, init=[])
        m.submodules.gradients = gradients = Memory(
            shape=signed(numbers.gradient_bits), depth=self.shape.words, init=[]
        )
        m.submodules.deltas = deltas = Memory(shape=signed(numbers.sensitivity.width), depth=self.shape.deltas, init=[])
        weight_write = weights.write_port()
        weight_forward = weights.read_port()
        weight_backward = weights.read_port()
        gradient_write = gradients.write_port()
        gradient_read = gradients.read_port()
        delta_write = deltas.write_port()
        delta_read = deltas.read_port()

        m.submodules.step = step = WeightStep(numbers)
        m.d.comb += step.rate.eq(rate_q1)
        step_stb, step_address = self._backward(m, weight_backward, gradient_read, gradient_write, delta_read, step)
        self._forward(m, weight_write, weight_forward, step, step_stb, step_address)
        m.d.comb += [
            delta_write.addr.eq(self.delta_in.delta),
            delta_write.data.eq(self.delta_in.value),
            delta_write.en.eq(self.delta_in.valid & (self.delta_in.lane == self.index)),
        ]
        wave = self.backward_in
        claim(
            m,
            ~(
                delta_write.en
                & wave.valid
                & (wave.operation == BackwardOperation.LEARN)
                & (wave.delta == delta_write.addr)
            ),
        )
        claim(m, ~(weight_write.en & wave.valid & (wave.address == weight_write.addr)))
        claim(m, ~(step_stb & self.forward_in.valid))
        return m

    def _forward(self, m: Module, write: Any, read: Any, step: WeightStep, step_stb: Any, step_address: Any) -> None:
        numbers = self.shape.numbers
        wave = self.forward_in
        # A step is written while the stage lets no forward pass begin, so one address serves reader and both writers.
        _write(
            m,
            write,
            Mux(step_stb, step_address, wave.address),
            Mux(step_stb, step.weight_out, wave.operand[: numbers.weight.width]),
            step_stb | (wave.valid & wave.write & (wave.lane == self.index)),
        )
        m.d.comb += [read.addr.eq(write.addr), read.en.eq(~write.en)]

        added = timing.ADDRESSED + timing.WEIGHT + Multiplier.LATENCY + 1  # cycles from the wave to the sum
        ends = [wave.valid & wave.last & ~wave.write, *(Signal(name=f"ends_q{i}") for i in range(1, added + 1))]
        for earlier, later in itertools.pairwise(ends):
            m.d.sync += later.eq(earlier)
        # Without a reset these are the next lane's registers too, as the operand is, and a build keeps one of each.
        first = delayed(m, wave.first, added - 1, "first")
        flags = delayed(m, Cat(wave.learn, wave.update), added, "flags")
        operand = wave.operand[: numbers.operand_bits].as_signed()
        total = Signal(signed(numbers.accumulator_bits), reset_less=True)
        m.submodules.forward_product = product = Multiplier(numbers.weight.width, numbers.operand_bits)
        m.d.comb += [
            product.a.eq(delayed(m, read.data, timing.WEIGHT - 1, "weight")),
            product.b.eq(delayed(m, operand, timing.ADDRESSED + timing.WEIGHT, "operand")),
        ]
        # accumulator_bits hold every sum of the columns' products (widths.sum_bits); padding columns come after the
        # last one.
        m.d.sync += total.eq(product.product + Mux(first, 0, total))

        result, result_next = (Signal(self.shape.result, name=name) for name in ("result", "result_next"))
        m.d.comb += [
            result.valid.eq(ends[added] | self.result_in.valid),
            result.learn.eq(Mux(ends[added], flags[0], self.result_in.learn)),
            result.update.eq(Mux(ends[added], flags[1], self.result_in.update)),
            result.value.eq(Mux(ends[added], total, self.result_in.value)),
        ]
        register_wave(m, result, result_next)
        register_wave(m, result_next, self.result_out)

    def _backward(
        self,
        m: Module,
        weight_read: Any,
        gradient_read: Any,
        gradient_write: Any,
        delta_read: Any,
        step: WeightStep,
    ) -> tuple[Any, Any]:
        """Build the backward pass; return when and where a step's weight is to be written."""
        numbers = self.shape.numbers
        has_sensitivity, bits = numbers.has_sensitivity, self.shape.partial_bits
        wave = self.backward_in
        learn = wave.valid & (wave.operation == BackwardOperation.LEARN)
        if not self.shape.is_full(self.index):
            learn &= ~wave.last  # a row that does not exist learns nothing, whatever its memories hold
        # The read-out puts one lane's word on the chain: weight or gradient of the lane that the wave names. A gradient
        # to be stored comes down the same chain. A wave that learns names a lane too, but is none of the three.
        selected = wave.valid & (wave.lane == self.index)
        first = Signal(_FIRST, name="backward_first_q1")
        m.d.sync += first.eq(Cat(learn, learn & wave.update, selected, wave.operation, wave.fresh))
        reads_weight, reads_gradient, writes = (
            first.selected & (first.operation == operation)
            for operation in (
                BackwardOperation.READ_WEIGHT,
                BackwardOperation.READ_GRADIENT,
                BackwardOperation.WRITE_GRADIENT,
            )
        )
        # Whether the stored gradient is an operand of the sum. What is written takes its place, as what is fresh does.
        accumulates = (first.learns | reads_gradient) & ~first.fresh
        stores = first.learns | writes
        frame = Cat(first.learns, first.updates, reads_weight | reads_gradient, reads_weight, stores, accumulates)
        frames = {1: data.View(_FRAME, frame)}
        addresses = [wave.address]
        for time in range(1, timing.SATURATED):
            if time > 1:
                frames[time] = Signal(_FRAME, name=f"backward_frame_q{time}")
                m.d.sync += frames[time].eq(frames[time - 1])
            addresses.append(Signal.like(wave.address, name=f"address_q{time}", reset_less=True))
            m.d.sync += addresses[time].eq(addresses[time - 1])
        # Gradients are read so much later that they meet their products.
        product_time = timing.WEIGHT + Multiplier.LATENCY
        sum_time, gradient_time = product_time + 1, product_time - 3
        residual_time, step_time = sum_time + timing.RESIDUAL, sum_time + timing.WEIGHT_STEP
        m.d.comb += [
            weight_read.addr.eq(wave.address),
            gradient_read.addr.eq(addresses[gradient_time]),
            delta_read.addr.eq(wave.delta),
        ]
        at_product, at_sum, at_residual, at_step = (
            frames[time] for time in (product_time, sum_time, residual_time, step_time)
        )
        weights = {2: Signal(signed(numbers.weight.width), name="weight_q2", reset_less=True)}
        for time in range(3, sum_time + 1):
            weights[time] = Signal.like(weights[2], name=f"weight_q{time}", reset_less=True)
            m.d.sync += weights[time].eq(weights[time - 1])
        delta_q2 = Signal(signed(numbers.sensitivity.width), reset_less=True)
        # Where nothing is learnt both products are zero.
        delta = delayed(m, Mux(frames[2].learns, delta_q2, 0).as_signed(), timing.WEIGHT - 2, "delta_late")
        gradient_read_q = Signal(signed(numbers.gradient_bits), reset_less=True)
        # What the sum begins with, or what is read: a gradient, or a weight, which may be the wider one.
        word_bits = max(numbers.gradient_bits, numbers.weight.width)
        word = Signal(signed(word_bits), reset_less=True)
        # Where no sensitivity goes out this sum is the chain as well, and as wide.
        total_bits = numbers.gradient_bits if has_sensitivity else bits
        total = Signal(signed(total_bits), reset_less=True)
        new_gradient = total[: numbers.gradient_bits].as_signed()
        m.submodules.gradient_product = gradient_product = Multiplier(numbers.sensitivity.width, numbers.operand_bits)
        # What chooses stands in front of the adders and has three inputs: ECP5's carry cells have room for that
        # (`dyadprop_boards.ecp5_packing`). The sum of a wave that learns nothing is the word on the chain, or the one
        # that is read.
        passes = (~at_product.learns).replicate(total_bits)
        added = _extend(gradient_product.product, total_bits) | (self.partial_in[:total_bits] & passes)
        m.d.comb += [
            gradient_product.a.eq(delta),
            gradient_product.b.eq(delayed(m, wave.operand, timing.WEIGHT, "backward_operand")),
        ]
        before = frames[product_time - 1]
        m.d.sync += [
            weights[2].eq(weight_read.data),
            delta_q2.eq(delta_read.data),
            gradient_read_q.eq(gradient_read.data),
            word.eq(
                (_extend(gradient_read_q, word_bits) & before.accumulates.replicate(word_bits))
                | (_extend(weights[product_time - 1], word_bits) & before.reads_weight.replicate(word_bits))
            ),
            # gradient_bits hold max_batch worst-case products (widths.sum_bits), or fewer and a residual.
            total.eq(word + added.as_signed()),
        ]
        m.d.comb += [
            step.gradient.eq(new_gradient),
            step.weight.eq(weights[sum_time]),
            step.update.eq(at_sum.updates),
        ]
        _write(m, gradient_write, addresses[residual_time], step.residual, at_residual.stores)
        used = frames[gradient_time].learns | frames[gradient_time].reads
        claim(m, ~(gradient_write.en & used & (gradient_write.addr == gradient_read.addr)))

        # Limited weights are counted along the lanes, as the wave walks.
        saturated = Signal.like(self.saturated_out)
        m.d.sync += saturated.eq(self.saturated_in + (at_step.updates & step.saturated))
        m.d.comb += self.saturated_out.eq(saturated)

        if has_sensitivity:
            m.submodules.product = product = Multiplier(numbers.weight.width, numbers.sensitivity.width)
            m.d.comb += [product.a.eq(weights[timing.WEIGHT]), product.b.eq(delta)]
            read = _extend(word, bits) & at_product.reads.replicate(bits)
            partial = Signal(signed(bits), reset_less=True)
            # partial_bits hold the sum of all rows (widths.sum_bits), and a read-out alone on the chain.
            m.d.sync += partial.eq(self.partial_in + (_extend(product.product, bits) | read).as_signed())
            m.d.comb += self.partial_out.eq(partial)
        else:
            m.d.comb += self.partial_out.eq(total)
        return at_step.updates, addresses[step_time]
