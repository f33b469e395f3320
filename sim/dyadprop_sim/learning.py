"""What becomes of learning when weights are words: ways to round a step, and real numbers beside them.

An experiment, not a device: only `lossless` is what the hardware does (docs/arithmetic.md, section 8). Here it is done
in whole numbers held by float64, for speed; a test holds it against `dyadprop_sim.golden` bit for bit.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dyadprop.data import Dataset, permutation
from dyadprop.errors import RangeError
from dyadprop.formats import Floats, Ints
from dyadprop.network import Network, Parameters
from dyadprop.operations import SCALE_BITS
from dyadprop.rates import Rate, check_rate
from dyadprop.tables import phi_table
from dyadprop.training import right_answers
from dyadprop.widths import StageNumbers, stage_numbers, target_format
from dyadprop_sim import arithmetic

ROUNDINGS = ("lossless", "nearest", "stochastic")

_Rows = slice | Ints
_ALL = slice(None)


@dataclass(frozen=True)
class Recipe:
    """How a network learns.

    Attributes
    ----------
    rate : Rate
        Of the gradient summed over a batch.
    batch_size : int
    momentum_bits : int or None
        ``j`` of the momentum ``1 - 2^-j``: so much of the accumulators is left behind each step. None: no momentum.
    decay_bits : int or None
        ``j`` of the weight decay: each step takes ``2^-j`` of every weight and bias away. None: no decay.
    """

    rate: Rate
    batch_size: int = 1
    momentum_bits: int | None = None
    decay_bits: int | None = None


class RealLearner:
    """SGD in float64.

    Parameters
    ----------
    net : Network
        Of tanh and identity layers behind a squared error. Its formats are not used.
    params : sequence of Parameters
    recipe : Recipe

    Notes
    -----
    Here and in `WordLearner` weights stand transposed, with the bias as last row, whose input is always 1.0. A sample
    then touches the rows of those inputs that are not zero, which is a fifth of MNIST's.
    """

    def __init__(self, net: Network, params: Sequence[Parameters], recipe: Recipe) -> None:
        if net.cost != "squared_error" or not all(layer.activation in ("tanh", "identity") for layer in net.layers):
            raise RangeError(f"{net!r} cannot be learnt here; allowed are tanh and identity before a squared error")
        self.recipe = recipe
        self.weights = [np.vstack([entry.weight.T, entry.bias]) for entry in params]
        self.sums = [np.zeros_like(weights) for weights in self.weights]
        self._tanh = [layer.activation == "tanh" for layer in net.layers]

    @property
    def params(self) -> list[Parameters]:
        """What it holds."""
        return [Parameters(weights[:-1].T.copy(), weights[-1].copy()) for weights in self.weights]

    def inputs(self, x: Floats) -> Floats:
        """Prepare samples (samples, n_0) for `step` and `predict`."""
        return _with_ones(x, 1.0)

    def targets(self, y: Floats) -> Floats:
        """Prepare targets (samples, n_L) for `step`."""
        return y

    def predict(self, x: Floats) -> Floats:
        """Give the outputs of prepared samples."""
        for l in range(len(self.weights)):
            x, _ = self.activate(l, x @ self.weights[l])
        return x[:, :-1]

    def step(self, x: Floats, y: Floats) -> None:
        """Learn from one batch of prepared samples and targets."""
        rows: _Rows = np.flatnonzero(x.any(axis=0))
        inputs: list[Floats] = [x[:, rows]]
        slopes: list[Floats | None] = []
        for l, weights in enumerate(self.weights):
            output, slope = self.activate(l, inputs[l] @ (weights if l else weights[rows]))
            inputs.append(output)
            slopes.append(slope)
        sensitivity = self.seed(inputs[-1][:, :-1], y)
        for l in range(len(self.weights) - 1, -1, -1):
            delta = self.delta(l, sensitivity, slopes[l])
            if l:
                sensitivity = self.sensitivity(l, delta @ self.weights[l][:-1].T)
            self.update(l, _ALL if l else rows, inputs[l].T @ delta)

    # -- what words do otherwise --------------------------------------------------------------------------------------

    def activate(self, l: int, acc: Floats) -> tuple[Floats, Floats | None]:
        """Give outputs with a column of ones, and slopes, of stage ``l + 1``."""
        if not self._tanh[l]:
            return _with_ones(acc, 1.0), None
        x = np.tanh(acc)
        return _with_ones(x, 1.0), 1.0 - x * x

    def seed(self, x: Floats, y: Floats) -> Floats:
        """Give ``lambda_L``."""
        return x - y

    def delta(self, l: int, sensitivity: Floats, slope: Floats | None) -> Floats:
        """Give ``delta`` of stage ``l + 1``."""
        return sensitivity if slope is None else slope * sensitivity

    def sensitivity(self, l: int, total: Floats) -> Floats:
        """Give ``lambda_l``."""
        return total

    def update(self, l: int, rows: _Rows, gradient: Floats) -> None:
        """Step stage ``l + 1``, with the gradients of the rows that have any."""
        rate, recipe = self.recipe.rate.value, self.recipe
        if recipe.decay_bits is not None:
            self.weights[l] *= 1.0 - 2.0**-recipe.decay_bits
        if recipe.momentum_bits is None:
            self.weights[l][rows] -= rate * gradient
            return
        self.sums[l] *= 1.0 - 2.0**-recipe.momentum_bits
        self.sums[l][rows] += gradient
        self.weights[l] -= rate * self.sums[l]


class WordLearner(RealLearner):
    """SGD with words for activations, sensitivities and weights; gradients are exact sums.

    Parameters
    ----------
    net : Network
        Its formats are the words; tanh and identity layers behind a squared error.
    params : sequence of Parameters
        Rounded into words.
    recipe : Recipe
    rounding : {"lossless", "nearest", "stochastic"}
        Of a step: what a word cannot take is kept in the accumulator, is dropped, or is taken with a probability as
        large as it is.
    seed : int
        Of stochastic rounding.

    Raises
    ------
    RangeError
        If the rate does not fit the words.

    Notes
    -----
    Each product and sum is a whole number below 2^53, which float64 holds exactly; its `rint` rounds half to even.
    """

    def __init__(
        self, net: Network, params: Sequence[Parameters], recipe: Recipe, rounding: str = "lossless", seed: int = 0
    ) -> None:
        if rounding not in ROUNDINGS:
            raise RangeError(f"rounding is {rounding!r}; allowed are {', '.join(ROUNDINGS)}")
        check_rate(net, recipe.rate, recipe.batch_size)
        words = [Parameters(*(values.astype(np.float64) for values in entry[:2])) for entry in net.quantize(params).raw]
        super().__init__(net, words, recipe)
        self._net = net
        self._stages = stage_numbers(net)
        self._tables = [_tanh_tables(n) if n.activation == "tanh" else None for n in self._stages]
        self._shifts = [n.step_shift(recipe.rate.exponent) for n in self._stages]
        self._rounding = rounding
        self._rng = np.random.Generator(np.random.PCG64(seed))

    @property
    def params(self) -> list[Parameters]:
        """What it holds, as real numbers."""
        return [
            Parameters(*(np.ldexp(values, -n.weight.fraction_bits) for values in entry))
            for n, entry in zip(self._stages, super().params, strict=True)
        ]

    @property
    def followed(self) -> list[Parameters]:
        """What the words follow, as real numbers: words with what is still in the accumulators."""
        return [
            Parameters(w.weight - scale * g[:-1].T, w.bias - scale * g[-1])
            for w, g, scale in zip(
                self.params,
                self.sums,
                (2.0 ** -(n.weight.fraction_bits + s) for n, s in zip(self._stages, self._shifts, strict=True)),
                strict=True,
            )
        ]

    def inputs(self, x: Floats) -> Floats:
        """Prepare samples (samples, n_0) for `step` and `predict`."""
        return _with_ones(self._net.formats.activation.to_ints(x).words.astype(np.float64), self._stages[0].one)

    def targets(self, y: Floats) -> Floats:
        """Prepare targets (samples, n_L) for `step`."""
        return target_format(self._net).to_ints(y).words.astype(np.float64)

    def activate(self, l: int, acc: Floats) -> tuple[Floats, Floats | None]:
        """Give outputs with a column of ones, and slopes, of stage ``l + 1``."""
        n, tables = self._stages[l], self._tables[l]
        one = float(1 << n.output.fraction_bits)
        z = np.rint(acc * 2.0 ** (n.output.fraction_bits - n.accumulator_fraction))
        if tables is None:
            return _with_ones(_clip(z, n.output.min_int, n.output.max_int), one), None
        outputs, slopes = tables
        limit = len(outputs) // 2
        index = (_clip(z, -limit, limit) + limit).astype(np.intp)
        return _with_ones(outputs[index], one), slopes[index]

    def seed(self, x: Floats, y: Floats) -> Floats:
        """Give ``lambda_L``."""
        n = self._stages[-1]
        form, scale = n.sensitivity, self.recipe.rate.scale
        factor = scale * 2.0 ** (form.fraction_bits - n.output.fraction_bits - SCALE_BITS)
        return _clip(np.rint((x - y) * factor), form.min_int, form.max_int)

    def delta(self, l: int, sensitivity: Floats, slope: Floats | None) -> Floats:
        """Give ``delta`` of stage ``l + 1``."""
        return sensitivity if slope is None else np.rint(slope * sensitivity)

    def sensitivity(self, l: int, total: Floats) -> Floats:
        """Give ``lambda_l``."""
        n = self._stages[l]
        form = n.input_sensitivity
        factor = 2.0 ** (form.fraction_bits - n.sensitivity_sum_fraction)
        return _clip(np.rint(total * factor), form.min_int, form.max_int)

    def update(self, l: int, rows: _Rows, gradient: Floats) -> None:
        """Step stage ``l + 1``, with the gradients of the rows that have any.

        A row without gradient takes no step: what earlier steps left in it is at most half of one.
        """
        recipe, form = self.recipe, self._stages[l].weight
        words, sums, shift = self.weights[l], self.sums[l], self._shifts[l]
        if recipe.momentum_bits is not None or recipe.decay_bits is not None:
            every = np.zeros_like(words)
            every[rows] = gradient
            rows, gradient = _ALL, every
        if recipe.decay_bits is not None:
            gradient += words * 2.0 ** (shift - recipe.decay_bits)
        if self._rounding == "stochastic":
            steps = np.floor(gradient * 2.0**-shift + self._rng.random(gradient.shape))
        else:
            total = gradient
            if self._rounding == "lossless":
                total = sums[rows] + gradient
            steps = np.rint(total * 2.0**-shift)
            if self._rounding == "lossless":
                taken = shift if recipe.momentum_bits is None else shift - recipe.momentum_bits
                sums[rows] = total - steps * 2.0**taken
        words[rows] = _clip(words[rows] - steps, form.min_int, form.max_int)


Watch = Callable[[RealLearner], None]


def learn(
    learner: RealLearner,
    data: Dataset,
    epochs: int,
    seed: int,
    *,
    steps: int | None = None,
    watch: Watch | None = None,
) -> float:
    """Learn from a data set, in an order that ``seed`` and the epoch's number decide, as `Device.train` does.

    Parameters
    ----------
    learner : RealLearner or WordLearner
    data : Dataset
    epochs, seed : int
    steps : int, optional
        To stop after.
    watch : callable, optional
        Called with the learner before the first epoch and behind each.

    Returns
    -------
    float
        Accuracy on the test set.
    """
    x, y = learner.inputs(data.train_x), learner.targets(data.train_y)
    batches = _batches(len(x), learner.recipe.batch_size, epochs, seed)
    if watch is not None:
        watch(learner)
    for part, ends_epoch in itertools.islice(batches, steps):
        learner.step(x[part], y[part])
        if watch is not None and ends_epoch:
            watch(learner)
    return right_answers(learner.predict(learner.inputs(data.test_x)), data.test_y) / len(data.test_x)


def _batches(samples: int, size: int, epochs: int, seed: int) -> Iterator[tuple[Ints, bool]]:
    """Give the samples of each batch, and whether it is an epoch's last."""
    for epoch in range(1, epochs + 1):
        order = permutation(samples, seed, epoch)
        for i in range(0, samples, size):
            yield order[i : i + size], i + size >= samples


def _with_ones(x: Floats, one: float) -> Floats:
    result = np.empty((len(x), x.shape[1] + 1))
    result[:, :-1] = x
    result[:, -1] = one
    return result


def _clip(values: Floats, low: int, high: int) -> Floats:
    # np.clip costs as much again in checks, which small arrays feel.
    return np.minimum(np.maximum(values, low), high)


def _tanh_tables(n: StageNumbers) -> tuple[Floats, Floats]:
    """Tabulate ``x_l`` and the slope, a real number, over the rounded pre-activation, from one end to the other."""
    f = n.output.fraction_bits
    limit = 1 << (phi_table("tanh", f).range_bits + f)
    outputs = arithmetic.look_up(np.arange(-limit, limit + 1), f, "tanh", f)
    return outputs.astype(np.float64), np.ldexp(arithmetic.slope(n, outputs).astype(np.float64), -n.slope.fraction_bits)
