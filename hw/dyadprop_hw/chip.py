"""The whole chip: a network behind a link that carries bytes."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from dyadprop.baud import bit_period
from dyadprop.plan import Plan
from dyadprop.protocol import MAX_PERIOD
from dyadprop_hw.layouts import StageStatus


class Core(wiring.Component):
    """A network, and all that it takes to use it through bytes (docs/protocol.md); knows nothing of what carries them.

    Parameters
    ----------
    plan : Plan
    identity : bytes
        What IDENTIFY answers with, behind the nonce.
    clock : float
        Hz; only the trial of a baud rate is measured in seconds.
    baud : int
        Rate at power-on.

    Members
    -------
    rx, tx : In, Out(stream.Signature(8))
        Bytes from and to the host.
    overflow, framing_error : In(1)
        High for a cycle when a byte in front of ``rx`` was lost, or had no stop bit: counted.
    line_busy : In(1)
        Bytes taken from ``tx`` are still on their way to the line; a new bit period waits for its end.
    self_test : In(32)
        Register SELF_TEST.
    period : Out(16)
        Bit period for a UART.
    status : array of Out(StageStatus)
        Of the network, for messages.
    """

    rx: Any
    tx: Any
    overflow: Signal
    framing_error: Signal
    line_busy: Signal
    self_test: Signal
    period: Signal
    status: Any

    def __init__(self, plan: Plan, identity: bytes, clock: float, baud: int) -> None:
        self.plan = plan
        self.identity = identity
        self.clock = clock
        self.initial_period = bit_period(clock, baud)
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "overflow": In(1),
                "framing_error": In(1),
                "line_busy": In(1),
                "self_test": In(32),
                "period": Out(range(MAX_PERIOD + 1)),
                "status": Out(StageStatus).array(len(plan.stages)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Not yet."""
        return Module()


class Chip(wiring.Component):
    """A core behind a UART.

    Parameters
    ----------
    plan, identity, clock, baud
        As of `Core`.

    Members
    -------
    rx : In(1), tx : Out(1)
        The pins.
    self_test : In(32)
        Register SELF_TEST.
    """

    rx: Signal
    tx: Signal
    self_test: Signal

    def __init__(self, plan: Plan, identity: bytes, clock: float, baud: int) -> None:
        self.core = Core(plan, identity, clock, baud)
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "self_test": In(32)})

    def elaborate(self, platform: object) -> Module:
        """Not yet."""
        return Module()
