"""From an address to a device that answers: rates are tried, sessions opened, boards found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dyadprop.errors import DeviceLost, DeviceTimeout, DyadpropError, NetworkMismatch
from dyadprop.identity import Identity, ask_identity
from dyadprop.link import Link, LinkCounters, SessionLost
from dyadprop.network import Network
from dyadprop.ports import Port, SerialPort, port_names
from dyadprop.protocol import SelfTest
from dyadprop.verdicts import ask_verdict, has_failed, spell_verdict

RATES = (115_200, 1_000_000, 3_000_000)
"""Rates at which boards start; each is tried where a device does not answer at the wanted one."""

GLANCE = 0.3
"""Seconds that a port gets, at each rate, while boards are looked for."""

Opener = Callable[[str, int], Port]
"""Gives the port of an address at a rate."""


@dataclass
class Connection:
    """A device that has said who it is.

    Attributes
    ----------
    address : str
    link : Link
        With an open session.
    identity : Identity
    """

    address: str
    link: Link
    identity: Identity

    def describe(self) -> str:
        """Say in a few words what was found."""
        return describe(self.address, self.identity)


@dataclass(frozen=True)
class Candidate:
    """A port that was looked at.

    Attributes
    ----------
    address : str
    identity : Identity or None
    round_trip : float
        Seconds.
    reason : str
        Why it has none.
    verdict : int
        Of its self-test.
    """

    address: str
    identity: Identity | None
    round_trip: float = 0.0
    reason: str = ""
    verdict: int = SelfTest.NOT_BUILT_IN

    def describe(self) -> str:
        """Say in a few words what was found."""
        if self.identity is None:
            return f"{self.address}: {self.reason}"
        failed = f", its self-test {spell_verdict(self.verdict)}" if has_failed(self.verdict) else ""
        return describe(self.address, self.identity) + failed


def describe(address: str, identity: Identity) -> str:
    """Say in a few words who is at an address."""
    return f"{address}: board {identity.board or 'without a name'} with network {identity.network}"


def connect(
    address: str,
    rates: Sequence[int],
    *,
    timeout: float,
    seconds: float,
    opener: Opener = SerialPort,
    counters: LinkCounters | None = None,
) -> Connection:
    """Open a port and a session on it.

    Parameters
    ----------
    address : str
    rates : sequence of int
        Tried in this order, again and again.
    timeout : float
        Of the link.
    seconds : float
        To give up after.
    opener : callable
    counters : LinkCounters, optional
        Of an earlier link; this one counts on.

    Raises
    ------
    RangeError, DeviceLost
        As of `SerialPort`.
    DeviceTimeout
        If nothing answers at any of the rates.
    ProtocolError
        If what answers does not speak this protocol.
    """
    port = opener(address, rates[0])
    link = Link(port, timeout=timeout, counters=counters)
    try:
        return reconnect(address, link, rates, seconds=seconds)
    except SessionLost as error:
        port.close()
        raise DeviceLost(str(error)) from error
    except BaseException:
        port.close()
        raise


def reconnect(address: str, link: Link, rates: Sequence[int], *, seconds: float) -> Connection:
    """Open another session over an open port; raises as `connect`, and SessionLost if the port is lost."""
    port = link.port
    fixed = not port.baud
    end = port.clock() + seconds
    wait = seconds if fixed or len(rates) == 1 else min(GLANCE, seconds)
    while True:
        for rate in rates[:1] if fixed else rates:
            if not fixed and port.baud != rate:
                port.baud = rate
            link.rate = rate
            try:
                link.open(wait)
                identity = ask_identity(link, max(wait, seconds / 2))
            except DeviceTimeout:
                continue
            if fixed:
                link.rate = identity.baud
            return Connection(address, link, identity)
        if port.clock() >= end:
            tried = "" if fixed else f" at {', '.join(map(str, rates))} baud"
            raise DeviceTimeout(f"no device answered on {port.name}{tried} within {seconds:g} s")


def look(address: str, rates: Sequence[int], *, timeout: float, opener: Opener = SerialPort) -> Candidate | Connection:
    """Look who is at an address, quickly; say why nobody is."""
    try:
        return connect(address, rates, timeout=timeout, seconds=GLANCE, opener=opener)
    except DyadpropError as error:
        return Candidate(address, None, reason=str(error))


def find_board(
    net: Network, board: str, rates: Sequence[int], *, timeout: float, opener: Opener = SerialPort
) -> Connection:
    """Look for the board that was built for a network, on all USB adapters.

    What hangs on another port, often the system's own console, must be named.

    Parameters
    ----------
    net : Network
    board : str
        Its name; empty: any.
    rates : sequence of int
    timeout : float
        Of the link.
    opener : callable

    Raises
    ------
    DeviceLost
        If there is no port, or no device on any.
    NetworkMismatch
        If there are devices, but none fits.
    """
    seen = []
    for address in port_names(usb=True):
        found = look(address, rates, timeout=timeout, opener=opener)
        if isinstance(found, Connection):
            if found.identity.network == net.hash and board in ("", found.identity.board):
                return found
            found.link.port.close()
        seen.append(found)
    wanted = f"{f'board {board}' if board else 'board'} with network {net.hash}"
    listing = "; ".join(entry.describe() for entry in seen)
    if any(isinstance(entry, Connection) for entry in seen):
        raise NetworkMismatch(f"no {wanted} was found ({net!r}); found are {listing}")
    others = ", ".join(name for name in port_names() if name not in {entry.address for entry in seen})
    raise DeviceLost(
        f"no {wanted} was found; {f'looked at {listing}' if seen else 'there is no USB serial adapter'}"
        f"{f'; not looked at: {others}' if others else ''}"
    )


def find_boards(addresses: Sequence[str] | None = None, rates: Sequence[int] = RATES) -> list[Candidate]:
    """List ports and who is there; of all USB adapters, or at some addresses."""
    listing = []
    for address in port_names(usb=True) if addresses is None else addresses:
        found = look(address, rates, timeout=GLANCE)
        listing.append(_listed(found) if isinstance(found, Connection) else found)
    return listing


def _listed(found: Connection) -> Candidate:
    """Ask a device for the verdict of its self-test, and leave it."""
    try:
        verdict = ask_verdict(found.link, GLANCE)
    except DyadpropError as error:
        return Candidate(found.address, None, reason=str(error))
    finally:
        found.link.port.close()
    return Candidate(found.address, found.identity, found.link.round_trip, verdict=verdict)
