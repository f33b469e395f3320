"""Targets of the Makefile that set nothing up."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_bench_opens_its_own_devices() -> None:
    done = make("-n", "bench", "DEVICE=golden", "SEED=3")
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if "dyadprop bench" in line]
    assert len(lines) == 1
    assert lines[0].split("dyadprop bench ")[1].strip() == "--json build/bench.json --seed '3'"


def test_bitstream_needs_a_board_and_a_network() -> None:
    for arguments in ((), ("BOARD=ulx3s-85f",), ("NETWORK=net.toml",)):
        done = make("bitstream", *arguments)
        assert done.returncode == 2
        assert done.stderr.splitlines()[0].startswith(
            "bitstream: name a board and a network, as in make bitstream BOARD="
        )


def test_bitstream_passes_its_options_on() -> None:
    done = make("-n", "bitstream", "BOARD=ulx3s-85f", "NETWORK=my net.toml", "SEEDS=5", "CLOCK=100")
    assert done.returncode == 0
    (line,) = (line for line in done.stdout.splitlines() if "dyadprop build" in line)
    options = line.split("dyadprop build ")[1].strip()
    assert shlex.split(options) == ["--board", "ulx3s-85f", "--seeds", "5", "--clock", "100", "my net.toml"]
