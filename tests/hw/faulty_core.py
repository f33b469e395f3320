"""A core whose hardware fails in one of many ways, as a selector says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In

from dyadprop.network import Network
from dyadprop.plan import plan_network
from dyadprop.protocol import SelfTest
from dyadprop.self_test_program import Program
from dyadprop_hw import activation, command_side, lane, network, sample_memory
from dyadprop_hw.chip import Core
from dyadprop_hw.multiplier import Multiplier
from dyadprop_hw.streams import connect_stream
from dyadprop_sim.library import BuildOptions, Ports, build_library, emit_verilog
from dyadprop_sim.simulation import Simulation
from tests.hw.core import IDENTITY, WAIT_STEP, Lonely

PRODUCTS, PRODUCT_BITS = 16, 16
FIRST_PRODUCTS = ("gradient", "sensitivity", "forward")
"""Faults from `PRODUCTS` on: a bit of a product in the first lane of stage 1 is stuck, `PRODUCT_BITS` for each."""

WORD, ADDRESS, ENTRY = "word", "address", "entry"
MEMORIES = {
    # Fault: module with the memory, which of those made in it, kind of fault.
    1: (lane, 0, WORD),
    2: (lane, 0, ADDRESS),
    3: (lane, 1, WORD),
    4: (lane, 1, ADDRESS),
    5: (lane, 2, WORD),
    6: (command_side, 0, WORD),
    7: (command_side, 0, ADDRESS),
    8: (sample_memory, 0, ADDRESS),
    9: (activation, 0, ENTRY),
}
WRONG_ENTRY, FAULTY_WORD = 37, 2
STREAMS = {10: 1, 11: 3, 12: 4, 13: 5}
"""Fault: which of the network's streams stands still, in the order in which they are connected."""


class FaultyMemory(Elaboratable):
    """A memory with faults of some kinds, each there while its condition holds."""

    def __init__(self, faults: dict[str, Value], **arguments: Any) -> None:
        self._word, self._address, self._entry = (faults.get(kind, Const(0)) for kind in (WORD, ADDRESS, ENTRY))
        self._memory = memory.Memory(**arguments)
        self._ports: list[tuple[Any, Any]] = []

    def write_port(self) -> Any:
        return self._port(self._memory.write_port(), reads=False)

    def read_port(self) -> Any:
        return self._port(self._memory.read_port(), reads=True)

    def _port(self, inner: Any, *, reads: bool) -> Any:
        outer = SimpleNamespace(
            addr=Signal.like(inner.addr), data=Signal.like(inner.data), en=Signal(init=reads), reads=reads
        )
        self._ports.append((outer, inner))
        return outer

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = self._memory
        for outer, inner in self._ports:
            m.d.comb += [inner.addr.eq(Cat(outer.addr[0] & ~self._address, outer.addr[1:])), inner.en.eq(outer.en)]
            if outer.reads:
                wrong = Signal()
                m.d.sync += wrong.eq(outer.addr == WRONG_ENTRY)
                m.d.comb += outer.data.eq(inner.data ^ (wrong & self._entry))
            else:
                stuck = self._word & (outer.addr == FAULTY_WORD)
                m.d.comb += inner.data.eq(Mux(stuck, outer.data & ~2, outer.data))
        return m


