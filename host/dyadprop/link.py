"""The host's side of a session: two reliable streams of bytes over a port that loses some (docs/protocol.md)."""

import random
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from dyadprop.errors import DeviceLost, DeviceTimeout, ProtocolError
from dyadprop.packets import Decoder, Frame, encode
from dyadprop.ports import Port
from dyadprop.protocol import HEADER, MAX_PACKET, MAX_PAYLOAD, RECEIVE_SLOTS, SEND_SLOTS, VERSION, Packet

MIN_PAYLOAD = 16
"""Bytes that a packet is cut down to where many are lost."""

_GROW_AFTER = 64  # packets in a row that arrived, until the next ones are twice as long
_ACKNOWLEDGE_AFTER = SEND_SLOTS // 4  # packets taken until the device hears of it
_FIRST_WAIT = 0.1  # seconds until a lost packet is missed, while no round trip has been measured
_SHORTEST_WAIT = 0.02  # a USB adapter and a busy system keep bytes for so long
_LONGEST_WAIT = 0.5
_LENIENCE = 4.0  # of deadlines against predictions
_BITS = 10  # of a byte on the wire, with start and stop
_ON_THE_WIRE = MAX_PACKET + 2  # bytes of a full packet
_SHORT = HEADER.size + 4 + 2  # and of one without payload
_WRAP = 1 << 16


class SessionLost(Exception):
    """The session is over: the device was reset, or the port is gone. For the driver, which begins another one."""


class Silence(DeviceTimeout):
    """Nothing at all has come: the device may be off, or speak at another rate."""


class Conversation(Protocol):
    """What is said in a session: takes the answers as they come.

    Attributes
    ----------
    done : bool
        Whether all answers are there.
    """

    @property
    def done(self) -> bool:
        """Whether all answers are there."""

    @property
    def awaited(self) -> str:
        """What comes next, for an error."""

    @property
    def seconds(self) -> float:
        """What the device computes at most between two signs of progress."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream; raises ProtocolError if they cannot be an answer."""


@dataclass
class LinkCounters:
    """What a link has done so far.

    Attributes
    ----------
    bytes : int
        Both ways.
    retries : int
        DATA packets sent again, and those asked for again.
    bad_packets : int
        Packets that came with a wrong check sum, length or COBS.
    send_seconds, wait_seconds, receive_seconds : float
        Spent on packing and writing packets, on waiting for bytes, and on what came.
    """

    bytes: int = 0
    retries: int = 0
    bad_packets: int = 0
    send_seconds: float = 0.0
    wait_seconds: float = 0.0
    receive_seconds: float = 0.0


