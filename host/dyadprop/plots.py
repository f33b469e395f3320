"""Pictures of learning and of numbers; imports matplotlib (``pip install 'dyadprop[plot]'``)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


# Okabe and Ito again; lossless stands out.
_ROUNDING_STYLES: dict[str, dict[str, Any]] = {
    "float64": {"color": FLOAT_COLOUR, "linewidth": 7.0},
    "stochastic": {"color": "#009E73", "linewidth": 1.2, "marker": "s", "linestyle": "--"},
    "nearest": {"color": "#D55E00", "linewidth": 1.2, "marker": "v", "linestyle": ":"},
    "lossless": {"color": DEVICE_COLOUR, "linewidth": 2.0, "marker": "o"},
}


def rounding_picture(path: str | Path, cases: Sequence[dict[str, Any]]) -> None:
    """Draw test accuracy against the bits of a word for each rounding of a step, a panel a case.

    Parameters
    ----------
    path : path
    cases : sequence of dict
        ``name``, and ``rows`` of ``bits`` and ``accuracies``: runs by rounding. Whiskers reach from the worst run to
        the best.

    Raises
    ------
    RangeError
        If the file cannot be written.
    """
    figure = Figure(figsize=(3.2 * len(cases), 4.0), dpi=150, layout="constrained")
    figure.suptitle(
        "Test accuracy after learning with words of few bits, by what becomes of a step's rest", fontsize=11
    )
    for axes, case in zip(figure.subplots(1, len(cases), sharey=True, squeeze=False)[0], cases, strict=True):
        bits = [row["bits"] for row in case["rows"]]
        for name, style in _ROUNDING_STYLES.items():
            runs = np.array([row["accuracies"][name] for row in case["rows"]])
            mean = runs.mean(axis=1)
            axes.plot(bits, mean, label=name, **style)
            if name != "float64":
                axes.vlines(bits, runs.min(axis=1), runs.max(axis=1), color=style["color"], linewidth=1.0)
        axes.set_title(case["name"], fontsize=9)
        axes.set_xticks(bits)
        axes.invert_xaxis()
        axes.set_xlabel("bits of a word")
        axes.set_ylim(0.0, 1.0)
        axes.grid(visible=True, color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.axes[0].set_ylabel("accuracy on test data")
    figure.axes[0].legend(frameon=False, loc="lower left", fontsize=9)
    _save(figure, path)


def ranges_picture(path: str | Path, rows: Sequence[dict[str, Any]], *, title: str) -> None:
    """Draw how often each signal has which size, over what its formats can tell apart.

    Parameters
    ----------
    path : path
    rows : sequence of dict
        ``signal``, ``layer``, ``sizes`` (float64 array), ``largest``, and the `dyadprop.profile.Loss` ``has`` and
        ``chosen`` of each signal.
    title : str

    Raises
    ------
    RangeError
        If the file cannot be written.
    """
    figure = Figure(figsize=(10.0, 0.62 * len(rows) + 1.6), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots()
    formats = [row[key] for row in rows for key in ("has", "chosen")]
    low = min(np.log2(form.lsb) for form in formats) - 2
    high = max(max(np.log2(max(row["largest"], 2.0**-60)), np.log2(row["has"].reaches)) for row in rows) + 1
    high = max(high, max(np.log2(form.reaches) for form in formats) + 1)
    edges = np.arange(np.floor(low), np.ceil(high) + 1)
    for place, row in enumerate(reversed(rows)):
        first, last = np.log2(row["chosen"].lsb), np.log2(row["chosen"].reaches)
        axes.barh(place + 0.4, last - first, left=first, height=0.8, color="#bcd6e8", zorder=1)
        sizes = row["sizes"][row["sizes"] > 0]
        counts, _ = np.histogram(np.log2(np.clip(sizes, 2.0 ** edges[0], None)), edges)
        axes.bar(
            edges[:-1], 0.8 * counts / max(counts.max(), 1), width=0.9, align="edge", bottom=place,
            color=DEVICE_COLOUR, zorder=2,
        )  # fmt: skip
        has = [np.log2(row["has"].lsb), np.log2(row["has"].reaches)]
        axes.plot(has, [place + 0.84] * 2, color="#D55E00", linewidth=1.6, marker="|", markersize=6, zorder=3)
        axes.text(
            1.01, place + 0.4, row["chosen"].format, fontsize=8, va="center", transform=axes.get_yaxis_transform()
        )
    axes.set_yticks(
        np.arange(len(rows)) + 0.4, [f"{row['signal']} {row['layer']}" for row in reversed(rows)], fontsize=9
    )
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(-0.15, len(rows))
    axes.set_xlabel("log2 of the size")
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.legend(
        handles=[
            Patch(color=DEVICE_COLOUR, label="how many values have the size"),
            Patch(color="#bcd6e8", label="chosen format (named on the right), from one lsb to the largest word"),
            Line2D([], [], color="#D55E00", linewidth=1.6, marker="|", label="the network's own format"),
        ],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    _save(figure, path)


# Okabe and Ito's, without the two that look alike in print; the sixth sample has the first one's.
_SAMPLE_COLOURS = (DEVICE_COLOUR, "#E69F00", "#009E73", "#CC79A7", "#56B4E9")

_Row = tuple[str, Sequence[tuple[int, int]], Sequence[int]]


def wave_picture(path: str | Path, rows: Sequence[_Row], *, marks: Sequence[tuple[int, str]], title: str) -> None:
    """Draw streams and passes over the cycles, a colour a sample.

    Parameters
    ----------
    path : path
    rows : sequence of (str, list of (int, int), list of int)
        Name of a stream or a pass (a name of several words), first row on top; cycle and sample of each transferred
        word or running cycle; cycles in which a word waited.
    marks : sequence of (int, str)
        Cycles to mark.
    title : str

    Raises
    ------
    RangeError
        If the file cannot be written.
    """
    last = max(cycle for _, words, _ in rows for cycle, _ in words)
    figure = Figure(figsize=(11.0, 0.42 * len(rows) + 1.3), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=12)
    axes = figure.subplots()
    for place, (name, words, waits) in enumerate(rows):
        level = len(rows) - 1 - place
        runs = name.startswith("stage")
        axes.axhline(level, color="0.9", linewidth=0.8, zorder=0)
        for sample in sorted({sample for _, sample in words}):
            cycles = [cycle for cycle, of in words if of == sample]
            colour = _SAMPLE_COLOURS[sample % len(_SAMPLE_COLOURS)]
            if runs:
                span = [(cycles[0], cycles[-1] + 1 - cycles[0])]
                axes.broken_barh(span, (level - 0.36, 0.72), facecolors=colour, edgecolors="white", linewidth=0.8)
                axes.text(
                    (cycles[0] + cycles[-1] + 1) / 2, level, str(sample + 1), ha="center", va="center_baseline",
                    color="white", fontsize=9,
                )  # fmt: skip
            else:
                spans = [(cycle, 1) for cycle in cycles]
                axes.broken_barh(spans, (level - 0.24, 0.48), facecolors=colour, edgecolors="white", linewidth=0.8)
        if waits:
            axes.broken_barh([(cycle, 1) for cycle in waits], (level - 0.04, 0.08), facecolors="0.6")
    for cycle, text in marks:
        axes.axvline(cycle, color="0.25", linewidth=1.0, linestyle="--", zorder=0)
        axes.annotate(
            text, (cycle, -0.6), xytext=(4, 0), textcoords="offset points", fontsize=8.5, color="0.25", va="center"
        )
    axes.set_yticks(range(len(rows)), [name for name, _, _ in reversed(rows)])
    axes.set_ylim(-0.9, len(rows) - 0.4)
    axes.set_xlim(-1, max(last + 2, max((cycle for cycle, _ in marks), default=0) + 2))
    axes.set_xlabel("clock cycle")
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.legend(
        handles=[
            Patch(color=DEVICE_COLOUR, label="a word transferred, or a pass running (the number is the sample's)"),
            Line2D([], [], color="0.6", linewidth=2.5, label="a word waiting"),
        ],
        loc="outside lower center",
        ncols=2,
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
