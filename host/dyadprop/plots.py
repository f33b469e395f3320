"""Pictures; the only module that imports matplotlib (``pip install 'dyadprop[plot]'``)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

from dyadprop.errors import RangeError
from dyadprop.training import EpochFigures

# Okabe and Ito's blue and a paler orange of theirs: they differ for every kind of colour vision, and in grey too.
DEVICE_COLOUR = "#0072B2"
FLOAT_COLOUR = "#F3C56C"
# Where all is well the two curves are one: a thin line on a broad one shows both.
_FLOAT_STYLE = {"color": FLOAT_COLOUR, "linewidth": 7.0, "marker": "o", "markersize": 7.0}
_DEVICE_STYLE = {"color": DEVICE_COLOUR, "linewidth": 1.6, "marker": "o", "markersize": 4.0}


def learning_curves(
    path: str | Path, device: Sequence[EpochFigures], reference: Sequence[EpochFigures], *, name: str, title: str
) -> None:
    """Draw cost and accuracy of each epoch, on the device and in float64.

    Parameters
    ----------
    path : path
        PNG, or whatever else the ending says.
    device, reference : sequence of EpochFigures
        Of the device and of the float64 reference, at least one epoch.
    name : str
        Of the device.
    title : str

    Raises
    ------
    RangeError
        If the file cannot be written.
    """
    figure = Figure(figsize=(10.0, 4.4), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=12)
    costs, accuracies = figure.subplots(1, 2)

    for style, label, history in ((_FLOAT_STYLE, "float64", reference), (_DEVICE_STYLE, name, device)):
        costs.plot([e.epoch for e in history], [e.cost for e in history], label=label, **style)
        accuracies.plot([e.epoch for e in history], [e.test_accuracy for e in history], label=f"{label}, test", **style)
    accuracies.plot(
        [e.epoch for e in device],
        [e.train_accuracy for e in device],
        label=f"{name}, training (before each step)",
        color="0.35",
        linewidth=1.2,
        linestyle="--",
    )
    every = [e.cost for e in (*device, *reference)]
    costs.set_yscale("log")
    costs.set_ylim(min(every) / 1.1, max(every) * 1.1)
    # Costs fall by less than a decade or two: powers of ten alone would label one line.
    costs.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    costs.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    costs.yaxis.set_minor_locator(NullLocator())
    costs.set_ylabel("mean cost a sample")
    accuracies.set_ylabel("accuracy")
    accuracies.set_ylim(top=1.005)
    for axes in (costs, accuracies):
        _finish(axes, len(device))
    last, last_reference = device[-1], reference[-1]
    accuracies.set_title(
        f"test: {name} {last.test_accuracy:.4f}, float64 {last_reference.test_accuracy:.4f}", fontsize=10
    )
    costs.set_title(f"cost: {name} {last.cost:.5f}, float64 {last_reference.cost:.5f}", fontsize=10)
    _save(figure, path)


def settling_picture(
    path: str | Path, activations: npt.NDArray[np.float64], sensitivities: npt.NDArray[np.float64], *, title: str
) -> None:
    """Draw which words of each layer are right after each tick, with the theorem's bound as a staircase.

    Parameters
    ----------
    path : path
    activations, sensitivities : float64 array (ticks + 1, L)
        Share of right words of ``x_l`` and ``lambda_l``, tick 0 first.
    title : str

    Raises
    ------
    RangeError
        If the file cannot be written.
    """
    ticks, depth = activations.shape
    figure = Figure(figsize=(9.0, 5.6), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=11)
    colours = LinearSegmentedColormap.from_list("settling", ["#f4f4f4", "#bcd6e8"])
    panels = (
        ("activations: right from tick l on", "$x_{%d}$", activations, list(range(1, depth + 1))),
        (
            "sensitivities: right from tick 2L - l + 1 on",
            r"$\lambda_{%d}$",
            sensitivities,
            [2 * depth - l + 1 for l in range(1, depth + 1)],
        ),
    )
    for axes, (heading, name, shares, bounds) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        axes.imshow(shares, cmap=colours, vmin=0, vmax=1, aspect="auto", origin="lower", interpolation="nearest")
        exact = np.ma.masked_where(shares < 1.0, np.ones_like(shares))
        axes.imshow(exact, cmap=ListedColormap([DEVICE_COLOUR]), aspect="auto", origin="lower", interpolation="nearest")
        for layer, bound in enumerate(bounds):
            axes.plot(
                [layer - 0.5, layer + 0.5],
                [bound - 0.5, bound - 0.5],
                color="#D55E00",
                linewidth=2.5,
                solid_capstyle="butt",
                zorder=3,  # above the white grid
            )
        for k in range(ticks + 1):
            axes.axhline(k - 0.5, color="white", linewidth=0.8)
        for k in range(depth + 1):
            axes.axvline(k - 0.5, color="white", linewidth=0.8)
        axes.set_title(heading, fontsize=10)
        axes.set_xticks(range(depth), [name % l for l in range(1, depth + 1)])
        axes.set_yticks(range(0, ticks, 2 if ticks > 12 else 1))
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
    figure.axes[0].set_ylabel("tick (firings of each stage)")
    figure.legend(
        handles=[
            Patch(color=DEVICE_COLOUR, label="every word right"),
            Patch(color="#bcd6e8", label="some words right"),
            Patch(facecolor="#f4f4f4", edgecolor="0.8", label="no word right"),
            Line2D([], [], color="#D55E00", linewidth=2.5, label="the theorem's bound"),
        ],
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    _save(figure, path)


def _save(figure: Figure, path: str | Path) -> None:
    try:
        figure.savefig(path)
    except OSError as error:
        raise RangeError(f"picture {path} cannot be written: {error.strerror}") from error


def _finish(axes: Axes, epochs: int) -> None:
    axes.set_xlabel("epoch")
    axes.set_xlim(0.5, epochs + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(visible=True, which="both", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False)
