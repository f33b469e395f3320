"""Small networks that differ in all that decides what a design takes of an FPGA."""

from dataclasses import dataclass

from dyadprop.formats import Formats, Q
from dyadprop.network import Dense, Network
from dyadprop_boards.fpgas import Family

_SHORT = Formats(activation=Q(3, 9), weight=Q(3, 9), sensitivity=Q(2, 10))
_LONG = Formats(activation=Q(4, 14), weight=Q(4, 14), sensitivity=Q(2, 16))
_LOGITS = Formats(activation=Q(6, 10))
BYTES = Formats(activation=Q(3, 5), weight=Q(3, 5), sensitivity=Q(2, 6))
"""Words of 8 bits, for boards with little room."""


@dataclass(frozen=True)
class Sample:
    """A network, and the board whose FPGA it is synthesized for."""

    name: str
    board: str
    net: Network


def _networks() -> dict[str, Network]:
    return {
        "smallest": Network(2, [Dense(2, "relu", lanes=2), Dense(1, lanes=1)]),
        "digits": Network(64, [Dense(32, "tanh", lanes=8), Dense(10, lanes=5)]),
        "iris": Network(4, [Dense(8, "tanh", lanes=2), Dense(3, formats=_LOGITS, lanes=1)], "softmax_cross_entropy"),
        "deep": Network(
            16,
            [
                Dense(12, "relu", lanes=3),
                Dense(9, "sigmoid", lanes=2),
                Dense(6, "leaky_relu", lanes=6),
                Dense(4, "sigmoid", lanes=1),
            ],
            "sigmoid_cross_entropy",
        ),
        "short": Network(
            24,
            [Dense(10, "sigmoid", lanes=4), Dense(6, "leaky_relu", lanes=3), Dense(2, lanes=1)],
            formats=_SHORT,
            max_batch=15,
        ),
        "long": Network(
            40, [Dense(6, "leaky_relu", lanes=3), Dense(5, "tanh", lanes=2)], formats=_LONG, max_batch=1000
        ),
        "both_ways": Network(
            10, [Dense(7, "tanh", lanes=4), Dense(5, "relu", lanes=1)], input_gradient=True, max_batch=1
        ),
        "wide": Network(200, [Dense(12, "relu", lanes=2), Dense(20, lanes=10)]),
        "classes": Network(
            30, [Dense(14, "relu", lanes=7), Dense(26, formats=_LOGITS, lanes=4)], "softmax_cross_entropy"
        ),
        "bytes": Network(4, [Dense(3, lanes=1)], formats=BYTES, max_batch=8),
    }


# An iCE40 and a Gowin are smaller, and fewer of their boards are built for: the smaller networks are enough. What the
# smallest of them have room for, words of a byte and one layer, is theirs alone.
_CHOSEN: dict[Family, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "ecp5": (("ulx3s-85f", tuple(name for name in _networks() if name != "bytes")),),
    "ice40": (("icebreaker", ("smallest", "iris", "short", "deep")), ("hx8k-breakout", ("smallest", "bytes"))),
    "gowin": (("tang-primer-20k", ("smallest", "iris", "short", "deep", "digits", "bytes")),),
}


def samples(family: Family) -> list[Sample]:
    """Give the sample designs of a family."""
    networks = _networks()
    return [Sample(name, board, networks[name]) for board, names in _CHOSEN[family] for name in names]
