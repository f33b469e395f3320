"""Where the lanes of an ECP5 design lie: their multipliers and block RAMs get places, neighbours beside neighbours.

A wave walks from lane to lane, so a lane talks only to the two beside it. nextpnr's placer does not know that: left
alone it puts a lane's multiplier up to a hundred columns from the registers in front of it. With these places fixed the
rest of each lane gathers around them.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from dyadprop.optional import optional_packages
from dyadprop_boards.floorplan import parts_in_order
from dyadprop_boards.fpgas import Fpga
from dyadprop_boards.netlist import part_of

MULTIPLIER, MEMORY = "MULT18X18D", "DP16KD"


class Site(NamedTuple):
    """A place for a multiplier or a block RAM."""

    x: int
    y: int
    name: str

    @property
    def bel(self) -> str:
        """What nextpnr calls it."""
        return f"X{self.x}/Y{self.y}/{self.name}"


class Lane(NamedTuple):
    """A lane's blocks: names of cells; its stage as parts are called (`dyadprop_boards.netlist.part_of`)."""

    stage: str
    position: int
    multipliers: tuple[str, ...]
    memories: tuple[str, ...]


class _Wanted(NamedTuple):
    """Block RAMs, and the column and row that they are to be near."""

    point: tuple[float, float]
    names: tuple[str, ...]


# By the LUTs of the FPGA: the rows of multipliers, those of block RAMs, and how many groups of columns lie left and
# right of the middle. As place and route gives them; tests/boards/test_ecp5_layout.py asks it.
_ROWS = {
    24_288: ((13,), (25, 37), (3, 4)),
    43_848: ((22, 46), (10, 34, 58), (4, 5)),
    83_640: ((10, 34, 58), (22, 46, 70, 82), (7, 6)),
}
_FIRST, _GROUP, _MIDDLE = 4, 9, 2  # first group's column, columns a group, and how many more there are in the middle
_OF_A_GROUP = {
    MULTIPLIER: ((0, "MULT18_0"), (1, "MULT18_1"), (4, "MULT18_4"), (5, "MULT18_5")),
    MEMORY: ((0, "EBR0"), (2, "EBR1"), (4, "EBR2"), (6, "EBR3")),
}
_GAP = ""
_NEAR = 36  # columns and rows, about 3 ns of wire


def sites(fpga: Fpga, kind: str) -> list[list[Site]]:
    """Give the places for multipliers or block RAMs, row by row, each from left to right.

    Parameters
    ----------
    fpga : Fpga
        An ECP5.
    kind : {"MULT18X18D", "DP16KD"}
    """
    multiplier_rows, memory_rows, (left, right) = _ROWS[fpga.luts]
    groups = [_FIRST + _GROUP * group + (_MIDDLE if group >= left else 0) for group in range(left + right)]
    rows = multiplier_rows if kind == MULTIPLIER else memory_rows
    return [[Site(group + x, y, name) for group in groups for x, name in _OF_A_GROUP[kind]] for y in rows]


