"""A build's result, made up."""

from __future__ import annotations

from dataclasses import replace

import dyadprop as dp
from dyadprop.plan import plan_network
from dyadprop_boards.fpgas import LFE5U_25F, RESOURCES
from dyadprop_boards.result import BuildResult, ClockTiming, Hop, Path, Placement, ToolRun, Used
from dyadprop_boards.speed import Work

NET = dp.Network(64, [dp.Dense(8, "tanh", lanes=4), dp.Dense(10, lanes=2)])

_PARTS = {
    "stage_1": (2000, 3000, 10, 14),
    "stage_2": (1200, 1900, 6, 6),
    "head": (300, 250, 0, 0),
    "link": (2400, 1500, 0, 7),
    "board": (7, 14, 0, 0),
}


def used(*counts: int) -> dict[str, int]:
    return dict(zip(RESOURCES, counts, strict=True))


def placement(seed: int, reached: float, asked: float = 80e6) -> Placement:
    path = Path(
        "clk",
        (
            Hop("clk-to-q", 0.5, "chip.a|b.Q", "chip.a|b.Q", "a"),
            Hop("routing", 6.25, "chip.a|b.Q", "chip.c.D", "a"),
            Hop("setup", 0.25, "chip.c.D", "chip.c.D", ""),
        ),
    )
    return Placement(
        seed=seed,
        clock=ClockTiming("clk", asked, reached),
        met=reached >= asked,
        resources={name: Used(5900 + k, LFE5U_25F.has(name)) for k, name in enumerate(RESOURCES)},
        cells={},
        critical_path=path,
        run=ToolRun("nextpnr-ecp5", "0.11.1", 60.0 + seed, kept=False),
        log=f"seed-{seed}.log",
        floorplan=f"seed-{seed}.floorplan.json",
        link_clock=ClockTiming("link", asked / 2, 55e6),
    )


def result(*placements: Placement, failure: str = "") -> BuildResult:
    plan = plan_network(NET)
    parts = {part: used(*counts) for part, counts in _PARTS.items()}
    more = {part: used(*(round(1.05 * count) for count in counts)) for part, counts in _PARTS.items()}
    total = {name: sum(part[name] for part in parts.values()) for name in RESOURCES}
    made = BuildResult(
        board="ulx3s-25f",
        device="LFE5U-25F",
        package="BG381",
        speed="6",
        name="digits",
        network=NET.hash,
        widths=tuple(NET.widths),
        lanes=plan.lanes,
        work=Work.of(plan),
        gateware="0123456789ab",
        flow="ba9876543210",
        self_test=True,
        oscillator=25e6,
        clock_wanted=80e6,
        clock=80e6,
        link_clock=40e6,
        pll={"reference": 25_000_000},
        baud=1_000_000,
        options={"synthesis": "", "after_read": "delete t:$check"},
        synthesis=ToolRun("yosys", "0.70", 100.0, kept=True),
        synthesized={},
        parts=parts,
        lane_parts={"stage_1": used(1500, 2000, 8, 12), "stage_2": used(900, 1500, 6, 6)},
        predicted=more,
        predicted_lanes={"stage_1": used(1510, 2010, 8, 12), "stage_2": used(910, 1510, 6, 6)},
        estimate={name: Used(total[name], LFE5U_25F.has(name)) for name in RESOURCES},
        hashes={"design": "d" * 64},
        versions={"python": "3.11"},
        placements=placements,
        failure=failure,
    )
    if not placements or failure:
        return made
    best = made.best_placement
    assert best is not None
    return replace(
        made,
        best=best.seed,
        bitstream="digits.bit",
        packing=ToolRun("ecppack", "0.11.1", 3.0, kept=False),
        hashes={**made.hashes, "bitstream": "b" * 64},
    )
