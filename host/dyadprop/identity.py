"""What a device says about itself: the document behind IDENTIFY."""

import json
import math
import secrets
from dataclasses import dataclass
from typing import Any

from dyadprop.errors import DeviceTimeout, DyadpropError, ProtocolError
from dyadprop.formats import Formats, Q
from dyadprop.link import Link
from dyadprop.messages import Flight
from dyadprop.protocol import NONCE_BYTES


@dataclass(frozen=True)
class Identity:
    """Who is at the other end of a wire.

    Attributes
    ----------
    protocol : int
    network : str
        Hash of the network that it was built for.
    gateware, board : str
    clock : float
        Hz.
    baud : int
        Of its UART at power-on.
    formats : tuple of Formats
        Of the input and of each layer.
    lanes : tuple of int
    max_batch : int
    """

    protocol: int
    network: str
    gateware: str
    board: str
    clock: float
    baud: int
    formats: tuple[Formats, ...]
    lanes: tuple[int, ...]
    max_batch: int


def ask_identity(link: Link, seconds: float) -> Identity:
    """Ask a device who it is.

    Raises
    ------
    DeviceTimeout
        If it does not say in so many seconds.
    ProtocolError
        If what it says makes no sense.
    """
    flight = Flight()
    body = flight.identity(secrets.token_bytes(NONCE_BYTES))
    if not link.talk(flight.commands, flight, seconds):
        raise DeviceTimeout(f"device on {link.port.name} did not say who it is within {seconds:g} s")
    return read_identity(link.port.name, bytes(body.data))


def read_identity(where: str, document: bytes) -> Identity:
    """Read the document.

    Raises
    ------
    ProtocolError
        If it is none.
    """
    try:
        entries = json.loads(document.decode())
        if not isinstance(entries, dict):
            raise ValueError("it is no object")
        return Identity(
            protocol=_whole(entries["protocol"]),
            network=_text(entries["network"]),
            gateware=_text(entries["gateware"]),
            board=_text(entries["board"]),
            clock=_positive(entries["clock"]),
            baud=_whole(entries["baud"]),
            formats=tuple(
                Formats(**{name: Q.parse(entry[name]) for name in ("activation", "weight", "sensitivity")})
                for entry in entries["formats"]
            ),
            lanes=tuple(_whole(count) for count in entries["lanes"]),
            max_batch=_whole(entries["max_batch"]),
        )
    except KeyError as error:
        raise ProtocolError(f"identity of the device on {where} has no {error.args[0]!r}") from error
    except (ValueError, TypeError, RecursionError, DyadpropError) as error:  # ValueError: UTF-8 and JSON too
        reason = " ".join(str(error).split())
        raise ProtocolError(f"identity of the device on {where} cannot be read: {reason}") from error


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r:.80} is no whole number")
    return value


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (0 < value < math.inf):
        raise ValueError(f"{value!r:.80} is no frequency")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200 or not value.isprintable():
        raise ValueError(f"{value!r:.80} is no name")
    return value
