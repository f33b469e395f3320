"""Gradient descent on the host, with gradients from a device; nothing here prints or draws."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from dyadprop.comparison import Comparison, compare_results, compare_saturations
from dyadprop.data import permutation
from dyadprop.device import Device
from dyadprop.errors import RangeError
from dyadprop.formats import Floats, Ints
from dyadprop.network import Parameters
from dyadprop.results import Result, TrainResult

# No format reaches further than 2^17, so a parameter beyond this has left for good; float64 still squares it with ease.
DIVERGED = 2.0**20


class Momentum:
    """Stochastic gradient descent with momentum, in float64.

    Parameters
    ----------
    learning_rate : float
        Above 0.
    momentum : float
        0 (plain descent) up to, but not, 1.

    Raises
    ------
    RangeError

    Notes
    -----
    ``v <- momentum * v - learning_rate * g`` and ``p <- p + v``, with ``g`` the mean gradient over the batch.
    """

    def __init__(self, learning_rate: float, momentum: float = 0.9) -> None:
        if not (learning_rate > 0.0 and np.isfinite(learning_rate)):
            raise RangeError(f"learning rate is {learning_rate}; it must be above 0")
        if not 0.0 <= momentum < 1.0:
            raise RangeError(f"momentum is {momentum}; allowed is 0 up to, but not, 1")
        self.learning_rate = learning_rate
        self.momentum = momentum
        self._velocity: list[Parameters] | None = None

    def step(self, params: Sequence[Parameters], gradients: Sequence[Parameters], samples: int) -> list[Parameters]:
        """Give the parameters after one step.

        Parameters
        ----------
        params : sequence of Parameters
            Not changed.
        gradients : sequence of Parameters
            Sums over a batch, as devices give them.
        samples : int
            Size of that batch.
        """
        if self._velocity is None:
            self._velocity = [Parameters(np.zeros_like(p.weight), np.zeros_like(p.bias)) for p in params]
        rate = self.learning_rate / samples
        self._velocity = [
            Parameters(self.momentum * v.weight - rate * g.weight, self.momentum * v.bias - rate * g.bias)
            for v, g in zip(self._velocity, gradients, strict=True)
        ]
        return [Parameters(p.weight + v.weight, p.bias + v.bias) for p, v in zip(params, self._velocity, strict=True)]


@dataclass
class EpochFigures:
    """What one learner did in one epoch.

    Attributes
    ----------
    epoch : int
        From 1.
    samples : int
        Gradients computed.
    cost : float
        Mean over the samples, each before the step that it took part in.
    train_accuracy : float
        Of the outputs that came with the gradients, so of parameters that changed on the way.
    test_accuracy : float
        After the epoch; NaN until `Learner.test`.
    seconds : float
        Wall-clock time of the calls for gradients.
    cycles : int
        Clock cycles of the hardware for gradients; 0 where nothing is clocked.
    saturations : int
        Values limited to their format, weights included.
    """

    epoch: int
    samples: int = 0
    cost: float = 0.0
    train_accuracy: float = 0.0
    test_accuracy: float = float("nan")
    seconds: float = 0.0
    cycles: int = 0
    saturations: int = 0

    @property
    def gradients_per_second(self) -> float:
        """Gradients of single samples in a second of the device's time."""
        return self.samples / self.seconds if self.seconds > 0.0 else 0.0

    @property
    def cycles_per_gradient(self) -> float:
        """Clock cycles for the gradient of a single sample; 0 where nothing is clocked."""
        return self.cycles / self.samples if self.samples else 0.0


@dataclass
class Step:
    """One step of a learner, or several that a device took on its own.

    Attributes
    ----------
    batch : int
        The first one's number within the epoch, from 0.
    samples : int64 array
        Which of the training samples were taken.
    result : Result or TrainResult
    comparison : Comparison
        With the golden model; of nothing where there is none.
    """

    batch: int
    samples: Ints
    result: Result | TrainResult
    comparison: Comparison


