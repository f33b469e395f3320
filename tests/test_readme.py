"""What the README and its companions say: programs run, commands and files exist, figures are the real ones."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.cli import main
from dyadprop.plan import Plan, plan_network
from dyadprop_sim.commands.bench import STREAMS
from tests.loops.needed import skip_without

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_there_is_a_program() -> None:
    assert len(PROGRAMS) >= 7
    for module in ("dyadprop", "dyadprop.torch", "dyadprop.jax", "dyadprop.sklearn"):
        assert any(re.search(rf"^(import|from) {module}\b", program, re.MULTILINE) for program in PROGRAMS), module


def run(program: str, folder: Path) -> str:
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_runs(program: str, tmp_path: Path) -> None:
    skip_without(*re.findall(r"^(?:import|from) (torch|jax|optax|sklearn)\b", program, re.MULTILINE))
    skip_without(*(["onnx"] if "onnx(" in program else []))
    printed = run(program, tmp_path)
    if "dp.relax(" in program:
        assert printed.startswith("exact from tick 6 of 6\nmethod ")
        return
    if "dp.to_onnx(" in program:
        assert float(printed) > 0
        assert (tmp_path / "words.onnx").exists()
        return
    costs = [float(text) for text in re.findall(r"^cost (\S+),", printed, re.MULTILINE)]
    assert len(costs) == 3
    assert costs == sorted(costs, reverse=True)  # it learns
    if "device.train(" in program or "device.predict(" in program:
        assert printed.endswith(("(100, 10)\n", "learnt on the device\n"))


def test_the_programs_of_the_theorem_run(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "theorem.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    printed = run(program, tmp_path)
    assert printed.startswith("exact from tick 6\n")
    assert printed.endswith("the hardware rests from tick 6\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert "demo" in targets
    # In code: between backticks, or indented.
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^    (.+)$", text, re.MULTILINE)
    named = {name for line in code for name in re.findall(r"^make ([a-z]+)", line)}
    assert named <= targets
    verbs = {entry.name for entry in entry_points(group="dyadprop.commands")}
    used = {name for line in code for name in re.findall(r"(?:^|\s)dyadprop ([a-z]+)", line)}
    assert used <= verbs
    if page.name == "README.md":
        assert {"demo", "test", "bench", "images"} <= named
        assert {"train", "relax", "info", "verify", "devices"} <= used


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    for link in links:
        assert link.startswith("https://") or (page.parent / link).exists(), link
    assert links or page.name == "arithmetic.md"


def test_the_animation_is_a_small_animation() -> None:
    picture = (ROOT / "docs" / "images" / "relaxation.gif").read_bytes()
    assert picture.startswith(b"GIF89a")
    assert 10_000 < len(picture) < 300_000
    assert "(docs/images/relaxation.gif)" in README


@pytest.mark.parametrize("name", ["loss.png", "theorem.png", "drift.png", "ranges.png"])
def test_pictures_are_small_pictures(name: str) -> None:
    picture = (ROOT / "docs" / "images" / name).read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert 10_000 < len(picture) < 200_000
    assert any(f"images/{name})" in page.read_text(encoding="utf-8") for page in PAGES)


def block(mark: str) -> str:
    """Give the indented block behind an HTML comment that names the command."""
    found = re.search(rf"^<!-- {mark} -->\n((?:    .*\n|\n(?=    ))+)", README, re.MULTILINE)
    assert found is not None
    return re.sub(r"^    ", "", found[1], flags=re.MULTILINE)


def demo_network() -> dp.Network:
    return dp.Network(64, [dp.Dense(32, "tanh"), dp.Dense(10)], cost="squared_error")


def test_the_output_of_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo_network().save(tmp_path / "net.toml")
    assert main(["info", str(tmp_path / "net.toml")]) == 0
    assert block("dyadprop info") == capsys.readouterr().out


def test_the_output_of_the_demo_is_of_this_hardware() -> None:
    net = demo_network()
    lines = block("make demo").splitlines()
    assert lines[0].startswith(repr(net) + ";")
    # An epoch is 44 batches of 32 and one of 29; what is in them does not change their cycles.
    with dp.open("verilator", net) as device:
        device.load(net.init())
        full, rest = (device.gradients(np.zeros((n, 64)), np.zeros((n, 10))).stats.cycles for n in (32, 29))
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) >= 2
    assert all(f"  {(44 * full + rest) / 1437:.1f} cycles/gradient  " in line for line in epochs)


def test_devices_are_all_there() -> None:
    named = re.findall(r"^\| `([a-z]+)[`?:]", README, re.MULTILINE)
    assert set(named) == set(dp.devices())


def figures(row: str) -> list[str]:
    """Give the two cells of a row of the table of figures."""
    (line,) = [line for line in README.splitlines() if line.startswith(f"| {row}")]
    return [cell.strip() for cell in line.split("|")[2:4]]


def test_figures_are_the_predicted_ones() -> None:
    plans: list[Plan] = [plan_network(case.net, case.multipliers) for case in STREAMS]
    assert figures("multipliers |") == [str(plan.multipliers) for plan in plans]
    assert figures("cycles a gradient, steady state") == [f"{plan.interval} ({plan.interval})" for plan in plans]
    assert figures("cycles to the last gradient") == [
        f"{plan.gradient_latency:,} ({plan.gradient_latency:,})" for plan in plans
    ]
    shares = [plan.products / (plan.multipliers * plan.interval) for plan in plans]
    assert figures("multipliers busy") == [f"{100 * share:.1f} %" for share in shares]
    assert f"| | {' | '.join('-'.join(map(str, case.widths)) for case in STREAMS)} |" in README
