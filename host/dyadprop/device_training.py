"""Gradient descent on the device itself (`Device.train`), epoch by epoch; nothing here prints or draws."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dyadprop.checkpoints import Checkpoint
from dyadprop.comparison import Comparison, compare_checkpoints, compare_results, compare_training
from dyadprop.device import Device
from dyadprop.formats import Floats
from dyadprop.network import Parameters
from dyadprop.results import Position
from dyadprop.training import EpochFigures, Step, right_answers


@dataclass
class DeviceLearner:
    """A network that learns on its device: gradients and steps.

    Parameters
    ----------
    device : Device
    start : sequence of Parameters
    learning_rate : float
        Of the gradient summed over a batch; the device takes the nearest that it can.
    golden : Device, optional
        Learns beside it; outputs, costs, counts, parameters and residuals are compared, word by word.

    Attributes
    ----------
    state : Checkpoint
        After the last epoch.
    rate : float
        The learning rate that is used; that asked for until the first epoch.
    history : list of EpochFigures
    device_seconds, golden_seconds : float
        Wall-clock time of all calls to ``device``, and of ``golden`` with the comparison.
    """

    device: Device
    start: Sequence[Parameters]
    learning_rate: float
    golden: Device | None = None
    history: list[EpochFigures] = field(default_factory=list)
    device_seconds: float = 0.0
    golden_seconds: float = 0.0
    rate: float = field(init=False)
    state: Checkpoint = field(init=False)

    def __post_init__(self) -> None:
        self.rate = self.learning_rate
        for device in (self.device, self.golden):
            if device is not None:
                device.load(self.start)
        self.state = self.device.checkpoint()

    @property
    def params(self) -> list[Parameters]:
        """What the device held after the last epoch."""
        return self.state.parameters

    def epoch(self, x: Floats, y: Floats, batch_size: int, seed: int) -> Iterator[Step]:
        """Learn from each sample once, in an order that ``seed`` and the epoch's number decide.

        Parameters
        ----------
        x : float64 array (samples, n_0)
        y : float64 array (samples, n_L)
            Rows with one largest entry: the class.
        batch_size : int
        seed : int

        Yields
        ------
        Step
            Of many batches each. The last one's comparison includes parameters and residuals.

        Raises
        ------
        RangeError
            If the rate does not fit.
        """
        figures = EpochFigures(len(self.history) + 1)
        self.history.append(figures)
        options: dict[str, Any] = {
            "learning_rate": self.learning_rate,
            "batch_size": batch_size,
            "epochs": figures.epoch,
            "shuffle": True,
            "seed": seed,
            "start": Position(figures.epoch),
        }
        beside = None if self.golden is None else self.golden.train_iter(x, y, **options)
        batch, cost, right = 0, 0.0, 0
        for result in self.device.train_iter(x, y, **options):
            self.rate = result.learning_rate
            self.device_seconds += result.stats.seconds
            cost += result.cost
            right += right_answers(result.outputs, y[result.order])
            figures.samples += len(result.order)
            figures.cost = cost / figures.samples
            figures.train_accuracy = right / figures.samples
            figures.seconds += result.stats.seconds
            figures.cycles += result.stats.cycles
            figures.saturations += sum(entry.count for entry in result.stats.saturations)
            comparison = Comparison()
            if beside is not None:
                clock = time.perf_counter()
                comparison += compare_training(self.device.net, result, next(beside))
                self.golden_seconds += time.perf_counter() - clock
            if result.position.epoch > figures.epoch:
                comparison += self._read_state(result.position)
            yield Step(batch, result.order, result, comparison)
            batch += len(result.costs)

    def test(self, x: Floats, y: Floats) -> tuple[float, Comparison]:
        """Measure the accuracy of what the device holds, forward only, and note it in the last epoch's figures.

        Returns
        -------
        float
            Part of the samples whose largest output is the largest target's.
        Comparison
            Of the outputs with the golden model's.
        """
        comparison = Comparison()
        result = self.device.predict(x)
        self.device_seconds += result.stats.seconds
        if self.golden is not None:
            clock = time.perf_counter()
            comparison += compare_results(self.device.net, result, self.golden.predict(x))
            self.golden_seconds += time.perf_counter() - clock
        accuracy = right_answers(result.outputs, y) / len(x)
        if self.history:
            self.history[-1].test_accuracy = accuracy
        return accuracy, comparison

    def _read_state(self, position: Position) -> Comparison:
        clock = time.perf_counter()
        self.state = self.device.checkpoint(position)
        self.device_seconds += time.perf_counter() - clock
        if self.golden is None:
            return Comparison()
        clock = time.perf_counter()
        comparison = compare_checkpoints(self.device.net, self.state, self.golden.checkpoint())
        self.golden_seconds += time.perf_counter() - clock
        return comparison
