"""The report of a build for people, as Markdown and as one HTML file that needs no other."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from dyadprop.files import write_atomically
from dyadprop_boards.floorplan import parts_in_order
from dyadprop_boards.fpgas import RESOURCE_NAMES, RESOURCES
from dyadprop_boards.result import BuildResult, line_rates

PAGES = ("report.md", "report.html")
_HOPS = 12  # of the slowest path


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes
    ----------
    title : str
    lines : tuple of str
        Paragraphs.
    header : tuple of str
        Of the table; empty: there is none.
    rows : tuple of tuple of str
    pictures : tuple of str
        File names.
    """

    title: str
    lines: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    pictures: tuple[str, ...] = ()


def write_pages(result: BuildResult, folder: Path, pictures: Iterable[Path]) -> list[str]:
    """Write `PAGES`; give their names.

    Parameters
    ----------
    result : BuildResult
    folder : path
    pictures : iterable of path
        PNG files in the folder; the HTML file holds them, the Markdown file names them.
    """
    paths = list(pictures)
    parts = sections(result, [path.name for path in paths])
    data = {path.name: base64.b64encode(path.read_bytes()).decode() for path in paths}
    for name in PAGES:
        write_atomically("report", folder / name, render(name, result, parts, data))
    return list(PAGES)


def render(page: str, result: BuildResult, parts: Iterable[Section], pictures: Mapping[str, str]) -> str:
    """Give a page's text; ``pictures`` are PNG files in base64, by their names."""
    template = _environment(page.endswith(".html")).from_string(_template(page))
    return template.render(
        title=_title(result),
        verdict=_verdict(result),
        passed=result.passed,
        sections=list(parts),
        pictures=pictures,
    )


@cache
def _environment(html: bool) -> Environment:
    return Environment(autoescape=html, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)


@cache
def _template(page: str) -> str:
    return (files("dyadprop_boards") / "templates" / f"{page}.jinja").read_text()


def sections(result: BuildResult, pictures: Iterable[str] = ()) -> list[Section]:
    """Give the report's sections."""
    names = tuple(pictures)
    found = [_summary(result)]
    if result.placements:
        found += [_clock(result), _path(result)]
    found += [_resources(result), _speed(result), _line(result)]
    if names:
        found.append(Section("Pictures", pictures=names))
    return [*found, _tools(result), _made_of(result)]


def _title(result: BuildResult) -> str:
    return f"{'-'.join(map(str, result.widths))} for {result.board}"


def _verdict(result: BuildResult) -> str:
    if result.failure:
        return f"failed: {result.failure}"
    return "passed" if result.placements else "synthesis only"


def _summary(result: BuildResult) -> Section:
    return Section(
        "Summary",
        header=("what", "value"),
        rows=(
            ("verdict", _verdict(result)),
            ("FPGA", f"{result.device} {result.package} {result.speed}".rstrip()),
            ("lanes", "/".join(map(str, result.lanes))),
            ("cycles a sample", str(result.work.interval)),
            ("bitstream", result.bitstream or "none"),
        ),
    )


def _clock(result: BuildResult) -> Section:
    best = result.best_placement
    assert best is not None
    assert result.margin is not None
    lines = [
        f"{_mhz(result.clock)}; asked for were {_mhz(result.clock_wanted)}; {_source(result)}.",
        f"Seed {best.seed} is the fastest: {_mhz(best.clock.reached)}, a margin of {result.margin:+.1%}.",
    ]
    if best.link_clock is not None:
        lines.append(
            f"The link has a clock of its own, {_mhz(best.link_clock.asked)}; there it reaches "
            f"{_mhz(best.link_clock.reached)}."
        )
    if len(result.placements) > 1:
        assert result.minimum is not None
        assert result.median is not None
        lines.append(
            f"{len(result.placements)} seeds: minimum {_mhz(result.minimum)}, median {_mhz(result.median)}. Placement "
            "is chaotic: the median says more of the design than the best."
        )
    lines += [f"Seed {seed} has no placement: {why}" for seed, why in result.unplaced.items()]
    rows = tuple(
        (
            str(placement.seed),
            _mhz(placement.clock.reached),
            f"{placement.clock.reached / placement.clock.asked - 1:+.1%}",
            "holds" if placement.met else "too slow",
            f"{placement.run.seconds:.0f}",
        )
        for placement in result.placements
    )
    return Section("Clock", tuple(lines), ("seed", "reached", "margin", "timing", "place and route, s"), rows)


def _source(result: BuildResult) -> str:
    if result.pll is None:
        return "the oscillator's own"
    return f"made by a PLL from {_mhz(result.oscillator)}"


