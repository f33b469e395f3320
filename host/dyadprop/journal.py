"""How a device came to hold what it holds: enough to bring another one, or the same after a reset, to the same bits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dyadprop.network import RawParameters


class Lesson(NamedTuple):
    """Training that a device has carried out.

    Attributes
    ----------
    commands : list of bytes
        The messages.
    samples : int
    """

    commands: list[bytes]
    samples: int

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.commands))


@dataclass
class Journal:
    """A state that is known, and what was done since.

    Attributes
    ----------
    weights : list of RawParameters
    residuals : list of RawParameters or None
        None: the accumulators are clear, as they are in a new session.
    entries : list of Lesson or of lists of RawParameters
        Training, or sums that were written into the accumulators.
    size : int
        Bytes of the training.
    """

    weights: Sequence[RawParameters]
    residuals: Sequence[RawParameters] | None = None
    entries: list[Lesson | Sequence[RawParameters]] = field(default_factory=list)
    size: int = 0

    def learnt(self, lesson: Lesson) -> None:
        """Note training."""
        self.entries.append(lesson)
        self.size += lesson.size

    def wrote(self, residuals: Sequence[RawParameters]) -> None:
        """Note what was written into the accumulators."""
        if not self.entries:
            self.residuals = residuals
        elif isinstance(self.entries[-1], Lesson):
            self.entries.append(residuals)
        else:  # nothing is left of what was written before
            self.entries[-1] = residuals
