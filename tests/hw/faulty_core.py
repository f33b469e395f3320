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
from dyadprop_hw.streams import connect_stream
from dyadprop_sim.library import BuildOptions, Ports, build_library, emit_verilog
from dyadprop_sim.simulation import Simulation
from tests.hw.core import IDENTITY, Lonely

PRODUCT_BITS = 16
FACTORS = (("weight_q2", "operand_q2"), ("delta_q2", "operand_q2"), ("weight_q2", "delta_q2"))
FORWARD, GRADIENT, SENSITIVITY = (16 + PRODUCT_BITS * k for k in range(len(FACTORS)))
"""Faults: a product of stage 1 (the sensitivity's: stage 2) whose bit ``fault - FORWARD`` and so on is stuck at 1."""

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
        super().__init__({**self._core.signature.members, "fault": In(len(fault))})

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
        patch.setattr(Value, "__mul__", _products(Value.__mul__, fault))
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


def _products(multiply: Any, fault: Signal) -> Any:
    """Give what multiplies in place of ``Value.__mul__``."""
    made = dict.fromkeys(FACTORS, 0)

    def product(a: Any, b: Any) -> Any:
        exact = multiply(a, b)
        names = (getattr(a, "name", ""), getattr(b, "name", ""))
        if names not in made:
            return exact
        made[names] += 1
        if made[names] > 1:
            return exact
        first = (FORWARD, GRADIENT, SENSITIVITY)[FACTORS.index(names)]
        stuck = Cat(fault == first + k for k in range(PRODUCT_BITS))[: len(exact)]
        return (exact | stuck).as_signed()

    return product


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
        """Switch power on with a fault, wait, and give the verdict and when it came."""
        simulation = Simulation(self._path, self._ports, seed=seed, randomize=True, select=fault)
        simulation.wait(cycles)
        *_, verdict, spent = simulation.status()
        simulation.close()
        return SelfTest(verdict), spent


def source_text() -> str:
    """Give what the faults are made from: part of the library's name."""
    return Path(__file__).read_text()
