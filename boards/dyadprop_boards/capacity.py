"""Whether a network fits a board, before any tool runs: its lanes, or what it lacks and what would fit."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from dyadprop.errors import CapacityError
from dyadprop.messages import check_message_sizes
from dyadprop.network import Network
from dyadprop.plan import Plan, plan_network
from dyadprop.protocol import WireSizes
from dyadprop_boards.fpgas import RESOURCE_NAMES, RESOURCES, Resource
from dyadprop_boards.resources import coefficients, predict
from dyadprop_boards.table import BOARDS, Board

LUTS_A_PRODUCT = 1000
"""Logic of a multiplier, with what goes with it, where an FPGA has none."""
Shares = dict[Resource, float]
"""How much of each resource of an FPGA may be predicted."""
PLACEABLE: Shares = {"luts": 0.7, "flip_flops": 0.75, "multipliers": 1.0, "block_rams": 1.0}
"""Where lanes are shared out: on an LFE5U-25F 16-64-32-32-5 was placed with 67 % of both, but not with 70 % of the LUTs
and 76 % of the flip-flops. A lane more is of no use to who gets no bitstream."""
WHOLE: Shares = dict.fromkeys(RESOURCES, 1.0)
LEEWAY: Shares = WHOLE | {"luts": 1.1, "flip_flops": 1.1}
"""Beyond it a network is refused: LUTs and flip-flops are not known exactly."""
_SMALLER = "fewer or smaller layers"


def multiplier_budget(board: Board) -> int:
    """Give the multipliers that a plan for a board may have; where there are none, they are built out of LUTs."""
    return board.fpga.multipliers or board.fpga.luts // LUTS_A_PRODUCT


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
    budget = multiplier_budget(board) if multipliers is None else multipliers
    plans = list(_plans(net, budget)) if multipliers is None else [plan_network(net, budget)]
    plan = _choice(plans, board, clock)
    if plan is None:
        raise CapacityError(_refusal(net, board, clock, budget, plans))
    return plan


def _choice(plans: Sequence[Plan], board: Board, clock: float) -> Plan | None:
    """Choose from plans, the fastest of which is first; None: none fits."""
    for plan in plans:
        if not _short(plan, board, clock, PLACEABLE):
            return plan
    # The smallest that is within the FPGA's means: fewer lanes need more words each, which may take more block RAM.
    for shares in (WHOLE, LEEWAY):
        for plan in reversed(plans):
            if not _short(plan, board, clock, shares):
                return plan
    return None


def _plans(net: Network, budget: int) -> Iterator[Plan]:
    """Give all plans that may be sensible, the fastest first."""
    while True:
        try:
            plan = plan_network(net, budget)
        except CapacityError:
            return
        yield plan
        budget = plan.multipliers - 1


def _short(plan: Plan, board: Board, clock: float, shares: Shares) -> dict[Resource, int]:
    """Give the resources of which a plan takes more than its share of a board, with what is needed."""
    total = predict(plan, board, clock).total
    return {
        resource: total[resource]
        for resource in RESOURCES
        if total[resource] > board.fpga.has(resource) * shares[resource]
    }


def _fits(plans: Sequence[Plan], board: Board, clock: float, shares: Shares) -> bool:
    """Say whether a board takes one of a network's plans, with few lanes or many: fewer need more words each."""
    return any(not _short(plan, board, clock, shares) for plan in reversed(plans))


# -- what is said ----------------------------------------------------------------------------------------------------


def say_doubts(plan: Plan, board: Board, clock: float) -> str:
    """Say why a plan that is built may yet turn out too large; empty: nothing speaks against it."""
    for shares, doubt in (
        (WHOLE, "more than there is, but predictions are not exact: a build tries it, and says behind synthesis"),
        (PLACEABLE, "more than place and route was seen to manage: it may find no placement"),
    ):
        short = _short(plan, board, clock, shares)
        if short:
            return f"network {_spell(plan.net)} is predicted to take {_spell_needs(short, board)}, {doubt}"
    return ""


def _spell(net: Network) -> str:
    return "-".join(map(str, net.widths))


def _spell_needs(short: dict[Resource, int], board: Board) -> str:
    return ", ".join(
        f"{used} of {board.fpga.has(resource)} {RESOURCE_NAMES[resource]}" for resource, used in short.items()
    )


def _refusal(net: Network, board: Board, clock: float, budget: int, plans: Sequence[Plan]) -> str:
    device = f"board {board.name} ({board.device})"
    advice = [_SMALLER]
    if plans:
        plan = plans[-1]
        short = _short(plan, board, clock, LEEWAY)
        head = f"network {_spell(net)} with lanes {'/'.join(map(str, plan.lanes))} needs {_spell_needs(short, board)}"
        advice = what_may_help(plan, short)
    else:  # the board has fewer multipliers than one lane a layer takes, or than the lanes that layers name
        try:
            plan_network(net, budget)
        except CapacityError as error:
            head = str(error)
    free = net.with_layers([replace(layer, lanes=None) for layer in net.layers])
    most = multiplier_budget(board)
    named = budget != most or any(layer.lanes is not None for layer in net.layers)
    other = _choice(list(_plans(free, most)), board, clock) if named else None
    if other is not None:
        lanes = "/".join(map(str, other.lanes))
        return (
            f"{head}: it does not fit {device}; with lanes {lanes} it does: leave out lanes that layers name, and the "
            "number of multipliers"
        )
    words = f"{head}: it does not fit {device}; "
    largest = _largest(free, board, clock)
    if largest is not None:
        words += f"the largest of its kind that fits is {_spell(largest)}; "
    elif len(net.layers) > 1:
        words += "with one unit in each hidden layer it does not either; "
        advice[advice.index(_SMALLER)] = "fewer layers"
    larger = _smallest_board(net, clock)
    if larger is not None:
        advice.append(f"a larger board ({larger.name} takes it)")
    return words + spell_advice(advice)


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
    plans = list(_plans(net, max(map(multiplier_budget, BOARDS))))
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

    for shares in (PLACEABLE, WHOLE):
        low, high = 0, max(2, most)
        while high - low > 1:
            middle = (low + high) // 2
            plans = list(_plans(resized(middle), multiplier_budget(board)))
            low, high = (middle, high) if _fits(plans, board, clock, shares) else (low, middle)
        if low:
            return resized(low)
    return None
