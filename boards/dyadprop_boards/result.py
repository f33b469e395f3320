"""What a build found, as data: reports are written from it."""

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from dyadprop.connection import RATES
from dyadprop.protocol import MIN_PERIOD, PERIOD_FRACTION_BITS
from dyadprop_boards.speed import Work

Parts = dict[str, dict[str, int]]
"""Resources by part of the chip (`dyadprop_boards.netlist.part_of`)."""


@dataclass(frozen=True)
class Used:
    """How much of a resource a design takes, and how much there is."""

    used: int
    available: int


@dataclass(frozen=True)
class ClockTiming:
    """A clock, as place and route reports it.

    Attributes
    ----------
    name : str
        Of its net.
    asked, reached : float
        Hz; what place and route worked towards, and the highest at which each of its paths still holds.
    """

    name: str
    asked: float
    reached: float


@dataclass(frozen=True)
class Hop:
    """A part of a path.

    Attributes
    ----------
    kind : str
        ``clk-to-q``, ``routing``, ``logic`` or ``setup``.
    nanoseconds : float
    source, sink : str
        Cell and port.
    net : str
        Empty within a cell.
    """

    kind: str
    nanoseconds: float
    source: str
    sink: str
    net: str


@dataclass(frozen=True)
class Path:
    """The slowest path of a clock."""

    clock: str
    hops: tuple[Hop, ...]

    @property
    def nanoseconds(self) -> float:
        """Of the whole path."""
        return sum(hop.nanoseconds for hop in self.hops)

    def __str__(self) -> str:
        """Say where it begins and ends, and how much of it is wire."""
        wires = sum(hop.nanoseconds for hop in self.hops if hop.kind == "routing")
        return (
            f"{self.nanoseconds:.2f} ns from {self.hops[0].source} to {self.hops[-1].sink}, {wires:.2f} ns of it wires"
        )


@dataclass(frozen=True)
class ToolRun:
    """A tool's part in a build (`dyadprop_boards.steps.Done`)."""

    tool: str
    version: str
    seconds: float
    kept: bool


@dataclass(frozen=True)
class Placement:
    """One placement and what it reached.

    Attributes
    ----------
    seed : int
    clock : ClockTiming
        Of the network, and of all else where the link has no other.
    met : bool
        Whether it holds at the clocks asked for.
    resources : dict of str to Used
        ``luts``, ``flip_flops``, ``multipliers``, ``block_rams``.
    cells : dict of str to Used
        By the names of place and route.
    critical_path : Path or None
        Of the clock with the least margin.
    run : ToolRun
    log : str
        File's name.
    floorplan : str
        File's name (`dyadprop_boards.floorplan`).
    link_clock : ClockTiming or None
        Of the link, where it has its own.
    """

    seed: int
    clock: ClockTiming
    met: bool
    resources: dict[str, Used]
    cells: dict[str, Used]
    critical_path: Path | None
    run: ToolRun
    log: str
    floorplan: str
    link_clock: ClockTiming | None = None


