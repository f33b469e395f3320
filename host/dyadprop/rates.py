"""Learning rates that a device can take: ``m / 256 * 2^-k`` (docs/arithmetic.md, section 8)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from dyadprop.errors import RangeError
from dyadprop.network import Network
from dyadprop.operations import SCALE_BITS
from dyadprop.widths import stage_numbers

FULL_SCALE = 1 << SCALE_BITS  # m of plain gradients
MIN_SCALE = FULL_SCALE // 2 + 1  # half of it is the next smaller power of two


class Rate(NamedTuple):
    """A learning rate ``scale / 256 * 2^-exponent``.

    Attributes
    ----------
    exponent : int
        ``k``: the step takes ``2^-k`` of the accumulators.
    scale : int
        ``m``, 129 to 256: the cost head multiplies its differences by ``m / 256``.
    """

    exponent: int
    scale: int

    @property
    def value(self) -> float:
        """The rate itself, exact."""
        return math.ldexp(self.scale, -SCALE_BITS - self.exponent)


def nearest_rate(learning_rate: float) -> Rate:
    """Give the rate next to a positive real number, of two equally near ones the larger.

    Raises
    ------
    RangeError
        If it is not positive and finite.
    """
    if not (learning_rate > 0.0 and math.isfinite(learning_rate)):
        raise RangeError(f"learning rate is {learning_rate}; it must be above 0")
    mantissa, power = math.frexp(learning_rate)  # mantissa from 1/2 up to, but not, 1
    scale = math.floor(mantissa * FULL_SCALE + 0.5)
    if scale < MIN_SCALE:
        scale, power = 2 * scale, power - 1
    return Rate(-power, scale)


def check_rate(net: Network, rate: Rate, batch_size: int) -> None:
    """Raise RangeError unless each stage of a network can take steps of that rate.

    Parameters
    ----------
    net : Network
    rate : Rate
    batch_size : int
        Samples a step.
    """
    for stage in stage_numbers(net):
        shift = stage.step_shift(rate.exponent)
        if 0 <= shift <= stage.largest_step_shift(batch_size):
            continue
        head = f"learning rate {rate.value:g} with batch_size {batch_size} is too"
        if shift < 0:
            what = f"{head} large for stage {stage.index}: its gradients are coarser than such steps of its weights"
            advice = "more fraction bits of sensitivities or fewer of weights take larger rates"
        else:
            bits = stage.gradient_bits
            what = f"{head} small for stage {stage.index}: its {bits}-bit accumulators cannot hold what a step leaves"
            advice = f"a larger max_batch (now {net.max_batch}) or a smaller batch_size takes smaller rates"
        raise RangeError(f"{what}; allowed are {allowed_rates(net, batch_size)}; {advice}")


def check_residuals(net: Network, residuals: Sequence[int], batch_size: int) -> None:
    """Raise RangeError unless the accumulators of each stage can hold a batch on top of what is in them.

    Parameters
    ----------
    net : Network
    residuals : sequence of int
        Largest size of what the accumulators of each stage hold, first stage first.
    batch_size : int
        Samples a step.
    """
    for stage, residual in zip(stage_numbers(net), residuals, strict=True):
        room = stage.largest_residual(batch_size)
        if residual > room:
            raise RangeError(
                f"accumulators of stage {stage.index} hold up to {residual} of earlier steps; with batch_size "
                f"{batch_size} allowed are {room}: take a smaller batch_size or a larger max_batch (now "
                f"{net.max_batch}), or load the parameters again, which clears them"
            )


def exponents(net: Network, batch_size: int) -> range:
    """Give the exponents that every stage of a network can take with batches of that size; there may be none."""
    stages = stage_numbers(net)
    first = max(-stage.step_shift(0) for stage in stages)
    last = min(stage.largest_step_shift(batch_size) - stage.step_shift(0) for stage in stages)
    return range(first, last + 1)


def allowed_rates(net: Network, batch_size: int) -> str:
    """Say which rates fit every stage of a network."""
    fitting = exponents(net, batch_size)
    if not fitting:
        return "none, as what the stages can take does not overlap: give them formats that are more alike"
    return f"{Rate(fitting[-1], MIN_SCALE).value:.3g} to {Rate(fitting[0], FULL_SCALE).value:.3g}"
