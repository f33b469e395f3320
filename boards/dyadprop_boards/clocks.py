"""The design's clock and its reset at power-on."""

import math
from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Instance, Module, ResetSignal, Signal
from amaranth.lib import io, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from dyadprop_boards.board_link import DIVISOR, is_split, link_clock
from dyadprop_boards.pll import Pll, filter_range
from dyadprop_boards.table import Board
from dyadprop_hw.clocked_network import DOMAIN

POWER_ON_SECONDS = 15e-6
"""Reset lasts at least so long behind the PLL's lock: an iCE40's block RAMs read zeros for 3 us after configuration."""


class PowerOnReset(wiring.Component):
    """Hold reset until a clock has been stable for a while; all in the domain ``power_on``, which has no reset.

    Parameters
    ----------
    cycles : int

    Members
    -------
    locked : In(1)
        The clock is stable; needs no relation to it.
    reset : Out(1)
        High from configuration on, until ``locked`` has been high for ``cycles`` cycles, and again when it falls.
    """

    locked: Signal
    reset: Signal

    def __init__(self, cycles: int) -> None:
        self.cycles = cycles
        super().__init__({"locked": In(1), "reset": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        """Count."""
        m = Module()
        stable = Signal()
        m.submodules.synchronizer = FFSynchronizer(self.locked, stable, o_domain="power_on")
        waited = Signal(range(self.cycles + 1))
        # One rank is where the lock comes from, the other where the reset goes to.
        reset = Signal(init=1)
        m.d.power_on += [reset.eq(waited != self.cycles), self.reset.eq(reset)]
        with m.If(~stable):
            m.d.power_on += waited.eq(0)
        with m.Elif(waited != self.cycles):
            m.d.power_on += waited.eq(waited + 1)
        return m


class Clocks(Elaboratable):
    """Drive the domain ``sync``: the oscillator or what a PLL makes of it, held in reset until it is stable.

    Where the network has a clock of its own, the PLL's is the domain ``network``'s, which has no reset, and ``sync``'s
    comes from the same PLL.

    Parameters
    ----------
    board : Board
    pll : Pll or None
        None: the oscillator is the clock.

    Attributes
    ----------
    split : bool
        Whether the network has a clock of its own.

    Notes
    -----
    Reset ends ``POWER_ON_SECONDS`` after the PLL has locked, and comes again when it loses its lock. Nothing of this
    depends on what the PLL's output does before: the counter stands still, or stays at 0.
    """

    def __init__(self, board: Board, pll: Pll | None) -> None:
        self.board = board
        self.pll = pll
        self._frequency = float(board.clock if pll is None else pll.frequency)
        self.split = is_split(board, self._frequency)

    def elaborate(self, platform: Any) -> Module:
        """Request the oscillator, put the PLL behind it, count."""
        m = Module()
        m.domains.power_on = ClockDomain(reset_less=True, local=True)
        clock = Signal(name="clock")
        slow = Signal(name="link_clock") if self.split else clock
        locked = Signal()
        m.d.comb += [ClockSignal("sync").eq(slow), ClockSignal("power_on").eq(slow)]
        if self.split:
            m.d.comb += ClockSignal(DOMAIN).eq(clock)

        pin = platform.request(self.board.clock_pin, 0, dir="-")
        if self.board.pll_pad and self.pll is not None:
            oscillator: Any = pin.io
        else:
            m.submodules.oscillator = buffer = io.Buffer("i", pin)
            oscillator = buffer.i
        if self.pll is None:
            m.d.comb += [clock.eq(oscillator), locked.eq(1)]
        else:
            m.submodules.pll = pll_instance(
                self.board, self.pll, oscillator, clock, locked, slow if self.split else None
            )

        cycles = math.ceil(POWER_ON_SECONDS * link_clock(self.board, self._frequency))
        m.submodules.power_on = power_on = PowerOnReset(cycles)
        m.d.comb += [power_on.locked.eq(locked), ResetSignal("sync").eq(power_on.reset)]
        return m


def pll_instance(
    board: Board, pll: Pll, oscillator: Any, clock: Signal, locked: Signal, slow: Signal | None = None
) -> Instance:
    """Give the PLL of the board's family as an instance; an ECP5's drives the link's clock ``slow`` as well."""
    match board.fpga.family:
        case "ecp5":
            return _ecp5(pll, oscillator, clock, locked, slow)
        case "ice40":
            return _ice40(pll, oscillator, clock, locked, pad=board.pll_pad)
        case "gowin":
            return _gowin(board, pll, oscillator, clock, locked)


def _ecp5(pll: Pll, oscillator: Any, clock: Signal, locked: Signal, slow: Signal | None) -> Instance:
    fed_back = Signal()
    ports: dict[str, Any] = {"o_CLKOP": fed_back, "i_CLKFB": fed_back}
    more = [(clock, pll.output)]
    if pll.inner == pll.output:
        ports = {"o_CLKOP": clock, "i_CLKFB": clock}
        more = []
    if slow is not None:
        more.append((slow, pll.output * DIVISOR))
    parameters: dict[str, Any] = {}
    for output, (signal, divisor) in zip(("CLKOS", "CLKOS2"), more, strict=False):
        ports[f"o_{output}"] = signal
        parameters |= {
            f"p_{output}_ENABLE": "ENABLED",
            f"p_{output}_DIV": divisor,
            f"p_{output}_CPHASE": divisor - 1,
        }
    return Instance(
        "EHXPLLL",
        a_ICP_CURRENT="12",
        a_LPF_RESISTOR="8",
        a_MFG_ENABLE_FILTEROPAMP="1",
        a_MFG_GMCREF_SEL="2",
        p_PLLRST_ENA="DISABLED",
        p_INTFB_WAKE="DISABLED",
        p_STDBY_ENABLE="DISABLED",
        p_DPHASE_SOURCE="DISABLED",
        p_FEEDBK_PATH="CLKOP",
        p_CLKI_DIV=pll.input,
        p_CLKFB_DIV=pll.feedback,
        p_CLKOP_ENABLE="ENABLED",
        p_CLKOP_DIV=pll.inner,
        p_CLKOP_CPHASE=pll.inner - 1,
        p_CLKOP_FPHASE=0,
        **parameters,
        i_CLKI=oscillator,
        **ports,
        i_RST=Const(0),
        i_STDBY=Const(0),
        i_PHASESEL0=Const(0),
        i_PHASESEL1=Const(0),
        i_PHASEDIR=Const(1),
        i_PHASESTEP=Const(1),
        i_PHASELOADREG=Const(1),
        i_PLLWAKESYNC=Const(0),
        i_ENCLKOP=Const(0),
        o_LOCK=locked,
    )


def _ice40(pll: Pll, oscillator: Any, clock: Signal, locked: Signal, *, pad: bool) -> Instance:
    source = {"i_PACKAGEPIN": oscillator} if pad else {"i_REFERENCECLK": oscillator}
    return Instance(
        "SB_PLL40_PAD" if pad else "SB_PLL40_CORE",
        p_FEEDBACK_PATH="SIMPLE",
        p_PLLOUT_SELECT="GENCLK",
        p_DIVR=Const(pll.input - 1, 4),
        p_DIVF=Const(pll.feedback - 1, 7),
        p_DIVQ=Const(pll.output.bit_length() - 1, 3),
        p_FILTER_RANGE=Const(filter_range(pll.detector), 3),
        **source,
        i_RESETB=Const(1),
        i_BYPASS=Const(0),
        o_PLLOUTGLOBAL=clock,
        o_LOCK=locked,
    )


def _gowin(board: Board, pll: Pll, oscillator: Any, clock: Signal, locked: Signal) -> Instance:
    return Instance(
        "rPLL",
        p_DEVICE=board.device,
        p_FCLKIN=f"{board.clock / 1e6:g}",
        p_IDIV_SEL=pll.input - 1,
        p_FBDIV_SEL=pll.feedback - 1,
        p_ODIV_SEL=pll.output,
        p_DYN_IDIV_SEL="false",
        p_DYN_FBDIV_SEL="false",
        p_DYN_ODIV_SEL="false",
        p_DYN_SDIV_SEL=2,
        p_DYN_DA_EN="false",
        p_PSDA_SEL="0000",
        p_DUTYDA_SEL="1000",
        p_CLKFB_SEL="internal",
        p_CLKOUT_BYPASS="false",
        p_CLKOUTP_BYPASS="false",
        p_CLKOUTD_BYPASS="false",
        p_CLKOUTD_SRC="CLKOUT",
        p_CLKOUTD3_SRC="CLKOUT",
        p_CLKOUT_FT_DIR=Const(1, 1),
        p_CLKOUTP_FT_DIR=Const(1, 1),
        p_CLKOUT_DLY_STEP=0,
        p_CLKOUTP_DLY_STEP=0,
        i_CLKIN=oscillator,
        i_CLKFB=Const(0),
        i_RESET=Const(0),
        i_RESET_P=Const(0),
        i_FBDSEL=Const(0, 6),
        i_IDSEL=Const(0, 6),
        i_ODSEL=Const(0, 6),
        i_PSDA=Const(0, 4),
        i_DUTYDA=Const(0, 4),
        i_FDLY=Const(0, 4),
        o_CLKOUT=clock,
        o_LOCK=locked,
    )
