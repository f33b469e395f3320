"""What the program of a power-on self-test is made of: hardware carries it out, `dyadprop.self_test` writes it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum

from dyadprop.protocol import SelfTest

POLYNOMIAL = 0x002D
"""x^16 + x^5 + x^3 + x^2 + 1: primitive, so random bytes have a period of 65,535, and little logic for eight bits."""

SIGNATURE_BITS = 16
SEED = 0xACE1
"""Of the signature, which is the generator too, at the start."""

VALUE_BITS = 8
STEP_BITS = 4
COUNT_BITS = 16
"""Of a number of words or a signature: two values of ARGUMENT."""

TOP_BITS, ONES, NEGATIVE = 3, 2, 1
"""What the outer counter stands at when FILL gives constants; at any other number it gives random words."""


class Step(IntEnum):
    """What a row of the program does; each has a value of one byte."""

    SEND = 0
    """Give the value to the bridge, as a byte of a message of the host."""
    ARGUMENT = 1
    """Shift the value into the argument: the last three, the first of them lowest."""
    RECEIVE = 2
    """Take so many messages of the bridge into the signature. None: the end, the test has passed."""
    CHECK = 3
    """The signature is the argument's upper two bytes, else the value is the verdict."""
    OUTER = 4
    """Set the outer counter to the value; a loop begins behind this row."""
    INNER = 5
    """The same for the inner counter."""
    REPEAT_OUTER = 6
    """If the outer counter is not zero, count down and go to where its loop begins."""
    REPEAT_INNER = 7
    """The same for the inner counter."""
    FILL = 8
    """Send words, as many as the argument's upper two bytes say. The step's lower two bits are the bytes of a word less
    one; bit 2 is a bit of the inner counter, which inverts all bits where it is set. The value masks a word's highest
    byte: bits outside of it are the sign. What a word is depends on the outer counter. 3: the argument's lowest byte
    above zeros. 2: ones. 1: the inverse of the mask above zeros. Else random."""


Row = tuple[int, int]
"""Step and value."""


class Signature:
    """What the answers were, in 16 bits; and where random words come from.

    Attributes
    ----------
    value : int
    """

    def __init__(self) -> None:
        self.value = SEED

    def take(self, byte: int) -> None:
        """Shift a byte in."""
        self.value ^= byte << 8
        for _ in range(8):
            self.value = (self.value << 1) ^ (POLYNOMIAL if self.value >> 15 else 0)
            self.value &= 0xFFFF

    def draw(self) -> int:
        """Give a random byte."""
        byte = self.value >> 8
        self.take(0)
        return byte


@dataclass(frozen=True)
class Program:
    """The rows of a self-test.

    Attributes
    ----------
    rows : tuple of (int, int)
        Step and value.
    """

    rows: tuple[Row, ...]

    @property
    def words(self) -> list[int]:
        """Each row as the word of a ROM: the value in its lower eight bits."""
        return [step << VALUE_BITS | value for step, value in self.rows]

    @property
    def most_words(self) -> int:
        """Give the largest number of words that a FILL sends."""
        places = (place for place, (step, _) in enumerate(self.rows) if step >= Step.FILL)
        return max(self.rows[place - 2][1] | self.rows[place - 1][1] << VALUE_BITS for place in places)

    def largest(self, step: Step) -> int:
        """Give the largest count that a counter is set to."""
        return max((value for s, value in self.rows if s == step), default=0)


def run(program: Program, answer: Callable[[bytes], bytes]) -> tuple[Program, SelfTest]:
    """Carry a program out as the hardware does, and note the signatures.

    Parameters
    ----------
    program : Program
    answer : callable
        Takes bytes of the host's messages, as many as are sent in a row, and gives the messages that they bring about.

    Returns
    -------
    Program
        With the signatures of these answers in its CHECKs.
    SelfTest
        What a chip with the program as it was would say of these answers.
    """
    rows, signed = program.rows, list(program.rows)
    verdict = SelfTest.PASSED
    signature = Signature()
    argument = place = 0
    counters, starts = {Step.OUTER: 0, Step.INNER: 0}, {Step.OUTER: 0, Step.INNER: 0}
    sent, waiting = bytearray(), bytearray()
    while True:
        step, value = rows[place]
        upper = argument >> 8
        place += 1
        if step >= Step.FILL:
            sent += _words(step, value, argument, counters, signature)
            continue
        match Step(step):
            case Step.SEND:
                sent.append(value)
            case Step.ARGUMENT:
                argument = argument >> 8 | value << 16
            case Step.RECEIVE:
                waiting += answer(bytes(sent))
                sent.clear()
                if not value:
                    assert not waiting, f"{len(waiting)} bytes of answers are left at the end"
                    return replace(program, rows=tuple(signed)), verdict
                for _ in range(value):
                    size = 4 + int.from_bytes(waiting[1:4], "little")
                    assert len(waiting) >= size, f"an answer is missing in front of row {place}"
                    for byte in waiting[:size]:
                        signature.take(byte)
                    del waiting[:size]
            case Step.CHECK:
                if upper != signature.value and verdict == SelfTest.PASSED:
                    verdict = SelfTest(value)
                signed[place - 3 : place - 1] = [
                    (Step.ARGUMENT, byte) for byte in signature.value.to_bytes(2, "little")
                ]
            case Step.OUTER | Step.INNER as counter:
                counters[counter], starts[counter] = value, place
            case Step.REPEAT_OUTER | Step.REPEAT_INNER as repeat:
                counter = Step.OUTER if repeat == Step.REPEAT_OUTER else Step.INNER
                if counters[counter]:
                    counters[counter] -= 1
                    place = starts[counter]


def _words(step: int, mask: int, argument: int, counters: dict[Step, int], signature: Signature) -> bytes:
    """Give what FILL sends."""
    size, inverting = (step & 3) + 1, step >> 2 & 1
    inverse = 0xFF if counters[Step.INNER] >> inverting & 1 else 0
    words = bytearray()
    for k in range((argument >> 8) * size):
        top = k % size == size - 1
        byte = signature.draw()
        match counters[Step.OUTER]:
            case x if x == TOP_BITS:
                byte = argument & 0xFF if top else 0
            case x if x == ONES:
                byte = 0xFF
            case x if x == NEGATIVE:
                byte = 0xFF ^ mask if top else 0
            case _:
                if top:
                    byte = byte | 0xFF ^ mask if byte >> 7 else byte & mask
        words.append(byte ^ inverse)
    return bytes(words)
