"""The order in which a training run presents its samples."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dyadprop.checks import whole_number
from dyadprop.data import permutation
from dyadprop.errors import RangeError
from dyadprop.formats import Floats, Ints
from dyadprop.rates import Rate
from dyadprop.results import Position

CHUNK = 1024  # samples between two results of an iterator
WHOLE = 2**31  # an epoch at once
_MANY = 2**31


class CoursePart(NamedTuple):
    """Consecutive batches of one epoch.

    Attributes
    ----------
    epoch : int
    order : int64 array (samples,)
        Which samples, in the order in which they are presented.
    next : Position
        What comes behind them.
    """

    epoch: int
    order: Ints
    next: Position


class Course:
    """A training run: samples, rate, and in which order the samples come.

    Parameters
    ----------
    x : float64 array (samples, n_0)
    y : float64 array (samples, n_L)
    rate : Rate
    batch_size : int
        At least 1.
    epochs : int
    shuffle : bool
    seed : int
    start : Position
    chunk : int
        Samples a part, about.

    Raises
    ------
    RangeError
        If there is nothing to do from ``start`` on, or a number is none.

    Notes
    -----
    The order of an epoch depends on ``seed`` and the epoch's number alone, so that a run can go on from any position.
    """

    def __init__(
        self,
        x: Floats,
        y: Floats,
        rate: Rate,
        batch_size: int,
        epochs: int,
        shuffle: bool,
        seed: int,
        start: Position,
        chunk: int,
    ) -> None:
        self.x = x
        self.y = y
        self.rate = rate
        self.batch_size = batch_size
        self._epochs = whole_number("epochs", epochs, 1, _MANY)
        self._shuffle = shuffle
        self._seed = whole_number("seed", seed, 0, 2**63)
        batches = -(-len(x) // batch_size)
        self._start = Position(
            whole_number("epoch to start in", start[0], 1, _MANY),
            whole_number("batch to start with", start[1], 0, batches - 1),
        )
        if self._start.epoch > self._epochs:
            raise RangeError(
                f"the run of {self._epochs} epochs is over before epoch {self._start.epoch}, where it was to go on; "
                "epochs counts those of the whole run"
            )
        self._part = max(1, chunk // batch_size) * batch_size

    def parts(self) -> Iterator[CoursePart]:
        """Give the parts of the run in their order."""
        first = self._start.batch * self.batch_size
        count = len(self.x)
        for epoch in range(self._start.epoch, self._epochs + 1):
            order = permutation(count, self._seed, epoch) if self._shuffle else np.arange(count)
            for i in range(first, count, self._part):
                end = i + self._part
                after = Position(epoch, end // self.batch_size) if end < count else Position(epoch + 1, 0)
                yield CoursePart(epoch, order[i:end], after)
            first = 0