@dataclass(frozen=True)
class BuildResult:
    """A build.

    Attributes
    ----------
    board, device, package, speed : str
    name : str
        Of the network's file.
    network : str
        Hash.
    widths, lanes : tuple of int
    work : Work
        What a sample takes.
    gateware, flow : str
        Revisions (`dyadprop_boards.revision`).
    self_test : bool
        Whether the chip tests itself at power-on.
    oscillator, clock_wanted, clock, link_clock : float
        Hz: at the pin; asked for by the user; made by the PLL, which place and route must reach; the link's, which may
        be the same.
    pll : dict or None
        Its divisors; None: the oscillator is the clock.
    baud : int
        At power-on.
    options : dict
        Tools' options that the build chose.
    synthesis : ToolRun
    synthesized : dict of str to int
        Cells by their type.
    parts, lane_parts : dict of str to dict of str to int
        Resources of each stage (``stage_1``), of ``head``, ``link`` and ``board``, after synthesis; and of each stage
        the share of its lanes.
    predicted, predicted_lanes : dict of str to dict of str to int
        The same before synthesis (`dyadprop_boards.resources`).
    estimate : dict of str to Used
        Resources after synthesis.
    placements : tuple of Placement
        In the order of seeds; empty where only synthesis was asked for.
    unplaced : dict of int to str
        Seeds without a placement, and why: place and route failed.
    best : int or None
        Seed whose placement is packed.
    packing : ToolRun or None
    bitstream : str
        File's name; empty where there is none.
    hashes : dict of str to str
        SHA-256 of the design (RTLIL) and of the bitstream.
    versions : dict of str to str
        Python and the packages that decide what is built.
    failure : str
        Why there is no bitstream; empty: there is one, or only synthesis was asked for.
    grid : tuple of int
        Columns and rows of the FPGA.
    """

    board: str
    device: str
    package: str
    speed: str
    name: str
    network: str
    widths: tuple[int, ...]
    lanes: tuple[int, ...]
    work: Work
    gateware: str
    flow: str
    self_test: bool
    oscillator: float
    clock_wanted: float
    clock: float
    link_clock: float
    pll: dict[str, Any] | None
    baud: int
    options: dict[str, str]
    synthesis: ToolRun
    synthesized: dict[str, int]
    parts: Parts
    lane_parts: Parts
    predicted: Parts
    predicted_lanes: Parts
    estimate: dict[str, Used]
    placements: tuple[Placement, ...] = ()
    unplaced: dict[int, str] = field(default_factory=dict)
    best: int | None = None
    packing: ToolRun | None = None
    bitstream: str = ""
    hashes: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    failure: str = ""
    grid: tuple[int, int] = (0, 0)

    @property
    def passed(self) -> bool:
        """Whether it did what was asked for."""
        return not self.failure

    @property
    def best_placement(self) -> Placement | None:
        """The placement that is packed, or the fastest where none is."""
        if not self.placements:
            return None
        return max(self.placements, key=lambda placement: (placement.met, placement.clock.reached))

    @property
    def minimum(self) -> float | None:
        """Slowest of the placements, Hz."""
        return min((p.clock.reached for p in self.placements), default=None)

    @property
    def median(self) -> float | None:
        """Median of the placements, Hz."""
        return statistics.median(p.clock.reached for p in self.placements) if self.placements else None

    @property
    def margin(self) -> float | None:
        """How much faster than its clock the best placement is, as a share; below 0 where it is slower."""
        best = self.best_placement
        return best.clock.reached / best.clock.asked - 1 if best else None

    def predicted_total(self, resource: str) -> int:
        """Give what of a resource was predicted."""
        return sum(part[resource] for part in self.predicted.values())

    @property
    def clocks(self) -> dict[str, float]:
        """Clocks in Hz at which figures are of interest: what is built, and what placements reached."""
        best = self.best_placement
        reached = {"best": best.clock.reached if best else None, "median": self.median, "minimum": self.minimum}
        return {"built": self.clock, **{name: clock for name, clock in reached.items() if clock is not None}}

    def document(self) -> dict[str, Any]:
        """Give all of it for JSON."""
        best = self.best_placement
        return {
            **asdict(self),
            "multipliers": self.work.multipliers,
            "interval": self.work.interval,
            "passed": self.passed,
            "reached": {
                "best": best.clock.reached if best else None,
                "best_seed": best.seed if best else None,
                "minimum": self.minimum,
                "median": self.median,
                "margin": self.margin,
            },
            "speed": {name: self.work.at(clock) for name, clock in self.clocks.items()},
            "line": [self.work.on_line(baud, self.clock) for baud in line_rates(self.baud, self.link_clock)],
        }


def line_rates(baud: int, clock: float) -> list[int]:
    """Give the rates of a serial line that are of interest: at power-on, and the fastest that drivers try."""
    fastest = max(RATES)
    return sorted({baud, fastest} if clock * (1 << PERIOD_FRACTION_BITS) / fastest >= MIN_PERIOD else {baud})