def _path(result: BuildResult) -> Section:
    best = result.best_placement
    path = best.critical_path if best else None
    if path is None:
        return Section("Slowest path", ("Not reported.",))
    least = sorted(hop.nanoseconds for hop in path.hops)[-_HOPS:][0]
    rows = tuple(
        (f"{hop.nanoseconds:.2f}", hop.kind, hop.source, hop.sink) for hop in path.hops if hop.nanoseconds >= least
    )
    told = (f"{path}.",)
    if len(rows) < len(path.hops):
        told = (f"{path}. Its longest {len(rows)} of {len(path.hops)} parts:",)
    return Section("Slowest path", told, ("ns", "part", "from", "to"), rows)


def _resources(result: BuildResult) -> Section:
    rows = []
    for name in parts_in_order(set(result.parts) | set(result.predicted)):
        rows.append((name, *_both(result.parts.get(name, {}), result.predicted.get(name, {}))))
        if name in result.lane_parts or name in result.predicted_lanes:
            actual, predicted = result.lane_parts.get(name, {}), result.predicted_lanes.get(name, {})
            rows.append((f"of it {_lanes(result, name)} lanes", *_both(actual, predicted)))
    total: dict[str, int] = {name: result.predicted_total(name) for name in RESOURCES}
    rows.append(("all", *_both({name: result.estimate[name].used for name in RESOURCES}, total)))
    rows.append(("there are", *(str(result.estimate[name].available) for name in RESOURCES)))
    shares = (result.estimate[name] for name in RESOURCES)
    rows.append(("share", *(f"{u.used / u.available:.0%}" if u.available else "-" for u in shares)))
    best = result.best_placement
    if best is not None:
        rows.append(("behind placement", *(str(best.resources[name].used) for name in RESOURCES)))
    return Section(
        "Resources",
        (
            "After synthesis, and in brackets as predicted from the network alone. `link` is all that lies between the "
            "pins and the network, `head` the cost, `board` clock and pins.",
        ),
        ("part", *(RESOURCE_NAMES[name] for name in RESOURCES)),
        tuple(rows),
    )


def _lanes(result: BuildResult, stage: str) -> int:
    return result.lanes[int(stage.removeprefix("stage_")) - 1]


def _both(actual: Mapping[str, int], predicted: Mapping[str, int]) -> list[str]:
    return [f"{actual.get(name, 0)} ({predicted.get(name, 0)})" for name in RESOURCES]


def _speed(result: BuildResult) -> Section:
    work = result.work
    rows = tuple(
        (
            name,
            _mhz(clock),
            f"{work.gradients(clock):,.0f}",
            f"{1e6 * work.output_latency / clock:.2f}",
            f"{1e6 * work.gradient_latency / clock:.2f}",
            f"{work.operations(clock) / 1e9:.2f}",
        )
        for name, clock in result.clocks.items()
    )
    return Section(
        "Speed",
        (
            f"A sample takes {work.interval} cycles in a stream; alone, its last output comes after "
            f"{work.output_latency} and its last gradient after {work.gradient_latency}. {work.useful:.1%} of what "
            f"{work.multipliers} multipliers can do is useful. By formulas that tests hold against the RTL to the "
            "cycle; `built` is the clock of the bitstream, the others what placements reached.",
        ),
        ("at", "clock", "gradients/s", "output, us", "gradient, us", "GOPS"),
        rows,
    )


def _line(result: BuildResult) -> Section:
    rows = []
    for baud in line_rates(result.baud, result.link_clock):
        entry = result.work.on_line(baud, result.clock)
        rows.append(
            (
                f"{baud:,}",
                f"{entry['samples_a_second']:,.0f}",
                f"{entry['gradients_a_second']:,.0f}",
                f"{entry['bound_by']}-bound",
            )
        )
    return Section(
        "Line",
        (
            f"A sample is {result.work.bytes_in:.0f} bytes to the board and {result.work.bytes_out:.0f} from it, "
            "packets and messages included; ten bits a byte. The board starts at the first of these rates.",
        ),
        ("baud", "samples/s on the line", "gradients/s", "who waits"),
        tuple(rows),
    )


def _tools(result: BuildResult) -> Section:
    runs = [("synthesis", result.synthesis)]
    runs += [(f"place and route, seed {placement.seed}", placement.run) for placement in result.placements]
    runs += [("packing", result.packing)] if result.packing else []
    return Section(
        "Tools",
        header=("step", "tool", "version", "s"),
        rows=tuple(
            (step, run.tool, run.version, f"{run.seconds:.0f}{' (kept)' if run.kept else ''}") for step, run in runs
        ),
    )


def _made_of(result: BuildResult) -> Section:
    values: dict[str, Any] = {
        **result.versions,
        "gateware": result.gateware,
        "flow": result.flow,
        "self-test": "built in" if result.self_test else "left out",
        "network": result.network,
        **{f"SHA-256 of the {name}": digest for name, digest in result.hashes.items()},
        **{f"option {name}": text for name, text in result.options.items() if text},
    }
    return Section("Made of", header=("what", "version"), rows=tuple((name, str(v)) for name, v in values.items()))


def _mhz(clock: float) -> str:
    return f"{clock / 1e6:.2f} MHz"
