"""What fits a board, and what is said of what does not."""

from __future__ import annotations

import re

import pytest

import dyadprop as dp
from dyadprop.formats import Formats, Q
from dyadprop.plan import plan_network
from dyadprop_boards import resources
from dyadprop_boards.capacity import choose_plan
from dyadprop_boards.fpgas import RESOURCES
from dyadprop_boards.lane_choice import PLACEABLE, every_plan, multiplier_budget
from dyadprop_boards.refusal import say_doubts
from dyadprop_boards.resources import predict
from dyadprop_boards.table import BOARDS, Board, find_board

LARGEST = re.compile(r"; the largest of its kind that fits is (\d+(?:-\d+)*); ")


def refusal(net: dp.Network, board: Board, multipliers: int | None = None) -> str:
    with pytest.raises(dp.CapacityError) as caught:
        choose_plan(net, board, 80e6, multipliers)
    return str(caught.value)


def fits(net: dp.Network, board: Board) -> bool:
    """Whether it fits, and place and route was seen to manage as much."""
    try:
        plan = choose_plan(net, board, 80e6)
    except dp.CapacityError:
        return False
    total = predict(plan, board, 80e6).total
    return all(total[resource] <= PLACEABLE[resource] * board.fpga.has(resource) for resource in RESOURCES)


def known(board: Board) -> bool:
    return bool(resources.coefficients(board.fpga.family))


def chain(*widths: int) -> dp.Network:
    return dp.Network(widths[0], [*(dp.Dense(n, "tanh") for n in widths[1:-1]), dp.Dense(widths[-1])])


def test_all_multipliers_are_used_where_all_else_allows() -> None:
    net, board = chain(64, 32, 10), find_board("ulx3s-85f")
    assert choose_plan(net, board, 80e6) == plan_network(net, board.fpga.multipliers)


def test_lanes_are_fewer_where_another_resource_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    net, board = chain(64, 32, 10), find_board("ulx3s-85f")
    table = {"lanes": {"luts": {"lanes": 5000.0}}}
    monkeypatch.setattr(resources, "coefficients", lambda family: table)
    plan = choose_plan(net, board, 80e6)
    plans = [plan_network(net, budget) for budget in range(7, 157)]
    most = PLACEABLE["luts"] * board.fpga.luts
    fitting = [other for other in plans if predict(other, board, 80e6).total["luts"] <= most]
    assert plan in fitting
    assert plan.interval == min(other.interval for other in fitting)
    assert 7 < plan.multipliers < 60


def test_lanes_are_fewest_where_even_they_take_more_than_can_be_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    net, board = chain(64, 32, 10), find_board("ulx3s-85f")
    for share, fitting in ((0.8, True), (1.05, True), (1.15, False)):
        table = {"board": {"flip_flops": {"one": share * board.fpga.flip_flops}}}
        monkeypatch.setattr(resources, "coefficients", lambda family, table=table: table)
        if fitting:
            assert choose_plan(net, board, 80e6).lanes == (1, 1)
        else:
            assert re.search(r"with lanes 1/1 needs \d+ of \d+ flip-flops: ", refusal(net, board))


def test_a_budget_of_the_user_is_kept() -> None:
    net, board = chain(64, 32, 10), find_board("ulx3s-85f")
    assert choose_plan(net, board, 80e6, 30) == plan_network(net, 30)
    assert refusal(net, board, 3) == "network 64-32-10 needs at least 7 multipliers; the budget is 3"


def test_fewer_lanes_are_told_where_they_are_all_that_it_takes() -> None:
    board = find_board("ulx3s-12f")
    fits_with = "it does not fit board ulx3s-12f (LFE5U-12F); with lanes 8/2 it does: leave out"
    told = refusal(chain(64, 32, 10), board, 1000)
    assert told.startswith("network 64-32-10 with lanes 32/10 needs ")
    assert told.endswith(f": {fits_with} the number of multipliers")
    named = dp.Network(64, [dp.Dense(32, "tanh", lanes=32), dp.Dense(10, lanes=10)])
    told = refusal(named, board)
    assert told.startswith("network 64-32-10 needs at least 96 multipliers with the lanes its layers name; the budget")
    assert told.endswith(f": {fits_with} the lanes that layers name")
    assert refusal(named, board, 1000).endswith(" the lanes that layers name and the number of multipliers")
    assert choose_plan(chain(64, 32, 10), board, 80e6).lanes == (8, 2)
    # A budget that is what the board has is still one.
    board = find_board("tang-primer-20k")
    told = refusal(chain(64, 32, 10), board, multiplier_budget(board))
    assert "with lanes 1/1 it does: leave out the number of multipliers; then network 64-32-10 is predicted to" in told


