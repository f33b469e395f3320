"""Messages of the wire: commands that go out together, and exactly the answers that they must have."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dyadprop.errors import CapacityError, ProtocolError
from dyadprop.formats import Ints
from dyadprop.operations import Operation
from dyadprop.protocol import MESSAGE_HEADER, Answer, Command, Reason, WireSizes

MAX_BODY = (1 << 24) - 1
"""Bytes of a message's body: its length has three."""

_BODY = 1 << 18  # bytes of samples that go into one message
_REFUSAL = 10
_MAX_IDENTITY = 1 << 16
_BESIDE_WORDS = 2  # stage and operation
_WORD = 8  # bytes of an int64


def check_message_sizes(sizes: WireSizes) -> None:
    """Refuse a network that no chip could be loaded with.

    Raises
    ------
    CapacityError
        If a stage's weights or gradients are more than a message carries.
    """
    for stage, (count, *widths) in enumerate(zip(sizes.words, sizes.weight_word, sizes.gradient_word, strict=True), 1):
        size = count * max(widths) + _BESIDE_WORDS
        if size > MAX_BODY:
            raise CapacityError(
                f"stage {stage} has {size} bytes of weights or gradients; a message carries at most {MAX_BODY}"
            )


def pack_words(words: Ints, size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Give integers as little-endian bytes, ``size`` each, along the last axis."""
    wide = np.ascontiguousarray(words, dtype="<i8").view(np.uint8)
    return wide.reshape(*words.shape, _WORD)[..., :size].reshape(*words.shape[:-1], words.shape[-1] * size)


def unpack_words(data: bytes | bytearray | memoryview, size: int) -> Ints:
    """Give the integers, ``size`` bytes each, as a flat int64 array."""
    narrow = np.frombuffer(data, dtype=np.uint8).reshape(-1, size)
    wide = np.zeros((len(narrow), _WORD), dtype=np.uint8)
    wide[:, _WORD - size :] = narrow  # at the upper end: the shift back brings the sign
    return (wide.view("<i8").reshape(-1) >> (8 * (_WORD - size))).astype(np.int64)


def message(kind: Command | Answer, body: bytes = b"") -> bytes:
    """Give a message's bytes."""
    return bytes([kind]) + len(body).to_bytes(MESSAGE_HEADER - 1, "little") + body


@dataclass
class Bodies:
    """Answers of one kind and length that come one after another; their bodies, joined.

    Attributes
    ----------
    kind : Answer
    count : int
    size : int
        Bytes of each; 0 or more, or the most where ``exact`` is False.
    what : str
        For errors: "of stage 2".
    exact : bool
    prefix : bytes
        With which each must begin; not kept in ``data``.
    data : bytearray
    came : int
        How many are complete.
    """

    kind: Answer
    count: int
    size: int
    what: str = ""
    exact: bool = True
    prefix: bytes = b""
    data: bytearray = field(default_factory=bytearray)
    came: int = 0

    def words(self, size: int) -> Ints:
        """Give the bodies' words, flat."""
        return unpack_words(self.data, size)


class Flight:
    """Commands that are sent without waiting in between, and their answers (a `dyadprop.link.Conversation`).

    Parameters
    ----------
    seconds : float
        What the device computes at most between two signs of progress.

    Attributes
    ----------
    commands : list of bytes
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.commands: list[bytes] = []
        self.seconds = seconds
        self._expected: dict[int, deque[Bodies]] = {}
        self._missing = 0
        self._head = bytearray()
        self._current: Bodies | None = None
        self._prefix = bytearray()
        self._left = 0
        self._refusal: bytearray | None = None

    # -- commands -----------------------------------------------------------------------------------------------------

    def say(self, command: Command, body: bytes = b"") -> None:
        """Add a command."""
        self.commands.append(message(command, body))

    def expect(
        self, kind: Answer, size: int, count: int = 1, *, what: str = "", exact: bool = True, prefix: bytes = b""
    ) -> Bodies:
        """Await answers; those of one kind in the order of these calls."""
        bodies = Bodies(kind, count, size, what, exact, prefix)
        self._expected.setdefault(kind, deque()).append(bodies)
        self._missing += count
        return bodies

    def control(self, entries: Sequence[tuple[int, Operation, int]], sizes: Sequence[int]) -> list[Bodies]:
        """Add operations of the control chain, in one message; the answers carry so many bytes of words each."""
        body = b"".join(
            bytes([stage, operation]) + data.to_bytes(4, "little", signed=True) for stage, operation, data in entries
        )
        self.say(Command.CONTROL, body)
        return [
            self.expect(
                Answer.REPLY,
                2 + size,
                what=f"to {operation.name} of stage {stage}",
                prefix=bytes([stage, operation]),
            )
            for (stage, operation, _), size in zip(entries, sizes, strict=True)
        ]

    def samples(self, command: Command, *columns: tuple[Ints, int]) -> None:
        """Add samples: of each, words of several arrays (samples, n), with so many bytes each."""
        rows = np.concatenate([pack_words(words, size) for words, size in columns], axis=1)
        step = max(1, _BODY // max(1, rows.shape[1]))
        for start in range(0, len(rows), step):
            self.say(command, rows[start : start + step].tobytes())

    def identity(self, nonce: bytes) -> Bodies:
        """Ask who answers."""
        self.say(Command.IDENTIFY, nonce)
        return self.expect(Answer.IDENTITY, _MAX_IDENTITY, exact=False, prefix=nonce)

    # -- answers ------------------------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether all answers are there."""
        return self._missing == 0

    @property
    def awaited(self) -> str:
        """What comes next."""
        for waiting in self._expected.values():
            for bodies in waiting:
                number = "" if bodies.count == 1 else f" {bodies.came + 1} of {bodies.count}"
                return f"{bodies.kind.name}{number}{' ' * bool(bodies.what)}{bodies.what}"
        return "nothing"

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the device's stream.

        Raises
        ------
        ProtocolError
            If they are no answer that is awaited, or the device refuses a command.
        """
        position, end = 0, len(data)
        while position < end:
            if self._left:
                piece = data[position : position + self._left]
                position += len(piece)
                self._left -= len(piece)
                self._keep(piece)
            else:
                piece = data[position : position + MESSAGE_HEADER - len(self._head)]
                position += len(piece)
                self._head += piece
                if len(self._head) < MESSAGE_HEADER:
                    return
                kind, self._left = self._head[0], int.from_bytes(self._head[1:], "little")
                self._head.clear()
                self._start(kind, self._left)
            if not self._left:
                self._finish()

    def _start(self, kind: int, size: int) -> None:
        if kind == Answer.REFUSED:
            if size != _REFUSAL:
                raise ProtocolError(f"device sent REFUSED with {size} bytes; it has {_REFUSAL}")
            self._refusal = bytearray()
            return
        waiting = self._expected.get(kind)
        if not waiting:
            raise ProtocolError(f"device sent {_name(Answer, kind)} with {size} bytes; awaited is {self.awaited}")
        bodies = waiting[0]
        if size != bodies.size if bodies.exact else not len(bodies.prefix) <= size <= bodies.size:
            raise ProtocolError(
                f"device sent {bodies.kind.name} {bodies.what + ' ' if bodies.what else ''}with {size} bytes; "
                f"it has {bodies.size}{'' if bodies.exact else ' at most'}"
            )
        self._current = bodies
        self._prefix.clear()

    def _keep(self, piece: bytes) -> None:
        if self._refusal is not None:
            self._refusal += piece
            return
        bodies = self._current
        assert bodies is not None
        missing = len(bodies.prefix) - len(self._prefix)
        if missing:
            self._prefix += piece[:missing]
            if not bodies.prefix.startswith(self._prefix):
                raise ProtocolError(
                    f"device sent {bodies.kind.name} that begins with {self._prefix.hex()}; awaited is "
                    f"{self.awaited}, which begins with {bodies.prefix.hex()}"
                )
            piece = piece[missing:]
        bodies.data += piece

    def _finish(self) -> None:
        if self._refusal is not None:
            raise ProtocolError(_refused(bytes(self._refusal)))
        bodies = self._current
        assert bodies is not None
        self._current = None
        bodies.came += 1
        self._missing -= 1
        if bodies.came == bodies.count:
            waiting = self._expected[bodies.kind]
            waiting.popleft()
            if not waiting:
                del self._expected[bodies.kind]


def _refused(body: bytes) -> str:
    kind, reason = body[0], body[1]
    expected, got = (int.from_bytes(body[i : i + 4], "little") for i in (2, 6))
    return f"device refused {_name(Command, kind)}: {_name(Reason, reason)}, expected {expected}, got {got}"


def _name(numbers: type[Command] | type[Answer] | type[Reason], number: int) -> str:
    try:
        return numbers(number).name
    except ValueError:
        return f"{numbers.__name__.lower()} {number:#04x}"
