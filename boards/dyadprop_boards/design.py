"""What is built for a board: a network with its lanes, at a clock that the board can make."""

from dataclasses import dataclass
from typing import Any

from dyadprop.baud import bit_period
from dyadprop.network import Network
from dyadprop.plan import Plan, plan_network
from dyadprop.self_test import self_test_program
from dyadprop.self_test_program import Program
from dyadprop_boards.board_link import is_split, link_clock, link_slots
from dyadprop_boards.capacity import choose_plan
from dyadprop_boards.identity import identity
from dyadprop_boards.pll import Pll, find_pll
from dyadprop_boards.revision import gateware_revision
from dyadprop_boards.table import Board
from dyadprop_hw.chip import Chip, Core

_ANY = 1 << 30  # multipliers


@dataclass(frozen=True)
class Design:
    """What is built, and for what.

    Attributes
    ----------
    net : Network
    plan : Plan
    board : Board
    wanted : int
        Hz asked for.
    pll : Pll or None
    """

    net: Network
    plan: Plan
    board: Board
    wanted: int
    pll: Pll | None

    @property
    def clock(self) -> float:
        """Hz of the network, exactly."""
        return float(self.board.clock if self.pll is None else self.pll.frequency)

    @property
    def link_clock(self) -> float:
        """Hz of the link."""
        return link_clock(self.board, self.clock)

    @property
    def is_split(self) -> bool:
        """Whether network and link have a clock each."""
        return is_split(self.board, self.clock)

    @property
    def clocks(self) -> dict[str, float]:
        """Hz of ``network``, and of ``link`` where it has its own."""
        return {"network": self.clock} | ({"link": self.link_clock} if self.is_split else {})


def fit(
    net: Network, board: Board, clock: int | None = None, multipliers: int | None = None, *, checked: bool = True
) -> Design:
    """Give a network its lanes, and the board its clock.

    Parameters
    ----------
    net : Network
    board : Board
    clock : int, optional
        Hz; the board's where not given.
    multipliers : int, optional
        Under which lanes are shared out; as many lanes as the board takes where not given.
    checked : bool
        Whether the network has to fit the board.

    Raises
    ------
    CapacityError
        If it does not fit, by prediction (`dyadprop_boards.capacity`).
    RangeError
        If no PLL makes that clock, or its UART cannot have the board's rate.
    """
    wanted = board.design_clock if clock is None else clock
    pll = find_pll(board.fpga.family, board.speed, board.clock, wanted)
    made = float(board.clock if pll is None else pll.frequency)
    bit_period(link_clock(board, made), board.baud)
    plan = choose_plan(net, board, made, multipliers) if checked else plan_network(net, multipliers or _ANY)
    return Design(net, plan, board, wanted, pll)


def make_chip(design: Design) -> Any:
    """Make the chip of a design, with its self-test; the golden model says what a healthy one answers."""
    return _chip(design, self_test_program(design.net))


def make_untested_chip(design: Design) -> Any:
    """Make the chip of a design without a self-test, which takes a ROM and some logic."""
    return _chip(design, None)


def _chip(design: Design, program: Program | None) -> Any:
    board = design.board
    clock = design.link_clock  # bit periods and cycles that a host is told are the link's
    document = identity(design.plan, board, gateware_revision(), clock=clock)
    return Chip(Core(design.plan, document, clock, board.baud, program, link_slots(board), split=design.is_split))
