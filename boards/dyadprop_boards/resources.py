"""What a design takes of an FPGA, from its plan, in milliseconds.

Multipliers and block RAMs follow from formulas. LUTs and flip-flops are sums of what the plan says (bits of a lane's
words, RAM in LUTs and so on) with coefficients that are fitted to synthesized designs: ``python -m
dyadprop_boards.fit_resources`` writes them into ``resource_coefficients.json``, and is run again when the gateware has
changed.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from amaranth.hdl import Shape

from dyadprop.plan import Plan, StagePlan
from dyadprop.tables import TABLE_ACTIVATIONS
from dyadprop.widths import StageNumbers
from dyadprop_boards.board_link import is_split, link_clock, link_slots
from dyadprop_boards.fpgas import RESOURCES, Family, Fpga, Resource
from dyadprop_boards.identity import identity
from dyadprop_boards.memories import (
    edge_memories,
    head_memories,
    lane_memories,
    link_memories,
    self_test_memory,
)
from dyadprop_boards.memory_mapping import Memory, map_memory
from dyadprop_boards.revision import DIGITS
from dyadprop_boards.table import Board
from dyadprop_hw.network import control_data_bits, network_ports

COEFFICIENTS = "resource_coefficients.json"
COMMAND = "python -m dyadprop_boards.fit_resources"
"""Fits them."""
FITTED: tuple[Resource, ...] = ("luts", "flip_flops")

Table = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Coefficients of a family: by kind of part, resource, feature."""

_LUTS_OF_A_LUT_RAM: dict[Family, int] = {"ecp5": 4, "gowin": 8}  # a Gowin's takes its whole tile
_LUT_RAM_WORDS = 16
# yosys gives no hard multiplier an operand below this width, or a product below that.
_LEAST_OPERAND = 2
_LEAST_PRODUCT: dict[Family, int] = {"ecp5": 1, "ice40": 11, "gowin": 1}


@dataclass(frozen=True)
class Features:
    """What the cost of a part of the chip depends on.

    Attributes
    ----------
    part : str
        ``stage_1`` and so on, ``head``, ``link``, ``board``.
    kind : str
        ``lanes`` and ``edge`` of a stage; else as the part.
    values : dict of str to float
        Have a coefficient each for LUTs and for flip-flops.
    known : dict of str to int
        What follows exactly: multipliers, block RAMs, and LUTs that are RAM.
    """

    part: str
    kind: str
    values: dict[str, float]
    known: dict[Resource, int]


@dataclass(frozen=True)
class Prediction:
    """What a design takes.

    Attributes
    ----------
    parts, lanes : dict of str to dict of str to int
        As `dyadprop_boards.logs.read_parts` finds them in a netlist.
    """

    parts: dict[str, dict[str, int]]
    lanes: dict[str, dict[str, int]]

    @property
    def total(self) -> dict[Resource, int]:
        """Of all parts."""
        return {resource: sum(part[resource] for part in self.parts.values()) for resource in RESOURCES}


def predict(plan: Plan, board: Board, clock: float) -> Prediction:
    """Predict what a chip takes.

    Parameters
    ----------
    plan : Plan
    board : Board
    clock : float
        Hz. Its digits are part of the answer to IDENTIFY, which is a table in memory.
    """
    table = coefficients(board.fpga.family)
    parts: dict[str, dict[str, int]] = {}
    lanes: dict[str, dict[str, int]] = {}
    for features in part_features(plan, board, clock):
        found = evaluate(features, table)
        if features.kind == "lanes":
            lanes[features.part] = found
        whole = parts.setdefault(features.part, dict.fromkeys(RESOURCES, 0))
        for resource in RESOURCES:
            whole[resource] += found[resource]
    return Prediction(parts, lanes)


