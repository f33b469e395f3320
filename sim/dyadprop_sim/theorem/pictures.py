"""The pictures of docs/theorem.md, from what was measured."""

from collections.abc import Mapping
from pathlib import Path

from dyadprop.plots import settling_picture
from dyadprop.relaxation_plots import energy_picture, error_picture, relaxation_animation, rounds_picture
from dyadprop_sim.theorem.claim import Claim
from dyadprop_sim.theorem.exact import SHOWN, STALLS, shown_trajectory
from dyadprop_sim.theorem.orders import DEPTHS

PICTURES = ("theorem.png", "orders.png", "energy.png", "integrators.png", "disturbances.png", "shapes.png")
ANIMATION = "relaxation.gif"


def draw(folder: Path, claims: Mapping[str, Claim], seed: int) -> None:
    """Draw all pictures and the animation into a folder.

    Raises
    ------
    RangeError
        If a file cannot be written.
    """
    rounds_picture(folder / "orders.png", DEPTHS, claims["orders"].data)
    energy = claims["energy"].data
    energy_picture(folder / "energy.png", energy["energy"], energy["cost"], energy["residuals"])
    error_picture(
        folder / "integrators.png",
        {
            heading: {
                name: line["error"] for name, line in claims["integrators"].data.items() if line["finite"] is finite
            }
            for finite, heading in ((True, "R(-dt) = 0: finite"), (False, "R(-dt) not 0: geometric"))
        },
        title="Four tanh layers, float64, from random states: which step sizes and integrators end",
        ticks=50,
    )
    disturbed = claims["disturbances"].data
    error_picture(
        folder / "disturbances.png",
        {
            kind: {name.rpartition(" ")[2]: error for name, error in disturbed.items() if name.startswith(kind)}
            for kind in ("step jitter", "step mismatch", "state noise")
        },
        title="Four tanh layers: steps that jitter, steps that differ from unit to unit, noise on each unit",
        ticks=30,
    )
    error_picture(
        folder / "shapes.png",
        {
            "a recurrent cell unrolled over 5 steps: 10 ticks": claims["recurrence"].data,
            "two nodes that read each other: never": claims["cycles"].data,
        },
        title="Without a cycle finite, round a cycle geometric",
        ticks=30,
    )

    depth = len(SHOWN.layers)
    seen = shown_trajectory(f"verilator?stalls={STALLS}&seed={seed}", seed, 2 * depth + 3)
    name = "-".join(map(str, SHOWN.widths))
    settling_picture(
        folder / "theorem.png",
        seen.settling.activations,
        seen.settling.sensitivities,
        title=f"{name}: a held sample settles from random words, in the RTL, under random stalls",
    )
    title = f"{depth} layers relax from random words: activations in L ticks, sensitivities in 2L"
    relaxation_animation(folder / ANIMATION, seen, title=title)
