"""The command that measures boards and writes their table: with made-up results in place of builds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dyadprop as dp
from dyadprop_boards import clock_table
from dyadprop_boards.build import BuildOptions, TimingMissed
from dyadprop_boards.clock_cases import Case, cases
from dyadprop_boards.clock_table import BEGIN, main
from dyadprop_boards.docs_page import END, rewritten
from dyadprop_boards.revision import gateware_revision
from dyadprop_boards.table import BOARDS, Board
from dyadprop_boards.tools import ToolFailure
from tests.boards.results import placement, result

PAGE = f"# Boards\n\n{BEGIN}old\n{END}\n\nThe rest.\n"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "boards.md"
    path.write_text(PAGE)
    return path


def stand_in(monkeypatch: pytest.MonkeyPatch, answer: Callable[[int], Any]) -> list[tuple[str, str, BuildOptions]]:
    asked = []

    def build(net: dp.Network, board: Board, folder: Path, options: BuildOptions) -> Any:
        asked.append((board.name, str(folder), options))
        (seed,) = options.seeds
        return answer(seed)

    monkeypatch.setattr(clock_table, "build", build)
    return asked


def good(seed: int) -> Any:
    return result(placement(seed, (82e6, 90e6, 85e6)[seed - 1]))


def missed(seed: int) -> Any:
    raise TimingMissed(result(placement(seed, 70e6 + 1e6 * seed), failure="too slow"))


def too_large(seed: int) -> Any:
    raise dp.CapacityError("it does not fit")


def broken(seed: int) -> Any:
    raise ToolFailure("yosys", "yosys failed: ERROR: no; its log is here")


def test_each_board_is_there_and_what_the_issue_names() -> None:
    names = [case.name for case in cases()]
    assert len(names) == len(set(names))
    assert {case.board.name for case in cases()} == {board.name for board in BOARDS}
    assert {
        "64-32-10@ulx3s-85f",
        "64-32-10@ulx3s-12f",
        "64-32-32-10@ulx3s-85f",
        "16-64-32-32-5@ulx3s-85f",
        "16-64-32-32-5@colorlight-5a-75b-r7.0",
        "4-8-3@icebreaker",
        "4-8-3@tang-nano-9k",
    } <= set(names)
    clocks = {case.name: case.clock for case in cases()}
    assert clocks["64-32-10@ulx3s-85f"] == 150_000_000
    assert clocks["64-32-10@orangecrab-85f"] == clocks["64-32-10@ecpix5-85"] == 190_000_000
    assert clocks["4-8-3@icebreaker"] == 45_000_000


def test_a_row(page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = stand_in(monkeypatch, good)
    assert main(["--only", "4-8-3@tang-nano", "--page", "boards.md", "--seeds", "3"]) == 0
    assert {(board, folder) for board, folder, _ in asked} == {("tang-nano-9k", "build/clocks/tang-nano-9k/4-8-3")}
    assert [(options.seeds, options.clock) for *_, options in asked] == [((k,), 100_000_000) for k in (1, 2, 3)]
    assert f"{BEGIN}Gateware `{gateware_revision()}`:\n\n| network |" in page.read_text()
    row = next(line for line in page.read_text().splitlines() if line.startswith("| 4-8-3 "))
    gradients = 85e6 / 130
    assert row == (
        "| 4-8-3 | `tang-nano-9k` | 4/2 | 80 | 3 | 82.0 | **85.0** | 55.0 | 5,900 | 5,901 | 5,902 | 5,903 | 400 | "
        f"{gradients:,.0f} | {2 * (64 * 8 * 2 + 8 * 10 * 3) * gradients / 1e9:.1f} | 0.61 | 5 |"
    )
    assert page.read_text().startswith("# Boards\n\n")
    assert page.read_text().endswith(f"{END}\n\nThe rest.\n")
    assert "old" not in page.read_text()
    out = capsys.readouterr().out
    assert "1 of 1: 4-8-3@tang-nano-9k, seed 2\n  90.00 MHz of 80.00 MHz asked for\n" in out


def test_placements_come_together_over_several_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--only", "4-8-3@tang-nano", "--page", "boards.md", "--seeds"]
    asked = stand_in(monkeypatch, good)
    for seeds, told in (
        ("1", "| 1 | 82.0 | **82.0** |"),
        ("2", "| 2 | 82.0 | **86.0** |"),
        ("3", "| 3 | 82.0 | **85.0** |"),
    ):
        assert main([*arguments, seeds]) == 0
        assert told in page.read_text()
    assert [options.seeds for *_, options in asked] == [(1,), (2,), (3,)]


def test_rows_come_together_over_several_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer, name in ((missed, "4-8-3@icebreaker"), (good, "64-32-10@ulx3s-12f"), (too_large, "4-8-3@hx8k")):
        stand_in(monkeypatch, answer)
        assert main(["--only", name, "--page", "boards.md", "--seeds", "3"]) == 0
    lines = page.read_text().splitlines()
    boards = [line.split("|")[2].strip() for line in lines if line.startswith("| ")][1:]
    assert boards == ["`ulx3s-12f`", "`icebreaker`"], "in the order of cases"
    assert "- 4-8-3 on `icebreaker`: 71.0, 72.0, 73.0" in lines
    assert "| 71.0 | **72.0** |" in page.read_text(), "a missed timing is a row too"
    assert "- 4-8-3 on `icebreaker`: 7.00 ns from chip.a|b.Q to chip.c.D, 6.25 ns of it wires" in lines
    assert "- 4-8-3 on `hx8k-breakout`: it does not fit" in lines


@pytest.mark.parametrize("changed", ["gateware_revision", "flow_revision"])
def test_what_was_measured_of_something_else_is_left_out(
    page: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    stand_in(monkeypatch, good)
    assert main(["--only", "4-8-3@tang", "--page", "boards.md", "--seeds", "1"]) == 0
    assert page.read_text().count("\n| ") == 3
    monkeypatch.setattr(clock_table, changed, lambda: "another")
    assert main(["--only", "4-8-3@icesugar", "--page", "boards.md", "--seeds", "1"]) == 0
    assert page.read_text().count("\n| ") == 2
    assert ("Gateware `another`:" in page.read_text()) == (changed == "gateware_revision")
    assert list(json.loads(page.with_suffix(".clocks.json").read_text())["rows"]) == ["4-8-3@icesugar"]


def test_a_tool_that_fails_stops_no_other_design(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter((broken, good, good, good))
    asked = stand_in(monkeypatch, lambda seed: next(answers)(seed))
    assert main(["--only", "4-8-3@tang", "--page", "boards.md", "--seeds", "3"]) == 1
    assert len(asked) == 1 + 3, "synthesis is the same for each seed"
    assert "  yosys failed: ERROR: no; its log is here\n" in capsys.readouterr().out
    assert "`tang-primer-20k`" in page.read_text()
    assert "`tang-nano-9k`" not in page.read_text()


def test_a_placement_that_fails_stops_no_other(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(seed: int) -> Any:
        raise ToolFailure("nextpnr-gowin", "nextpnr-gowin failed: no place; its log is here")

    asked = stand_in(monkeypatch, lambda seed: (good, fails, good)[seed - 1](seed))
    arguments = ["--only", "4-8-3@tang-nano", "--page", "boards.md", "--seeds", "3"]
    assert main(arguments) == 1
    assert len(asked) == 3
    assert "| 2 | 82.0 | **83.5** |" in page.read_text()
    assert main(arguments) == 1, "and is tried again"
    assert [options.seeds for *_, options in asked[3:]] == [(2,)]


def test_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "85f"]) == 0
    assert capsys.readouterr().out.splitlines() == [case.name for case in cases() if "85f" in case.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "no such"], "no design has such a name; --list prints the names"),
        (["--seeds", "0"], "seeds are 0; at least 1 is needed"),
        (["--page", "none.md"], "page none.md cannot be read: [Errno 2] No such file or directory: 'none.md'"),
    ],
)
def test_errors(page: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--page", "boards.md", *arguments]) == 2
    assert capsys.readouterr().err == f"clock_table: {message}\n"


def test_a_page_without_marks() -> None:
    for text in ("# Boards\n", f"{BEGIN}old\n", f"{BEGIN}old\n<!-- others -->\nkept\n{END}\n"):
        with pytest.raises(dp.RangeError, match=r"^page has no place for the table: expected '<!-- clocks, written by"):
            rewritten(text, BEGIN, "table")


def test_the_page_has_a_place_for_the_table() -> None:
    text = Path("docs/boards.md").read_text()
    assert rewritten(text, BEGIN, "table").count("table\n<!-- end -->") == 1


def test_ctrl_c(page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(seed: int) -> Any:
        raise KeyboardInterrupt

    stand_in(monkeypatch, stop)
    assert main(["--only", "icebreaker", "--page", "boards.md"]) == 130
    assert capsys.readouterr().err == "clock_table: interrupted; what was done is kept\n"
    assert isinstance(cases()[0], Case)