def place_lanes(module: dict[str, Any], fpga: Fpga) -> int:
    """Give the multipliers and block RAMs of lanes their places; tell how many got one.

    Parameters
    ----------
    module : dict
        A flat netlist of yosys; its cells get the attribute ``BEL``.
    fpga : Fpga
        An ECP5.

    Notes
    -----
    Each stage lies in a slab of columns, in the order of stages. Its lanes go away from the stage's edge along the
    first row of multipliers and come back along the others, so that both ends of the chain lie where the edge does, or
    one lane away: at the next stage, for the last one at the stage before. Along a row multipliers are spread evenly,
    with gaps where the first row has more lanes of a stage: slabs have straight sides, and a step from row to row does
    not move along them. Block RAMs of the edge itself are left to the placer, which finds some near by; where it would
    not, they are given places as those of the lanes are. Where a row would have too many multipliers, or an FPGA is
    none of those that are known here, nothing is placed, and the placer does it all.
    """
    if fpga.luts not in _ROWS:
        return 0
    lanes = list(_lanes(module))
    rows = sites(fpga, MULTIPLIER)
    order = _arrange(lanes, len(rows))
    places: dict[str, Site] = {}
    for row, arranged in zip(rows, order, strict=True):
        names = [name for lane in arranged for name in lane.multipliers]
        if len(names) > len(row):
            return 0
        for position, name in enumerate(names):
            if name != _GAP:
                places[name] = row[(2 * position + 1) * len(row) // (2 * len(names))]
    wanted = [
        _Wanted(_middle(lane.multipliers, places), lane.memories)
        for arranged in order
        for lane in arranged
        if _GAP not in lane.multipliers
    ]
    edges = list(_edges(module, lanes, places))
    memories = [site for row in sites(fpga, MEMORY) for site in row]
    if sum(len(entry.names) for entry in (*wanted, *edges)) > len(memories):
        return 0
    taken, free = _nearest(wanted, memories)
    if any(sum(_distance(site, edge.point) <= _NEAR for site in free) < len(edge.names) for edge in edges):
        taken, free = _nearest([*edges, *wanted], memories)
    places |= taken
    for name, site in places.items():
        module["cells"][name]["attributes"]["BEL"] = site.bel
    return len(places)


def _edges(module: dict[str, Any], lanes: Sequence[Lane], places: dict[str, Site]) -> Iterator[_Wanted]:
    """Give the block RAMs of each stage's edge: they belong between the two ends of its chain."""
    for stage in _stages(lanes):
        chain = [lane for lane in lanes if lane.stage == stage]
        names = [
            name
            for name, cell in module["cells"].items()
            if cell["type"] == MEMORY and (part := part_of(name)).name == stage and part.lane is None
        ]
        ends = [*chain[0].multipliers, *chain[-1].multipliers]
        yield _Wanted(_middle(ends, places), tuple(sorted(names)))


def _middle(names: Sequence[str], places: dict[str, Site]) -> tuple[float, float]:
    return fmean(places[name].x for name in names), fmean(places[name].y for name in names)


def _distance(site: Site, point: tuple[float, float]) -> float:
    return abs(site.x - point[0]) + abs(site.y - point[1])


def _nearest(wanted: Sequence[_Wanted], memories: Sequence[Site]) -> tuple[dict[str, Site], set[Site]]:
    """Give block RAMs their places, so that the squares of all distances are the least; and the places that are left.

    A stage whose lanes want more than lie beside them spreads out evenly: none of its lanes goes far.
    """
    with optional_packages("laying out the lanes of an ECP5", "boards"):
        from scipy.optimize import linear_sum_assignment
    names = [(name, entry.point) for entry in wanted for name in entry.names]
    costs = [[_distance(site, point) ** 2 for site in memories] for _, point in names]
    chosen = linear_sum_assignment(np.reshape(costs, (len(names), len(memories))))
    taken = {names[row][0]: memories[column] for row, column in zip(*chosen, strict=True)}
    return taken, set(memories) - set(taken.values())


def _lanes(module: dict[str, Any]) -> Iterator[Lane]:
    """Find lanes that have multipliers, stage by stage in the order in which waves walk."""
    blocks: defaultdict[tuple[str, int], defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, cell in module["cells"].items():
        if cell["type"] in _OF_A_GROUP and (part := part_of(name)).lane is not None:
            blocks[part.name, part.lane][cell["type"]].append(name)
    order = parts_in_order({stage for stage, _ in blocks})
    for (stage, lane), found in sorted(blocks.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
        if found[MULTIPLIER]:
            yield Lane(stage, lane, tuple(sorted(found[MULTIPLIER])), tuple(sorted(found[MEMORY])))


def _stages(lanes: Sequence[Lane]) -> list[str]:
    return list(dict.fromkeys(lane.stage for lane in lanes))


def _arrange(lanes: Sequence[Lane], rows: int) -> list[list[Lane]]:
    """Say which lanes lie along each row, from left to right."""
    arranged: list[list[Lane]] = [[] for _ in range(rows)]
    stages = _stages(lanes)
    for stage in stages:
        loop = _loop([lane for lane in lanes if lane.stage == stage], rows)
        for row, found in zip(arranged, loop, strict=True):
            gaps = [Lane(stage, -1, (_GAP,) * len(loop[0][0].multipliers), ())] * (len(loop[0]) - len(found))
            # The edge is on the right, next to the stage behind it.
            row += [*gaps, *found] if stage == stages[-1] and len(stages) > 1 else [*found[::-1], *gaps]
    return arranged


def _loop(lanes: Sequence[Lane], rows: int) -> list[list[Lane]]:
    """Lay a chain out along rows, away from the edge and back; each row begins at the edge."""
    if rows == 1:
        half = -(-len(lanes) // 2)
        # Those that come back lie between those that go.
        both = zip_longest(lanes[:half], reversed(lanes[half:]))
        return [[lane for pair in both for lane in pair if lane is not None]]
    out = -(-len(lanes) // rows)
    back: list[list[Lane]] = [[] for _ in range(rows - 1)]
    for position, lane in enumerate(lanes[out:]):
        # Where the chain turns it goes to the row that is nearest to the first one.
        column, place = divmod(position, rows - 1)
        back[rows - 2 - place if column % 2 else place].append(lane)
    return [list(lanes[:out]), *(found[::-1] for found in back)]
