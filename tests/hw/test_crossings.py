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
from dyadprop_hw.chip import Chip, Core
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
        cells = module["cells"].values()
        self._driver: dict[int, dict[str, Any]] = {}
        for cell in cells:
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "output":
                    self._driver.update(dict.fromkeys(bits, cell))
        self.clocked = [cell for cell in cells if CLOCKS & cell["connections"].keys()]

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

    def _is_still(self, taker: set[str], foreign: set[int], own: set[int]) -> bool:
        """Whether a word is taken from `sent`, when a synchronizer has said that it is there."""
        return (
            any(name.endswith("_crossing.got") for name in taker)
            and all(any(name.endswith("_crossing.sent") for name in self._names[bit]) for bit in foreign)
            and any(name.endswith(".stage1") for bit in own for name in self._names[bit])
        )

    def count(self) -> Counter[str]:
        """Count registers and memories that see another clock's: synchronizers, words that are still, others."""
        found: Counter[str] = Counter()
        for cell in self.clocked:
            inputs = self.inputs(cell)
            seen = self.sources(inputs)
            foreign = {bit for bit in seen if self.clock(self._driver[bit]) != self.clock(cell)}
            if not foreign:
                continue
            taker = self._names[cell["connections"]["Q"][0]] if "Q" in cell["connections"] else {cell["type"]}
            if any(name.endswith("stage0") for name in taker) and len(foreign) == 1 and foreign == set(inputs):
                found["synchronizer"] += 1
            elif self._is_still(taker, foreign, seen - foreign):
                found["still"] += 1
            else:
                found[f"{min(taker)} sees {sorted({min(self._names[bit]) for bit in foreign})}"] += 1
        return found


def crossings() -> Crossings:
    """Give those of a whole chip."""
    return Crossings(Netlist(Chip(Core(PLAN, b"{}", 80e6, 1_000_000, split=True))).flat("top"))


def test_nothing_else_crosses() -> None:
    netlist = crossings()
    sizes = Counter(netlist.clock(cell) for cell in netlist.clocked)
    print(sizes)
    assert sizes.keys() == {"clk", "network_clk"}, "the link's and the network's"
    assert sizes["network_clk"] > 100
    assert sizes["clk"] > 100
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


def test_a_word_that_is_taken_before_it_is_said_to_be_there_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    elaborate = clock_crossing.ClockCrossing.elaborate

    def hasty(self: clock_crossing.ClockCrossing, platform: object) -> Module:
        m = elaborate(self, platform)
        got, sent = (next(signal for signal in m._driving if signal.name == name) for name in ("got", "sent"))
        m.d[self._sink] += got.eq(sent)
        return m

    monkeypatch.setattr(clock_crossing.ClockCrossing, "elaborate", hasty)
    found = crossings().count()
    print(found)
    assert found.pop("synchronizer") == 2 * STREAMS + 1
    assert "still" not in found
    assert len(found) == STREAMS
    assert all(seen.endswith("_crossing.sent']") for seen in found)
