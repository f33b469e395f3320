"""What a device's power-on self-test said, asked over the wire and put into words."""

import numpy as np

from dyadprop.errors import DeviceTimeout
from dyadprop.link import Link
from dyadprop.messages import Flight
from dyadprop.protocol import REGISTER_BYTES, Answer, Command, Register, SelfTest

_WORDS = {
    SelfTest.NOT_BUILT_IN: "is not built in",
    SelfTest.PASSED: "passed",
    SelfTest.RUNNING: "is not over",
    SelfTest.HUNG: "failed: a stream stood still",
    SelfTest.WEIGHTS: "failed: weights did not come back as they were written",
    SelfTest.GRADIENTS: "failed: gradients did not come back as they were written",
    SelfTest.PRODUCTS: "failed: wrong outputs or gradients of corner values",
    SelfTest.TABLES: "failed: wrong outputs or gradients of random samples, behind right ones of corner values",
}


def has_failed(verdict: int) -> bool:
    """Whether a verdict, as the register SELF_TEST gives it, says that the device is broken."""
    return verdict not in (SelfTest.NOT_BUILT_IN, SelfTest.PASSED, SelfTest.RUNNING)


def spell_verdict(verdict: int) -> str:
    """Put a verdict into words, behind "its self-test"."""
    return _WORDS[SelfTest(verdict)] if verdict in _WORDS else f"failed: 0x{verdict:08x}, which this driver cannot read"


def ask_verdict(link: Link, seconds: float) -> int:
    """Ask a device for the verdict of its self-test; while the test runs, the answer waits.

    Raises
    ------
    DeviceTimeout
        If it does not say in so many seconds.
    """
    flight = Flight()
    flight.say(Command.REGISTERS)
    answer = flight.expect(Answer.REGISTERS, REGISTER_BYTES * len(Register))
    if not link.talk(flight.commands, flight, seconds):
        raise DeviceTimeout(f"device on {link.port.name} did not tell its registers within {seconds:g} s")
    return int(np.frombuffer(answer.data, dtype="<u4")[Register.SELF_TEST])
