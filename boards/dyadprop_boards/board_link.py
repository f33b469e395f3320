"""A board's link: its clock, which where a PLL has another output is slower than the network's, and its room."""

from dyadprop.protocol import MAX_PAYLOAD, RECEIVE_SLOTS
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


def link_slots(board: Board) -> int:
    """Give the packets that the link has room for: 16 fill a block RAM each way, or four of the small ones."""
    return min(RECEIVE_SLOTS, board.fpga.block_ram_bits // (8 * MAX_PAYLOAD))
