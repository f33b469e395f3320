"""The elaborated netlist before flattening, to ask which wires go where."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amaranth._toolchain.yosys import find_yosys
from amaranth.back import rtlil

_STATEFUL = {"$dff", "$sdff", "$sdffe", "$sdffce", "$dffe", "$aldff", "$adff"}


@dataclass(frozen=True)
class Pin:
    """One bit of one port: of a cell, or (``cell`` None) of the module itself."""

    cell: str | None
    port: str


class NetlistModule:
    """One module: its ports, its named nets, and who touches each bit."""

    def __init__(self, netlist: Netlist, name: str, content: dict[str, Any]) -> None:
        self.netlist = netlist
        self.name = name
        self.ports = {port: entry["bits"] for port, entry in content["ports"].items()}
        self.directions = {port: entry["direction"] for port, entry in content["ports"].items()}
        self.nets = {net: entry["bits"] for net, entry in content["netnames"].items()}
        self.cells = content["cells"]
        self.children = {cell: entry["type"] for cell, entry in self.cells.items() if entry["type"] in netlist.content}
        self.touchers: dict[int, set[Pin]] = defaultdict(set)
        for port, bits in self.ports.items():
            for bit in bits:
                self.touchers[bit].add(Pin(None, port))
        for cell, entry in self.cells.items():
            for port, bits in entry["connections"].items():
                for bit in bits:
                    if isinstance(bit, int):
                        self.touchers[bit].add(Pin(cell, port))

    def child(self, cell: str) -> NetlistModule:
        return self.netlist.module(self.children[cell])

    def child_bits(self, cell: str) -> Iterator[tuple[str, int]]:
        """Give each bit of a child's ports, clock and reset apart, with the port."""
        for port, bits in self.cells[cell]["connections"].items():
            if port not in ("clk", "rst"):
                yield from ((port, bit) for bit in bits if isinstance(bit, int))

    def neighbours(self, cell: str) -> dict[str, set[str]]:
        """Say for each port who else has its wires: other children, ``<port>`` of this module, its own ``(logic)``."""
        found: dict[str, set[str]] = defaultdict(set)
        for port, bit in self.child_bits(cell):
            for pin in self.touchers[bit] - {Pin(cell, port)}:
                if pin.cell is None:
                    found[port].add(f"<{pin.port}>")
                else:
                    found[port].add(pin.cell if pin.cell in self.children else "(logic)")
        return found

    def sources(self) -> dict[str, set[str]]:
        """Give for each output the inputs that it follows without a clock edge, through all levels below."""
        content = self.netlist.flat(self.name)
        drivers: dict[int, list[Any]] = {}
        for entry in content["cells"].values():
            if entry["type"] in _STATEFUL or (entry["type"] == "$mem_v2" and _clocked(entry)):
                continue
            outside = {
                port: bits for port, bits in entry["connections"].items() if entry["port_directions"][port] == "output"
            }
            inside = [
                bit
                for port, bits in entry["connections"].items()
                if entry["port_directions"][port] == "input"
                for bit in bits
                if isinstance(bit, int)
            ]
            for bits in outside.values():
                drivers.update(dict.fromkeys(bits, inside))
        inputs = {
            bit: port
            for port, entry in content["ports"].items()
            if entry["direction"] == "input"
            for bit in entry["bits"]
        }
        found: dict[str, set[str]] = {}
        for port, entry in content["ports"].items():
            if entry["direction"] != "output":
                continue
            seen: set[int] = set()
            todo = [bit for bit in entry["bits"] if isinstance(bit, int)]
            while todo:
                bit = todo.pop()
                if bit not in seen:
                    seen.add(bit)
                    todo += drivers.get(bit, [])
            found[port] = {inputs[bit] for bit in seen if bit in inputs}
        return found


class Netlist:
    """All modules of a component as Amaranth hands them to yosys: nothing is flattened or optimised away."""

    def __init__(self, top: Any) -> None:
        self._rtlil = rtlil.convert(top, name="top", emit_src=False)
        self.content = self._json("")

    def _json(self, passes: str) -> dict[str, Any]:
        yosys = find_yosys(lambda version: version >= (0, 40))
        script = f"read_rtlil <<rtlil\n{self._rtlil}\nrtlil\nhierarchy -top top\nproc\n{passes}\nwrite_json\n"
        content = json.loads(yosys.run(["-q", "-"], script, ignore_warnings=True))["modules"]
        assert isinstance(content, dict)
        return content

    def module(self, name: str) -> NetlistModule:
        return NetlistModule(self, name, self.content[name])

    def flat(self, name: str) -> dict[str, Any]:
        return self._json(f"hierarchy -top {name}\nmemory_collect\nflatten\nopt_clean")[name]


def _clocked(entry: dict[str, Any]) -> bool:
    return "0" not in entry["parameters"]["RD_CLK_ENABLE"]
