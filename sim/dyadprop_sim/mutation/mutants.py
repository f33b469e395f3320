"""Put many mutants of an elaborated network into one netlist, behind a selector input, and run them all."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from amaranth.back import rtlil

from dyadprop.errors import DeviceTimeout
from dyadprop.operations import COUNTER_BITS
from dyadprop.plan import Plan
from dyadprop_sim.gates import run_yosys
from dyadprop_sim.library import BuildOptions, forget_initial_values
from dyadprop_sim.mutation.conversation import Entry
from dyadprop_sim.mutation.equivalence import prove_equivalent
from dyadprop_sim.mutation.transcript import Script
from dyadprop_sim.open_network import OpenNetwork
from dyadprop_sim.verilator import NetworkSimulation

SELECTOR = "mutant"
SELECTOR_BITS = 16
ALL = 1_000_000  # more mutants than a network has
PATIENCE = 3000  # cycles without progress; the slowest stall of the script lasts a few hundred
SHORT_RUNS, SHORT = 4, 120  # starts from other contents, and the observations of each
FIRST_COUNT = (1 << COUNTER_BITS) - 5  # counters start close to their wrap, which real ones reach after hours

# What yosys does before anybody writes Verilog, so that a mutant is a fault of something that is there. Tables are left
# alone: their words are constants, which a selector cannot change. A multiplexer of many has no one meaning when two of
# its selects are set, so it becomes a tree.
_PREPARE = f"""
read_rtlil top.il
hierarchy -top top
proc
delete t:$check
flatten
opt -full
wreduce
opt -full
pmuxtree
splitcells
opt_clean -purge
select -set counters w:*counters__* %ci:+[Q] c:* %i
setparam -set SRST_VALUE {COUNTER_BITS}'b{FIRST_COUNT:0{COUNTER_BITS}b} @counters
select -set target top/t:* top/t:$meminit_v2 %d
"""


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes
    ----------
    number : int
        Value of the selector.
    what : str
        ``const1 of B[0] of $and: Y = stage_1.forward.show.valid``, with those of the cell's signals that have names.
    sources : tuple of str
        ``forward_pass.py:104: show.valid.eq(self.busy & (column < columns)),``: the lines that the cell came from.
    command : str
        Of yosys.
    """

    number: int
    what: str
    sources: tuple[str, ...]
    command: str

    def __str__(self) -> str:
        return "\n    ".join([self.what, *self.sources])


class MutatedNetwork:
    """A network's hardware with mutants in it.

    Parameters
    ----------
    plan : Plan
    count : int
        Mutants; yosys samples evenly over cells, wires and source lines.
    seed : int
        Of the sample.
    only : str
        Take the first ``count`` of all mutants in whose description or source lines this regular expression is found.
    """

    def __init__(self, plan: Plan, count: int, seed: int, only: str = "") -> None:
        self.plan = plan
        design = forget_initial_values(rtlil.convert(OpenNetwork(plan), name="top", emit_src=True))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "top.il").write_text(design)
            control = f"-ctrl {SELECTOR} {SELECTOR_BITS} 1"
            sample = f"mutate -list {ALL if only else count} -seed {seed} -o list.ys {control} @target"
            run_yosys(f"{_PREPARE}{sample}\nwrite_rtlil flat.il\n", folder)
            self._design = (folder / "flat.il").read_text()
            netlist = _Netlist(self._design)
            lines = (folder / "list.ys").read_text().splitlines()
            if only:
                lines = [line for line in lines if re.search(only, str(netlist.describe(line)), re.MULTILINE)][:count]
                lines = [re.sub(r"-ctrl (\S+) (\S+) \d+", rf"-ctrl \1 \2 {k}", line) for k, line in enumerate(lines, 1)]
            if not lines:
                raise ValueError(f"the network has no mutant like {only!r}")
            (folder / "list.ys").write_text("".join(f"{line}\n" for line in lines))
            run_yosys("read_rtlil flat.il\nscript list.ys\nopt_clean\nwrite_verilog -noattr top.v\n", folder)
            self._verilog = (folder / "top.v").read_text()
            self.mutants = [netlist.describe(line) for line in lines]

    def run(self, scripts: int) -> Iterator[tuple[Mutant, str | None]]:
        """Run each mutant through scripts of seeds 1, 2, ... until one finds it.

        Yields
        ------
        Mutant
        str or None
            The first observation that differed; None for a survivor.
        """
        options = BuildOptions("-O1", random_start=True)
        rtl = NetworkSimulation(
            self.plan,
            open_links=True,
            options=options,
            patience=PATIENCE,
            verilog=self._verilog,
            selector=SELECTOR,
        )
        try:
            healthy = {seed: _healthy(rtl, seed) for seed in range(1, scripts + 1)}
            for mutant in self.mutants:
                found = (_first_difference(rtl, seed, mutant.number, expected) for seed, expected in healthy.items())
                yield mutant, next((difference for difference in found if difference is not None), None)
            # No mutant may have left a trace for those behind it.
            for seed, expected in healthy.items():
                assert _first_difference(rtl, seed, 0, expected) is None
        finally:
            rtl.close()

    def prove_equivalent(self, mutants: Sequence[Mutant]) -> list[bool]:
        """Say which of the mutants are proven to change nothing (`dyadprop_sim.mutation.equivalence`)."""
        with tempfile.TemporaryDirectory() as name:
            return prove_equivalent(self._design, [mutant.command for mutant in mutants], Path(name))


