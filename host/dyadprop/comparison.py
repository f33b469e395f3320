"""Word-by-word comparison with the golden model: how many words agree, and which is the first that does not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dyadprop.checkpoints import Checkpoint
from dyadprop.device import Device
from dyadprop.errors import DyadpropError, RangeError, ShapeError
from dyadprop.formats import Ints
from dyadprop.network import Network, Parameters
from dyadprop.results import RawResult, Result, Saturation, TrainResult

_NO_WORDS = "a float result has no words to compare; compare devices that work on words"


@dataclass(frozen=True)
class Difference:
    """A word that is not what it must be.

    Attributes
    ----------
    stage : int
        ``l``; 0 is the network's input.
    signal : str
        ``"output"``, ``"cost"``, ``"weight gradient"``, ``"bias gradient"``, ``"input gradient"``, ``"weight"``,
        ``"bias"``, ``"weight residual"``, ``"bias residual"``, or ``"saturated activation"`` and its like: a count.
    sample : int or None
        Sample of the batch; None for a value that belongs to no single sample, such as a gradient's sum.
    index : tuple of int
        Within the sample's vector, or within the weight matrix or bias vector; empty for a scalar.
    got, expected : int
    """

    stage: int
    signal: str
    sample: int | None
    index: tuple[int, ...]
    got: int
    expected: int

    def __str__(self) -> str:
        where = f"{self.signal} of stage {self.stage}"
        if self.sample is not None:
            where += f", sample {self.sample}"
        if self.index:
            where += f", index {', '.join(str(i) for i in self.index)}"
        return f"{where}: device has {self.got}, golden has {self.expected}"


@dataclass
class Comparison:
    """What a comparison found; comparisons add up.

    Attributes
    ----------
    equal : int
        Words that agree.
    different : int
        Words that do not.
    first : Difference or None
        The first of those, in the order in which the values are computed.
    """

    equal: int = 0
    different: int = 0
    first: Difference | None = None

    @property
    def words(self) -> int:
        """Words compared."""
        return self.equal + self.different

    def __iadd__(self, other: "Comparison") -> "Comparison":
        self.equal += other.equal
        self.different += other.different
        if self.first is None:
            self.first = other.first
        return self


def compare_words(
    stage: int, signal: str, got: npt.ArrayLike, expected: npt.ArrayLike, *, by_sample: bool = False
) -> Comparison:
    """Compare two arrays of integers.

    Parameters
    ----------
    stage, signal
        As in `Difference`.
    got, expected : array of int, same shape
    by_sample : bool
        Whether the first axis is the sample.

    Returns
    -------
    Comparison

    Raises
    ------
    ShapeError
        If the shapes differ: then there is no word to compare with.
    """
    left, right = np.asarray(got), np.asarray(expected)
    if left.shape != right.shape:
        raise ShapeError(f"{signal} of stage {stage} has shape {left.shape}; golden has {right.shape}")
    wrong = left != right
    different = int(np.count_nonzero(wrong))
    if not different:
        return Comparison(equal=left.size)
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    sample, index = (where[0], where[1:]) if by_sample else (None, where)
    first = Difference(stage, signal, sample, index, int(left[where]), int(right[where]))
    return Comparison(equal=left.size - different, different=different, first=first)


def compare_results(net: Network, got: Result, expected: Result) -> Comparison:
    """Compare all that two devices answered to one call: outputs, exact cost, gradients, saturation counts.

    Parameters
    ----------
    net : Network
    got, expected : Result
        With ``raw``; of the same call on the same words.

    Returns
    -------
    Comparison
        Its ``first`` is the earliest in the flow of values: outputs, cost, gradients of the last stage, ..., of the
        first, input gradients, counts. What is wrong there explains what is wrong behind it.

    Raises
    ------
    DyadpropError
        If either has no raw words, or they hold different parts or fraction bits.
    """
    left, right = _raw(got), _raw(expected)
    last = len(net.layers)
    if (left.cost is None, left.inputs is None, len(left.gradients)) != (
        right.cost is None,
        right.inputs is None,
        len(right.gradients),
    ):
        raise DyadpropError(
            f"device answered with {_parts(left)}, golden with {_parts(right)}; compare the same call on both"
        )
    found = Comparison()
    _same_fraction(last, "output", left.output_format.fraction_bits, right.output_format.fraction_bits)
    found += compare_words(last, "output", left.outputs, right.outputs, by_sample=True)
    if left.cost is not None and right.cost is not None:
        _same_fraction(last, "cost", left.cost_fraction_bits, right.cost_fraction_bits)
        found += _compare_counts(last, "cost", left.cost, right.cost)
    for stage in range(len(left.gradients), 0, -1):
        one, other = left.gradients[stage - 1], right.gradients[stage - 1]
        _same_fraction(stage, "gradient", one.fraction_bits, other.fraction_bits)
        found += compare_words(stage, "weight gradient", one.weight, other.weight)
        found += compare_words(stage, "bias gradient", one.bias, other.bias)
    if left.inputs is not None and right.inputs is not None:
        _same_fraction(0, "input gradient", left.input_format.fraction_bits, right.input_format.fraction_bits)
        found += compare_words(0, "input gradient", left.inputs, right.inputs, by_sample=True)
    found += compare_saturations(net, got.stats.saturations, expected.stats.saturations)
    return found


def compare_training(net: Network, got: TrainResult, expected: TrainResult) -> Comparison:
    """Compare what two devices answered to one training run: outputs, exact costs, saturation counts.

    Parameters
    ----------
    net : Network
    got, expected : TrainResult
        With ``raw``; of the same run on the same words. What the run made of the parameters: `compare_checkpoints`.

    Returns
    -------
    Comparison
        A sample is the how-manieth that was presented.

    Raises
    ------
    DyadpropError
        If either has no raw words, or the samples came in another order or at another rate.
    """
    left, right = got.raw, expected.raw
    if left is None or right is None:
        raise RangeError(_NO_WORDS)
    if got.learning_rate != expected.learning_rate or not np.array_equal(got.order, expected.order):
        raise DyadpropError("device and golden did not learn in the same order at the same rate")
    last = len(net.layers)
    found = compare_words(last, "output", left.outputs, right.outputs, by_sample=True)
    if left.costs is not None and right.costs is not None:
        for one, other in zip(left.costs, right.costs, strict=True):
            found += _compare_counts(last, "cost", one, other)
    found += compare_saturations(net, got.stats.saturations, expected.stats.saturations)
    return found


def compare_checkpoints(net: Network, got: Checkpoint, expected: Checkpoint) -> Comparison:
    """Compare the parameters that two devices hold, and what steps left in their accumulators.

    Raises
    ------
    DyadpropError
        If a parameter is no word of its format, or one device has no residuals.
    """
    found = compare_parameters(net, got.parameters, expected.parameters)
    layers = len(net.layers)
    if len(got.residuals) != layers or len(expected.residuals) != layers:
        raise RangeError(_NO_WORDS)
    for stage, (one, other) in enumerate(zip(got.residuals, expected.residuals, strict=True), start=1):
        _same_fraction(stage, "residual", one.fraction_bits, other.fraction_bits)
        found += compare_words(stage, "weight residual", one.weight, other.weight)
        found += compare_words(stage, "bias residual", one.bias, other.bias)
    return found


def compare_saturations(net: Network, got: Sequence[Saturation], expected: Sequence[Saturation]) -> Comparison:
    """Compare saturation counts, those that are zero included.

    Parameters
    ----------
    net : Network
        Gives the signals that can saturate (docs/arithmetic.md, section 1); each is one word.
    got, expected : sequence of Saturation
    """
    left = {(entry.stage, entry.signal): entry.count for entry in got}
    right = {(entry.stage, entry.signal): entry.count for entry in expected}
    last = len(net.layers)
    possible = {(stage, signal) for stage in range(last + 1) for signal in ("activation", "sensitivity")}
    possible |= {(stage, "weight") for stage in range(1, last + 1)} | {(last, "target")}
    found = Comparison()
    for stage, signal in sorted(possible | set(left) | set(right)):
        found += _compare_counts(
            stage, f"saturated {signal}", left.get((stage, signal), 0), right.get((stage, signal), 0)
        )
    return found


def compare_parameters(net: Network, got: Sequence[Parameters], expected: Sequence[Parameters]) -> Comparison:
    """Compare parameters that two devices hold, as words of the layers' weight formats.

    Parameters
    ----------
    net : Network
    got, expected : sequence of Parameters
        As `Device.parameters` gives them.

    Raises
    ------
    DyadpropError
        If one is no word of its format: a device can only hold words.
    """
    found = Comparison()
    for stage, (one, other) in enumerate(
        zip(net.check_parameters(got), net.check_parameters(expected), strict=True), start=1
    ):
        for signal, left, right in (("weight", one.weight, other.weight), ("bias", one.bias, other.bias)):
            found += compare_words(stage, signal, _words(net, stage, signal, left), _words(net, stage, signal, right))
    return found


def locate(
    difference: Difference, device: Device, golden: Device, samples: int, ask: Callable[[Device, slice], Result]
) -> tuple[int | None, str]:
    """Say which sample a difference comes from.

    A gradient is a sum over the batch, so a wrong one names no sample; asking for each sample alone does.

    Parameters
    ----------
    difference : Difference
    device, golden : Device
        As they were when it was found: loaded with the same parameters.
    samples : int
        Size of the batch.
    ask : callable
        Repeats the call on a device, for a slice of the batch.

    Returns
    -------
    int or None
        The sample; None if each is right on its own.
    str
        The difference and what is known of the sample, as a sentence.
    """
    if difference.sample is not None:
        return difference.sample, str(difference)
    try:
        for sample in range(samples):
            one = slice(sample, sample + 1)
            alone = compare_results(device.net, ask(device, one), ask(golden, one)).first
            if alone is not None:
                return sample, f"{difference}, over the batch; sample {sample} alone, {replace(alone, sample=None)}"
    except DyadpropError as error:  # a device that answers wrongly may fail too: that must not hide the difference
        return None, f"{difference}, over the batch; asking for each sample alone failed: {error}"
    return None, f"{difference}, over the batch; each of its {samples} samples alone is right"


def _raw(result: Result) -> RawResult:
    if result.raw is None:
        raise RangeError(_NO_WORDS)
    return result.raw


def _parts(raw: RawResult) -> str:
    parts = {"outputs": True, "cost": raw.cost is not None, "input gradients": raw.inputs is not None}
    return ", ".join([*(name for name, there in parts.items() if there), f"gradients of {len(raw.gradients)} stages"])


def _same_fraction(stage: int, signal: str, got: int, expected: int) -> None:
    if got != expected:
        raise DyadpropError(f"{signal} of stage {stage} has {got} fraction bits; golden has {expected}")


def _compare_counts(stage: int, signal: str, got: int, expected: int) -> Comparison:
    # Python integers: a cost may need more than 64 bits.
    if got == expected:
        return Comparison(equal=1)
    return Comparison(different=1, first=Difference(stage, signal, None, (), got, expected))


def _words(net: Network, stage: int, signal: str, values: npt.NDArray[np.float64]) -> Ints:
    form = net.layer_formats(stage).weight
    scaled = np.ldexp(values, form.fraction_bits)
    if np.any(scaled != np.rint(scaled)):
        raise DyadpropError(f"{signal} of stage {stage} holds values that are no words of {form}")
    return scaled.astype(np.int64)
