"""A build that is ended leaves no tool behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import dyadprop as dp
from dyadprop_boards.signals import ENDING, raised_signals

TOOL = """#!/bin/sh
if [ "$1" = --version ]; then echo 1; exit; fi
echo Info: iteration 7
sleep 600 &
echo $! > sleep.pid
echo $$ > yosys.pid.part
mv yosys.pid.part yosys.pid
wait
"""


@pytest.fixture(autouse=True)
def as_in_a_terminal() -> Iterator[None]:
    """Under nohup SIGHUP is ignored, and would be in all that is started here."""
    before = [(number, signal.getsignal(number)) for number in ENDING]
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [
        (signal.SIGINT, 130, "dyadprop: interrupted"),
        (signal.SIGTERM, 143, "yosys was interrupted after"),
        (signal.SIGHUP, 129, "yosys was interrupted after"),
    ],
)
def test_the_tool_ends_with_the_command(tmp_path: Path, number: signal.Signals, code: int, told: str) -> None:
    (tmp_path / "yosys").write_text(TOOL)
    (tmp_path / "yosys").chmod(0o755)
    dp.Network(1, [dp.Dense(1)], max_batch=4).save(tmp_path / "net.toml")
    # A process in the background ignores Ctrl-C, and so would all that it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command = subprocess.Popen(
            [sys.executable, "-m", "dyadprop", "build", "--board", "ulx3s-12f", "net.toml", "--synth-only"],
            cwd=tmp_path,
            env={**os.environ, "YOSYS": str(tmp_path / "yosys"), "DYADPROP_CACHE": str(tmp_path / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    work = tmp_path / "build" / "ulx3s-12f" / "net" / "work"
    started = work / "yosys.pid"
    while not started.exists():
        assert command.poll() is None, command.communicate()[0]
        time.sleep(0.1)
    command.send_signal(number)
    out, _ = command.communicate(timeout=60)
    assert command.returncode == code, out
    assert told in out
    assert f"its log is {work.relative_to(tmp_path)}/synthesis.log" in out
    assert "Traceback" not in out
    assert (work / "synthesis.log").read_text() == "Info: iteration 7\n"
    for name in ("yosys.pid", "sleep.pid"):
        assert not runs(int((work / name).read_text())), name


def runs(process: int) -> bool:
    """Whether a process runs; one that has ended may still wait for a parent that asks how."""
    try:
        return "Z" not in (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_a_handler_of_somebody_else_stays() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with raised_signals():
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(SystemExit) as caught:
                signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert caught.value.code == 129
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_another_thread_handles_no_signals() -> None:
    seen = []

    def look() -> None:
        with raised_signals():
            seen.append([signal.getsignal(number) for number in ENDING])

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [[signal.SIG_DFL, signal.SIG_DFL]]
