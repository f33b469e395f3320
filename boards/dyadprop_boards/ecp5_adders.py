"""Let carry cells of an ECP5 netlist make their operands themselves, which yosys leaves to LUTs in front of them."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dyadprop_boards.netlist import OUTSIDE, readers

_PINS = "ABCD"  # of a LUT, and of each half of a carry cell; lowest bit of the address of INIT first

Half = tuple[int, tuple[Any, ...]]
"""INIT of a half of a carry cell, and what is at its inputs."""


def absorb_operands(module: dict[str, Any]) -> int:
    """Let carry cells make their operands themselves, in place.

    Parameters
    ----------
    module : dict
        The flat top module of what yosys writes as JSON after ``synth_ecp5``.

    Returns
    -------
    int
        LUTs that the netlist lost.

    Notes
    -----
    An adder of yosys' has two operands in a function of four inputs, and two inputs lie idle. A LUT goes if carry cells
    alone take it and each of them can do its work: every sum and carry is the same as before.
    """
    cells: dict[str, Any] = module["cells"]
    sinks = readers(module)
    lost = 0
    for name, lut in list(cells.items()):
        if lut["type"] != "LUT4":
            continue
        wire = lut["connections"]["Z"][0]
        made = _halves(cells, sinks[wire], lut)
        for (sink, half), (init, inputs) in made.items():
            cell = cells[sink]
            for pin, bit in zip(_PINS, inputs, strict=True):
                sinks[cell["connections"][pin + half][0]].remove((sink, pin + half))
                sinks[bit].append((sink, pin + half))
                cell["connections"][pin + half] = [bit]
            cell["parameters"][f"INIT{half}"] = f"{init:016b}"
        if made:
            for pin in _PINS:
                sinks[lut["connections"][pin][0]].remove((name, pin))
            del cells[name]
            lost += 1
    return lost


def _halves(cells: dict[str, Any], sinks: list[tuple[str, str]], lut: dict[str, Any]) -> dict[tuple[str, str], Half]:
    """Give what becomes of all halves of carry cells that read a LUT; nothing where one of its readers needs it."""
    made = {}
    for sink, pin in sinks:
        if sink == OUTSIDE or cells[sink]["type"] != "CCU2C" or pin == "CIN":
            return {}
        half = pin[-1]  # which may take it at several inputs
        found = absorb(cells[sink], half, lut)
        if found is None:
            return {}
        made[sink, half] = found
    return made


def absorb(carry: dict[str, Any], half: str, lut: dict[str, Any]) -> Half | None:
    """Give the INIT and the inputs with which a half of a carry cell does a LUT's work too, if there are any.

    Parameters
    ----------
    carry, lut : dict
        Cells of a netlist, CCU2C and LUT4.
    half : str
        ``0`` or ``1``.

    Notes
    -----
    A half is a function ``propagates`` of four inputs, and where that is 0 the carry is a function of A and B alone,
    which lies in those bits of INIT that are ``propagates`` where C and D are 0.
    """
    if carry["parameters"][f"INJECT1_{half}"] != "NO":
        return None
    init = int(carry["parameters"][f"INIT{half}"], 2)
    pins = [carry["connections"][pin + half][0] for pin in _PINS]
    inputs = [lut["connections"][pin][0] for pin in _PINS]
    table = int(lut["parameters"]["INIT"], 2)
    (made,) = lut["connections"]["Z"]
    wires = list(dict.fromkeys(bit for bit in (*pins, *inputs) if bit != made and isinstance(bit, int)))
    if len(wires) > len(_PINS):
        return None

    def half_at(values: Sequence[int]) -> tuple[int, int]:
        """Give whether the carry propagates, and what it is where it does not."""
        at: dict[Any, int] = {"0": 0, "1": 1, "x": 0, **dict(zip(wires, values, strict=True))}
        at[made] = _look_up(table, [at[bit] for bit in inputs])
        address = [at[bit] for bit in pins]
        return _look_up(init, address), _look_up(init, [*address[:2], 0, 0])

    return _fit_half(wires, half_at)


def _fit_half(wires: list[int], half_at: Callable[[Sequence[int]], tuple[int, int]]) -> Half | None:
    """Find INIT and inputs of a carry cell's half."""
    rows = [(values, *half_at(values)) for values in itertools.product((0, 1), repeat=len(wires))]
    for order in _orders(wires):
        fixed: dict[int, int] = {}
        fits = True
        for values, propagates, carry in rows:
            at: dict[Any, int] = {"0": 0, "1": 1, **dict(zip(wires, values, strict=True))}
            address = sum(at[bit] << place for place, bit in enumerate(order))
            fits &= fixed.setdefault(address, propagates) == propagates
            if not propagates:
                fits &= fixed.setdefault(address & 3, carry) == carry
        if fits:
            return sum(value << address for address, value in fixed.items()), order
    return None


def _orders(wires: list[int]) -> Iterator[tuple[Any, ...]]:
    """Give all ways to connect wires to the four inputs; D is 1 if it is left, so that the carry's bits are free."""
    idle = ["1"] if len(wires) < len(_PINS) else []
    zeros = ["0"] * (len(_PINS) - len(wires) - len(idle))
    for order in itertools.permutations([*wires, *zeros]):
        yield (*order, *idle)


def _look_up(table: int, address: Sequence[int]) -> int:
    return table >> sum(bit << place for place, bit in enumerate(address)) & 1
