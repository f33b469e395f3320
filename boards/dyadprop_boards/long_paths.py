"""Estimate the slow paths of an ECP5 netlist before placement: python -m dyadprop_boards.long_paths NETLIST.

Behind ``dyadprop build --synth-only`` the netlist is build/BOARD/NAME/work/top.json. LUTs, carries and registers take
what nextpnr reports (speed grade 6), blocks with their registers about 1 ns, each wire the same: enough to see in
seconds what a placement would stumble over after half an hour. Paths between the same two places, numbers apart, are
one line: delay, levels of logic, number of endpoints. With --path REGEX one of them is shown step by step.
"""

import argparse
import json
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyadprop.errors import BuildError, DyadpropError
from dyadprop_boards.netlist import top_module

_CELL = re.compile(r"_(TRELLIS_FF|LUT\d?|PFUMX|L6MUX21|CCU2C|SB_[A-Z]+\d*|DFF[A-Z]*|ALU|MUX2_LUT\d)_.*|\.\d+\.\d+$")
LIMIT = 6.67
"""ns: 150 MHz."""
WIRE = 0.9
"""ns of a wire between two cells, the mean on the slowest paths of 64-32-10."""
_LOGIC = {"LUT4": 0.24, "TRELLIS_DPR16X4": 0.24, "PFUMX": 0.17, "L6MUX21": 0.17, "CCU2C": 0.45}
_CARRY = 0.06  # from one CCU2C to the next
_REGISTER, _BLOCK, _SLOW_MEMORY = 0.52, 1.0, 5.83  # clock to output; of a block with, and a memory without its register
_ENABLE = 0.4  # setup of an enable or a reset
_MULTIPLY = 4.0  # in front of a product's first register
_ENDS = ("TRELLIS_FF", "DP16KD", "MULT18X18D")


@dataclass(frozen=True)
class PathGroup:
    """Paths between two places.

    Attributes
    ----------
    delay : float
        ns, of the slowest.
    levels : int
        Of logic.
    source, sink : str
        Without numbers.
    endpoints : int
    wires : tuple of str
        Along the slowest one.
    """

    delay: float
    levels: int
    source: str
    sink: str
    endpoints: int
    wires: tuple[str, ...]


class Paths:
    """The paths of one flat module.

    Parameters
    ----------
    design : dict
        What yosys writes as JSON after ``synth_ecp5``.
    wire : float
        ns of each wire.

    Raises
    ------
    BuildError
        If it has no top module.
    """

    def __init__(self, design: dict[str, Any], wire: float = WIRE) -> None:
        top = top_module(design)
        if top is None:
            raise BuildError("the netlist has no top module; it must be what yosys writes behind synth_ecp5")
        self.cells: dict[str, Any] = top["cells"]
        self._wire = wire
        self._driver: dict[int, tuple[str, str]] = {}
        for name, cell in self.cells.items():
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "output":
                    self._driver.update((bit, (name, port)) for bit in bits if isinstance(bit, int))
        self._names: dict[int, str] = {}
        for name, net in top.get("netnames", {}).items():
            for bit in net["bits"]:
                if bit not in self._names or len(name) < len(self._names[bit]):
                    self._names[bit] = name
        # By wire: when it is right, the wire that it waits for, levels of logic so far.
        self._arrivals: dict[int, tuple[float, int | None, int]] = {}

    def groups(self, limit: float) -> list[PathGroup]:
        """Give the groups with a path of ``limit`` ns or more, slowest first."""
        found: defaultdict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
        for name, cell in self.cells.items():
            for port, bit in _sinks(cell):
                delay = self._arrive(bit)[0] + self._last(cell, port, bit)
                if delay >= limit:
                    start, _ = self._driver.get(self._trace(bit)[0], ("a pin", ""))
                    found[_place(start), f"{_place(name)}.{without_numbers(port)}"].append((delay, bit))
        result = []
        for (source, sink), paths in found.items():
            delay, bit = max(paths)
            wires = tuple(f"{self._arrive(b)[0]:6.2f}  {self._names.get(b, '?')}" for b in self._trace(bit))
            result.append(PathGroup(delay, self._arrive(bit)[2], source, sink, len(paths), wires))
        return sorted(result, key=lambda group: -group.delay)

    def _arrive(self, bit: int) -> tuple[float, int | None, int]:
        if bit not in self._arrivals:
            self._arrivals[bit] = (0.0, None, 0)  # also where a loop of logic comes back
            self._arrivals[bit] = self._compute(bit)
        return self._arrivals[bit]

    def _compute(self, bit: int) -> tuple[float, int | None, int]:
        if bit not in self._driver:
            return 0.0, None, 0
        name, output = self._driver[bit]
        cell = self.cells[name]
        kind, parameters = cell["type"], cell.get("parameters", {})
        if kind == "TRELLIS_FF":
            return _REGISTER, None, 0
        if kind == "DP16KD":
            registered = parameters.get(f"REGMODE_{output[2]}") == "OUTREG"
            return (_BLOCK if registered else _SLOW_MEMORY), None, 0
        if kind == "MULT18X18D":
            return (_BLOCK if parameters.get("REG_OUTPUT_CLK", "NONE") != "NONE" else _MULTIPLY), None, 0
        best: tuple[float, int | None, int] = (0.0, None, 0)
        if kind not in _LOGIC:
            return best
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "output" or not _is_combinational(kind, port, output):
                continue
            for source in bits:
                if isinstance(source, int):
                    time, _, levels = self._arrive(source)
                    wire = 0.0 if self._beside(kind, port, source) else self._wire
                    cost = _CARRY if kind == "CCU2C" and port == "CIN" and output == "COUT" else _LOGIC[kind]
                    if time + wire + cost > best[0]:
                        best = (time + wire + cost, source, levels + bool(wire))
        return best

    def _beside(self, kind: str, port: str, source: int) -> bool:
        """Say whether an input is fed inside a slice, where there is no wire to speak of."""
        name, _ = self._driver.get(source, ("", ""))
        before = self.cells[name]["type"] if name else ""
        if kind == "CCU2C":
            return port == "CIN"
        return kind in ("PFUMX", "L6MUX21") and port != "C0" and port != "SD" and before in ("LUT4", "PFUMX")

    def _last(self, cell: dict[str, Any], port: str, bit: int) -> float:
        """Give what comes behind the last cell: a wire, unless a LUT feeds its own register, and the setup."""
        kind = cell["type"]
        if kind == "TRELLIS_FF" and port == "DI":
            name, _ = self._driver.get(bit, ("", ""))
            return 0.0 if name and self.cells[name]["type"] in _LOGIC else self._wire
        if port in ("CE", "LSR"):
            return self._wire + _ENABLE
        if kind == "MULT18X18D" and cell["parameters"].get(f"REG_INPUT{port[0]}_CLK", "NONE") == "NONE":
            return self._wire + _MULTIPLY
        return self._wire

    def _trace(self, bit: int) -> list[int]:
        """Give the wires of the slowest path to a wire, from its start."""
        path = [bit]
        while (before := self._arrive(path[-1])[1]) is not None:
            path.append(before)
        return path[::-1]


