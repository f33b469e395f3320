"""Slow paths of a netlist are found before placement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dyadprop.errors import BuildError
from dyadprop_boards import long_paths
from dyadprop_boards.long_paths import Paths


def cell(kind: str, outputs: dict[str, list[Any]], inputs: dict[str, list[Any]], **parameters: str) -> dict[str, Any]:
    directions = {**dict.fromkeys(outputs, "output"), **dict.fromkeys(inputs, "input")}
    return {
        "type": kind,
        "connections": {**outputs, **inputs},
        "port_directions": directions,
        "parameters": parameters,
    }


def design(**cells: dict[str, Any]) -> dict[str, Any]:
    """Give a netlist whose top module has these cells."""
    nets = {f"net{bit}": {"bits": [bit]} for bit in range(2, 30)}
    return {"modules": {"top": {"attributes": {"top": "1"}, "cells": cells, "netnames": nets}}}


CHAIN = {
    "from_3_TRELLIS_FF_Q": cell("TRELLIS_FF", {"Q": [2]}, {"CLK": [20], "DI": [9]}),
    "a_LUT4_Z": cell("LUT4", {"Z": [3]}, {"A": [2], "B": ["0"]}),
    "b_LUT4_Z": cell("LUT4", {"Z": [4]}, {"A": [3], "B": [2]}),
    "to_7_TRELLIS_FF_Q": cell("TRELLIS_FF", {"Q": [5]}, {"CLK": [20], "DI": [4], "CE": [3]}),
}


def test_a_path_is_what_its_cells_and_wires_take() -> None:
    groups = Paths(design(**CHAIN), wire=1.0).groups(1.9)
    delays = {(group.source, group.sink): (round(group.delay, 2), group.levels) for group in groups}
    assert delays == {
        ("from_#", "to_#.DI"): (3.0, 2),  # 0.52 + 2 * (1.0 + 0.24): the last LUT feeds the register beside it
        ("from_#", "to_#.CE"): (3.16, 1),  # 0.52 + 1.0 + 0.24 + 1.0 + 0.4
    }
    assert [line.split()[1] for line in groups[0].wires] == ["net2", "net3"]  # the enable's setup makes it the slowest


@pytest.mark.parametrize(("mode", "delay"), [("NOREG", 5.83), ("OUTREG", 1.0)])
def test_a_memory_is_slow_without_its_register(mode: str, delay: float) -> None:
    memory = cell("DP16KD", {"DOA0": [6]}, {"CLKA": [20]}, REGMODE_A=mode)
    register = cell("TRELLIS_FF", {"Q": [7]}, {"CLK": [20], "DI": [6]})
    (group,) = Paths(design(memory=memory, register=register), wire=0.5).groups(0.6)
    assert (group.delay, group.levels, group.endpoints) == (delay + 0.5, 0, 1)


def test_a_carry_chain_has_no_wires_inside() -> None:
    start = cell("TRELLIS_FF", {"Q": [2]}, {"CLK": [20], "DI": [9]})
    first = cell("CCU2C", {"COUT": [3]}, {"A0": [2]})
    middle = cell("CCU2C", {"COUT": [4]}, {"CIN": [3]})
    last = cell("CCU2C", {"S1": [5]}, {"CIN": [4]})
    end = cell("TRELLIS_FF", {"Q": [8]}, {"CLK": [20], "DI": [5]})
    (group,) = Paths(design(start=start, first=first, middle=middle, last=last, end=end), wire=1.0).groups(1.9)
    assert group.delay == pytest.approx(0.52 + 1.0 + 0.45 + 0.06 + 0.45)
    assert group.levels == 1


def test_the_command_shows_groups_and_one_path(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    netlist = tmp_path / "top.json"
    netlist.write_text(json.dumps(design(**CHAIN)))

    def run(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["long_paths", str(netlist), "--limit", "1.9", "--wire", "1", *arguments])
        return long_paths.main()

    assert run() == 0
    assert capsys.readouterr().out.splitlines() == [
        "2 endpoints at 1.9 ns or more; slowest first",
        "  3.16 ns   1 levels x    1  from_# -> to_#.CE",
        "  3.00 ns   2 levels x    1  from_# -> to_#.DI",
    ]
    assert run("--path", "DI$") == 0
    assert capsys.readouterr().out.splitlines()[2:] == ["  0.52  net2", "  1.76  net3", "  3.00  net4"]
    assert run("--path", "(") == 2
    assert "long_paths: " in capsys.readouterr().err
    netlist.write_text("no")
    assert run() == 2
    assert f"long_paths: netlist {netlist} is no JSON" in capsys.readouterr().err
    netlist.unlink()
    assert run() == 2
    assert capsys.readouterr().err == f"long_paths: netlist {netlist} cannot be read: No such file or directory\n"


def test_a_netlist_without_a_top_is_refused() -> None:
    with pytest.raises(BuildError, match="the netlist has no top module"):
        Paths({"modules": {"part": {"cells": {}}}})
