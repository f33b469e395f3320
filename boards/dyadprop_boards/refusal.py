"""What is said of a network that does not fit a board, or may not: what it needs, and what may help."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from dyadprop.errors import CapacityError
from dyadprop.network import Network
from dyadprop.plan import Plan, plan_network
from dyadprop_boards.fpgas import RESOURCE_NAMES, RESOURCES, Resource
from dyadprop_boards.lane_choice import (
    LEEWAY,
    PLACEABLE,
    WHOLE,
    Shares,
    best_plan,
    every_plan,
    multiplier_budget,
    shortage,
)
from dyadprop_boards.resources import coefficients
from dyadprop_boards.table import BOARDS, Board

_SMALLER = "fewer or smaller layers"


def say_doubts(plan: Plan, board: Board, clock: float) -> str:
    """Say why a plan that is built may yet turn out too large; empty: nothing speaks against it."""
    for shares, doubt in (
        (WHOLE, "more than there is, but predictions are not exact: a build tries it, and says behind synthesis"),
        (PLACEABLE, "more than place and route was seen to manage: it may find no placement"),
    ):
        short = shortage(plan, board, clock, shares)
        if short:
            return f"network {_spell(plan.net)} is predicted to take {_spell_needs(short, board)}, {doubt}"
    return ""


def spell_refusal(net: Network, board: Board, clock: float, multipliers: int | None, plans: Sequence[Plan]) -> str:
    """Say why a network does not fit a board, and what would.

    Parameters
    ----------
    net : Network
    board : Board
    clock : float
        Hz.
    multipliers : int or None
        Budget that the user gave.
    plans : sequence of Plan
        All that were tried, the smallest last; empty where the board has fewer multipliers than one lane a layer takes,
        or than the lanes take that layers name.
    """
    advice = [_SMALLER]
    if plans:
        plan = plans[-1]
        short = shortage(plan, board, clock, LEEWAY)
        head = f"network {_spell(net)} with lanes {_spell_lanes(plan)} needs {_spell_needs(short, board)}"
        advice = what_may_help(plan, short)
    else:
        try:
            plan_network(net, multiplier_budget(board))
        except CapacityError as error:
            head = str(error)
    head += f": it does not fit board {board.name} ({board.device}); "
    free = net.with_layers([replace(layer, lanes=None) for layer in net.layers])
    given = [
        *(["the lanes that layers name"] if free.layers != net.layers else []),
        *(["the number of multipliers"] if multipliers is not None else []),
    ]
    other = best_plan(list(every_plan(free, multiplier_budget(board))), board, clock) if given else None
    if other is not None:
        doubts = say_doubts(other, board, clock)
        return f"{head}with lanes {_spell_lanes(other)} it does: leave out {' and '.join(given)}" + (
            f"; then {doubts}" if doubts else ""
        )
    largest = _largest(free, board, clock)
    if largest is not None:
        head += f"the largest of its kind that fits is {_spell(largest)}; "
    elif any(layer.outputs > 1 for layer in net.layers[:-1]):
        head += "with one unit in each hidden layer it does not either; "
        advice[advice.index(_SMALLER)] = "fewer layers"
    larger = _smallest_board(net, clock)
    if larger is not None:
        advice.append(f"a larger board ({larger.name} takes it)")
    return head + spell_advice(advice)


def what_may_help(plan: Plan, short: Collection[Resource]) -> list[str]:
    """Say what may make a design smaller that takes too much of these resources."""
    net = plan.net
    return [
        *(["fewer lanes"] if max(plan.lanes) > 1 else []),
        *(_SMALLER, "shorter words"),
        *([f"a max_batch below {net.max_batch}"] if "block_rams" in short and net.max_batch > 1 else []),
    ]


def spell_advice(advice: Sequence[str]) -> str:
    """Give advice as the end of a message."""
    return f"{', '.join(advice[:-1])}{' or ' if len(advice) > 1 else ''}{advice[-1]} may do"


def _smallest_board(net: Network, clock: float) -> Board | None:
    tried: set[tuple[int, ...]] = set()
    plans = list(every_plan(net, max(map(multiplier_budget, BOARDS))))
    for board in sorted(BOARDS, key=lambda board: board.fpga.luts):
        if not coefficients(board.fpga.family):
            continue  # whether its logic takes the network is not known
        size = tuple(board.fpga.has(resource) for resource in RESOURCES)
        within = [plan for plan in plans if plan.multipliers <= multiplier_budget(board)]
        if size not in tried and _fits(within, board, clock, PLACEABLE):
            return board
        tried.add(size)
    return None


def _largest(net: Network, board: Board, clock: float) -> Network | None:
    """Give the network with the largest hidden layers, all smaller by one factor, that fits.

    A network without hidden layers gets fewer inputs instead. None: not even one unit a layer fits. Of what place and
    route was not seen to manage one is only given where there is no other.
    """
    most = max((layer.outputs for layer in net.layers[:-1]), default=net.inputs)

    def resized(size: int) -> Network:
        hidden = [replace(layer, outputs=max(1, layer.outputs * size // most)) for layer in net.layers[:-1]]
        return net.with_layers([*hidden, net.layers[-1]], inputs=None if hidden else size)

    for shares in (PLACEABLE, WHOLE, LEEWAY):
        low, high = 0, max(2, most)
        while high - low > 1:
            middle = (low + high) // 2
            plans = list(every_plan(resized(middle), multiplier_budget(board)))
            low, high = (middle, high) if _fits(plans, board, clock, shares) else (low, middle)
        if low:
            return resized(low)
    return None


def _fits(plans: Sequence[Plan], board: Board, clock: float, shares: Shares) -> bool:
    """Say whether a board takes one of a network's plans, with few lanes or many: fewer need more words each."""
    return any(not shortage(plan, board, clock, shares) for plan in reversed(plans))


def _spell(net: Network) -> str:
    return "-".join(map(str, net.widths))


def _spell_lanes(plan: Plan) -> str:
    return "/".join(map(str, plan.lanes))


def _spell_needs(short: dict[Resource, int], board: Board) -> str:
    return ", ".join(
        f"{used} of {board.fpga.has(resource)} {RESOURCE_NAMES[resource]}" for resource, used in short.items()
    )
