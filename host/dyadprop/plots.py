"""Pictures; the only module that imports matplotlib (``pip install 'dyadprop[plot]'``)."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
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
