"""A whole chip in simulation: its RTL, at a board's clock, with bytes or levels at its pins."""

from dataclasses import dataclass, field, replace
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from dyadprop.baud import BITS_A_BYTE, bit_period
from dyadprop.plan import Plan
from dyadprop.protocol import MAX_PERIOD
from dyadprop.self_test import self_test_program
from dyadprop.self_test_program import Program
from dyadprop_boards.identity import identity
from dyadprop_boards.table import Board
from dyadprop_hw.chip import Chip, Core
from dyadprop_hw.layouts import StageStatus
from dyadprop_hw.self_test import VERDICT_BITS
from dyadprop_hw.streams import connect_stream
from dyadprop_sim.library import BuildOptions, build_library, source_hash
from dyadprop_sim.wire import PINS, STREAMS, Line, WireSimulation

SETTLE_CYCLES = 500
CYCLES_A_WORD = 4  # of a stage's weights or gradients, which are read, written, cleared or added up without a byte


@dataclass(frozen=True)
class ChipOptions:
    """How a chip is simulated.

    Attributes
    ----------
    bits : bool
        With its UART, whose waveform the host makes and samples; else bytes enter and leave behind the UART.
    baud : int
        Bits a second at power-on; 0: the board's.
    paced : bool
        Bytes keep the host's rate; else they move as fast as they are taken. With ``bits`` they always do.
    baud_error : float
        By how much the host's rate is wrong: 0.02 is 2 % too fast.
    seed : int
        Of what registers and memories hold at power-on.
    self_test : bool
        It tests itself first.
    build : BuildOptions
    """

    bits: bool = False
    baud: int = 0
    paced: bool = False
    baud_error: float = 0.0
    seed: int = 0
    self_test: bool = False
    build: BuildOptions = field(default_factory=lambda: BuildOptions(random_start=True))


class SimulatedChip(wiring.Component):
    """A chip with what a simulation sees of it, and nothing left open.

    Parameters
    ----------
    plan, identity, clock, baud, program
        As of `dyadprop_hw.chip.Core`.
    bits : bool

    Members
    -------
    rx, tx : pins, or streams of bytes
    period : Out(16)
        Bit period that the UART goes by.
    verdict : Out
        A `SelfTest`.
    status : array of Out(StageStatus)
    """

    rx: Any
    tx: Any
    period: Any
    verdict: Any
    status: Any

    def __init__(
        self, plan: Plan, identity: bytes, clock: float, baud: int, program: Program | None, *, bits: bool
    ) -> None:
        self._bits = bits
        core = Core(plan, identity, clock, baud, program)
        self._chip = Chip(core) if bits else core
        super().__init__(
            {
                "rx": In(1, init=1) if bits else In(stream.Signature(8)),
                "tx": Out(1, init=1) if bits else Out(stream.Signature(8)),
                "period": Out(range(MAX_PERIOD + 1)),
                "verdict": Out(VERDICT_BITS),
                "status": Out(StageStatus).array(len(plan.stages)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Put it in."""
        m = Module()
        m.submodules.chip = chip = self._chip
        core = chip.core if self._bits else chip
        if self._bits:
            m.d.comb += [chip.rx.eq(self.rx), self.tx.eq(chip.tx)]
        else:
            connect_stream(m, wiring.flipped(self.rx), chip.rx)
            connect_stream(m, chip.tx, wiring.flipped(self.tx))
        m.d.comb += [self.period.eq(core.period), self.verdict.eq(core.verdict)]
        m.d.comb += [port.eq(status) for port, status in zip(self.status, core.status, strict=True)]
        return m


def simulate_chip(plan: Plan, board: Board, options: ChipOptions | None = None) -> WireSimulation:
    """Build the simulation of a chip, or find it in the cache, and switch its power on.

    Parameters
    ----------
    plan : Plan
    board : Board
    options : ChipOptions, optional

    Raises
    ------
    RangeError
        If the clock makes no such rate.
    BuildError
    """
    options = options if options is not None else ChipOptions()
    baud = options.baud or board.baud
    bit_period(board.clock, baud)  # refused here and not within a build
    text = identity(plan, board, source_hash()[:12], baud)
    ports = replace(
        PINS if options.bits else STREAMS,
        status=("period", "verdict", *(f"status__{index}" for index in range(len(plan.stages)))),
    )
    program = self_test_program(plan.net) if options.self_test else None
    path = build_library(
        f"a chip with {'-'.join(map(str, plan.net.widths))}, lanes {'/'.join(map(str, plan.lanes))}",
        f"chip {options.bits} {plan.net.hash} {plan.stages!r} {text!r} {program!r}",
        lambda: SimulatedChip(plan, text, board.clock, baud, program, bits=options.bits),
        ports,
        options.build,
    )
    timed = options.bits or options.paced
    line = Line(board.clock, baud if timed else 0, options.baud_error)
    return WireSimulation(path, ports, line, patience=_patience(plan, line), seed=options.seed)


def _patience(plan: Plan, line: Line) -> int:
    """Bound the cycles in which a chip that has something to do gives no byte."""
    words = sum(stage.numbers.outputs * stage.numbers.columns for stage in plan.stages)
    byte = BITS_A_BYTE * (line.period >> 16)
    return SETTLE_CYCLES + 2 * (plan.gradient_latency + plan.step_interval) + CYCLES_A_WORD * words + 4 * byte
