"""Late arrivals are read out of nextpnr's detailed report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dyadprop.errors import BuildError
from dyadprop_boards import placed_paths
from dyadprop_boards.placed_paths import Arrivals, late_arrivals


def net(driver: str, *ends: tuple[str, float], clock: str = "fast", to: str = "fast") -> dict[str, Any]:
    endpoints = [
        {"cell": cell, "port": "DI", "delay": [delay - 0.5, delay], "event": f"posedge {to}"} for cell, delay in ends
    ]
    return {"driver": driver, "port": "F", "event": f"posedge {clock}", "endpoints": endpoints}


REPORT = {
    "detailed_net_timings": [
        net("lane_3.lut", ("lane_3.sum_q1", 6.5), ("lane_3.sum_q2", 5.0)),
        net("lane_4.lut", ("lane_4.sum_q1", 7.25)),
        net("other", ("slow_q1", 9.0), clock="link", to="link"),
        net("crossing", ("slow_q1", 20.0), to="link"),
    ]
}


def test_registers_of_one_name_are_one_line() -> None:
    assert late_arrivals(REPORT, 6.0) == [
        Arrivals("link", 9.0, 1, "other.F", "slow_q#.DI"),
        Arrivals("fast", 7.25, 2, "lane_#.lut.F", "lane_#.sum_q#.DI"),
    ]
    assert [group.endpoints for group in late_arrivals(REPORT, 5.0)] == [1, 3]
    assert late_arrivals(REPORT, 9.5) == []


def test_a_report_without_arrivals_is_refused() -> None:
    with pytest.raises(BuildError, match=r"has no arrivals; nextpnr writes them with --detailed-timing-report$"):
        late_arrivals({"fmax": {}}, 6.0)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"

    def run(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["placed_paths", str(path), *arguments])
        return placed_paths.main()

    assert run() == 2
    assert capsys.readouterr().err == f"placed_paths: report {path} cannot be read: No such file or directory\n"
    for text, told in (("{", "is no JSON"), ("[]", "the report has no arrivals")):
        path.write_text(text)
        assert run() == 2
        assert told in capsys.readouterr().err
    path.write_text(json.dumps(REPORT))
    assert run("--clock", "fast") == 0
    assert capsys.readouterr().out.splitlines() == [
        "2 registers at 6 ns or more; latest first",
        "  7.25 ns x    2  lane_#.lut.F -> lane_#.sum_q#.DI  (fast)",
    ]
