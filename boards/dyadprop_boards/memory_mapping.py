"""What yosys makes of a memory: block RAMs, RAM in LUTs, or registers.

A copy of the rule of its pass ``memory_libmap``, for the memories that the gateware has: at most one writer, words
written whole. The costs are those of yosys' own library files (``lattice/brams_16kd.txt`` and so on).
"""

import sys
from dataclasses import dataclass
from typing import Literal

from dyadprop_boards.fpgas import Family

Kind = Literal["block_rams", "lut_rams", "registers"]

_MUX = 0.5  # cost of a multiplexer's bit behind several blocks, of an enable in front of one
_EMULATION = 2.0  # cost of a point of logic beside a block
_READ_FIRST = 3  # points: for the writer, and for each reader, where a block does not give the old word by itself
_LOGIC = {"ram": 1.0, "rom": 1 / 16}  # cost of a bit in registers, of a constant one in LUTs


@dataclass(frozen=True)
class Memory:
    """A memory of the gateware.

    Attributes
    ----------
    name : str
    width, depth : int
        Bits of a word, and words.
    reads : int
        Ports that read.
    shared : bool
        Whether the writer shares the address of one of them, and the two never act together.
    written : bool
        Whether there is a writer; else it is a table.
    proved : bool
        Whether no word is read while it is written (`dyadprop_boards.project.PROVED_MEMORIES`).
    block : bool
        Whether it must be block RAM.
    unused_low, unused_high : int
        Bits at the word's ends that nobody reads: cells that hold nothing else go.
    """

    name: str
    width: int
    depth: int
    reads: int = 1
    shared: bool = False
    written: bool = True
    proved: bool = False
    block: bool = False
    unused_low: int = 0
    unused_high: int = 0


@dataclass(frozen=True)
class Mapping:
    """What one copy of a memory becomes, and how many cells of it."""

    kind: Kind
    cells: int


@dataclass(frozen=True)
class _Ram:
    """A RAM of yosys' library.

    Attributes
    ----------
    ports : {"two", "simple", "one", "lut"}
        Two ports that read and write; one that reads and one that writes; one for both; one that writes, and one that
        reads without a clock.
    address_bits : int
        With the narrowest word.
    widths : tuple of int
    cost : float
    byte : int
        Bits with an enable of their own; 0: the whole word.
    least : int
        Position of the narrowest word that can be written.
    scaled : bool
        Whether unused bits cost nothing.
    """

    ports: Literal["two", "simple", "one", "lut"]
    address_bits: int
    widths: tuple[int, ...]
    cost: float
    byte: int = 0
    least: int = 0
    scaled: bool = False


_LIBRARY: dict[Family, tuple[_Ram, ...]] = {
    "ecp5": (
        _Ram("lut", 4, (4,), 4),
        _Ram("two", 14, (1, 2, 4, 9, 18), 128, byte=9),
        _Ram("simple", 14, (1, 2, 4, 9, 18, 36), 128, byte=9, least=5),
    ),
    "ice40": (
        _Ram("simple", 11, (2, 4, 8), 64),
        _Ram("simple", 11, (2, 4, 8, 16), 64, byte=1, least=3),
    ),
    "gowin": (
        _Ram("lut", 4, (4,), 4, scaled=True),
        _Ram("one", 14, (1, 2, 4, 9, 18, 36), 128, byte=9),
        _Ram("two", 14, (1, 2, 4, 9, 18), 128, byte=9),
        _Ram("simple", 14, (1, 2, 4, 9, 18, 36), 128, byte=9),
    ),
}


def map_memory(memory: Memory, family: Family) -> Mapping:
    """Say what yosys makes of a memory.

    Notes
    -----
    The cheapest wins; among equals registers, then what the library names first.
    """
    bits = memory.width * memory.depth
    best = Mapping("registers", bits)
    least = sys.maxsize if memory.block else int(bits * _LOGIC["ram" if memory.written else "rom"])
    for ram in _LIBRARY[family]:
        if memory.block and ram.ports == "lut":
            continue
        for replicas, points in _port_choices(memory, ram):
            cost, cells = _geometry(memory, ram, replicas, points)
            if cost < least:
                best, least = Mapping("lut_rams" if ram.ports == "lut" else "block_rams", cells), int(cost)
    return best


def _port_choices(memory: Memory, ram: _Ram) -> list[tuple[int, int]]:
    """Give how often a RAM is needed for all readers, and the points of logic beside it, for each way to connect it."""
    reads = memory.reads
    if ram.ports == "lut":
        return [(reads, reads)] if memory.written else []
    points = reads + (0 if memory.proved or not memory.written else _READ_FIRST * (1 + reads))
    choices = []
    if ram.ports == "simple" or (ram.ports == "two" and memory.written):
        choices.append((reads, points))
    elif not memory.written:
        choices.append((-(-reads // (2 if ram.ports == "two" else 1)), points))
    if memory.shared and memory.proved and ram.ports != "simple":
        others = reads - 1
        if ram.ports == "two" or others == 0:
            choices.append((max(1, others), others))
    return choices


def _geometry(memory: Memory, ram: _Ram, replicas: int, points: int) -> tuple[float, int]:
    """Give the cost of the cheapest width of a RAM, and how many of it that takes."""
    found: tuple[float, int] | None = None
    byte_position = max((k for k, width in enumerate(ram.widths) if width <= (ram.byte or width)), default=0)
    for position, width in enumerate(ram.widths):
        if memory.written and position < min(ram.least, byte_position):
            continue
        byte = 1 if not memory.written else min(ram.byte or width, width)
        word = -(-memory.width // byte) * byte
        rows = -(-memory.depth // (1 << (ram.address_bits - position)))
        cells = -(-rows * word // width)
        used = cells
        if rows == 1 or word % width == 0:
            used = rows * (-(-(memory.width - memory.unused_high) // width) - memory.unused_low // width)
        cost = ram.cost * (rows * memory.width / width if ram.scaled else cells) * replicas
        cost += _MUX * (rows - 1) * memory.width * memory.reads + _EMULATION * points
        if memory.written and rows > 1:
            cost += _MUX * rows
        if found is None or cost < found[0]:
            found = cost, used * replicas
    assert found is not None
    return found
