"""Put registers behind a choice between block RAMs of an ECP5 netlist in front of it: the blocks have room for them.

A memory of more words than a block RAM of its width has takes several, and yosys chooses between their outputs before
the register behind them: block RAM, LUTs and wires in one cycle.
"""

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dyadprop_boards.ecp5_registers import is_plain
from dyadprop_boards.netlist import next_wire, readers

_OUTPUTS = {"LUT4": "Z", "PFUMX": "Z", "L6MUX21": "Z"}
"""Cells that choose, and what they drive."""
_FEWEST_BLOCKS = 2
_WIDE = 36  # bits of a port that takes both sides of a block


@dataclass(frozen=True)
class _Choice:
    """What is in front of a register.

    Attributes
    ----------
    register, last : str
        And the cell that drives it.
    logic : frozenset of str
        Cells that work for it alone.
    leaves : frozenset of int
        Wires that go in.
    """

    register: str
    last: str
    logic: frozenset[str]
    leaves: frozenset[int]


def move_choices(module: dict[str, Any]) -> int:
    """Swap registers and choices, in place.

    Parameters
    ----------
    module : dict
        The flat top module of what yosys writes as JSON after ``synth_ecp5``.

    Returns
    -------
    int
        Registers that the netlist gained. `dyadprop_boards.ecp5_packing.pack_registers` moves all but those that hold
        which block is chosen into the blocks.

    Notes
    -----
    A register is moved only if it has neither reset nor enable, if nobody else sees what is chosen, and if all that the
    blocks give goes to such registers. So each cycle every other wire of the design carries the same value as before.
    """
    cells: dict[str, Any] = module["cells"]
    read = readers(module)
    outputs: dict[int, tuple[str, str]] = {}
    for name, cell in cells.items():
        if cell["type"] == "DP16KD":
            for pin, bits in cell["connections"].items():
                if pin.startswith("DO") and bits and read[bits[0]]:
                    outputs[bits[0]] = (name, pin)
    free = next_wire(module)
    gained = 0
    for taken, choices in _groups(cells, outputs, _choices(cells, read)):
        logic = {cell for choice in choices for cell in choice.logic}
        selects = sorted({leaf for choice in choices for leaf in choice.leaves} - taken)
        if (
            len({outputs[wire][0] for wire in taken}) < _FEWEST_BLOCKS
            or len({tuple(cells[choice.register]["connections"]["CLK"]) for choice in choices}) != 1
            or len(selects) >= len(choices)
            or any(cell not in logic for wire in taken for cell, _ in read[wire])
        ):
            continue
        registers = sorted(choice.register for choice in choices)
        pattern = cells[registers[0]]
        for wire in sorted(taken):
            name, pin = outputs[wire]
            cells[f"{name}.{pin}_register"] = _register(pattern, free, wire)
            cells[name]["connections"][pin] = [free]
            free += 1
        for number, wire in enumerate(selects):
            cells[f"{registers[0]}_chosen_{number}"] = _register(pattern, wire, free)
            for name, pin in read[wire]:
                if name in logic:
                    cells[name]["connections"][pin] = [free]
            free += 1
        for choice in choices:
            connections = cells.pop(choice.register)["connections"]
            last = cells[choice.last]
            last["connections"][_OUTPUTS[last["type"]]] = connections["Q"]
        gained += len(taken) + len(selects) - len(choices)
    return gained


def _choices(cells: dict[str, Any], read: Mapping[Any, list[tuple[str, str]]]) -> list[_Choice]:
    """Give the logic in front of each register that has some of its own."""
    driver = {
        cell["connections"][_OUTPUTS[cell["type"]]][0]: name for name, cell in cells.items() if cell["type"] in _OUTPUTS
    }
    found = []
    for name, cell in cells.items():
        if not is_plain(cell):
            continue
        logic, leaves = set(), set()
        (first,) = cell["connections"]["DI"]
        ahead = [first]
        while ahead:
            wire = ahead.pop()
            source = driver.get(wire)
            if source is None or len(read[wire]) != 1:
                leaves.add(wire)
                continue
            logic.add(source)
            for pin, bits in cells[source]["connections"].items():
                if pin != _OUTPUTS[cells[source]["type"]]:
                    ahead += [bit for bit in bits if isinstance(bit, int)]
        if logic:
            found.append(_Choice(name, driver[first], frozenset(logic), frozenset(leaves)))
    return found


def _groups(
    cells: dict[str, Any], outputs: dict[int, tuple[str, str]], choices: list[_Choice]
) -> Iterator[tuple[set[int], set[_Choice]]]:
    """Give sets of blocks' outputs that share a port or a choice with each other, and with none besides, and those."""
    ports: defaultdict[str, set[int]] = defaultdict(set)
    port_of: dict[int, str] = {}
    for wire, (name, pin) in outputs.items():
        is_wide = int(cells[name]["parameters"]["DATA_WIDTH_B"], 2) == _WIDE  # then both sides are one port
        port_of[wire] = name if is_wide else f"{name}.{pin[:3]}"
        ports[port_of[wire]].add(wire)
    chosen: defaultdict[int, set[_Choice]] = defaultdict(set)
    for choice in choices:
        for wire in choice.leaves & outputs.keys():
            chosen[wire].add(choice)
    seen: set[int] = set()
    for first in outputs:
        if first in seen:
            continue
        taken: set[int] = set()
        found: set[_Choice] = set()
        ahead = [first]
        while ahead:
            wire = ahead.pop()
            if wire in taken:
                continue
            taken.add(wire)
            ahead += ports[port_of[wire]]
            for choice in chosen[wire]:
                found.add(choice)
                ahead += choice.leaves & outputs.keys()
        seen |= taken
        yield taken, found


def _register(pattern: dict[str, Any], source: int, target: int) -> dict[str, Any]:
    made = copy.deepcopy(pattern)
    made["connections"] |= {"DI": [source], "Q": [target]}
    return made