def evaluate(features: Features, table: Table) -> dict[str, int]:
    """Give what a part takes, with the coefficients of a family."""
    found: dict[str, int] = {}
    for resource in RESOURCES:
        fitted = table.get(features.kind, {}).get(resource, {}) if resource in FITTED else {}
        value = sum(fitted.get(name, 0.0) * value for name, value in features.values.items())
        found[resource] = features.known.get(resource, 0) + max(0, round(value))
    return found


def coefficients(family: Family) -> Table:
    """Read the coefficients of a family; empty where none are fitted."""
    table: Table = _kept()["families"].get(family, {})
    return table


def fitted_to(family: Family) -> str:
    """Give the revision of the gateware that a family's coefficients were fitted to; empty where none are."""
    return str(_kept()["designs"].get(family, {}).get("gateware", ""))


@cache
def _kept() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((files("dyadprop_boards") / COEFFICIENTS).read_text())
    return document


def part_features(plan: Plan, board: Board, clock: float) -> list[Features]:
    """Give the features of all parts: those of a stage's lanes, and of its edge, apart."""
    fpga = board.fpga
    found = []
    for stage in plan.stages:
        part = f"stage_{stage.numbers.index}"
        found += [
            _part(part, "lanes", fpga, _lanes(stage), lane_memories(stage), _lane_products(stage.numbers), stage.lanes),
            _part(part, "edge", fpga, _edge(plan, stage), edge_memories(plan, stage), _edge_products(stage.numbers)),
        ]
    length = len(identity(plan, board, "0" * DIGITS, clock=link_clock(board, clock)))
    link = [*link_memories(plan, length, link_slots(board)), self_test_memory(plan)]
    ports = network_ports(plan.net, control_data_bits(plan)).values() if is_split(board, clock) else ()
    crossing_bits = sum(Shape.cast(port.signature.members["payload"].shape).width for port in ports)
    return [
        *found,
        _part("head", "head", fpga, _head(plan), head_memories(plan)),
        _part("link", "link", fpga, _link(plan, crossing_bits), link),
        _part("board", "board", fpga, {"one": 1}, []),
    ]


# -- features --------------------------------------------------------------------------------------------------------


def _lanes(stage: StagePlan) -> dict[str, float]:
    """Of all lanes together."""
    n, lanes = stage.numbers, stage.lanes
    return {
        "first": 1,
        "lanes": lanes,
        "weight_bits": lanes * n.weight.width,
        "operand_bits": lanes * n.operand_bits,
        "sensitivity_bits": lanes * n.sensitivity.width,
        "gradient_bits": lanes * n.gradient_bits,
        "accumulator_bits": lanes * n.accumulator_bits,
        "partial_bits": lanes * max(n.gradient_bits, n.sensitivity_sum_bits if n.has_sensitivity else 0),
        "sensitivity_sum_bits": lanes * n.sensitivity_sum_bits if n.has_sensitivity else 0,
        "address_bits": lanes * _bits(stage.words),
        "index_bits": lanes * (_bits(stage.banks * stage.groups) + _bits(lanes)),
    }


def _edge(plan: Plan, stage: StagePlan) -> dict[str, float]:
    n = stage.numbers
    table = n.activation in TABLE_ACTIVATIONS
    return {
        "one": 1,
        "accumulator_bits": n.accumulator_bits,
        "table_bits": n.accumulator_bits + n.output.width if table else 0,
        "output_bits": n.output.width,
        "slope_bits": 2 * n.output.width + n.slope.width if n.has_slope_product else 0,
        "leak_bits": n.accumulator_bits + n.sensitivity.width if n.activation == "leaky_relu" else 0,
        "sensitivity_pass": 1 if n.has_sensitivity else 0,
        "sensitivity_sum_bits": n.sensitivity_sum_bits if n.has_sensitivity else 0,
        "data_bits": control_data_bits(plan),
        "gradient_bits": n.gradient_bits,
        "address_bits": _bits(stage.words) + _bits(stage.banks * stage.groups),
        "sample_bits": _bits(stage.samples * n.inputs),
        "size_bits": _bits(n.inputs) + _bits(n.outputs) + _bits(stage.lanes),
        "places": stage.samples,
    }


