"""Pictures of relaxations; imports matplotlib (``pip install 'dyadprop[plot]'``)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch
from matplotlib.ticker import FormatStrFormatter, MaxNLocator

from dyadprop.errors import RangeError
from dyadprop.plots import DEVICE_COLOUR
from dyadprop.relaxation.state import State
from dyadprop.relaxation.trajectory import Trajectory

# Okabe and Ito's colours, which differ for every kind of colour vision; line styles differ as well.
COLOURS = (DEVICE_COLOUR, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "0.25", "0.6")
_BOUND = "#D55E00"
_FLOOR = 1e-17  # where a distance of zero, the same bits, is drawn
_STYLES = ("-", "--", "-.", ":")

Floats = npt.NDArray[np.float64]


def trajectory_picture(seen: Trajectory, path: str | Path | None = None) -> Figure:
    """Draw how far each variable was from rest after each tick, and the error of the gradient.

    Parameters
    ----------
    seen : Trajectory
    path : path, optional
        Where to save it.

    Raises
    ------
    RangeError
        If the file cannot be written.
    """
    figure = Figure(figsize=(10.0, 4.6), dpi=130, layout="constrained")
    figure.suptitle(seen.what, fontsize=11)
    table, errors = figure.subplots(1, 2, width_ratios=(1.25, 1.0))
    activations, sensitivities = seen.distances
    distances = np.concatenate([activations, sensitivities[:, ::-1]], axis=1)
    names = [f"$x_{{{k}}}$" for k in seen.keys] + [rf"$\lambda_{{{k}}}$" for k in reversed(seen.keys)]
    shown = np.ma.masked_less_equal(distances, 0.0)
    image = table.imshow(
        shown, aspect="auto", origin="lower", interpolation="nearest", cmap="Greys", norm=LogNorm(*_limits(distances))
    )
    exact = np.ma.masked_where(distances > 0.0, np.ones_like(distances))
    table.imshow(exact, aspect="auto", origin="lower", interpolation="nearest", cmap=_one_colour(), vmin=0, vmax=1)
    if seen.bounds is not None:
        first, second = seen.bounds
        limits = [first[k] for k in seen.keys] + [second[k] for k in reversed(seen.keys)]
        for column, bound in enumerate(limits):
            if bound <= seen.ticks:
                table.plot([column - 0.5, column + 0.5], [bound - 0.5] * 2, color=_BOUND, linewidth=2.5)
    table.set_xticks(range(len(names)), names, fontsize=9 if len(names) <= 16 else 6)
    table.yaxis.set_major_locator(MaxNLocator(integer=True))
    table.set_ylabel("tick")
    table.tick_params(length=0)
    table.set_title("largest distance of a variable from rest", fontsize=10)
    bar = figure.colorbar(image, ax=table, shrink=0.8)
    bar.ax.yaxis.set_major_formatter(FormatStrFormatter("%.0e"))
    bar.ax.minorticks_off()
    table.legend(
        handles=[Patch(color=DEVICE_COLOUR, label="same bits"), Line2D([], [], color=_BOUND, label="bound")],
        loc="upper left",
        fontsize=8,
    )
    largest = np.concatenate(seen.residuals, axis=1).max(axis=1)
    _log_lines(errors, {"error of the gradient, relative": seen.error, "largest residual": largest})
    errors.set_xlabel("tick")
    errors.set_title("how wrong the gradient is, and the flow", fontsize=10)
    errors.legend(frameon=False, fontsize=9)
    return _saved(figure, path)


def error_picture(
    path: str | Path, panels: Mapping[str, Mapping[str, Sequence[float]]], *, title: str, ticks: int
) -> None:
    """Draw errors against ticks, a panel and a line each; what is exact is at the bottom line.

    Parameters
    ----------
    path : path
    panels : mapping of str to mapping of str to sequence of float
        Error after tick ``0, 1, ...`` by name of line and panel.
    title : str
    ticks : int
        How many to show.

    Raises
    ------
    RangeError
        If the file cannot be written.
    """
    figure = Figure(figsize=(max(4.0 * len(panels), 8.0), 4.8), dpi=130, layout="constrained")
    figure.suptitle(title, fontsize=11)
    columns = 2 if len(panels) == 2 else 3
    for axes, (heading, lines) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True
    ):
        _log_lines(axes, {name: np.asarray(errors)[: ticks + 1] for name, errors in lines.items()})
        axes.set_title(heading, fontsize=10)
        axes.set_xlabel("tick")
        axes.legend(frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=columns)
        axes.set_xlim(0, ticks)
    figure.axes[0].set_ylabel("error of the gradient, relative")
    _saved(figure, path)


def rounds_picture(path: str | Path, depths: Sequence[int], rounds: Mapping[str, Sequence[Sequence[int]]]) -> None:
    """Draw rounds to rest against depth, for each order of updates; bars reach from the least to the most.

    Raises
    ------
    RangeError
        If the file cannot be written.
    """
    figure = Figure(figsize=(7.0, 4.4), dpi=130, layout="constrained")
    figure.suptitle("Rounds until every bit is right, from random states, in any order of updates", fontsize=11)
    axes = figure.subplots()
    axes.plot(depths, [2 * d for d in depths], color=_BOUND, linewidth=2.5, label="bound, 2L rounds")
    labels = {
        "neurons": "each neuron by itself, random order",
        "random": "each variable by itself, random order",
        "stages": "stage after stage",
    }
    for k, (name, label) in enumerate(labels.items()):
        runs = rounds[name]
        means = [float(np.mean(r)) for r in runs]
        reach = [
            [m - min(r) for m, r in zip(means, runs, strict=True)],
            [max(r) - m for m, r in zip(means, runs, strict=True)],
        ]
        axes.errorbar(
            np.array(depths) + 0.12 * (k - 1),  # side by side, so that no bar hides another
            means,
            reach,
            label=label,
            color=COLOURS[(0, 2, 3)[k]],
            marker="osv"[k],
            linestyle=_STYLES[k],
            capsize=4,
            linewidth=1.5,
        )
    axes.plot(
        depths, [1] * len(depths), color="0.5", linestyle=":", label="best order: textbook backpropagation, 1 round"
    )
    axes.set_xticks(depths)
    axes.set_xlabel("layers L")
    axes.set_ylabel("rounds (each variable at least once)")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    _tidy(axes)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    _saved(figure, path)


def energy_picture(path: str | Path, energy: Sequence[float], cost: float, residuals: Sequence[float]) -> None:
    """Draw the energy along the ticks, and the largest residual.

    Raises
    ------
    RangeError
        If the file cannot be written.
    """
    figure = Figure(figsize=(9.0, 3.8), dpi=130, layout="constrained")
    figure.suptitle("The energy goes up and down and ends at the cost; what vanishes is the residual", fontsize=11)
    left, right = figure.subplots(1, 2)
    left.axhline(cost, color=_BOUND, linewidth=2.0, label="cost C of the textbook pass")
    left.plot(energy, color=DEVICE_COLOUR, marker="o", label="energy E")
    left.set_ylabel("E, summed over the batch")
    right.plot(residuals, color=DEVICE_COLOUR, marker="o", label="largest |right-hand side - variable|")
    right.set_ylabel("residual")
    for axes in (left, right):
        axes.set_xlabel("tick")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _tidy(axes)
        axes.legend(frameon=False, fontsize=9)
    _saved(figure, path)


def relaxation_animation(path: str | Path, seen: Trajectory, *, title: str) -> None:
    """Animate a relaxation: what is wrong flickers in grey, what has its bits at rest is coloured and stands still.

    Parameters
    ----------
    path : path
        GIF.
    seen : Trajectory
        Of a chain; the first sample is shown.
    title : str

    Raises
    ------
    RangeError
        If the file cannot be written.
    """
    frames = [seen.dynamics.reals(state) for state in seen.states]
    rest = seen.dynamics.reals(seen.rest)
    figure = Figure(figsize=(9.0, 4.3), dpi=80)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    depth = len(seen.keys)
    width = max(v.shape[1] for v in rest.activations.values())
    axes.set_xlim(-0.2, depth + 1.2)
    axes.set_ylim(-1.1, -1.1 + 9.4 * 4.3 / 9.0)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.text(0.5, 3.25, title, fontsize=11, va="top")
    rows = (("activations", "x", 1.7, DEVICE_COLOUR, 1), ("sensitivities", r"\lambda", 0.0, _BOUND, -1))
    collections = []
    for group, symbol, low, colour, way in rows:
        ends = (0.55, depth + 0.5)
        axes.annotate(
            "",
            (ends[way > 0], low - 0.16),
            (ends[way < 0], low - 0.16),
            arrowprops={"arrowstyle": "->", "color": "0.7"},
        )
        axes.text(0.1, low + 0.5, group, rotation=90, ha="center", va="center", fontsize=10, color=colour)
        for column, key in enumerate(seen.keys, start=1):
            axes.text(column, low - 0.3, f"${symbol}_{{{key}}}$", ha="center", va="center", fontsize=10)
            n = getattr(rest, group)[key].shape[1]
            circles = [Circle((column, low + (i + 0.5) / width), 0.075) for i in range(n)]
            collection = PatchCollection(circles, linewidth=0.0)
            axes.add_collection(collection)
            collections.append((group, key, colour, collection))
    legend = (
        (DEVICE_COLOUR, "activation right to the last bit"),
        (_BOUND, "sensitivity right"),
        ("0.7", "still wrong"),
    )
    for k, (colour, text) in enumerate(legend):
        axes.add_patch(Circle((0.62 + 3.2 * k, -0.8), 0.075, color=colour))
        axes.text(0.8 + 3.2 * k, -0.8, text, va="center", fontsize=9.5, color="0.25")
    counter = axes.text(depth + 1.1, 3.25, "", fontsize=11, ha="right", va="top", family="monospace")
    scales = {
        (group, key): max(float(np.max(np.abs(array[0]))), 1e-9)
        for group in ("activations", "sensitivities")
        for key, array in getattr(rest, group).items()
    }
    writer = PillowWriter(fps=3)
    # The first and the last state stand for a while.
    order = [0, 0, *range(len(frames)), *([len(frames) - 1] * 4)]
    try:
        with writer.saving(figure, str(path), 80):
            for tick in order:
                _paint(collections, frames[tick], rest, scales)
                counter.set_text(f"tick {tick:2d}")
                writer.grab_frame()
    except OSError as error:
        raise RangeError(f"animation {path} cannot be written: {error.strerror}") from error


def _paint(collections: Sequence[Any], state: State, rest: State, scales: Mapping[Any, float]) -> None:
    for group, key, colour, collection in collections:
        here, there = getattr(state, group)[key][0], getattr(rest, group)[key][0]
        strength = np.clip(np.abs(here) / scales[group, key], 0.0, 1.0)
        collection.set_facecolor(
            [
                _shade(colour, s) if same else _shade("#555555", s)
                for s, same in zip(strength, here == there, strict=True)
            ]
        )


def _shade(colour: str, strength: float) -> tuple[float, float, float]:
    """Mix a colour with white: 0 gives a third of it, 1 all."""
    share = 0.33 + 0.67 * round(float(strength) * 7) / 7  # few shades: a smaller GIF
    red, green, blue = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    return 1 - share * (1 - red), 1 - share * (1 - green), 1 - share * (1 - blue)


def _log_lines(axes: Axes, lines: Mapping[str, Floats]) -> None:
    for k, (name, values) in enumerate(lines.items()):
        style: dict[str, Any] = {
            "color": COLOURS[k % len(COLOURS)],
            "linestyle": _STYLES[k % len(_STYLES)],
            "linewidth": 1.7,
        }
        axes.plot(np.maximum(values, _FLOOR), label=name, **style)
        zero = np.flatnonzero(values == 0.0)
        if len(zero):
            axes.plot(zero[0], _FLOOR, marker="o", color=style["color"], markersize=6, clip_on=False)
    axes.set_yscale("log")
    axes.set_ylim(_FLOOR, 30)
    axes.set_yticks([_FLOOR, 1e-14, 1e-10, 1e-6, 1e-2, 1.0])
    axes.set_yticklabels(["same bits", "1e-14", "1e-10", "1e-6", "1e-2", "1"])
    axes.minorticks_off()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _tidy(axes)


def _limits(distances: Floats) -> tuple[float, float]:
    wrong = distances[distances > 0]
    high = float(wrong.max()) if wrong.size else 1.0
    low = float(wrong.min()) if wrong.size else high
    return float(np.clip(low, 1e-8 * high, 1e-2 * high)), high


def _one_colour() -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap([DEVICE_COLOUR])


def _tidy(axes: Axes) -> None:
    axes.grid(visible=True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _saved(figure: Figure, path: str | Path | None) -> Figure:
    if path is not None:
        try:
            figure.savefig(path)
        except OSError as error:
            raise RangeError(f"picture {path} cannot be written: {error.strerror}") from error
    return figure
