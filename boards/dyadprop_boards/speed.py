"""How fast a design is: what a sample takes, by formula, and what that is at a clock and on a line."""

from dataclasses import dataclass
from typing import Any

from dyadprop.baud import BITS_A_BYTE
from dyadprop.plan import Plan
from dyadprop.protocol import CHECK_BYTES, HEADER, MAX_PAYLOAD, MESSAGE_HEADER, WireSizes

PACKET_BYTES = HEADER.size + CHECK_BYTES + 2
"""Around a packet's payload: header, check sum, COBS and the zero byte."""


@dataclass(frozen=True)
class Work:
    """What a sample takes, whatever the clock.

    Attributes
    ----------
    interval : int
        Cycles between samples of a stream.
    output_latency, gradient_latency : int
        Cycles of one alone, from its first input word to its last output, and to its last gradient.
    products : int
        Useful products: those of weights.
    multipliers : int
    bytes_in, bytes_out : float
        On the line, with its share of packets and messages: inputs and targets; outputs.
    """

    interval: int
    output_latency: int
    gradient_latency: int
    products: int
    multipliers: int
    bytes_in: float
    bytes_out: float

    @classmethod
    def of(cls, plan: Plan) -> "Work":
        """Give what a sample takes with a plan."""
        sizes = WireSizes(plan.net)
        line = (MAX_PAYLOAD + PACKET_BYTES) / MAX_PAYLOAD
        answer = sizes.outputs + MESSAGE_HEADER
        if plan.net.input_gradient:
            answer += plan.net.inputs * sizes.sensitivity_word + MESSAGE_HEADER
        return cls(
            interval=plan.interval,
            output_latency=plan.output_latency,
            gradient_latency=plan.gradient_latency,
            products=plan.products,
            multipliers=plan.multipliers,
            bytes_in=line * (sizes.inputs + sizes.targets),
            bytes_out=line * answer,
        )

    @property
    def useful(self) -> float:
        """Useful products a multiplier and cycle."""
        return self.products / (self.multipliers * self.interval)

    def gradients(self, clock: float) -> float:
        """Give gradients a second: samples, each with all its gradients."""
        return clock / self.interval

    def operations(self, clock: float) -> float:
        """Give useful operations a second, a multiplication and an addition each product."""
        return 2 * self.products * self.gradients(clock)

    def line_rate(self, baud: float) -> float:
        """Give samples a second that a line carries, the two directions at once."""
        return baud / BITS_A_BYTE / max(self.bytes_in, self.bytes_out)

    def at(self, clock: float) -> dict[str, float]:
        """Give all figures of a clock in Hz, for JSON."""
        return {
            "clock": clock,
            "gradients_a_second": self.gradients(clock),
            "output_latency": self.output_latency / clock,
            "gradient_latency": self.gradient_latency / clock,
            "operations_a_second": self.operations(clock),
        }

    def on_line(self, baud: float, clock: float) -> dict[str, Any]:
        """Give what a line leaves of a clock: who waits for whom."""
        line, compute = self.line_rate(baud), self.gradients(clock)
        return {
            "baud": baud,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "samples_a_second": line,
            "gradients_a_second": min(line, compute),
            "bound_by": "link" if line < compute else "compute",
        }
