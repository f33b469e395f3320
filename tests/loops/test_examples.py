"""Each program of examples/ runs, learns, and stays short."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.loops.needed import skip_without

ROOT = Path(__file__).parent.parent.parent / "examples"
NEEDS = {
    "jax_optax.py": ("jax", "optax"),
    "numpy_loop.py": (),
    "online_drift.py": ("matplotlib",),
    "pytorch_loop.py": ("torch",),
    "sklearn_pipeline.py": ("sklearn",),
}


def run(name: str, where: Path, device: str = "golden", program: str | None = None) -> str:
    skip_without(*NEEDS[name])
    done = subprocess.run(
        [sys.executable, "-W", "error", *([str(ROOT / name)] if program is None else ["-c", program])],
        cwd=where, env={**os.environ, "DYADPROP_DEVICE": device}, capture_output=True, text=True,
        check=False, timeout=500,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_all_are_here_and_short():
    assert sorted(path.name for path in ROOT.iterdir()) == sorted(NEEDS)
    assert all(len((ROOT / name).read_text().splitlines()) < 60 for name in NEEDS)


@pytest.mark.parametrize(
    ("name", "accuracy"), [("numpy_loop.py", 0.9), ("pytorch_loop.py", 0.95), ("jax_optax.py", 0.93)]
)
def test_a_loop_learns(name, accuracy, tmp_path):
    lines = re.findall(r"^epoch \d+  cost (\S+)  test (\S+)", run(name, tmp_path), re.MULTILINE)
    assert len(lines) >= 3
    costs = [float(cost) for cost, _ in lines]
    assert costs == sorted(costs, reverse=True)
    assert float(lines[-1][1]) > accuracy


def test_the_pipeline_learns(tmp_path):
    out = run("sklearn_pipeline.py", tmp_path)
    assert len(re.findall(r"^ ?\d+ bits, hidden \(\d+,\): 0\.9\d+$", out, re.MULTILINE)) == 4
    (score,) = re.findall(r"^test (\S+), saturated: ", out, re.MULTILINE)
    assert float(score) > 0.93


def test_the_stream_is_followed(tmp_path):
    out = run("online_drift.py", tmp_path)
    found = re.findall(r"^(.+): cost (\S+) before the drift, (\S+) at the end$", out, re.MULTILINE)
    costs = {label: (float(before), float(after)) for label, before, after in found}
    assert list(costs) == ["float64", "device, 8 bits", "frozen after a quarter"]
    assert costs["device, 8 bits"][1] < 1.2 * costs["float64"][1]
    assert costs["frozen after a quarter"][1] > 20 * costs["device, 8 bits"][1]
    assert (tmp_path / "online_drift.png").read_bytes().startswith(b"\x89PNG")


def test_the_hardware_runs_a_loop_too(tmp_path):
    text = (ROOT / "numpy_loop.py").read_text()
    short = text.replace("EPOCHS, BATCH, RATE = 4,", "EPOCHS, BATCH, RATE = 1,")
    assert short != text
    golden, rtl = (run("numpy_loop.py", tmp_path, name, short) for name in ("golden", "verilator"))
    assert golden == rtl
    assert golden.startswith("epoch 1  cost ")
