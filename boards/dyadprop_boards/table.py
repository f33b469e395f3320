"""The boards that the gateware is meant for: what decides a design, as data."""

from dataclasses import dataclass

from dyadprop.errors import RangeError


@dataclass(frozen=True)
class Board:
    """A board.

    Attributes
    ----------
    name : str
        As commands call it.
    clock : int
        Of its oscillator, Hz.
    baud : int
        Bits a second of its serial port at power-on.
    device : str
        The FPGA, as its maker calls it.
    """

    name: str
    clock: int
    baud: int
    device: str


BAUD = 1_000_000  # every USB bridge on these boards can, and 12 cycles a bit are left at the slowest clock

BOARDS = (
    Board("ulx3s-12f", 25_000_000, BAUD, "LFE5U-12F"),
    Board("ulx3s-25f", 25_000_000, BAUD, "LFE5U-25F"),
    Board("ulx3s-45f", 25_000_000, BAUD, "LFE5U-45F"),
    Board("ulx3s-85f", 25_000_000, BAUD, "LFE5U-85F"),
    Board("colorlight-5a-75b-r7.0", 25_000_000, BAUD, "LFE5U-25F"),
    Board("colorlight-i5", 25_000_000, BAUD, "LFE5U-25F"),
    Board("ecpix5-45", 100_000_000, BAUD, "LFE5UM5G-45F"),
    Board("ecpix5-85", 100_000_000, BAUD, "LFE5UM5G-85F"),
    Board("orangecrab", 48_000_000, BAUD, "LFE5U-25F"),
    Board("icebreaker", 12_000_000, BAUD, "iCE40UP5K"),
    Board("icesugar", 12_000_000, BAUD, "iCE40UP5K"),
    Board("hx8k-breakout", 12_000_000, BAUD, "iCE40HX8K"),
    Board("tang-nano-9k", 27_000_000, BAUD, "GW1NR-LV9"),
    Board("tang-primer-20k", 27_000_000, BAUD, "GW2A-LV18"),
)


def find_board(name: str) -> Board:
    """Give the board of that name.

    Raises
    ------
    RangeError
        If there is none.
    """
    for board in BOARDS:
        if board.name == name:
            return board
    raise RangeError(f"board is {name!r}; known are {', '.join(board.name for board in BOARDS)}")
