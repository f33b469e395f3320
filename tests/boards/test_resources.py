# amaranth: UnusedElaboratable=no
"""Predicted resources, against those of real synthesis."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Fragment, Shape
from amaranth.hdl._mem import MemoryInstance

import dyadprop as dp
from dyadprop_boards.board_link import link_slots
from dyadprop_boards.design import fit, make_chip
from dyadprop_boards.fit_resources import EXACT, GOAL, measure
from dyadprop_boards.fpgas import ICE40HX8K, ICE40UP5K, LFE5U_85F, RESOURCES, Resource
from dyadprop_boards.lane_choice import LEEWAY
from dyadprop_boards.memories import (
    edge_memories,
    head_memories,
    lane_memories,
    link_memories,
    self_test_memory,
)
from dyadprop_boards.memory_mapping import Memory
from dyadprop_boards.progress import Progress
from dyadprop_boards.resources import FITTED, coefficients, count_blocks, predict
from dyadprop_boards.sample_designs import Sample, samples
from dyadprop_boards.table import find_board

BOARD = find_board("ulx3s-85f")
NET = dp.Network(64, [dp.Dense(32, "tanh"), dp.Dense(10)])
SHORT = dp.Formats(activation=dp.Q(2, 6), weight=dp.Q(2, 6), sensitivity=dp.Q(1, 7))

# None of these is among the sample designs to which the coefficients are fitted.
UNSEEN = {
    "one_unit": ("ulx3s-12f", dp.Network(2, [dp.Dense(1)], max_batch=4)),
    "learner": ("ulx3s-12f", dp.Network(20, [dp.Dense(6, "tanh", lanes=3), dp.Dense(4, lanes=2)])),
    "logits": (
        "ulx3s-45f",
        dp.Network(90, [dp.Dense(16, "relu", lanes=4), dp.Dense(8, lanes=4)], "softmax_cross_entropy"),
    ),
    "eight_bits": (
        "ulx3s-85f",
        dp.Network(12, [dp.Dense(8, "sigmoid", lanes=4), dp.Dense(3, "leaky_relu", lanes=3)], formats=SHORT),
    ),
    "gowin": ("tang-primer-20k", dp.Network(9, [dp.Dense(6, "tanh", lanes=2), dp.Dense(3, lanes=1)])),
    "ice40": ("icebreaker", dp.Network(6, [dp.Dense(4, "relu", lanes=1), dp.Dense(2, lanes=2)], formats=SHORT)),
}


@pytest.mark.boards
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", UNSEEN)
def test_prediction_against_synthesis(name: str, tmp_path: Path) -> None:
    """Synthesis of a whole chip takes minutes: ``make boards`` runs it."""
    board, net = UNSEEN[name]
    measured = measure(Sample("unseen", board, net), tmp_path, Progress("unseen", quiet=True))
    actual, predicted = measured.total, measured.predicted(coefficients(find_board(board).fpga.family))
    told = f"predicted {predicted}, found {actual}: python -m dyadprop_boards.fit_resources fits the prediction again"
    for resource in EXACT:
        assert predicted[resource] == actual[resource], told
    for resource in FITTED:
        assert abs(predicted[resource] / actual[resource] - 1) <= GOAL, told
    design = fit(net, find_board(board), checked=False)
    assert predict(design.plan, design.board, design.clock).total == predicted


def test_parts_add_up() -> None:
    design = fit(NET, BOARD)
    prediction = predict(design.plan, BOARD, design.clock)
    assert list(prediction.parts) == ["stage_1", "stage_2", "head", "link", "board"]
    assert list(prediction.lanes) == ["stage_1", "stage_2"]
    for resource in RESOURCES:
        assert prediction.total[resource] == sum(part[resource] for part in prediction.parts.values())
        for stage, lanes in prediction.lanes.items():
            assert 0 <= lanes[resource] <= prediction.parts[stage][resource]
    assert prediction.total["multipliers"] == design.plan.multipliers
    assert prediction.lanes["stage_1"]["multipliers"] == 2 * design.plan.lanes[0]


def test_it_grows_with_the_network() -> None:
    def total(net: dp.Network) -> dict[Resource, int]:
        design = fit(net, BOARD, checked=False)
        return predict(design.plan, BOARD, design.clock).total

    small = total(dp.Network(16, [dp.Dense(8, "tanh", lanes=2), dp.Dense(4, lanes=2)]))
    more_lanes = total(dp.Network(16, [dp.Dense(8, "tanh", lanes=8), dp.Dense(4, lanes=2)]))
    longer = total(dp.Network(160, [dp.Dense(8, "tanh", lanes=2), dp.Dense(4, lanes=2)]))
    assert all(more_lanes[name] > small[name] for name in FITTED)
    assert longer["block_rams"] > small["block_rams"]


def test_the_leeway_is_the_goal_of_the_prediction() -> None:
    assert LEEWAY["luts"] == LEEWAY["flip_flops"] == 1 + GOAL
    assert LEEWAY["multipliers"] == LEEWAY["block_rams"] == 1


@pytest.mark.parametrize("family", ["ecp5", "ice40", "gowin"])
def test_sample_designs_name_their_lanes(family: Any) -> None:
    found = samples(family)
    assert len(found) >= 4
    for sample in found:
        assert all(layer.lanes is not None for layer in sample.net.layers)


@pytest.mark.parametrize(
    ("a", "b", "blocks"), [(16, 16, 1), (18, 18, 1), (18, 20, 2), (2, 2, 1), (1, 9, 0), (36, 18, 2 + 1), (34, 16, 2)]
)
def test_blocks_of_a_product_on_ecp5(a: int, b: int, blocks: int) -> None:
    assert count_blocks(a, b, LFE5U_85F) == blocks


@pytest.mark.parametrize(("a", "b", "blocks"), [(16, 16, 1), (18, 18, 3), (18, 16, 2), (5, 5, 0), (6, 5, 1)])
def test_blocks_of_a_product_on_ice40(a: int, b: int, blocks: int) -> None:
    assert count_blocks(a, b, ICE40UP5K) == blocks
    assert count_blocks(a, b, ICE40HX8K) == 0


def memories_of(component: Any) -> dict[str, tuple[int, int]]:
    """Give name, width and depth of all memories of a gateware component, by elaborating it."""
    found: dict[str, tuple[int, int]] = {}

    def visit(fragment: Fragment, name: str) -> None:
        if isinstance(fragment, MemoryInstance):
            found[name] = (Shape.cast(fragment._data.shape).width, fragment._data.depth)
        for inner, label, _ in fragment.subfragments:
            visit(inner, name if label is None else f"{name}.{label}".removeprefix("."))

    visit(Fragment.get(component, None), "")
    return found


NETWORKS = {
    "tanh": NET,
    "softmax": dp.Network(5, [dp.Dense(7, "sigmoid"), dp.Dense(4)], "softmax_cross_entropy", max_batch=3),
    "short": dp.Network(9, [dp.Dense(3, "relu"), dp.Dense(2, "leaky_relu")], input_gradient=True, formats=SHORT),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_memories_are_those_of_the_gateware(name: str) -> None:
    design = fit(NETWORKS[name], BOARD, multipliers=16)
    plan, chip = design.plan, make_chip(design)
    found = memories_of(chip)
    wanted: dict[str, Memory] = {}
    for stage in plan.stages:
        prefix = f"core.crossing.network.stage_{stage.numbers.index}."
        for lane in range(stage.lanes):
            wanted |= {f"{prefix}lane_{lane}.{memory.name}": memory for memory in lane_memories(stage)}
        wanted |= {prefix + memory.name: memory for memory in edge_memories(plan, stage)}
    wanted |= {f"core.crossing.network.head.{memory.name}": memory for memory in head_memories(plan)}
    link = link_memories(plan, len(chip.core.identity), link_slots(BOARD))
    wanted |= {memory.name: memory for memory in [*link, self_test_memory(plan)]}
    for name_there, size in found.items():
        match = next((name for name in wanted if re.fullmatch(rf"{re.escape(name)}(\.[a-z.]+)?", name_there)), None)
        assert match is not None, name_there
        memory = wanted.pop(match)
        assert (memory.width + memory.constant, memory.depth) == size, name_there
    assert not wanted
    assert len(found) > 20
