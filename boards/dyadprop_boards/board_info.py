"""What `dyadprop info --board` says of a network on a board; the host finds it through an entry point."""

from typing import Any

from dyadprop.network import Network
from dyadprop.plan import Plan
from dyadprop_boards.design import fit
from dyadprop_boards.floorplan import parts_in_order
from dyadprop_boards.fpgas import RESOURCE_NAMES, RESOURCES, Resource
from dyadprop_boards.refusal import say_doubts
from dyadprop_boards.resources import COMMAND, FITTED, coefficients, fitted_to, predict
from dyadprop_boards.result import line_rates
from dyadprop_boards.revision import gateware_revision
from dyadprop_boards.speed import Work
from dyadprop_boards.table import find_board


def board_info(net: Network, name: str, multipliers: int | None) -> tuple[Plan, list[str], dict[str, Any]]:
    """Predict a network on a board.

    Parameters
    ----------
    net : Network
    name : str
        Of the board, or its file.
    multipliers : int or None
        Budget; None: as many lanes as the board takes.

    Returns
    -------
    plan : Plan
    lines : list of str
        For people.
    document : dict
        For programs: ``board``, ``clock``, ``resources`` (those that are known), ``parts``, ``doubts``, ``speed``,
        ``line``.

    Raises
    ------
    CapacityError
        If it does not fit.
    RangeError
        If there is no such board.
    """
    board = find_board(name)
    design = fit(net, board, multipliers=multipliers)
    predicted, work = predict(design.plan, board, design.clock), Work.of(design.plan)
    fitted = bool(coefficients(board.fpga.family))
    told: tuple[Resource, ...] = RESOURCES if fitted else tuple(r for r in RESOURCES if r not in FITTED)
    resources = {
        resource: {"predicted": predicted.total[resource], "available": board.fpga.has(resource)} for resource in told
    }
    lines = [
        f"on {board.name} ({board.device}), predicted: "
        + ", ".join(f"{e['predicted']:,} of {e['available']:,} {RESOURCE_NAMES[k]}" for k, e in resources.items())
    ]
    table = [["part", *(RESOURCE_NAMES[resource] for resource in told)]]
    for part in parts_in_order(set(predicted.parts)):
        table.append([part, *(f"{predicted.parts[part][resource]:,}" for resource in told)])
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    lines += ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    again = f"{COMMAND} --family {board.fpga.family}"
    if not fitted:
        lines.append(
            f"LUTs and flip-flops are not known: nothing is fitted for {board.fpga.family} yet; {again} does it"
        )
    elif (other := fitted_to(board.fpga.family)) != (present := gateware_revision()):
        lines.append(f"LUTs and flip-flops were fitted to gateware {other}; {again} fits them to this one, {present}")
    doubts = say_doubts(design.plan, board, design.clock)
    if doubts:
        lines.append(doubts)
    line = [work.on_line(baud, design.clock) for baud in line_rates(board.baud, design.link_clock)]
    lines.append(
        f"at {design.clock / 1e6:g} MHz {work.gradients(design.clock):,.0f} gradients/s, one alone in "
        f"{1e6 * work.gradient_latency / design.clock:.2f} us; "
        + ", ".join(f"{e['samples_a_second']:,.0f} samples/s over a line of {e['baud']:,} baud" for e in line)
    )
    document = {
        "board": board.name,
        "clock": design.clock,
        "resources": resources,
        "parts": predicted.parts,
        "doubts": doubts,
        "speed": work.at(design.clock),
        "line": line,
    }
    return design.plan, lines, document
