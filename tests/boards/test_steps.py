"""Tools that are run once, kept, and fail with a sentence; a shell script stands for the tool."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import dyadprop as dp
from dyadprop_boards import tools
from dyadprop_boards.steps import Step, run_step
from dyadprop_boards.tools import TOOLS, Tool, ToolFailure, run_tool

COUNT_AND_COPY = "echo run >> runs; echo Info: working; cat in > out; echo two >> out"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DYADPROP_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    (work / "in").write_text("one\n")
    return work


def script(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, version: str = "Fake 1.0") -> Tool:
    """Make yosys a script."""
    path = folder.parent / "fake"
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo {version}; exit; fi\n{text}\n')
    path.chmod(0o755)
    monkeypatch.setenv("YOSYS", str(path))
    return TOOLS["yosys"]


def step(tool: Tool, *arguments: str) -> Step:
    return Step(tool, arguments, inputs=("in",), outputs=("out",), log="tool.log")


def runs(folder: Path) -> int:
    return (folder / "runs").read_text().count("run")


def test_a_step_runs_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = script(folder, monkeypatch, COUNT_AND_COPY)
    first = run_step(step(tool), folder)
    assert (first.kept, first.passed, first.tool) == (False, True, "yosys")
    assert first.version.endswith(": Fake 1.0")
    (folder / "out").write_text("something else")
    (folder / "tool.log").unlink()
    second = run_step(step(tool), folder)
    assert second == replace(first, kept=True)
    assert (folder / "out").read_text() == "one\ntwo\n"
    assert (folder / "tool.log").read_text() == "Info: working\n"
    assert runs(folder) == 1


def test_what_decides_a_step_is_all_of_its_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = script(folder, monkeypatch, COUNT_AND_COPY)
    run_step(step(tool), folder)
    run_step(step(tool, "-fast"), folder)
    (folder / "in").write_text("three\n")
    run_step(step(tool), folder)
    tool = script(folder, monkeypatch, COUNT_AND_COPY, version="Fake 1.1")
    run_step(step(tool), folder)
    assert runs(folder) == 4
    assert run_step(step(tool), folder).kept


def test_what_is_kept_and_broken_is_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = script(folder, monkeypatch, COUNT_AND_COPY)
    run_step(step(tool), folder)
    (entry,) = (folder.parent / "cache" / "boards").iterdir()
    (entry / "out.gz").write_bytes(b"no gzip")
    assert not run_step(step(tool), folder).kept
    assert (folder / "out").read_text() == "one\ntwo\n"
    assert run_step(step(tool), folder).kept
    (entry / "out.gz").unlink()
    assert not run_step(step(tool), folder).kept
    assert run_step(step(tool), folder).kept, "and then it is kept whole"
    assert runs(folder) == 3


def test_nothing_is_kept_where_nothing_can_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "file").touch()
    monkeypatch.setenv("DYADPROP_CACHE", str(folder.parent / "file"))
    tool = script(folder, monkeypatch, COUNT_AND_COPY)
    run_step(step(tool), folder)
    assert not run_step(step(tool), folder).kept
    assert runs(folder) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "echo Info: hello; echo ERROR: no such cell; echo 1 warning, 0 errors; exit 3",
            r"yosys failed: ERROR: no such cell; ",
        ),
        ("echo Info: hello; exit 3", r"yosys failed: Info: hello; "),
        ("exit 3", r"yosys failed: exit status 3; "),
        ("echo Info: placing; kill -9 $$", r"yosys was killed by SIGKILL: Info: placing; "),
        ("echo Info: done", r"yosys left no out; "),
    ],
)
def test_a_tool_that_fails(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    tool = script(folder, monkeypatch, text)
    (folder / "out").write_text("of an earlier run")
    with pytest.raises(dp.BuildError, match=rf"^{message}its log is {folder}/tool\.log$"):
        run_step(step(tool), folder)
    assert (folder / "tool.log").is_file()
    assert not (folder / "out").exists()
    with pytest.raises(dp.BuildError, match=message):  # and it was not kept
        run_step(step(tool), folder)


def test_a_failure_that_is_a_result(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = script(folder, monkeypatch, f"{COUNT_AND_COPY}; echo too slow; exit 1")
    lenient = replace(step(tool), verdict=lambda log: "too slow" in log)
    first = run_step(lenient, folder)
    assert (first.passed, first.kept) == (False, False)
    second = run_step(lenient, folder)
    assert (second.passed, second.kept) == (False, True)
    with pytest.raises(dp.BuildError, match=r"^yosys failed: too slow; "):
        run_step(replace(lenient, verdict=lambda log: "too fast" in log, arguments=("-x",)), folder)


def test_outputs_that_are_made_of_what_the_tool_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def finish(where: Path) -> None:
        (where / "more").write_text((where / "out").read_text() * 2)

    tool = script(folder, monkeypatch, COUNT_AND_COPY)
    longer = replace(step(tool), outputs=("out", "more"), finish=finish)
    assert not run_step(longer, folder).kept
    made = (folder / "more").read_text()
    assert made == (folder / "out").read_text() * 2
    assert run_step(longer, folder).kept
    assert (folder / "more").read_text() == made
    # What a tool that failed has left is not looked at.
    broken = script(folder, monkeypatch, "echo ERROR: no; exit 1")
    with pytest.raises(dp.BuildError, match=r"^yosys failed: ERROR: no; "):
        run_step(replace(longer, tool=broken, arguments=("-z",)), folder)


def test_a_tool_that_hangs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = replace(script(folder, monkeypatch, "echo Info: iteration 7; sleep 60"), limit=1)
    start = time.monotonic()
    with pytest.raises(
        dp.BuildError, match=r"^yosys did not end within 1 s: Info: iteration 7; its log is .*/tool\.log$"
    ):
        run_step(step(tool), folder)
    assert time.monotonic() - start < 30


def test_a_tool_that_is_not_getting_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "PATIENCE", 5)
    tool = replace(script(folder, monkeypatch, "echo Info: legalising; sleep 60"), limit=40)
    with pytest.raises(
        ToolFailure, match=r"^yosys has said nothing new for 5 s: Info: legalising; its log is .*/tool\.log$"
    ):
        run_step(step(tool), folder)


ROUTING = "Info:     238000 |    34686     196902 |  156   772 |{:10}|      18.31     283.16|"
SILENT = f"has said nothing new for {tools.PATIENCE} s: "


@pytest.mark.parametrize(
    ("lines", "ago", "told"),
    [
        ([(1, "a"), (5, "b"), (9, "b")], 4, f"{SILENT}b"),
        ([(7, "")], 7, f"{SILENT}its log is empty"),
        (
            [(1, ROUTING.format(900)), (2, ROUTING.format(12)), (8, ROUTING.format(13)), (9, ROUTING.format(12))],
            7,
            "12",
        ),
        ([(1, ROUTING.format(12)), (8, ROUTING.format(11)), (9, ROUTING.format(12))], 1, "11"),
        ([(1, ROUTING.format(12)), (8, "Info: Routing complete."), (9, ROUTING.format(90))], 0, "90"),
    ],
    ids=["silent", "empty", "router", "router gets on", "routes again"],
)
def test_what_counts_as_getting_on(lines: list[tuple[float, str]], ago: float, told: str) -> None:
    headway = tools._Headway(0.0)
    for now, line in lines:
        seconds = headway.seconds_without(line, now)
    assert seconds == ago
    if told.isdigit():
        told = f"has had {told} arcs or more left to route for {tools.PATIENCE} s; another placement may do"
    assert headway.told() == told


def test_ctrl_c_keeps_the_log(folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    tool = script(folder, monkeypatch, "echo Info: iteration 7; echo $$ > pid; sleep 60")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    seen: list[str] = []
    try:
        with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
            run_tool(tool, [], folder, folder / "tool.log", seen.append)
    finally:
        signal.signal(signal.SIGINT, before)
    assert re.search(rf"yosys was interrupted after \d+ s; its log is {folder}/tool\.log", caplog.text)
    assert seen[-1] == "Info: iteration 7"
    assert (folder / "tool.log").read_text() == "Info: iteration 7\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)


def test_a_tool_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOSYS", "no-such-yosys")
    with pytest.raises(
        dp.BuildError, match=r"^yosys cannot be run: \$YOSYS names 'no-such-yosys', which is no program$"
    ):
        run_step(step(TOOLS["yosys"]), folder)
    monkeypatch.delenv("YOSYS")
    absent = replace(TOOLS["yosys"], distribution="no-such-package")
    with pytest.raises(dp.BuildError, match=r"^yosys is not installed; pip install 'dyadprop\[boards\]' brings it$"):
        run_step(step(absent), folder)
