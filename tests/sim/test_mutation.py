"""A few mutants of the smallest network: the whole number is `make mutate`'s."""

import json
from importlib.resources import files
from pathlib import Path

import pytest

from dyadprop_sim.mutation import __main__ as mutation


def test_a_few_mutants_of_the_smallest_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mutants.json"
    arguments = ["mutation", "--network", "one", "--mutants", "30", "--seed", "2", "--json", str(file)]
    monkeypatch.setattr("sys.argv", arguments)
    code = mutation.main()
    found = json.loads(file.read_text())
    assert found["mutants"] == 30
    # Which mutants are drawn changes with the gateware: a survivor or two may come with it, and is then looked into.
    assert found["killed"] >= 25
    assert code == (1 if found["survivors"] else 0)
    assert "30 mutants found" in capsys.readouterr().out


def test_each_rule_has_a_reason() -> None:
    rules = mutation.read_rules()
    assert len(rules) > 5
    assert all(len(rule.reason) > 20 for rule in rules)


def test_each_rule_names_a_line_that_is_there() -> None:
    sources: dict[str, str] = {}
    for package in ("amaranth", "dyadprop_hw"):
        for path in Path(str(files(package))).rglob("*.py"):
            sources[path.name] = sources.get(path.name, "") + path.read_text()
    codes = [rule.code for rule in mutation.read_rules() if rule.code]
    assert len(codes) > 30
    for code in codes:
        file, _, text = code.partition(": ")
        assert text in sources[file], f"{code}: is it still equivalent?"