@dataclass
class Learner:
    """A network that learns: parameters on the host in float64, gradients from a device.

    Parameters
    ----------
    device : Device
    params : list of Parameters
        To start from.
    optimizer : Momentum
    golden : Device, optional
        Gets the same parameters and the same calls; each answer of ``device`` is compared with its own, word by word.

    Attributes
    ----------
    history : list of EpochFigures
    device_seconds, golden_seconds : float
        Wall-clock time of all calls to ``device``, and of ``golden`` with the comparison.
    """

    device: Device
    params: list[Parameters]
    optimizer: Momentum
    golden: Device | None = None
    history: list[EpochFigures] = field(default_factory=list)
    device_seconds: float = 0.0
    golden_seconds: float = 0.0

    def epoch(self, x: Floats, y: Floats, batch_size: int, seed: int) -> Iterator[Step]:
        """Learn from each sample once, in an order that ``seed`` and the epoch's number decide.

        Parameters
        ----------
        x : float64 array (samples, n_0)
        y : float64 array (samples, n_L)
            Rows with one largest entry: the class.
        batch_size : int
            Samples a step; the last step of an epoch takes what is left.
        seed : int

        Yields
        ------
        Step
            Each batch. A step that differs from the golden model has not changed the parameters: `params` are still
            those that it happened with.

        Raises
        ------
        RangeError
            If a parameter leaves for infinity.
        """
        figures = EpochFigures(len(self.history) + 1)
        self.history.append(figures)
        order = permutation(len(x), seed, figures.epoch)
        cost, right = 0.0, 0
        for batch, start in enumerate(range(0, len(x), batch_size)):
            chosen = order[start : start + batch_size]
            result, comparison = self._gradients(x[chosen], y[chosen], figures)
            assert result.cost is not None
            cost += result.cost
            right += right_answers(result.outputs, y[chosen])
            figures.samples += len(chosen)
            figures.cost = cost / figures.samples
            figures.train_accuracy = right / figures.samples
            if comparison.first is None:
                self.params = self.optimizer.step(self.params, result.gradients, len(chosen))
                self._check_converges(figures.epoch, batch)
            yield Step(batch, chosen, result, comparison)

    def test(self, x: Floats, y: Floats) -> tuple[float, Comparison]:
        """Measure the accuracy of the present parameters, forward only, and note it in the last epoch's figures.

        Returns
        -------
        float
            Part of the samples whose largest output is the largest target's.
        Comparison
            Of the outputs with the golden model's.
        """
        comparison = Comparison()
        start = time.perf_counter()
        self.device.load(self.params)
        result = self.device.predict(x)
        self.device_seconds += time.perf_counter() - start
        if self.golden is not None:
            start = time.perf_counter()
            self.golden.load(self.params)
            comparison += compare_results(self.device.net, result, self.golden.predict(x))
            self.golden_seconds += time.perf_counter() - start
        accuracy = right_answers(result.outputs, y) / len(x)
        if self.history:
            self.history[-1].test_accuracy = accuracy
        return accuracy, comparison

    def _check_converges(self, epoch: int, batch: int) -> None:
        for stage, entry in enumerate(self.params, start=1):
            largest = max(float(np.max(np.abs(values))) for values in entry)
            if not largest < DIVERGED:
                raise RangeError(
                    f"training diverged on device {self.device.kind!r} in epoch {epoch}, batch {batch}: a parameter of "
                    f"stage {stage} has size {largest:.3g}; "
                    f"try a smaller learning rate than {self.optimizer.learning_rate:g}"
                )

    def _gradients(self, x: Floats, y: Floats, figures: EpochFigures) -> tuple[Result, Comparison]:
        start = time.perf_counter()
        loaded = self.device.load(self.params)
        result = self.device.gradients(x, y)
        self.device_seconds += time.perf_counter() - start
        figures.seconds += result.stats.seconds
        figures.cycles += result.stats.cycles
        figures.saturations += sum(entry.count for entry in [*loaded, *result.stats.saturations])
        comparison = Comparison()
        if self.golden is not None:
            start = time.perf_counter()
            golden_loaded = self.golden.load(self.params)
            comparison += compare_saturations(self.device.net, loaded, golden_loaded)
            comparison += compare_results(self.device.net, result, self.golden.gradients(x, y))
            self.golden_seconds += time.perf_counter() - start
        return result, comparison


def right_answers(outputs: Floats, targets: Floats) -> int:
    """Count the samples whose largest output is the largest target's."""
    return int(np.count_nonzero(np.argmax(outputs, axis=1) == np.argmax(targets, axis=1)))
