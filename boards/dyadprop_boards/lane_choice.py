"""Which lanes a network gets on a board: of all ways to share them out, the fastest that can be placed."""

from collections.abc import Iterator, Sequence

from dyadprop.errors import CapacityError
from dyadprop.network import Network
from dyadprop.plan import Plan, plan_network
from dyadprop_boards.fpgas import RESOURCES, Resource
from dyadprop_boards.resources import predict
from dyadprop_boards.table import Board

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


def multiplier_budget(board: Board) -> int:
    """Give the multipliers that a plan for a board may have; where there are none, they are built out of LUTs."""
    return board.fpga.multipliers or board.fpga.luts // LUTS_A_PRODUCT


def best_plan(plans: Sequence[Plan], board: Board, clock: float) -> Plan | None:
    """Choose from plans, the fastest of which is first; None: none fits."""
    for plan in plans:
        if not shortage(plan, board, clock, PLACEABLE):
            return plan
    # The smallest that is within the FPGA's means: fewer lanes need more words each, which may take more block RAM.
    for shares in (WHOLE, LEEWAY):
        for plan in reversed(plans):
            if not shortage(plan, board, clock, shares):
                return plan
    return None


def every_plan(net: Network, budget: int) -> Iterator[Plan]:
    """Give all plans that may be sensible, the fastest first."""
    while True:
        try:
            plan = plan_network(net, budget)
        except CapacityError:
            return
        yield plan
        budget = plan.multipliers - 1


def shortage(plan: Plan, board: Board, clock: float, shares: Shares) -> dict[Resource, int]:
    """Give the resources of which a plan takes more than its share of a board, with what is needed."""
    total = predict(plan, board, clock).total
    return {
        resource: total[resource]
        for resource in RESOURCES
        if total[resource] > board.fpga.has(resource) * shares[resource]
    }