def test_doubts_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    net, board = chain(64, 32, 10), find_board("ulx3s-85f")
    assert say_doubts(choose_plan(net, board, 80e6), board, 80e6) == ""
    for share, doubt in ((0.8, "more than place and route was seen to manage"), (1.05, "more than there is, but")):
        table = {"board": {"flip_flops": {"one": share * board.fpga.flip_flops}}}
        monkeypatch.setattr(resources, "coefficients", lambda family, table=table: table)
        told = say_doubts(choose_plan(net, board, 80e6), board, 80e6)
        count = round(share * board.fpga.flip_flops)
        assert told.startswith(f"network 64-32-10 is predicted to take {count} of 83640 flip-flops, {doubt}")


def test_where_nothing_of_its_kind_fits() -> None:
    bytes_ = Formats(*(Q(4, 4),) * 3)
    told = refusal(
        dp.Network(4, [dp.Dense(8, "relu"), dp.Dense(3)], formats=bytes_, max_batch=8), find_board("icebreaker")
    )
    assert "; with one unit in each hidden layer it does not either; fewer layers, shorter words or a larger" in told
    assert LARGEST.search(told) is None
    # It is not said of one that has no more than one unit already.
    told = refusal(dp.Network(4, [dp.Dense(1, "relu"), dp.Dense(3)], formats=bytes_), find_board("icebreaker"))
    assert "one unit" not in told
    assert "fewer or smaller layers, shorter words" in told
    # No board has the multipliers.
    told = refusal(chain(*[2] * 54), find_board("ulx3s-85f"))
    assert told.endswith("; with one unit in each hidden layer it does not either; fewer layers may do")


def test_a_network_that_no_message_carries() -> None:
    told = refusal(chain(4096, 4096, 1000), find_board("ulx3s-85f"))
    size = 4097 * 4096 * 5 + 2  # words of 40 bits
    assert told == f"stage 1 has {size} bytes of weights or gradients; a message carries at most 16777215"


def test_too_few_multipliers() -> None:
    told = refusal(chain(4, 4, 4, 4), find_board("icebreaker"))
    assert told.startswith(
        "network 4-4-4-4 needs at least 12 multipliers; the budget is 8: it does not fit board icebreaker (iCE40UP5K); "
    )
    assert told.endswith("hidden layer it does not either; fewer layers or a larger board (ulx3s-12f takes it) may do")


@pytest.mark.parametrize("name", ["ulx3s-12f", "ulx3s-85f"])
def test_the_largest_that_fits_does(name: str) -> None:
    board = find_board(name)
    told = refusal(chain(784, 128, 64, 10), board)
    assert re.match(rf"network 784-128-64-10 with lanes 1/1/1 needs \d+ of {board.fpga.block_rams} block RAMs: ", told)
    assert "shorter words or a max_batch below 255 may do" in told
    match = LARGEST.search(told)
    assert match is not None
    widths = [int(width) for width in match[1].split("-")]
    assert (widths[0], widths[-1]) == (784, 10)
    assert fits(chain(*widths), board)
    more = widths[1] + 1
    assert not fits(chain(784, more, 64 * more // 128, 10), board)


def test_a_layer_alone_gets_fewer_inputs() -> None:
    board = find_board("ulx3s-12f")
    match = LARGEST.search(refusal(dp.Network(4096, [dp.Dense(64)]), board))
    assert match is not None
    inputs, outputs = map(int, match[1].split("-"))
    assert outputs == 64
    assert fits(dp.Network(inputs, [dp.Dense(64)]), board)
    assert not fits(dp.Network(inputs + 1, [dp.Dense(64)]), board)


def test_the_smallest_board_that_takes_it_is_named() -> None:
    net = chain(200, 64, 10)
    match = re.search(r"\(([\w.-]+) takes it\)", refusal(net, find_board("ulx3s-12f")))
    assert match is not None
    named = find_board(match[1])
    assert known(named)
    assert fits(net, named)
    assert all(not fits(net, board) for board in BOARDS if known(board) and board.fpga.luts < named.fpga.luts)


def test_plans_under_the_largest_budget_hold_those_of_every_board() -> None:
    """So the board to name is looked for with one list of plans, whatever multipliers a board has."""
    budgets = {multiplier_budget(board) for board in BOARDS}
    assert len(budgets) > 4
    named = dp.Network(8, [dp.Dense(12, "tanh", lanes=2), dp.Dense(6)])
    for net in (chain(64, 32, 10), chain(16, 64, 32, 32, 5), named):
        every = list(every_plan(net, max(budgets)))
        for budget in budgets:
            assert [plan for plan in every if plan.multipliers <= budget] == list(every_plan(net, budget))


def test_a_board_without_multipliers_makes_them_of_logic() -> None:
    assert multiplier_budget(find_board("hx8k-breakout")) == 7
