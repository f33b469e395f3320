"""What goes onto a board: a chip, its clock, and the pins."""

from typing import Any

from amaranth.hdl import ClockDomain, Elaboratable, Module, ResetSignal
from amaranth.lib import io

from dyadprop_boards.clocks import Clocks
from dyadprop_boards.pll import Pll
from dyadprop_boards.table import Board
from dyadprop_hw.clocked_network import DOMAIN


class BoardTop(Elaboratable):
    """A chip on a board.

    Parameters
    ----------
    chip : Component
        With the pins ``rx`` and ``tx``; ``led``, where it has it, goes to the LED.
    board : Board
    pll : Pll or None
        What makes the clock (`dyadprop_boards.pll.find_pll`). Where that is the network's alone
        (`dyadprop_boards.board_link.is_split`), it is the domain ``network``, and ``sync`` has a slower one.
    """

    def __init__(self, chip: Any, board: Board, pll: Pll | None) -> None:
        self.chip = chip
        self.board = board
        self.pll = pll

    def elaborate(self, platform: Any) -> Module:
        """Connect the pins."""
        m = Module()
        m.domains.sync = ClockDomain()
        m.submodules.clocks = clocks = Clocks(self.board, self.pll)
        if clocks.split:
            m.domains += ClockDomain(DOMAIN, reset_less=True)
        m.submodules.chip = chip = self.chip
        uart = platform.request(self.board.uart, 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [chip.rx.eq(rx.i), tx.o.eq(chip.tx)]
        # Without a self-test the LED only says that the clock runs and reset is over.
        led = (chip.led if hasattr(chip, "led") else 1) & ~ResetSignal("sync")
        if self.board.led is not None:
            resource, number, *part = self.board.led
            port = platform.request(resource, number, dir="-")
            m.submodules.led = pin = io.Buffer("o", getattr(port, part[0]) if part else port)
            m.d.comb += pin.o.eq(led)
        return m
