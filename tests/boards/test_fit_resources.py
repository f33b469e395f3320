"""Fitting: made-up designs whose resources follow a rule are predicted by that rule."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

import dyadprop as dp
from dyadprop_boards import fit_resources
from dyadprop_boards.design import fit
from dyadprop_boards.fit_resources import Measured, compare, describe, failures, fit_table, main
from dyadprop_boards.fpgas import RESOURCES
from dyadprop_boards.progress import Progress
from dyadprop_boards.resources import Features, coefficients, part_features
from dyadprop_boards.sample_designs import Sample, samples
from dyadprop_boards.table import find_board

RULE = {
    "lanes": {"luts": {"lanes": 90.0, "gradient_bits": 3.5}, "flip_flops": {"lanes": 200.0, "weight_bits": 7.0}},
    "edge": {"luts": {"one": 400.0, "sample_bits": 11.0}, "flip_flops": {"one": 500.0, "places": 9.0}},
    "head": {"luts": {"one": 300.0, "softmax": 200.0}, "flip_flops": {"one": 250.0}},
    "link": {"luts": {"one": 2400.0, "words_bits": 8.0}, "flip_flops": {"one": 1400.0}},
    "board": {"luts": {"one": 7.0}, "flip_flops": {"one": 14.0}},
}


def invented(sample: Sample, seed: int = 1, noise: float = 0.0) -> Measured:
    """Give a design that takes what the rule says, more or less."""
    rng = random.Random(f"{seed} {sample.name}")
    design = fit(sample.net, find_board(sample.board), checked=False)
    rows: list[tuple[Features, dict[str, int]]] = []
    for features in part_features(design.plan, design.board, design.clock):
        used: dict[str, int] = {}
        for resource in RESOURCES:
            rule = RULE[features.kind].get(resource, {})
            more = sum(share * features.values[name] for name, share in rule.items())
            if resource in ("luts", "flip_flops"):
                more *= 1 + noise * rng.uniform(-1, 1)
            used[resource] = features.known[resource] + round(more)
        rows.append((features, used))
    return Measured(sample, rows, "yosys")


def test_a_rule_is_found() -> None:
    table, found = compare([invented(sample) for sample in samples("ecp5")])
    assert len(found) == len(samples("ecp5")) >= 8
    for entry in found:
        for name in ("luts", "flip_flops"):
            assert abs(entry["off"][name]) < 0.02
            assert abs(entry["off_unseen"][name]) < 0.10
        for name in ("multipliers", "block_rams"):
            assert entry["predicted"][name] == entry["actual"][name]
    assert failures(found) == []
    assert all(value > 0 for kind in table.values() for rule in kind.values() for value in rule.values())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_is_averaged(seed: int) -> None:
    _, found = compare([invented(sample, seed, noise=0.05) for sample in samples("ecp5")])
    for entry in found:
        for name in ("luts", "flip_flops"):
            assert abs(entry["off"][name]) < 0.05
            assert abs(entry["off_unseen"][name]) < 0.20


def test_what_is_not_exact_is_told() -> None:
    designs = [invented(sample) for sample in samples("ecp5")]
    features, used = designs[0].rows[0]
    designs[0].rows[0] = (features, {**used, "block_rams": used["block_rams"] + 1})
    _, found = compare(designs)
    assert failures(found) == ["ulx3s-85f 2-2-1: block RAMs"]
    found[1]["off"]["luts"] = 0.11
    assert failures(found)[1:] == ["ulx3s-85f 64-32-10: LUTs"]


def test_a_line_about_a_design() -> None:
    _, (entry, *_) = compare([invented(sample) for sample in samples("ecp5")])
    entry |= {"off": {"luts": 0.012, "flip_flops": -0.003}, "off_unseen": {"luts": 0.05, "flip_flops": 0.0}}
    luts, predicted = entry["actual"]["luts"], entry["predicted"]["luts"]
    told = describe(entry)
    assert told.startswith(
        f"ulx3s-85f 2-2-1: {luts} LUTs, predicted {predicted} (+1.2%, without it among the fitted +5.0%)"
    )
    assert re.search(r"; 7 multipliers, predicted 7; (\d+) block RAMs, predicted \1$", told)


def test_features_without_a_use_get_no_coefficient() -> None:
    table = fit_table([invented(sample) for sample in samples("ecp5")])
    assert "softmax" in table["head"]["luts"]
    assert "product_bits" not in table["lanes"]["luts"], "all products are in multipliers"


def stand_in(monkeypatch: pytest.MonkeyPatch, noise: float = 0.0) -> list[str]:
    asked = []

    def measure(sample: Sample, folder: Path, progress: Progress) -> Measured:
        asked.append(sample.name)
        return invented(sample, noise=noise)

    monkeypatch.setattr(fit_resources, "measure", measure)
    return asked


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = stand_in(monkeypatch)
    path = tmp_path / "coefficients.json"
    path.write_text(json.dumps({"families": {"gowin": {"kept": {}}}}))
    assert main(["--family", "ecp5", "--coefficients", str(path)]) == 0
    assert asked == [sample.name for sample in samples("ecp5")]
    document: Any = json.loads(path.read_text())
    assert document["command"] == "python -m dyadprop_boards.fit_resources"
    assert document["families"]["gowin"] == {"kept": {}}, "a family that was not asked for stays"
    assert document["families"]["ecp5"].keys() == {"lanes", "edge", "head", "link", "board"}
    assert len(document["designs"]["ecp5"]["predicted"]) == len(asked)
    assert f"written to {path}" in capsys.readouterr().out


def test_the_command_fails_where_the_formulas_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch)
    monkeypatch.setattr(fit_resources, "failures", lambda found: ["all of it"])
    assert main(["--family", "ecp5", "--coefficients", str(tmp_path / "new.json")]) == 1
    assert capsys.readouterr().out.endswith("\nnot as it should be: all of it\n")

    def broken(sample: Sample, folder: Path, progress: Progress) -> Measured:
        raise dp.BuildError("yosys is not installed")

    monkeypatch.setattr(fit_resources, "measure", broken)
    assert main(["--family", "ecp5", "--coefficients", str(tmp_path / "none.json")]) == 3
    assert capsys.readouterr().err == "fit_resources: yosys is not installed\n"
    assert not (tmp_path / "none.json").exists()


def test_what_the_package_has_was_made_by_the_command() -> None:
    for family in fit_resources.FAMILIES:
        assert coefficients(family), family
        for kind, rules in coefficients(family).items():
            assert kind in RULE
            assert rules.keys() >= {"luts", "flip_flops"}
