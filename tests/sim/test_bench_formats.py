from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from dyadprop.cli import main
from dyadprop_sim.commands import bench_formats
from dyadprop_sim.commands.bench_formats import CASES, score

SMALL = [replace(case, epochs=2) for case in CASES if case.data in ("breast_cancer", "diabetes")]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(bench_formats, "CASES", SMALL)


@pytest.mark.usefixtures("small")
def test_the_suite(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench_formats, "SCORE_GOALS", dict.fromkeys((16, 12, 8), 0.1))
    assert main(["bench", "formats", "--runs", "1", "--json", str(tmp_path / "f.json")]) == 0
    document = json.loads((tmp_path / "f.json").read_text())
    assert document["passed"]
    rows = [row for case in document["cases"] for row in case["rows"]]
    assert [row["bits"] for row in rows] == [16, 12, 8] * 2
    for row in rows:
        for key in ("start", "end", "end_scaled"):
            assert len(row[key]) == 2
            assert all(0.9 < cosine <= 1.0 + 1e-12 for cosine in row[key])
        assert len(row["scores"]) == 1
    for case in document["cases"]:
        words = [row["start"] for row in case["rows"]]
        assert min(words[0]) > min(words[1]) > min(words[2])  # more bits, more of the gradient
    assert "diabetes, 10-16-1, squared_error" in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_a_goal_can_be_missed(capsys, monkeypatch):
    monkeypatch.setattr(bench_formats, "COSINE_GOALS", {8: 1.0})
    monkeypatch.setattr(bench_formats, "SCORE_GOALS", dict.fromkeys((16, 12, 8), -1.0))
    assert main(["bench", "formats", "--runs", "1"]) == 1
    out = capsys.readouterr().out
    assert out.count("failed: ") == 8
    assert "failed: diabetes: cosine at 8 bits is 0.9" in out
    assert main(["bench", "formats", "--runs", "0"]) == 2


def test_scores():
    targets = np.array([[1.0], [2.0], [6.0]])
    assert score(targets, targets) == 1.0
    assert score(np.full((3, 1), 3.0), targets) == 0.0
    assert score(np.array([[1.0, 0.0], [0.2, 0.1]]), np.eye(2)) == 0.5
