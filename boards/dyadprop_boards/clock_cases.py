"""The designs whose clocks docs/boards.md shows."""

from dataclasses import dataclass

from dyadprop.network import Dense, Network
from dyadprop_boards.sample_designs import BYTES
from dyadprop_boards.table import BOARDS, Board, find_board


@dataclass(frozen=True)
class Case:
    """A network on a board.

    Attributes
    ----------
    board : Board
    net : Network
    clock : int
        Hz to work towards.
    """

    board: Board
    net: Network
    clock: int

    @property
    def name(self) -> str:
        """``64-32-10@ulx3s-85f``."""
        return f"{self.network}@{self.board.name}"

    @property
    def network(self) -> str:
        """``64-32-10``."""
        return "-".join(map(str, self.net.widths))


def dense(*widths: int) -> Network:
    """Give a network of tanh layers with a linear last one; lanes are shared out for the board."""
    hidden = [Dense(width, "tanh") for width in widths[1:-1]]
    return Network(widths[0], [*hidden, Dense(widths[-1])])


DIGITS = dense(64, 32, 10)
IRIS = Network(
    4,
    [Dense(8, "relu"), Dense(3)],
    formats=BYTES,
    max_batch=8,
)

# What a design is to reach. Where nothing is said the board's own clock is asked for.
_GOALS = {"icebreaker": 45, "icesugar": 45, "tang-nano-9k": 100}
_GOAL_BY_SPEED = {"6": 150, "8": 190}
_MORE = (
    ("ulx3s-85f", dense(64, 32, 32, 10), 140),
    ("ulx3s-85f", dense(16, 64, 32, 32, 5), 140),
    ("colorlight-5a-75b-r7.0", dense(16, 64, 32, 32, 5), 140),
)


def cases() -> list[Case]:
    """Give each board with the digits' network, or the irises' where it is small, and a few larger networks."""
    found = []
    for board in BOARDS:
        large = board.fpga.family == "ecp5"
        goal = _GOALS.get(board.name) or (_GOAL_BY_SPEED.get(board.speed) if large else None)
        clock = board.design_clock if goal is None else goal * 1_000_000
        found.append(Case(board, DIGITS if large else IRIS, clock))
    return found + [Case(find_board(name), net, clock * 1_000_000) for name, net, clock in _MORE]