def _sinks(cell: dict[str, Any]) -> list[tuple[str, int]]:
    """Give the inputs at which paths end."""
    kind = cell["type"]
    if kind not in (*_ENDS, "TRELLIS_DPR16X4"):
        return []
    return [
        (port, bit)
        for port, bits in cell["connections"].items()
        if cell["port_directions"][port] == "input" and not re.match(r"CLK|WCK|RAD", port)
        for bit in bits
        if isinstance(bit, int)
    ]


def _is_combinational(kind: str, port: str, output: str) -> bool:
    if kind == "TRELLIS_DPR16X4":
        return port.startswith("RAD")
    return not (kind == "CCU2C" and output == "S0" and port.endswith("1"))


def without_numbers(name: str) -> str:
    """Give a cell's name with ``#`` for each number: the same for all bits and lanes."""
    return re.sub(r"\d+", "#", name)


def signal_of(cell: str) -> str:
    """Name the register or memory that a cell of any FPGA is a part of, as what it drives is called."""
    return _CELL.sub("", cell)


def _place(cell: str) -> str:
    return without_numbers(signal_of(cell))


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m dyadprop_boards.long_paths",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("netlist", metavar="NETLIST", type=Path)
    parser.add_argument("--limit", type=float, default=LIMIT, metavar="NS", help="default: %(default)s")
    parser.add_argument("--wire", type=float, default=WIRE, metavar="NS", help="of each wire (default: %(default)s)")
    parser.add_argument("--most", type=int, default=40, metavar="N", help="lines (default: %(default)s)")
    parser.add_argument("--path", default="", metavar="REGEX", help="show a path step by step")
    args = parser.parse_args()
    try:
        groups = Paths(read_tool_json(args.netlist, "netlist"), args.wire).groups(args.limit)
        pattern = re.compile(args.path)
    except (DyadpropError, re.error) as error:
        print(f"long_paths: {error}", file=sys.stderr)
        return 2
    print(f"{sum(group.endpoints for group in groups)} endpoints at {args.limit:g} ns or more; slowest first")
    shown = [group for group in groups if pattern.search(f"{group.source} -> {group.sink}")]
    for group in shown[: 1 if args.path else args.most]:
        print(f"{group.delay:6.2f} ns {group.levels:3} levels x{group.endpoints:5}  {group.source} -> {group.sink}")
        if args.path:
            print("\n".join(group.wires))
    return 0


def read_tool_json(path: Path, what: str) -> Any:
    """Read what a tool wrote, called ``what`` in messages.

    Raises
    ------
    BuildError
        If there is no such file, or it is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise BuildError(f"{what} {path} cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise BuildError(f"{what} {path} is no JSON: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
