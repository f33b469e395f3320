"""Widths and formats that follow from a network, used by hardware and model alike (docs/arithmetic.md)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dyadprop.formats import Q

if TYPE_CHECKING:
    from dyadprop.network import Network

PROBABILITY = Q(2, 14)


def sum_bits(width_a: int, width_b: int, terms: int) -> int:
    """Bits that hold every sum of ``terms`` products of two signed words.

    ``|sum| <= terms * 2^(a+b-2) < 2^(a+b-2+bit_length(terms))``, and one bit for the sign.
    """
    return width_a + width_b - 1 + terms.bit_length()


@dataclass(frozen=True)
class StageNumbers:
    """Everything about stage ``l`` that both arithmetic readings need; no arithmetic itself.

    Attributes
    ----------
    index : int
        ``l``, from 1.
    inputs, outputs : int
        ``n_{l-1}``, ``n_l``.
    activation : str
    leak_bits : int
        ``k`` of a leaky_relu's slope ``2^-k``.
    input : Q
        ``A_{l-1}``, the format of the stage's inputs.
    output : Q
        ``A_l``.
    weight : Q
        ``W_l``.
    sensitivity : Q
        ``S_l``, of ``lambda_l`` and ``delta_l``.
    input_sensitivity : Q
        ``S_{l-1}``, of the ``lambda_{l-1}`` that the stage sends back.
    has_sensitivity : bool
        Whether it sends ``lambda_{l-1}`` back at all: the first stage only for the input gradient.
    matched : bool
        Whether its ``lambda`` is already ``dC/da`` (last layer behind its matching cross-entropy).
    max_batch : int
    """

    index: int
    inputs: int
    outputs: int
    activation: str
    leak_bits: int
    input: Q
    output: Q
    weight: Q
    sensitivity: Q
    input_sensitivity: Q
    has_sensitivity: bool
    matched: bool
    max_batch: int

    @property
    def columns(self) -> int:
        """``n_{l-1} + 1``: the bias is one more column."""
        return self.inputs + 1

    @property
    def operand_bits(self) -> int:
        """Bits of an activation as a multiplier operand, which must hold 1.0 for the bias column."""
        return max(self.input.width, self.input.fraction_bits + 2)

    @property
    def one(self) -> int:
        """The integer 1.0 in the input's format, the bias column's activation."""
        return 1 << self.input.fraction_bits

    @property
    def accumulator_fraction(self) -> int:
        """Fraction bits of the pre-activation's accumulator."""
        return self.weight.fraction_bits + self.input.fraction_bits

    @property
    def accumulator_bits(self) -> int:
        """Bits of the pre-activation's accumulator."""
        return sum_bits(self.weight.width, self.input.width, self.columns)

    @property
    def sensitivity_sum_fraction(self) -> int:
        """Fraction bits of ``sum_i W[i,j] delta[i]``."""
        return self.weight.fraction_bits + self.sensitivity.fraction_bits

    @property
    def sensitivity_sum_bits(self) -> int:
        """Bits of ``sum_i W[i,j] delta[i]``."""
        return sum_bits(self.weight.width, self.sensitivity.width, self.outputs)

    @property
    def gradient_fraction(self) -> int:
        """Fraction bits of the gradient accumulators."""
        return self.sensitivity.fraction_bits + self.input.fraction_bits

    @property
    def gradient_bits(self) -> int:
        """Bits of a gradient accumulator: exact for ``max_batch`` samples of worst-case data."""
        return sum_bits(self.sensitivity.width, self.input.width, self.max_batch)

    def step_shift(self, exponent: int) -> int:
        """Give ``s_l`` of the learning rate ``2^-exponent`` (section 8); below 0 it cannot be taken."""
        return self.gradient_fraction - self.weight.fraction_bits + exponent

    def largest_step_shift(self, batch_size: int) -> int:
        """Give the largest ``s_l`` with which ``batch_size`` samples and a residual fit the accumulator (section 8).

        Notes
        -----
        ``2^(s-1) <= room`` for an integer ``room`` means that ``s`` is at most its number of bits.
        """
        return self.largest_residual(batch_size).bit_length()

    def largest_residual(self, batch_size: int) -> int:
        """Give the largest residual, in size, to which ``batch_size`` samples can be added (section 8)."""
        return (1 << (self.gradient_bits - 1)) - 1 - (batch_size << (self.sensitivity.width + self.input.width - 2))

    @property
    def slope(self) -> Q:
        """Format ``P`` of ``phi'`` for tanh and sigmoid."""
        return Q(2, min(2 * self.output.fraction_bits, max(14, self.sensitivity.width - 2)))

    @property
    def has_slope_product(self) -> bool:
        """Whether the stage multiplies by a slope: tanh and sigmoid, unless matched."""
        return self.activation in ("tanh", "sigmoid") and not self.matched


def stage_numbers(net: "Network") -> list[StageNumbers]:
    """Give the numbers of each stage of a network, first stage first."""
    stages = []
    for index, layer in enumerate(net.layers, start=1):
        formats = net.layer_formats(index)
        before = net.layer_formats(index - 1)
        stages.append(
            StageNumbers(
                index=index,
                inputs=net.widths[index - 1],
                outputs=layer.outputs,
                activation=layer.activation,
                leak_bits=layer.leak_bits,
                input=before.activation,
                output=formats.activation,
                weight=formats.weight,
                sensitivity=formats.sensitivity,
                input_sensitivity=before.sensitivity,
                has_sensitivity=index > 1 or net.input_gradient,
                matched=index == len(net.layers) and net.cost != "squared_error",
                max_batch=net.max_batch,
            )
        )
    return stages


def target_format(net: "Network") -> Q:
    """Format of the targets of a network's cost."""
    return PROBABILITY if net.cost == "softmax_cross_entropy" else net.layer_formats(len(net.layers)).activation