def _head(plan: Plan) -> dict[str, float]:
    net = plan.net
    last = net.layer_formats(len(net.layers))
    softmax = net.cost == "softmax_cross_entropy"
    return {
        "one": 1,
        "data_bits": control_data_bits(plan),
        "word_bits": last.activation.width + last.sensitivity.width,
        "size_bits": _bits(net.outputs),
        "softmax": 1 if softmax else 0,
        "softmax_bits": net.outputs.bit_length() if softmax else 0,
    }


def _link(plan: Plan, crossing_bits: int) -> dict[str, float]:
    net = plan.net
    words = sum(stage.numbers.outputs * stage.numbers.columns for stage in plan.stages)
    return {
        "one": 1,
        "stages": len(plan.stages),
        "data_bits": control_data_bits(plan),
        "size_bits": _bits(net.inputs) + _bits(net.outputs),
        "words_bits": _bits(words),
        "input_gradient": 1 if net.input_gradient else 0,
        "crossing_bits": crossing_bits,
    }


def _bits(count: int) -> int:
    return max(1, (count - 1).bit_length())


# -- what is known ---------------------------------------------------------------------------------------------------


def _lane_products(n: StageNumbers) -> list[tuple[int, int]]:
    """Operands' widths of a lane's multipliers."""
    products = [(n.weight.width, n.operand_bits), (n.sensitivity.width, n.operand_bits)]
    return [*products, (n.weight.width, n.sensitivity.width)] if n.has_sensitivity else products


def _edge_products(n: StageNumbers) -> list[tuple[int, int]]:
    slope = [(n.output.width, n.output.width), (n.slope.width, n.sensitivity.width)]
    return slope if n.has_slope_product else []


def _part(
    part: str,
    kind: str,
    fpga: Fpga,
    values: dict[str, float],
    memories: Iterable[Memory],
    products: Iterable[tuple[int, int]] = (),
    copies: int = 1,
) -> Features:
    """Add memories and products to a part's features."""
    known: dict[Resource, int] = dict.fromkeys(RESOURCES, 0)
    more = dict.fromkeys(("ram_bits", "ram_mux_bits", "block_ram_bits", "register_bits", "product_bits"), 0.0)
    for memory in memories:
        mapping = map_memory(memory, fpga.family)
        bits = copies * memory.width * memory.reads
        match mapping.kind:
            case "block_rams":
                known["block_rams"] += copies * mapping.cells
                more["block_ram_bits"] += bits
            case "lut_rams":
                known["luts"] += copies * mapping.cells * _LUTS_OF_A_LUT_RAM[fpga.family]
                more["ram_bits"] += bits
                more["ram_mux_bits"] += bits * ((memory.depth - 1) // _LUT_RAM_WORDS)
            case "registers" if memory.written:
                more["register_bits"] += copies * mapping.cells
    for a, b in products:
        blocks = count_blocks(a, b, fpga)
        known["multipliers"] += copies * blocks
        if not blocks:
            more["product_bits"] += copies * a * b
    return Features(part, kind, values | more, known)


def count_blocks(a: int, b: int, fpga: Fpga) -> int:
    """Count the multiplier blocks of a signed product; wide operands are cut into pieces, as yosys does it."""
    if not fpga.multipliers:
        return 0
    pieces_a, pieces_b = (_pieces(width, fpga.multiplier_bits) for width in (a, b))
    return sum(min(x, y) >= _LEAST_OPERAND and x + y >= _LEAST_PRODUCT[fpga.family] for x in pieces_a for y in pieces_b)


def _pieces(width: int, most: int) -> list[int]:
    """Cut an operand into pieces of one bit less than the widest, and a rest."""
    pieces = []
    while width > most:
        pieces.append(most)
        width -= most - 1
    return [*pieces, width]
