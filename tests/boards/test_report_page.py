"""The report for people: what is in it, and that it holds together."""

from __future__ import annotations

import base64
import logging
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import dyadprop as dp
from dyadprop_boards.floorplan import Tile, keep_floorplan
from dyadprop_boards.report_files import FILES, write_report
from dyadprop_boards.report_page import sections
from dyadprop_boards.report_plots import floorplan_picture, utilisation_picture
from tests.boards.results import placement, result

TILES = [Tile("stage_1", "logic", 2, 3, 8), Tile("link", "logic", 2, 4, 2), Tile("stage_2", "multipliers", 9, 1, 1)]
TILES += [Tile("stage_1", "block_rams", 5, 7, 1)]


class Page(HTMLParser):
    """What an HTML page has: its text, cells, pictures, and tags that were not closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[bytes] = []
        self.text: list[str] = []
        self.foreign: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href") and value is not None:
                if value.startswith("data:image/png;base64,"):
                    self.images.append(base64.b64decode(value.partition(",")[2]))
                else:
                    self.foreign.append(value)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def write(tmp_path: Path, *reached: float) -> list[str]:
    for seed in range(1, len(reached) + 1):
        keep_floorplan(tmp_path / "none", tmp_path / f"seed-{seed}.floorplan.json")
    placements = [placement(seed, clock) for seed, clock in enumerate(reached, start=1)]
    return write_report(result(*placements), tmp_path, tmp_path)


def test_the_clock_section() -> None:
    found = {section.title: section for section in sections(result(placement(1, 82e6), placement(2, 90e6)))}
    clock = found["Clock"]
    assert clock.lines[1] == "Seed 2 is the fastest: 90.00 MHz, a margin of +12.5%."
    assert clock.lines[2] == "The link has a clock of its own, 40.00 MHz; there it reaches 55.00 MHz."
    assert clock.lines[3].startswith("2 seeds: minimum 82.00 MHz, median 86.00 MHz.")
    assert clock.rows == (("1", "82.00 MHz", "+2.5%", "holds", "61"), ("2", "90.00 MHz", "+12.5%", "holds", "62"))
    assert found["Slowest path"].lines == ("7.00 ns from chip.a|b.Q to chip.c.D, 6.25 ns of it wires.",)
    assert len(found["Slowest path"].rows) == 3


def test_resources_beside_their_prediction() -> None:
    rows = {row[0]: row[1:] for section in sections(result()) if section.title == "Resources" for row in section.rows}
    assert list(rows) == [
        "stage_1",
        "of it 4 lanes",
        "stage_2",
        "of it 2 lanes",
        "head",
        "link",
        "board",
        "all",
        "there are",
        "share",
    ]
    assert rows["stage_1"] == ("2000 (2100)", "3000 (3150)", "10 (10)", "14 (15)")
    assert rows["of it 2 lanes"][0] == "900 (910)"
    assert rows["all"][0] == "5907 (6202)"
    assert rows["there are"] == ("24288", "24288", "28", "56")
    assert rows["share"] == ("24%", "27%", "57%", "48%")


def test_speed_and_line() -> None:
    found = {section.title: section for section in sections(result(placement(1, 90e6)))}
    made = result()
    assert [row[0] for row in found["Speed"].rows] == ["built", "best", "median", "minimum"]
    assert found["Speed"].rows[0][2] == f"{80e6 / made.work.interval:,.0f}"
    assert [row[3] for row in found["Line"].rows] == ["link-bound", "link-bound"]


def test_pages(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    written = write(tmp_path, 82e6, 90e6)
    assert written == ["report.json", "report.md", "report.html", "utilisation.png"]
    page = Page((tmp_path / "report.html").read_text())
    assert page.open == []
    assert page.foreign == []
    assert page.images == [(tmp_path / "utilisation.png").read_bytes()]
    text = " ".join(page.text)
    markdown = (tmp_path / "report.md").read_text()
    assert "![utilisation.png](utilisation.png)" in markdown
    compared = 0
    for section in sections(result(placement(1, 82e6), placement(2, 90e6))):
        assert f"## {section.title}\n" in markdown
        for line in section.lines:
            assert line in text
            assert line in markdown
        for row in section.rows:
            assert f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" in markdown
            assert all(cell in page.text for cell in row if cell)
            compared += 1
    assert compared > 30
    assert re.search(r"\n\n\n", markdown) is None


def test_a_failure_is_on_top(tmp_path: Path) -> None:
    failed = result(placement(1, 70e6), failure="it is <slow> & late")
    keep_floorplan(tmp_path / "none", tmp_path / "seed-1.floorplan.json")
    write_report(failed, tmp_path, tmp_path)
    assert "failed: it is &lt;slow&gt; &amp; late" in (tmp_path / "report.html").read_text()
    assert "failed: it is <slow> & late" in (tmp_path / "report.md").read_text()
    assert "| bitstream | none |" in (tmp_path / "report.md").read_text()


def test_synthesis_only(tmp_path: Path) -> None:
    assert write_report(result(), tmp_path, tmp_path) == ["report.json", "report.md", "report.html", "utilisation.png"]
    text = (tmp_path / "report.md").read_text()
    assert "| verdict | synthesis only |" in text
    assert '<p class="verdict">synthesis only</p>' in (tmp_path / "report.html").read_text()
    assert "Clock" not in text


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delitem(sys.modules, "dyadprop_boards.report_plots")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with caplog.at_level(logging.WARNING):
        assert write_report(result(), tmp_path, tmp_path) == ["report.json", "report.md", "report.html"]
    assert "the report has no pictures: " in caplog.text
    assert "png" not in (tmp_path / "report.html").read_text()


def test_pictures(tmp_path: Path) -> None:
    utilisation_picture(tmp_path / "utilisation.png", result())
    floorplan_picture(tmp_path / "floorplan.png", TILES, "a floorplan")
    for name in ("utilisation.png", "floorplan.png"):
        assert name in FILES
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(dp.RangeError, match=r"^picture .*/no/such/place\.png cannot be written: No such file"):
        utilisation_picture(tmp_path / "no" / "such" / "place.png", result())