class Link:
    """A session with a device.

    Parameters
    ----------
    port : Port
    timeout : float
        Seconds without progress, beside what bytes and computing are predicted to take, that are too long.
    counters : LinkCounters, optional
        Of an earlier link; this one counts on.

    Notes
    -----
    One thread: whoever waits for answers writes what the window allows and reads what came. Numbers of packets are
    counted on without an end here and cut to 16 bits on the wire. What a device sends can make the link hold no more
    than its 16 packets and the answers that are awaited.
    """

    def __init__(self, port: Port, *, timeout: float, counters: LinkCounters | None = None) -> None:
        self.port = port
        self.timeout = timeout
        self.rate = port.baud  # bits a second, for predictions; of a port without a rate the device's
        self.counters = LinkCounters() if counters is None else counters
        self.round_trip = 0.0  # seconds, smoothed; 0: not measured
        self.payload = MAX_PAYLOAD  # bytes of the next new packet
        self._deviation = 0.0
        self._session = -1
        self._decoder = Decoder()
        self._conversation: Conversation | None = None
        self._begin(0, 0, 0)

    def _begin(self, sequence: int, acknowledge: int, credit: int) -> None:
        self._outgoing: deque[memoryview] = deque()
        self._window: deque[bytes] = deque()  # packets that are not acknowledged
        self._base = sequence  # number of the first of them
        self._next = sequence  # the next one to send: within the window after going back
        self._limit = sequence + min(credit, RECEIVE_SLOTS)
        self._expected = acknowledge
        self._told = acknowledge  # what the device has heard of the packets taken
        self._ahead: dict[int, bytes] = {}  # packets behind a missing one
        self._sent = acknowledge  # the device's next new packet, as far as is known
        self._went_back = (-1, 0.0)
        self._asked_again = (-1, 0.0)
        self._polled = False
        self._timed: tuple[int, float] | None = None
        self._asked = False  # whether there was a POLL since
        self._arrived = 0
        self._interval = 0.0
        self._poll_at = 0.0
        self._progress_at = self._heard_at = self.port.clock()

    # -- opening ------------------------------------------------------------------------------------------------------

    def open(self, seconds: float) -> None:
        """Begin a session.

        Raises
        ------
        SessionLost
            If the port is lost.
        DeviceTimeout
            If no device answers in so many seconds.
        ProtocolError
            If one of another version does.
        """
        draw = random.SystemRandom().randrange
        session, sequence, acknowledge = draw(256), draw(_WRAP), draw(_WRAP)
        if session == self._session:
            session = (session + 1) % 256  # CLOSED for the old one says nothing about the new one
        self._session = session
        opening = b"\0" + encode(Frame(Packet.OPEN, session, sequence, acknowledge, 0, bytes([VERSION])))
        port, clock = self.port, self.port.clock
        start = clock()
        tried, again, wait, tries = start, start, _FIRST_WAIT, 0
        while True:
            now = clock()
            if now >= start + seconds:
                raise DeviceTimeout(f"no device answered on {port.name} within {seconds:g} s")
            if now >= again:
                self._write(opening)
                tried, again = now, now + wait
                tries, wait = tries + 1, min(2 * wait, _LONGEST_WAIT)
            for frame in self._read(min(again, start + seconds) - clock()):
                # The numbers are random, so this is no answer of an earlier run.
                if frame.kind != Packet.OPENED or frame[1:4] != (session, acknowledge, sequence):
                    continue
                if frame.payload[0] != VERSION:
                    raise ProtocolError(
                        f"device on {port.name} speaks protocol version {frame.payload[0]}; this driver speaks "
                        f"{VERSION}"
                    )
                self._measure(clock() - tried, sure=tries == 1)
                self._begin(sequence, acknowledge, frame.credit)
                return

    # -- talking ------------------------------------------------------------------------------------------------------

    def talk(self, commands: Iterable[bytes], conversation: Conversation, seconds: float | None = None) -> bool:
        """Send commands and read until the conversation has its answers.

        Parameters
        ----------
        commands : iterable of bytes
            None, to go on with a conversation that was given up.
        conversation : Conversation
        seconds : float, optional
            To give up after.

        Returns
        -------
        bool
            Whether all answers are there; False only after ``seconds``.

        Raises
        ------
        SessionLost
        DeviceTimeout
            If the device makes no progress; `Silence` if nothing came at all.
        ProtocolError
            If it says what it must not.
        """
        self._outgoing.extend(memoryview(command) for command in commands)
        self._conversation = conversation
        clock = self.port.clock
        now = self._progress_at = clock()
        self._rest(now)
        end = None if seconds is None else now + seconds
        while not conversation.done:
            self._send(clock())
            now = clock()
            deadline = self._progress_at + self._patience(conversation)
            if now >= deadline:
                raise self._stuck(conversation, now)
            if end is not None and now >= end:
                return False
            until = min(self._poll_at, deadline) if end is None else min(self._poll_at, deadline, end)
            frames = self._read(until - now)
            start = time.perf_counter()
            for frame in frames:
                self._take(frame)
            self.counters.receive_seconds += time.perf_counter() - start
            now = clock()
            if now >= self._poll_at and not conversation.done:
                self._poll(now)
        return True

    def _send(self, now: float) -> None:
        """Write what the window allows, or at least that packets were taken."""
        packets = []
        while self._next < self._limit:
            index = self._next - self._base
            if index < len(self._window):
                payload = self._window[index]
                self.counters.retries += 1
            elif self._outgoing:
                payload = self._cut()
                self._window.append(payload)
                if self._timed is None:
                    self._timed, self._asked = (self._next, now), False
            else:
                break
            packets.append(
                encode(Frame(Packet.DATA, self._session, self._next % _WRAP, self._expected % _WRAP, payload=payload))
            )
            self._next += 1
        if packets:
            self._rest(now)
        elif self._expected - self._told >= _ACKNOWLEDGE_AFTER:
            packets.append(self._short(Packet.ACK))
        if packets:
            self._told = self._expected
            self._write(b"".join(packets))

    def _poll(self, now: float) -> None:
        """Ask what has become of it all; less and less often while the answer is: nothing."""
        self._asked = True
        longer = min(2 * self._interval, max(_LONGEST_WAIT, 4 * self.round_trip))
        if self._sent > self._expected:
            self._ask_again(now)
        else:
            # A zero first: it ends what a lost one has left open.
            self._write(b"\0" + self._short(Packet.POLL))
            self._told = self._expected
        self._polled = True
        self._interval = longer
        self._poll_at = now + longer

    def _cut(self) -> bytes:
        """Take the payload of a new packet from what is to be sent."""
        pieces, left = [], self.payload
        while left and self._outgoing:
            piece = self._outgoing[0][:left]
            if len(piece) == len(self._outgoing[0]):
                self._outgoing.popleft()
            else:
                self._outgoing[0] = self._outgoing[0][left:]
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def _short(self, kind: Packet) -> bytes:
        number = self._base + len(self._window)
        return encode(Frame(kind, self._session, number % _WRAP, self._expected % _WRAP))

    # -- what came ----------------------------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        if frame.session != self._session:
            return
        if frame.kind == Packet.CLOSED:
            raise SessionLost(f"the device on {self.port.name} was reset")
        if frame.kind not in (Packet.DATA, Packet.STATUS, Packet.GAP):
            return
        now = self._heard_at = self.port.clock()
        self._acknowledged(frame, now)
        number = _near(frame.sequence, self._expected)
        if frame.kind == Packet.DATA:
            self._data(number, frame.payload, now)
            number += 1
        elif frame.kind == Packet.GAP:
            base, since = self._went_back
            # Each packet behind the missing one makes such an answer: one of them counts.
            if base != self._base or now >= since + self._wait():
                self._go_back(now)
        elif self._polled:
            self._polled = False
            self._go_back(now)  # what it does not acknowledge now is lost: it went out before POLL
        if self._expected < number <= self._expected + SEND_SLOTS:
            self._sent = max(self._sent, number)
            asked, since = self._asked_again
            if asked != self._expected or now >= since + self._wait():
                self._ask_again(now)

    def _data(self, number: int, payload: bytes, now: float) -> None:
        if not self._expected <= number < self._expected + SEND_SLOTS or number in self._ahead:
            return
        self._ahead[number] = payload
        self._progress(now)
        assert self._conversation is not None
        while self._expected in self._ahead:
            payload = self._ahead.pop(self._expected)
            self._expected += 1
            self._conversation.feed(payload)

    def _acknowledged(self, frame: Frame, now: float) -> None:
        base = _near(frame.acknowledge, self._base)
        # Behind: an old answer. Beyond what was sent: no answer to us at all.
        if not self._base <= base <= self._base + len(self._window):
            return
        taken = base - self._base
        if taken:
            for _ in range(taken):
                self._window.popleft()
            self._base = base
            self._next = max(self._next, base)
            if self._timed is not None and self._timed[0] < base:
                self._measure(now - self._timed[1], sure=not self._asked)
                self._timed = None
            self._arrived += taken
            if self._arrived >= _GROW_AFTER:
                self._arrived = 0
                self.payload = min(2 * self.payload, MAX_PAYLOAD)
        limit = base + min(frame.credit, RECEIVE_SLOTS)
        if taken or limit > self._limit:
            self._limit = max(limit, self._limit)
            self._progress(now)

    def _go_back(self, now: float) -> None:
        if self._next == self._base:
            return
        self._next = self._base
        self._went_back = (self._base, now)
        self._timed = None  # nobody knows which of the two is acknowledged
        self._arrived = 0
        self.payload = max(self.payload // 2, MIN_PAYLOAD)

    def _ask_again(self, now: float) -> None:
        """Ask for all from the missing packet on; that is a POLL too."""
        self._asked_again = (self._expected, now)
        self.counters.retries += 1
        self._told = self._expected
        self._write(b"\0" + self._short(Packet.RESEND))
        self._rest(now)

    # -- time ---------------------------------------------------------------------------------------------------------

    def _measure(self, seconds: float, *, sure: bool) -> None:
        """Smooth round trips, as TCP does (RFC 6298).

        One that is not ``sure`` may be that of a later packet, or have waited for an answer that was lost: it doubles
        the figure at most. A link that is so slow that none is sure is measured all the same.
        """
        if not sure and self.round_trip:
            seconds = min(seconds, 2 * self.round_trip)
        if self.round_trip == 0.0:
            self.round_trip, self._deviation = seconds, seconds / 2
            return
        self._deviation += (abs(seconds - self.round_trip) - self._deviation) / 4
        self.round_trip += (seconds - self.round_trip) / 8

    def _wire_seconds(self, size: int) -> float:
        return size * _BITS / self.rate if self.rate else 0.0

    def _in_flight(self) -> int:
        """Bytes that may be under way, both ways."""
        return (self._next - self._base + SEND_SLOTS) * _ON_THE_WIRE

    def _wait(self) -> float:
        """Seconds until what was sent must have been heard of."""
        if self.round_trip == 0.0:
            return _FIRST_WAIT
        wait = max(_SHORTEST_WAIT, self.round_trip + 4 * self._deviation)
        return wait + self._wire_seconds(self._in_flight())

    def _patience(self, conversation: Conversation) -> float:
        """Seconds without progress that are too long."""
        # A link that is slower than its rate says, most of all a simulated chip, is as much slower in all it does.
        slowness = 1.0
        if self.rate and self.round_trip:
            slowness = max(1.0, self.round_trip / self._wire_seconds(2 * _SHORT + 1))
        predicted = self._wire_seconds(self._in_flight()) + slowness * conversation.seconds
        return self.timeout + _LENIENCE * (predicted + self.round_trip)

    def _progress(self, now: float) -> None:
        self._progress_at = now
        self._rest(now)

    def _rest(self, now: float) -> None:
        """Begin to wait anew for a sign of life."""
        self._interval = self._wait()
        self._poll_at = now + self._interval

    def _stuck(self, conversation: Conversation, now: float) -> DeviceTimeout:
        silent = now - self._heard_at
        waited = now - self._progress_at
        sentence = (
            f"device on {self.port.name} made no progress for {waited:.3g} s while {conversation.awaited} was awaited"
        )
        if silent < waited / 2:
            return DeviceTimeout(f"{sentence}; it answers polls")
        return Silence(f"{sentence}; nothing came for {silent:.3g} s")

    # -- bytes --------------------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        start = time.perf_counter()
        try:
            self.port.write(data)
        except DeviceLost as error:
            raise SessionLost(str(error)) from error
        self.counters.bytes += len(data)
        self.counters.send_seconds += time.perf_counter() - start

    def _read(self, seconds: float) -> list[Frame]:
        start = time.perf_counter()
        try:
            data = self.port.read(max(seconds, 0.0))
        except DeviceLost as error:
            raise SessionLost(str(error)) from error
        middle = time.perf_counter()
        self.counters.wait_seconds += middle - start
        self.counters.bytes += len(data)
        bad = self._decoder.bad
        frames = self._decoder.feed(data)
        self.counters.bad_packets += self._decoder.bad - bad
        self.counters.receive_seconds += time.perf_counter() - middle
        return frames


def _near(wire: int, number: int) -> int:
    """Give the number next to ``number`` that has these 16 bits."""
    distance = (wire - number) % _WRAP
    return number + (distance if distance < _WRAP // 2 else distance - _WRAP)
