"""The power-on self-test: a small machine that plays the host, before a host may."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import crc, data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from dyadprop.plan import Plan
from dyadprop.protocol import SelfTest
from dyadprop.self_test_program import (
    COUNT_BITS,
    NEGATIVE,
    ONES,
    POLYNOMIAL,
    SEED,
    SIGNATURE_BITS,
    STEP_BITS,
    TOP_BITS,
    VALUE_BITS,
    Program,
    Step,
)
from dyadprop_hw.send_window import MessageByte

VERDICT_BITS = max(SelfTest).bit_length()
CYCLES_A_WORD = 4
"""Bound of what a stage takes for each of its weights or gradients, when a message reads or writes all of them."""
SETTLE_CYCLES = 500

# Of LUTs, the program's ROM would be more than half of the whole.
_STYLE = {"ram_style": "block"}
_ROW = data.StructLayout({"value": VALUE_BITS, "step": STEP_BITS})
_ARGUMENT = data.StructLayout({"top": VALUE_BITS, "count": COUNT_BITS})


def patience(plan: Plan) -> int:
    """Bound the cycles in which a healthy chip neither takes nor gives a byte."""
    words = sum(stage.numbers.outputs * stage.numbers.columns for stage in plan.stages)
    return SETTLE_CYCLES + 2 * (plan.gradient_latency + plan.step_interval) + CYCLES_A_WORD * words


class PowerOnTest(wiring.Component):
    """Carry out the program of a self-test once, from reset on (`dyadprop.self_test_program` says what its steps do).

    Parameters
    ----------
    program : Program
    patience : int
        Cycles without a byte, either way, behind which the verdict is HUNG.

    Members
    -------
    commands : Out(stream.Signature(8))
        Messages, as of a host.
    answers : In(stream of MessageByte)
    running : Out(1)
        Both streams are this component's.
    finished : Out(1)
        High for the last cycle of ``running``: whoever is behind the streams starts anew.
    verdict : Out
        A `SelfTest`.

    Notes
    -----
    Three cycles a row and one a byte, and as long as the other side makes it wait. One ROM of a row's 12 bits; no
    multiplier.
    """

    commands: Any
    answers: Any
    running: Signal
    finished: Signal
    verdict: Signal

    def __init__(self, program: Program, patience: int) -> None:
        self.program = program
        self.patience = patience
        super().__init__(
            {
                "commands": Out(stream.Signature(8)),
                "answers": In(stream.Signature(MessageByte)),
                "running": Out(1, init=1),
                "finished": Out(1),
                "verdict": Out(VERDICT_BITS, init=SelfTest.RUNNING),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Fetch, do, go on."""
        m = Module()
        program = self.program
        m.submodules.rom = rom = Memory(
            shape=VALUE_BITS + STEP_BITS, depth=len(program.rows), init=program.words, attrs=_STYLE
        )
        m.submodules.signature = signature = crc.Processor(
            crc.Algorithm(
                crc_width=SIGNATURE_BITS,
                polynomial=POLYNOMIAL,
                initial_crc=SEED,
                reflect_input=False,
                reflect_output=False,
                xor_output=0,
            )(data_width=8)
        )
        read = rom.read_port()
        place = Signal(range(len(program.rows)))
        row = Signal(_ROW, reset_less=True)  # alone behind the ROM, so that a build can move it into the block
        m.d.sync += row.eq(read.data)
        step, value = row.step, row.value
        argument = Signal(_ARGUMENT, reset_less=True)
        counters = {
            counter: Signal(range(program.largest(counter) + 1), name=counter.name.lower())
            for counter in (Step.OUTER, Step.INNER)
        }
        starts = {
            counter: Signal.like(place, name=f"start_{counter.name.lower()}", reset_less=True) for counter in counters
        }
        repeats = {Step.OUTER: Step.REPEAT_OUTER, Step.INNER: Step.REPEAT_INNER}
        index = Signal(2)
        silence = Signal(range(self.patience + 1))
        is_top = index == step[:2]

        # A byte of a word: see Step.FILL. The generator's sign is that of its byte.
        random = signature.crc[-8:]
        outer, inner = counters[Step.OUTER], counters[Step.INNER]
        byte = Signal(8)
        with m.If(outer == ONES):
            m.d.comb += byte.eq(0xFF)
        with m.Elif(outer == TOP_BITS):
            m.d.comb += byte.eq(Mux(is_top, argument.top, 0))
        with m.Elif(outer == NEGATIVE):
            m.d.comb += byte.eq(Mux(is_top, ~value, 0))
        with m.Elif(is_top):
            m.d.comb += byte.eq(Mux(random[7], random | ~value, random & value))
        with m.Else():
            m.d.comb += byte.eq(random)
        inner_bits = Cat(inner, 0, 0)  # the counter has none where a round is of one sample
        inverse = Mux(step[2], inner_bits[1], inner_bits[0])

        fill = step[3]
        m.d.comb += [
            read.addr.eq(place),
            self.commands.payload.eq(Mux(fill, byte ^ inverse.replicate(8), value)),
            signature.data.eq(Mux(fill, 0, self.answers.payload.byte)),
        ]
        moved = (self.commands.valid & self.commands.ready) | (self.answers.valid & self.answers.ready)
        m.d.sync += silence.eq(Mux(moved, 0, silence + 1))
        on = Signal()  # the row is done
        hung = silence == self.patience
        # Words or messages that are still to come.
        left = argument.count[: program.most_words.bit_length()]
        last = left == 1
        with m.If(on):
            m.d.sync += place.eq(place + 1)

        def end(verdict: Any) -> None:
            m.d.sync += self.verdict.eq(verdict)
            m.next = "END"

        with m.FSM():
            with m.State("FETCH"):
                m.next = "READ"
            with m.State("READ"):
                m.next = "DO"
            with m.State("DO"):
                with m.If(on):
                    m.next = "FETCH"
                with m.Switch(step):
                    with m.Case(Step.SEND):
                        m.d.comb += [self.commands.valid.eq(1), on.eq(self.commands.ready)]
                    with m.Case(Step.ARGUMENT):
                        m.d.comb += on.eq(1)
                        m.d.sync += argument.eq(Cat(argument.as_value()[VALUE_BITS:], value))
                    with m.Case(Step.RECEIVE):
                        m.d.sync += left.eq(value)
                        m.next = "RECEIVE"
                        with m.If(value == 0):
                            end(SelfTest.PASSED)
                    with m.Case(Step.CHECK):
                        m.d.comb += on.eq(1)
                        with m.If(signature.crc != argument.count):
                            end(value)
                    for counter, register in counters.items():
                        with m.Case(counter):
                            m.d.comb += on.eq(1)
                            m.d.sync += [register.eq(value), starts[counter].eq(place + 1)]
                        with m.Case(repeats[counter]):
                            m.d.comb += on.eq(1)
                            with m.If(register != 0):
                                m.d.sync += [register.eq(register - 1), place.eq(starts[counter])]
                    with m.Default():
                        m.next = "FILL"
                with m.If(hung):
                    end(SelfTest.HUNG)
            with m.State("FILL"):
                m.d.comb += self.commands.valid.eq(1)
                with m.If(self.commands.ready):
                    m.d.comb += signature.valid.eq(1)
                    m.d.sync += index.eq(index + 1)
                    with m.If(is_top):
                        m.d.sync += [index.eq(0), left.eq(left - 1)]
                        with m.If(last):
                            m.d.comb += on.eq(1)
                            m.next = "FETCH"
                with m.If(hung):
                    end(SelfTest.HUNG)
            with m.State("RECEIVE"):
                m.d.comb += self.answers.ready.eq(1)
                with m.If(self.answers.valid):
                    m.d.comb += signature.valid.eq(1)
                    with m.If(self.answers.payload.last):
                        m.d.sync += left.eq(left - 1)
                        with m.If(last):
                            m.d.comb += on.eq(1)
                            m.next = "FETCH"
                with m.If(hung):
                    end(SelfTest.HUNG)
            with m.State("END"):
                m.d.comb += self.finished.eq(1)
                m.d.sync += self.running.eq(0)
                m.next = "OVER"
            with m.State("OVER"):
                pass
        return m
