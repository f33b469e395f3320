"""What becomes of a memory, against what yosys was seen to make of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Elaboratable, Module, Signal
from amaranth.lib.memory import Memory as AmaranthMemory

from dyadprop_boards.fpgas import Family
from dyadprop_boards.memory_mapping import Mapping, Memory, map_memory
from dyadprop_boards.steps import Step, run_step
from dyadprop_boards.tools import TOOLS

MEMORIES = [
    Memory("weights", 16, 65, reads=2, shared=True, proved=True),
    Memory("weights", 16, 40, reads=2, shared=True, proved=True),
    Memory("weights", 18, 1200, reads=2, shared=True, proved=True),
    Memory("gradients", 39, 65, proved=True),
    Memory("gradients", 40, 30, proved=True),
    Memory("deltas", 16, 8, proved=True),
    Memory("samples", 16, 320, reads=2, proved=True),
    Memory("queue", 18, 64),
    Memory("queue", 18, 100),
    Memory("queue", 32, 130),
    Memory("queue", 18, 2),
    Memory("queue", 40, 3),
    Memory("aside", 16, 2400),
    Memory("table", 18, 64, written=False),
    Memory("table", 8, 352, written=False),
    Memory("table", 26, 1024, written=False),
]

LIBRARIES: dict[Family, tuple[str, ...]] = {
    "ecp5": ("lattice/lutrams_trellis.txt", "lattice/brams_16kd.txt"),
    "ice40": ("ice40/brams.txt",),
    "gowin": ("gowin/lutrams.txt", "gowin/brams.txt"),
}
LUT_RAMS = ("$__TRELLIS_DPR16X4_", "$__GOWIN_LUTRAM_")


class Alone(Elaboratable):
    """A memory and nothing else, as the gateware has it."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        bits = max(1, (memory.depth - 1).bit_length())
        self.address = [Signal(bits, name=f"address_{k}") for k in range(memory.reads + 1)]
        self.enable, self.write = Signal(), Signal()
        self.data_in = Signal(memory.width)
        self.data_out = [Signal(memory.width, name=f"data_{k}") for k in range(memory.reads)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        memory = self.memory
        init = [(k * 0x9E3779B9 >> 3) % (1 << memory.width) for k in range(memory.depth)]
        m.submodules.memory = words = AmaranthMemory(
            shape=memory.width, depth=memory.depth, init=[] if memory.written else init
        )
        for number, out in enumerate(self.data_out):
            read = words.read_port()
            m.d.comb += [read.addr.eq(self.address[number]), out.eq(read.data)]
            if memory.shared and number == 0:
                m.d.comb += read.en.eq(~self.write)
            elif memory.written and not memory.proved:
                m.d.comb += read.en.eq(self.enable)
        if memory.written:
            write = words.write_port()
            m.d.comb += [
                write.addr.eq(self.address[0 if memory.shared else -1]),
                write.data.eq(self.data_in),
                write.en.eq(self.write),
            ]
        return m

    @property
    def ports(self) -> list[Any]:
        return [*self.address, self.enable, self.write, self.data_in, *self.data_out]


@pytest.mark.parametrize("family", LIBRARIES)
def test_yosys_does_the_same(family: Family, tmp_path: Path) -> None:
    script = []
    for number, memory in enumerate(MEMORIES):
        alone = Alone(memory)
        top = Module()
        top.domains.sync = domain = ClockDomain(reset_less=True)
        top.submodules.alone = alone
        (tmp_path / f"{number}.il").write_text(rtlil.convert(top, ports=[domain.clk, *alone.ports]))
        script.append(f"read_rtlil {number}.il")
        if memory.proved:
            script.append("setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2")
        libraries = " ".join(f"-lib +/{name}" for name in LIBRARIES[family])
        script.append(f"hierarchy -top top; proc; flatten; opt; memory -nomap; memory_libmap {libraries}")
        script += [f"tee -o {number}.json stat -json", "design -reset"]
    (tmp_path / "all.ys").write_text("\n".join(script))
    outputs = tuple(f"{number}.json" for number in range(len(MEMORIES)))
    inputs = ("all.ys", *(f"{number}.il" for number in range(len(MEMORIES))))
    run_step(Step(TOOLS["yosys"], ("-s", "all.ys"), inputs, outputs, "yosys.log"), tmp_path)
    kinds = Counter[str]()
    for number, memory in enumerate(MEMORIES):
        cells = json.loads((tmp_path / f"{number}.json").read_text())["design"]["num_cells_by_type"]
        made = Mapping("registers", memory.width * memory.depth)
        for name, count in cells.items():
            if name.startswith("$__"):
                made = Mapping("lut_rams" if name in LUT_RAMS else "block_rams", count)
        assert map_memory(memory, family) == made, (memory, cells)
        kinds[made.kind] += 1
    assert sum(kinds.values()) == len(MEMORIES)
    assert kinds["block_rams"] >= 6
    assert kinds["registers"] >= 1
    assert kinds["lut_rams"] >= (0 if family == "ice40" else 4)