class FaultyCore(wiring.Component):
    """A core with all these faults, none of them there while ``fault`` is zero."""

    def __init__(self, core: Core, fault: Signal) -> None:
        self._core, self._fault = Lonely(core), fault
        super().__init__({**dict(self._core.signature.members), "fault": In(len(fault))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.core = core = self._core
        connect_stream(m, wiring.flipped(self.rx), core.rx)
        connect_stream(m, core.tx, wiring.flipped(self.tx))
        m.d.comb += [self._fault.eq(self.fault), self.verdict.eq(core.verdict), self.test_cycles.eq(core.test_cycles)]
        return m


def faulty_verilog(net: Network, program: Program) -> str:
    fault = Signal(8)
    with pytest.MonkeyPatch.context() as patch:
        for module in {entry[0] for entry in MEMORIES.values()}:
            patch.setattr(module, "Memory", _Memories(module, fault))
        patch.setattr(network, "connect_stream", _Streams(fault))
        patch.setattr(lane, "Multiplier", _Multipliers(fault))
        core = FaultyCore(Core(plan_network(net), IDENTITY, 1e6, 100_000, program), fault)
        return emit_verilog(core, forget=True, names=False)


class _Memories:
    """In place of a module's ``Memory``."""

    def __init__(self, module: Any, fault: Signal) -> None:
        self._module, self._fault, self._made = module, fault, 0

    def __call__(self, **arguments: Any) -> Any:
        here = (self._module, self._made)
        self._made += 1
        faults = {kind: self._fault == number for number, (*place, kind) in MEMORIES.items() if tuple(place) == here}
        return FaultyMemory(faults, **arguments) if faults else memory.Memory(**arguments)


class _Streams:
    """In place of the network's ``connect_stream``."""

    def __init__(self, fault: Signal) -> None:
        self._fault, self._connected = fault, 0

    def __call__(self, m: Module, source: Any, sink: Any) -> None:
        dead = [self._fault == number for number, place in STREAMS.items() if place == self._connected]
        self._connected += 1
        if not dead:
            connect_stream(m, source, sink)
            return
        m.d.comb += [
            sink.payload.eq(source.payload),
            sink.valid.eq(source.valid & ~dead[0]),
            source.ready.eq(sink.ready & ~dead[0]),
        ]


class FaultyMultiplier(wiring.Component):
    """A multiplier with bits of its product that can be stuck at 1."""

    LATENCY = Multiplier.LATENCY

    def __init__(self, stuck: Value, a_bits: int, b_bits: int) -> None:
        self._stuck, self._multiplier = stuck, Multiplier(a_bits, b_bits)
        super().__init__(self._multiplier.signature)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.multiplier = multiplier = self._multiplier
        m.d.comb += [
            multiplier.a.eq(self.a),
            multiplier.b.eq(self.b),
            self.product.eq(multiplier.product | self._stuck),
        ]
        return m


class _Multipliers:
    """In place of ``Multiplier``."""

    LATENCY = Multiplier.LATENCY

    def __init__(self, fault: Signal) -> None:
        self._fault, self._made = fault, 0

    def __call__(self, a_bits: int, b_bits: int) -> Any:
        first = PRODUCTS + PRODUCT_BITS * self._made
        self._made += 1
        if self._made > len(FIRST_PRODUCTS):
            return Multiplier(a_bits, b_bits)
        bits = min(PRODUCT_BITS, a_bits + b_bits)
        return FaultyMultiplier(Cat(self._fault == first + k for k in range(bits)), a_bits, b_bits)


class FaultyCoreSimulation:
    """All faults in one library; a fault is chosen when the power goes on."""

    def __init__(self, net: Network, program: Program) -> None:
        stages = tuple(f"status__{k}" for k in range(len(net.layers)))
        self._ports = Ports(("rx",), ("tx",), status=(*stages, "verdict", "test_cycles"), selector="fault")
        self._path = build_library(
            "a core with faults",
            f"faulty core {net.hash} {program!r} {source_text()!r}",
            lambda: faulty_verilog(net, program),
            self._ports,
            BuildOptions(optimize="-O1", random_start=True),
        )

    def verdict(self, fault: int, seed: int, cycles: int) -> tuple[SelfTest, int]:
        """Switch power on with a fault, wait so long at most, and give the verdict and when it came."""
        simulation = Simulation(self._path, self._ports, seed=seed, randomize=True, select=fault)
        spent, verdict = 0, int(SelfTest.RUNNING)
        while verdict == SelfTest.RUNNING and spent < cycles:
            simulation.wait(WAIT_STEP)
            *_, verdict, spent = simulation.status()
        simulation.close()
        return SelfTest(verdict), spent


def source_text() -> str:
    """Give what the faults are made from: part of the library's name."""
    return Path(__file__).read_text()