def _healthy(rtl: NetworkSimulation, seed: int) -> list[Entry]:
    """Run without a mutant: as the golden model says, and independent of what was there before reset."""
    runs = []
    for contents in (seed, seed + 1000):
        rtl.restart(seed=seed, contents=contents, select=0)
        runs.append(list(Script(rtl, seed, FIRST_COUNT).run()))
    for entry, again in zip(*runs, strict=True):
        if entry.expected is not None and not np.array_equal(entry.got, entry.expected):
            raise AssertionError(f"without a mutant, {entry.what} are {entry.got}; expected {entry.expected}")
        if not np.array_equal(entry.got, again.got):
            raise AssertionError(f"{entry.what} depend on what registers and memories held before reset")
    return runs[0]


def _first_difference(rtl: NetworkSimulation, seed: int, number: int, expected: list[Entry]) -> str | None:
    position = 0
    try:
        # What reset leaves as it was shows soon, if at all: so a few more contents, for a short while.
        for contents in range(2000, 2000 + SHORT_RUNS):
            rtl.restart(seed=seed, contents=contents, select=number)
            for position, entry in zip(range(SHORT), Script(rtl, seed, FIRST_COUNT).run(), strict=False):
                if not np.array_equal(entry.got, expected[position].got):
                    return f"{entry.what}, after another start"
        rtl.restart(seed=seed, select=number)
        for position, entry in enumerate(Script(rtl, seed, FIRST_COUNT).run()):
            if not np.array_equal(entry.got, expected[position].got):
                return entry.what
    except DeviceTimeout:
        return f"stuck behind {expected[position].what}"
    return None


class _Netlist:
    """What a mutated cell is connected to, for people."""

    def __init__(self, design: str) -> None:
        self._cells: dict[str, tuple[str, dict[str, str]]] = {}
        self._readers: dict[str, list[str]] = {}
        for kind, cell, body in re.findall(r"(?ms)^  cell (\S+) (\S+)$(.*?)^  end$", design):
            ports = dict(re.findall(r"(?m)^    connect \\(\S+) ([^\n]*)$", body))
            self._cells[cell] = kind, ports
            for port, signal in ports.items():
                if port not in ("Y", "Q", "DATA"):
                    for name in re.findall(r"\$\S+", signal):
                        self._readers.setdefault(name, []).append(cell)

    def describe(self, command: str) -> Mutant:
        words = command.split()  # mutate -ctrl NAME WIDTH NUMBER -option value ...
        options: dict[str, list[str]] = {}
        for name, value in zip(words[5::2], words[6::2], strict=True):
            options.setdefault(name, []).append(value)
        cell, port, bit = options["-cell"][0], options["-port"][0], options["-portbit"][0]
        kind, ports = self._cells[cell]
        named = ", ".join(f"{n} = {_readable(signal)}" for n, signal in ports.items() if n not in ("CLK", "SRST"))
        control = f" by {options['-ctrlbit'][0]}" if "-ctrlbit" in options else ""
        what = f"{options['-mode'][0]}{control} of {port}[{bit}] of {kind}: {named} -> {self._goal(cell)}"
        return Mutant(int(words[4]), what, tuple(map(_source, options.get("-src", []))), command)

    def _goal(self, cell: str) -> str:
        """Name the nearest signal with a name that a cell's output goes into."""
        seen, todo = {cell}, [cell]
        for here in todo:
            _, ports = self._cells[here]
            output = next((ports[port] for port in ("Y", "Q", "DATA") if port in ports), "")
            if re.match(r"\\", output) and not re.search(r"\$(flatten|auto)", output):
                return _readable(output)
            for name in re.findall(r"\$\S+", output):
                more = [reader for reader in self._readers.get(name, []) if reader not in seen]
                seen.update(more)
                todo += more
        return "?"


def _readable(signal: str) -> str:
    """Take yosys's marks and numbers, which change with everything, out of a signal's name."""
    signal = re.sub(r"\$flatten|\$(auto|procmux|opt_share)\S*|\\", "", signal)
    return re.sub(r"\$\d+", "", signal)[:100]


def _source(place: str) -> str:
    path, _, line = place.rpartition(":")
    return f"{Path(path).name}:{line}: {_lines(path)[int(line) - 1].strip()}"


@cache
def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
