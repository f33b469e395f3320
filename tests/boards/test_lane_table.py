"""The table of lanes is what a build would choose, and the page has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyadprop_boards.clock_cases import cases
from dyadprop_boards.docs_page import END
from dyadprop_boards.lane_table import BEGIN, COMMAND, main, markdown

PAGE = Path("docs/boards.md")


def test_each_case_has_its_row_or_its_refusal() -> None:
    lines = markdown().splitlines()
    for case in cases():
        rows = [line for line in lines if line.startswith(f"| {case.network} | `{case.board.name}` | ")]
        refusals = [line for line in lines if line.startswith(f"- {case.network} on `{case.board.name}`: ")]
        assert len(rows) + len(refusals) == 1, case.name
    assert "| 64-32-10 | `ulx3s-85f` | 32/10 | 65 | " in "\n".join(lines)


def test_the_page_has_the_present_table() -> None:
    text = PAGE.read_text()
    assert text.partition(BEGIN)[2].partition(f"\n{END}")[0] == markdown(), f"{COMMAND} writes it again"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Boards\n\n{BEGIN}old\n{END}\nThe rest.\n")
    assert main(["--page", str(page)]) == 0
    assert page.read_text() == f"# Boards\n\n{BEGIN}{markdown()}\n{END}\nThe rest.\n"
    assert capsys.readouterr().out == f"written to {page}\n"
    page.write_text("# Boards\n")
    assert main(["--page", str(page)]) == 2
    assert capsys.readouterr().err.startswith("lane_table: page has no place for the table: expected '<!-- lanes, ")
