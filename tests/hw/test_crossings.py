# amaranth: UnusedElaboratable=no
"""Between the network's clock and the link's nothing crosses but through a synchronizer, or beside one and still."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pytest
from amaranth.hdl import Module, Signal

from dyadprop.network import Dense, Network
from dyadprop.plan import plan_network
from dyadprop_hw import clock_crossing
from dyadprop_hw.clocked_network import ClockedNetwork
from dyadprop_hw.network import control_data_bits, network_ports
from tests.hw.netlist import Netlist

PLAN = plan_network(Network(2, [Dense(2, "tanh"), Dense(1)], input_gradient=True))
STREAMS = len(network_ports(PLAN.net, control_data_bits(PLAN)))
CLOCKS = {"CLK", "RD_CLK", "WR_CLK"}


class Crossings:
    """A flat netlist, and what in it sees registers or memories of another clock."""

    def __init__(self, module: dict[str, Any]) -> None:
        self._names: defaultdict[int, set[str]] = defaultdict(set)
        for name, net in module["netnames"].items():
            for bit in net["bits"]:
                self._names[bit].add(re.sub(r"\$\d+", "", name))
        self._cells = module["cells"].values()
        self._driver: dict[int, dict[str, Any]] = {}
        for cell in self._cells:
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "output":
                    self._driver.update(dict.fromkeys(bits, cell))
        self.clocked = [cell for cell in self._cells if CLOCKS & cell["connections"].keys()]

    def clock(self, cell: dict[str, Any]) -> str:
        bits = {bit for port in CLOCKS for bit in cell["connections"].get(port, ()) if isinstance(bit, int)}
        (clock,) = bits
        return min(self._names[clock], key=len)

    def inputs(self, cell: dict[str, Any]) -> list[int]:
        return [
            bit
            for port, bits in cell["connections"].items()
            if cell["port_directions"][port] == "input" and port not in CLOCKS
            for bit in bits
            if bit in self._driver
        ]

    def sources(self, bits: Iterable[int]) -> set[int]:
        """Give the outputs of registers and memories that decide on wires."""
        found, seen, left = set(), set(), list(bits)
        while left:
            bit = left.pop()
            if bit in seen:
                continue
            seen.add(bit)
            cell = self._driver[bit]
            if CLOCKS & cell["connections"].keys():
                found.add(bit)
            else:
                left += self.inputs(cell)
        return found

    def count(self) -> Counter[str]:
        """Count registers and memories that see another clock's: synchronizers, words that are still, others."""
        found: Counter[str] = Counter()
        for cell in self.clocked:
            inputs = self.inputs(cell)
            foreign = {bit for bit in self.sources(inputs) if self.clock(self._driver[bit]) != self.clock(cell)}
            if not foreign:
                continue
            taker = self._names[cell["connections"]["Q"][0]] if "Q" in cell["connections"] else {cell["type"]}
            if any(name.endswith("stage0") for name in taker) and len(foreign) == 1 and foreign == set(inputs):
                found["synchronizer"] += 1
            elif any(name.endswith("_crossing.got") for name in taker) and all(
                any(name.endswith("_crossing.sent") for name in self._names[bit]) for bit in foreign
            ):
                found["still"] += 1
            else:
                found[f"{min(taker)} sees {sorted({min(self._names[bit]) for bit in foreign})}"] += 1
        return found


def crossings() -> Crossings:
    return Crossings(Netlist(ClockedNetwork(PLAN)).flat("top"))


def test_nothing_else_crosses() -> None:
    netlist = crossings()
    sizes = Counter(netlist.clock(cell) for cell in netlist.clocked)
    print(sizes)
    assert sizes.keys() == {"clk", "inside_clk"}, "the link's and the network's"
    assert sizes["inside_clk"] > 100
    assert sizes["clk"] > 4 * STREAMS
    found = netlist.count()
    assert STREAMS == 6
    # Two bits a stream, and the reset.
    assert found == {"synchronizer": 2 * STREAMS + 1, "still": STREAMS}


def test_a_crossing_without_a_synchronizer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wire(i: Signal, o: Signal, *, o_domain: str) -> Module:
        m = Module()
        m.d.comb += o.eq(i)
        return m

    monkeypatch.setattr(clock_crossing, "FFSynchronizer", wire)
    found = crossings().count()
    print(found)
    assert found["synchronizer"] == 1, "that of the reset"
    assert "still" not in found
    assert len(found) > 2 * STREAMS
