"""The pictures of a build's report; imports matplotlib (``pip install 'dyadprop[plot]'``)."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from dyadprop.errors import RangeError
from dyadprop_boards.floorplan import Tile, parts_in_order
from dyadprop_boards.fpgas import RESOURCE_NAMES, RESOURCES
from dyadprop_boards.result import BuildResult

# Okabe and Ito's, for stages in turn: they differ for every kind of colour vision.
_STAGES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_OTHERS = {"head": "#F0E442", "link": "#8C8C8C", "board": "#333333"}
_EMPTY = "#f4f4f4"
_LONGEST = 8.6  # inches of a floorplan's longer side


def part_colour(part: str) -> str:
    """Give a part's colour, in all pictures the same."""
    if part in _OTHERS:
        return _OTHERS[part]
    return _STAGES[(int(part.removeprefix("stage_")) - 1) % len(_STAGES)]


def utilisation_picture(path: Path, result: BuildResult) -> None:
    """Draw how much of each resource each part takes, with the prediction as a mark.

    Raises
    ------
    RangeError
        If the file cannot be written.
    """
    figure = Figure(figsize=(9.0, 3.6), dpi=120, layout="constrained")
    figure.suptitle(f"What {'-'.join(map(str, result.widths))} takes of {result.device}", fontsize=11)
    axes = figure.subplots()
    parts = parts_in_order(set(result.parts))
    furthest = 1.0
    for place, resource in enumerate(reversed(RESOURCES)):
        available = result.estimate[resource].available
        if not available:
            axes.text(0.005, place, f"there are no {RESOURCE_NAMES[resource]}", va="center", fontsize=9, color="0.4")
            continue
        left = 0.0
        axes.barh(place, 1.0, height=0.62, color=_EMPTY, edgecolor="0.8", linewidth=0.8)
        for part in parts:
            share = result.parts[part][resource] / available
            axes.barh(place, share, left=left, height=0.62, color=part_colour(part), edgecolor="white", linewidth=0.5)
            left += share
        predicted = result.predicted_total(resource)
        axes.plot([predicted / available] * 2, [place - 0.42, place + 0.42], color="black", linewidth=2.0)
        used = result.estimate[resource].used
        furthest = max(furthest, left, predicted / available)
        axes.text(
            max(1.0, left, predicted / available) + 0.012,
            place,
            f"{used:,} of {available:,}\npredicted {predicted:,}",
            va="center",
            fontsize=8.5,
        )
    axes.set_yticks(range(len(RESOURCES)), [RESOURCE_NAMES[resource] for resource in reversed(RESOURCES)])
    axes.set_xlim(0.0, furthest * 1.24)
    ticks = np.arange(0.0, furthest + 0.01, 0.25)
    axes.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks])
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    _legend(figure, parts, [Line2D([], [], color="black", linewidth=2.0, label="predicted")])
    _save(figure, path)


def floorplan_picture(path: Path, tiles: Sequence[Tile], title: str, grid: tuple[int, int] = (0, 0)) -> None:
    """Draw where the parts are: logic as small squares, the fuller the darker; multipliers and block RAMs framed.

    Parameters
    ----------
    path : path
    tiles : sequence of Tile
        Not empty.
    title : str
    grid : tuple of int
        Columns and rows of the FPGA; no less is shown than what is used.

    Raises
    ------
    RangeError
        If the file cannot be written.
    """
    width = max(grid[0], *(tile.x + 1 for tile in tiles))
    height = max(grid[1], *(tile.y + 1 for tile in tiles))
    inches = _LONGEST / max(width, height)
    figure = Figure(figsize=(max(6.0, width * inches + 1.0), height * inches + 1.2), dpi=120, layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots()
    logic = [tile for tile in tiles if tile.block == "logic"]
    axes.imshow(_logic_image(logic, width, height), interpolation="nearest", origin="upper")
    for tile in tiles:
        if tile.block != "logic":
            _draw_block(axes, tile)
    axes.set_xlim(-1.5, width + 0.5)
    axes.set_ylim(height + 0.5, -1.5)
    axes.set_xlabel("column")
    axes.set_ylabel("row")
    for side in axes.spines.values():
        side.set_visible(False)
    hard = [
        Patch(facecolor="white", edgecolor="black", label="multiplier"),
        Line2D([], [], color="none", marker="o", markeredgecolor="black", markerfacecolor="white", label="block RAM"),
    ]
    _legend(figure, parts_in_order({tile.part for tile in tiles}), hard)
    _save(figure, path)


def _logic_image(tiles: Iterable[Tile], width: int, height: int) -> np.ndarray:
    """Colour each place by the part that has most of it, the paler the less is used."""
    counts: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for tile in tiles:
        counts[tile.x, tile.y][tile.part] += tile.cells
    image = np.tile(np.array(to_rgb(_EMPTY)), (height, width, 1))
    fullest = max((sum(count.values()) for count in counts.values()), default=1)
    for (x, y), count in counts.items():
        weight = 0.25 + 0.75 * sum(count.values()) / fullest
        image[y, x] = weight * np.array(to_rgb(part_colour(count.most_common(1)[0][0]))) + (1 - weight) * image[y, x]
    return image


def _draw_block(axes: Axes, tile: Tile) -> None:
    colour = part_colour(tile.part)
    if tile.block == "multipliers":
        box = Rectangle((tile.x - 0.7, tile.y - 0.7), 1.4, 1.4, facecolor=colour, edgecolor="black", linewidth=0.7)
        axes.add_patch(box)
    else:
        axes.plot(
            tile.x,
            tile.y,
            marker="o",
            markersize=4.0,
            markerfacecolor=colour,
            markeredgecolor="black",
            markeredgewidth=0.7,
        )


def _legend(figure: Figure, parts: Iterable[str], more: Iterable[Artist]) -> None:
    handles = [Patch(color=part_colour(part), label=part.replace("_", " ")) for part in parts]
    figure.legend(handles=[*handles, *more], loc="outside lower center", ncols=8, frameon=False, fontsize=9)


def _save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path)
    except OSError as error:
        raise RangeError(f"picture {path} cannot be written: {error.strerror}") from error
