"""What a chip says about itself when it is asked (docs/protocol.md, "Identity")."""

import json

from dyadprop.plan import Plan
from dyadprop.protocol import VERSION
from dyadprop_boards.table import Board


def identity(plan: Plan, board: Board, gateware: str, baud: int | None = None, clock: float | None = None) -> bytes:
    """Write the identity of a design.

    Parameters
    ----------
    plan : Plan
    board : Board
    gateware : str
        Revision of the hardware description.
    baud : int, optional
        Bits a second at power-on, where it is not the board's.
    clock : float, optional
        Hz of the design, where it is not the oscillator's.
    """
    net = plan.net
    formats = [net.layer_formats(index) for index in range(len(net.layers) + 1)]
    document = {
        "protocol": VERSION,
        "network": net.hash,
        "gateware": gateware,
        "board": board.name,
        "clock": board.clock if clock is None else clock,
        "baud": board.baud if baud is None else baud,
        "formats": [
            {name: str(getattr(entry, name)) for name in ("activation", "weight", "sensitivity")} for entry in formats
        ],
        "lanes": list(plan.lanes),
        "max_batch": net.max_batch,
    }
    return json.dumps(document, separators=(",", ":")).encode()
