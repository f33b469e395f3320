"""docs/theorem.md: every claim holds, can fail, and the page is up to date."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.cli import main
from dyadprop.methods import adjoint
from dyadprop.methods.run import METHODS
from dyadprop.plan import StagePlan
from dyadprop.relaxation import reals
from dyadprop.relaxation.chain import Relaxation
from dyadprop.relaxation.graph_relaxation import GraphRelaxation
from dyadprop.relaxation.integrators import Stepper
from dyadprop.relaxation.state import State
from dyadprop_sim.theorem import exact, local, orders, rivals, steps, words
from dyadprop_sim.theorem.catalogue import CLAIMS
from dyadprop_sim.theorem.claim import Claim, figure, span
from dyadprop_sim.theorem.page import rewritten, tables
from dyadprop_sim.theorem.pictures import PICTURES

PAGE = Path(__file__).parents[2] / "docs" / "theorem.md"
SEED = 0  # of the page

pytestmark = pytest.mark.timeout(1800)  # the first to ask for the measurements waits for all of them


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the command once, on a copy of the page."""
    folder = tmp_path_factory.mktemp("theorem")
    (folder / "theorem.md").write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    arguments = ["--figures", str(folder / "figures"), "--page", str(folder / "theorem.md")]
    status = main(["relax", *arguments, "--json", str(folder / "theorem.json"), "-q", "--seed", str(SEED)])
    assert status == 0
    return folder


@pytest.mark.parametrize("name", CLAIMS)
def test_the_page_has_what_is_measured(name: str, measured: Path) -> None:
    table = tables(PAGE.read_text(encoding="utf-8"))[name]
    assert table == tables((measured / "theorem.md").read_text(encoding="utf-8"))[name]
    assert len(table.splitlines()) >= 3


def test_every_claim_holds_and_compared_something(measured: Path) -> None:
    document = json.loads((measured / "theorem.json").read_text())
    assert [claim["name"] for claim in document["claims"]] == list(CLAIMS)
    assert len(CLAIMS) == 22
    for claim in document["claims"]:
        assert claim["failures"] == []
        assert claim["holds"], claim["name"]
        assert claim["compared"] > 0, claim["name"]
        assert all(len(row) == len(claim["columns"]) for row in claim["rows"])


