"""The link's clock: where there is a PLL with another output, the network need not wait for what counts bytes."""

from dyadprop_boards.table import Board

DIVISOR = 2


def is_split(board: Board, clock: float) -> bool:
    """Say whether the link has a clock of its own: on an ECP5 whose PLL makes the network's clock.

    Parameters
    ----------
    board : Board
    clock : float
        Hz of the network.
    """
    return board.fpga.family == "ecp5" and clock != board.clock


def link_clock(board: Board, clock: float) -> float:
    """Give the link's clock in Hz: the network's, or, where it has its own, half of it."""
    return clock / DIVISOR if is_split(board, clock) else clock
