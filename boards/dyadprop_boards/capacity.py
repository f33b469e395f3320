"""Whether a network fits a board, before any tool runs: its lanes, or a refusal."""

from dyadprop.errors import CapacityError
from dyadprop.messages import check_message_sizes
from dyadprop.network import Network
from dyadprop.plan import Plan, plan_network
from dyadprop.protocol import WireSizes
from dyadprop_boards.lane_choice import best_plan, every_plan, multiplier_budget
from dyadprop_boards.refusal import spell_refusal
from dyadprop_boards.table import Board


def choose_plan(net: Network, board: Board, clock: float, multipliers: int | None = None) -> Plan:
    """Give a network the lanes with which it is fastest on a board.

    Parameters
    ----------
    net : Network
        Layers that name their lanes keep them.
    board : Board
    clock : float
        Hz.
    multipliers : int, optional
        Budget under which lanes are shared out; where not given, as many lanes as can be placed, or, where even the
        fewest take more than that of the board, those.

    Raises
    ------
    CapacityError
        If the network does not fit, with what it needs, what there is, and what would fit; or the budget is too small
        for one lane a layer, whatever the board.
    """
    check_message_sizes(WireSizes(net))
    plans = list(every_plan(net, multiplier_budget(board))) if multipliers is None else [plan_network(net, multipliers)]
    plan = best_plan(plans, board, clock)
    if plan is None:
        raise CapacityError(spell_refusal(net, board, clock, multipliers, plans))
    return plan