def test_every_picture_is_drawn_and_shown(measured: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in PICTURES:
        assert (measured / "figures" / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert f"(images/{name})" in page
        assert 10_000 < (PAGE.parent / "images" / name).stat().st_size < 200_000
    assert (measured / "figures" / "relaxation.gif").read_bytes().startswith(b"GIF89a")
    assert sorted(p.name for p in (measured / "figures").iterdir()) == sorted([*PICTURES, "relaxation.gif"])


# -- each can fail ---------------------------------------------------------------------------------------------------

Patch = pytest.MonkeyPatch


def wrong_tick(patch: Patch) -> None:
    """One number of one sensitivity is off in each tick."""
    step = Relaxation.step

    def crooked(self: Relaxation[Any], state: State) -> State:
        new = step(self, state)
        new.sensitivities[1].flat[0] += 1
        return new

    patch.setattr(Relaxation, "step", crooked)


def late(patch: Patch) -> None:
    """What is read is a tick old."""
    shown = exact.shown_trajectory

    def delayed(device: str, seed: int, ticks: int, start: State | None = None) -> dp.Trajectory:
        seen = shown("golden", seed, ticks, start)
        return dp.Trajectory(seen.dynamics, [seen.states[0], *seen.states[:-1]], seen.rest)

    patch.setattr(exact, "shown_trajectory", delayed)


def crooked_update(patch: Patch) -> None:
    advance = Stepper.advance
    patch.setattr(Stepper, "advance", lambda self, *args: advance(self, *args) + 1e-12)


def far_read(patch: Patch) -> None:
    """Each sensitivity also reads the first layer."""
    sensitivity = Relaxation.sensitivity
    patch.setattr(
        Relaxation,
        "sensitivity",
        lambda self, l, state: sensitivity(self, l, state) + 1e-3 * state.activations[1].sum(),
    )


def right_way_back(patch: Patch) -> None:
    patch.setattr(local._OtherWayBack, "backward", reals.Reals.backward)


def two_copies(patch: Patch) -> None:
    bits = StagePlan.memory_bits.fget  # type: ignore[attr-defined]
    patch.setattr(StagePlan, "memory_bits", property(lambda self: {k: 2 * v for k, v in bits(self).items()}))


def other_energy(patch: Patch) -> None:
    patch.setattr(reals.Reals, "energy", lambda self, x, y, state: float(np.sum(state.sensitivities[1])))


def other_flow(patch: Patch) -> None:
    flow = dp.Network.flow
    patch.setattr(dp.Network, "flow", lambda self, *args: flow(self, *args).map(lambda v: 0.1 * v))


def short_steps(patch: Patch) -> None:
    begin = Stepper.__init__

    def shorter(self: Stepper, *args: Any, **options: Any) -> None:
        begin(self, *args, **{**options, "dt": 0.93 * options["dt"]})

    patch.setattr(Stepper, "__init__", shorter)


def calm(patch: Patch) -> None:
    begin = Stepper.__init__

    def quiet(self: Stepper, *args: Any, **options: Any) -> None:
        begin(self, *args, dt=options["dt"])

    patch.setattr(Stepper, "__init__", quiet)


def whole_steps(patch: Patch) -> None:
    patch.setattr(words, "round_half_even", lambda values, shift: values)


def other_kink(patch: Patch) -> None:
    times = reals.times_slope
    patch.setattr(reals, "times_slope", lambda name, x, v, slope: np.where(x == 0, v, times(name, x, v, slope)))


def slow_graph(patch: Patch) -> None:
    step = GraphRelaxation.step

    def half(self: GraphRelaxation, state: State) -> State:
        return state.map(lambda old, new: (old + new) / 2, step(self, state))

    patch.setattr(GraphRelaxation, "step", half)


def one_tick_less(patch: Patch) -> None:
    dyadic = adjoint.dyadic
    method = METHODS["dyadic relaxation"]

    def short(task: Any, random_start: bool, extra: int) -> Any:
        state = task.relaxation.trajectory(task.random_state(), 2 * task.depth - 1)[-1]
        return type(dyadic(task, random_start, extra))(task.relaxation.gradients(state), 2 * task.depth)

    patch.setitem(METHODS, "dyadic relaxation", type(method)(method.name, "", "", "", short))


def same_nudge(patch: Patch) -> None:
    patch.setattr(rivals, "compare", lambda *args, **options: dp.compare(*args, **{**options, "nudge": 0.1}))


BROKEN: dict[str, Callable[[Patch], None]] = {
    "exactness": wrong_tick,
    "ticks": wrong_tick,
    "starts": wrong_tick,
    "stays": wrong_tick,
    "healing": late,
    "depth": wrong_tick,
    "orders": crooked_update,
    "stale": crooked_update,
    "locality": far_read,
    "weights": right_way_back,
    "copies": two_copies,
    "energy": other_energy,
    "flows": other_flow,
    "integrators": short_steps,
    "disturbances": calm,
    "quantisation": whole_steps,
    "kinks": other_kink,
    "graphs": slow_graph,
    "recurrence": slow_graph,
    "cycles": slow_graph,
    "methods": one_tick_less,
    "nudges": same_nudge,
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_can_fail(name: str, monkeypatch: Patch) -> None:
    assert set(BROKEN) == set(CLAIMS)
    monkeypatch.setattr(exact, "NETWORKS", 3)
    monkeypatch.setattr(words, "_NETWORKS", 2)
    monkeypatch.setattr(orders, "DEPTHS", (2,))
    monkeypatch.setattr(steps, "_LONG", 250)
    shown = exact.shown_trajectory
    monkeypatch.setattr(exact, "shown_trajectory", lambda device, *args: shown("golden", *args))  # no simulation
    BROKEN[name](monkeypatch)
    claim = CLAIMS[name](SEED)
    assert claim.failures
    assert not claim.holds


def test_a_claim_about_nothing_does_not_hold() -> None:
    assert not Claim("empty", ("a",)).holds


# -- the command and the page ----------------------------------------------------------------------------------------


def test_a_failed_claim_is_an_exit_code(tmp_path: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]) -> None:
    from dyadprop_sim.theorem import pictures, report

    def failing(seed: int) -> Claim:
        claim = Claim("bad", ("a",), [("1",)])
        claim.check(False, f"it is not so, seed {seed}")
        return claim

    monkeypatch.setattr(report, "CLAIMS", {"bad": failing})
    monkeypatch.setattr(pictures, "draw", lambda *args: None)
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n<!-- relax: bad -->\n<!-- end -->\n\nText.\n")
    assert main(["relax", "--figures", str(tmp_path / "f"), "--page", str(page), "-q", "--seed", "5"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "bad: it is not so, seed 5"
    assert printed[1].startswith("0 of 1 claims hold; 6 pictures and relaxation.gif in ")
    assert page.read_text() == "# A page\n\n<!-- relax: bad -->\n| a |\n| --- |\n| 1 |\n<!-- end -->\n\nText.\n"


def test_a_page_with_other_tables_is_refused() -> None:
    with pytest.raises(dp.RangeError, match=r"page has tables of nothing; claim 'a' is not in both"):
        rewritten("text", {"a": Claim("a", ("x",))})
    with pytest.raises(dp.RangeError, match=r"page has tables of b; claim 'a' is not in both"):
        rewritten("<!-- relax: b -->\n<!-- end -->\n", {"a": Claim("a", ("x",))})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--page", "x.md"], "--page is given without --figures DIR, whose measurements it needs"),
        (["--figures", "f", "--network", "n.toml"], "network is 'n.toml'; the claims have networks of their own"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["relax", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_numbers_of_tables() -> None:
    assert [figure(v) for v in (0.0, 3e-17, 0.0123, 1.234, 123.4, 12345.0, 4.56e-5)] == [
        "0",
        "round-off",
        "0.012",
        "1.2",
        "123",
        "1.2e4",
        "4.6e-5",
    ]
    assert (span([3, 3]), span([4, 2])) == ("3", "2 to 4")
