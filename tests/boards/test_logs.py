"""Reports of the tools, in small: what is in them is read, what is not is an error."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

import dyadprop as dp
from dyadprop_boards import fpgas
from dyadprop_boards.logs import check_clocks, count_resources, read_cells, read_parts, read_placement, slowest_path
from dyadprop_boards.result import ClockTiming, Hop, Path, Used

STAT = {
    "creator": "Yosys 0.70",
    "modules": {"\\top": {"num_cells": 9}},
    "design": {
        "num_cells": 9,
        "num_cells_by_type": {"$scopeinfo": 4, "CCU2C": 2, "LUT4": 30, "TRELLIS_FF": 12, "DP16KD": 3},
    },
}


def hop(kind: str, delay: float, source: str, sink: str, **more: str) -> dict[str, Any]:
    cells = [dict(zip(("cell", "port"), end.rsplit(".", 1), strict=True), loc=[3, 4]) for end in (source, sink)]
    return {"delay": delay, "from": cells[0], "to": cells[1], "type": kind, **more}


REPORT: dict[str, Any] = {
    "critical_paths": [
        {
            "from": "posedge $glbnet$clk",
            "to": "posedge $glbnet$clk",
            "path": [
                hop("clk-to-q", 0.5, "a.reg.Q", "a.reg.Q"),
                hop("routing", 1.25, "a.reg.Q", "lut.A", net="a"),
                hop("logic", 0.25, "lut.A", "lut.F"),
                hop("setup", 0.125, "b.reg.DI", "b.reg.DI"),
            ],
        },
        {"from": "<async>", "to": "posedge $glbnet$clk", "path": [hop("source", 9.0, "rx.O", "rx.O")]},
    ],
    "fmax": {"$glbnet$clk": {"achieved": 101.5, "constraint": 80.0}},
    "utilization": {
        "TRELLIS_COMB": {"used": 40, "available": 24288},
        "TRELLIS_FF": {"used": 12, "available": 24288},
        "DP16KD": {"used": 3, "available": 56},
        "EHXPLLL": {"used": 1, "available": 2},
    },
}


def placement(report: dict[str, Any]) -> dict[str, Any]:
    return read_placement(json.dumps(report), "seed-1.report.json", fpgas.LFE5U_25F, {})


def test_cells() -> None:
    cells = read_cells(json.dumps(STAT), "top.stat.json")
    assert cells == {"CCU2C": 2, "LUT4": 30, "TRELLIS_FF": 12, "DP16KD": 3}
    assert count_resources(cells, fpgas.LFE5U_25F) == {
        "luts": Used(34, 24288),
        "flip_flops": Used(12, 24288),
        "multipliers": Used(0, 28),
        "block_rams": Used(3, 56),
    }


def test_parts() -> None:
    cells = {
        "chip.core.network.stage_1.lane_0.sum_LUT4_Z_3": "LUT4",
        "chip.core.network.stage_1.lane_0.sum_CCU2C_S0": "CCU2C",
        "chip.core.network.stage_12.product_MULT18X18D": "MULT18X18D",
        "chip.core.crossing.network.head.counts_TRELLIS_FF_Q": "TRELLIS_FF",
        "chip.core.session.slots.0.0": "DP16KD",
        "chip.receiver.bits_TRELLIS_FF_Q": "TRELLIS_FF",
        "clocks.pll": "EHXPLLL",
        "clocks.power_on.waited_TRELLIS_FF_Q": "TRELLIS_FF",
    }
    netlist = {"modules": {"$cell": {}, "top": {"cells": {name: {"type": kind} for name, kind in cells.items()}}}}
    parts, lanes, lone = read_parts(json.dumps(netlist), "top.json", fpgas.LFE5U_25F)
    assert lone == 0
    assert {part: [count for count in found.values() if count] for part, found in parts.items()} == {
        "stage_1": [3],
        "stage_12": [1],
        "head": [1],
        "link": [1, 1],
        "board": [1],
    }
    assert {part: found["luts"] for part, found in lanes.items()} == {"stage_1": 3}
    assert parts["stage_12"] == {"luts": 0, "flip_flops": 0, "multipliers": 1, "block_rams": 0}
    with pytest.raises(dp.BuildError, match=r"^cells are not in top\.json: no 'top'$"):
        read_parts('{"modules": {}}', "top.json", fpgas.LFE5U_25F)


def test_a_register_without_a_lut_of_its_own_takes_a_cell_of_an_ice40() -> None:
    def cell(kind: str, output: dict[str, int], inputs: dict[str, int]) -> dict[str, object]:
        return {
            "type": kind,
            "connections": {port: [bit] for port, bit in (output | inputs).items()},
            "port_directions": {**dict.fromkeys(output, "output"), **dict.fromkeys(inputs, "input")},
        }

    cells = {
        "chip.core.private_SB_LUT4_O": cell("SB_LUT4", {"O": 3}, {"I0": 2}),
        "chip.core.behind_private_SB_DFF_Q": cell("SB_DFF", {"Q": 4}, {"D": 3}),
        "chip.core.shared_SB_LUT4_O": cell("SB_LUT4", {"O": 5}, {"I0": 4}),
        "chip.core.behind_shared_SB_DFFE_Q": cell("SB_DFFE", {"Q": 6}, {"D": 5}),
        "chip.core.network.head.too_SB_DFFSR_Q": cell("SB_DFFSR", {"Q": 7}, {"D": 5}),
        "chip.core.behind_a_register_SB_DFF_Q": cell("SB_DFF", {"Q": 8}, {"D": 7}),
    }
    netlist = json.dumps({"modules": {"top": {"cells": cells}}})
    parts, _, lone = read_parts(netlist, "top.json", fpgas.ICE40UP5K)
    assert lone == 3
    assert {part: (found["luts"], found["flip_flops"]) for part, found in parts.items()} == {
        "link": (2 + 2, 3),
        "head": (1, 1),
    }


def test_cells_of_other_families() -> None:
    ice40 = count_resources({"SB_LUT4": 9, "SB_CARRY": 4, "SB_DFFESR": 3, "SB_DFF": 1, "SB_MAC16": 2}, fpgas.ICE40UP5K)
    assert [used.used for used in ice40.values()] == [9, 4, 2, 0]
    gowin = count_resources(
        {"LUT2": 5, "ALU": 3, "DFFCE": 2, "MULT36X36": 1, "SDPB": 2, "RAM16SDP4": 1}, fpgas.GW1NR_9C
    )
    assert [used.used for used in gowin.values()] == [16, 2, 4, 2]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"design": {}}', '{"design": {"num_cells_by_type": {"LUT4": "many"}}}']
)
def test_cells_that_are_not_there(text: str) -> None:
    with pytest.raises(dp.BuildError, match=r"^cells of the netlist are not in top\.stat\.json: ."):
        read_cells(text, "top.stat.json")


def test_placement() -> None:
    read = placement(REPORT)
    assert read["clocks"] == (ClockTiming("$glbnet$clk", 80e6, 101.5e6),)
    assert read["resources"]["luts"] == Used(40, 24288)
    assert read["resources"]["multipliers"] == Used(0, 28)
    assert read["cells"]["EHXPLLL"] == Used(1, 2)
    path = slowest_path(read["paths"], "$glbnet$clk")
    assert path is not None
    assert path.nanoseconds == 2.125
    assert str(path) == "2.12 ns from a.reg.Q to b.reg.DI, 1.25 ns of it wires"
    assert path.hops[1] == Hop("routing", 1.25, "a.reg.Q", "lut.A", "a")


def test_registers_of_an_ice40_are_those_of_its_netlist() -> None:
    report = {**REPORT, "utilization": {"ICESTORM_LC": {"used": 9, "available": 5280}}}
    netlist = count_resources({"SB_DFF": 7, "SB_LUT4": 5}, fpgas.ICE40UP5K)
    resources = read_placement(json.dumps(report), "r.json", fpgas.ICE40UP5K, netlist)["resources"]
    assert (resources["luts"].used, resources["flip_flops"].used) == (9, 7)


@pytest.mark.parametrize("missing", ["fmax", "utilization", "critical_paths"])
def test_placement_that_lacks_something(missing: str) -> None:
    report = {key: value for key, value in REPORT.items() if key != missing}
    with pytest.raises(dp.BuildError, match=rf"^timing and use are not in seed-1\.report\.json: no '{missing}'$"):
        placement(report)


def test_placement_that_is_cut_off() -> None:
    with pytest.raises(dp.BuildError, match=r"^timing and use are not in r\.json: "):
        read_placement(json.dumps(REPORT)[:-9], "r.json", fpgas.LFE5U_25F, {})


ONE, TWO = {"network": 80e6}, {"network": 80e6, "link": 40e6}


def clocks(**changed: Any) -> tuple[ClockTiming, ...]:
    report = copy.deepcopy(REPORT)
    report["fmax"]["$glbnet$clk"] |= changed
    return placement(report)["clocks"]


def test_clock() -> None:
    assert check_clocks(clocks(), ONE, "seed-1.log")["network"].reached == 101.5e6
    # Whole picoseconds: 7 ns are 142.857 MHz.
    assert check_clocks(clocks(constraint=18.001152), {"network": 18e6}, "seed-1.log")["network"].asked == 18.001152e6


def test_two_clocks() -> None:
    link = ClockTiming("link", 40e6, 62e6)
    assert check_clocks((link, *clocks()), TWO, "seed-1.log") == {"link": link, "network": clocks()[0]}
    # The same clock under two names: the slower counts.
    slower = ClockTiming("also", 40e6, 41e6)
    assert check_clocks((link, slower, *clocks()), TWO, "seed-1.log")["link"] == slower
    with pytest.raises(
        dp.BuildError, match=r"^place and route reports no clock, so nothing says that 40 MHz hold; see"
    ):
        check_clocks(clocks(), TWO, "seed-1.log")
    with pytest.raises(dp.BuildError, match=r"^clock 'lost' was placed for 12 MHz; asked for were 80 and 40 MHz; see"):
        check_clocks((link, *clocks(), ClockTiming("lost", 12e6, 99e6)), TWO, "seed-1.log")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((), r"^place and route reports no clock, so nothing says that 80 MHz hold; see seed-1\.log$"),
        (
            clocks(constraint=12),
            r"^clock '\$glbnet\$clk' was placed for 12 MHz; asked for were 80 MHz; see seed-1\.log$",
        ),
        (clocks(constraint=80.1), r"was placed for 80\.1 MHz; asked for were 80 MHz"),
        (clocks(achieved=0.0), r"^place and route reports an fmax of 0\.0 for clock"),
        (clocks(achieved=float("inf")), r"^place and route reports an fmax of inf for clock"),
        ((*clocks(), ClockTiming("other", 12e6, 300e6)), r"^clock 'other' was placed for 12 MHz"),
    ],
)
def test_clock_that_nothing_can_be_said_of(found: tuple[ClockTiming, ...], message: str) -> None:
    with pytest.raises(dp.BuildError, match=message):
        check_clocks(found, ONE, "seed-1.log")


def test_no_path_within_the_clock() -> None:
    assert slowest_path((Path("clk", (Hop("source", 1.0, "rx.O", "rx.O", ""),)),), "clk") is None
