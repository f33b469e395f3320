"""The host's end of the control chain."""

from typing import Any

import numpy as np
import numpy.typing as npt

from dyadprop.formats import Ints
from dyadprop.network import RawParameters
from dyadprop.operations import Operation
from dyadprop_hw.layouts import ControlKind, control_token
from dyadprop_sim.benches.checker import Checker
from dyadprop_sim.benches.ports import Item
from dyadprop_sim.benches.streams import StreamDriver, StreamMonitor
from dyadprop_sim.benches.testbench import Testbench


class ControlHost:
    """Send commands down the chain, and expect their replies in order.

    Parameters
    ----------
    bench : Testbench
    data_bits : int

    Attributes
    ----------
    commands, replies : StreamMonitor
    answers : list of int
        Data of the replies that came to `ask`, which expects any.
    """

    driver: StreamDriver
    commands: StreamMonitor
    replies: StreamMonitor
    checker: Checker

    def __init__(self, bench: Testbench, data_bits: int) -> None:
        token = control_token(data_bits)
        self.driver, self.commands = bench.source("control_in", token)
        self.checker, self.replies = bench.checked("control_out", token)
        self.expected = 0

    def send(self, stage: int, operation: Operation, words: npt.ArrayLike = (0,)) -> None:
        """Send commands that give no reply."""
        self.driver.send(command(stage, operation, int(word)) for word in np.asarray(words).ravel())

    def ask(self, stage: int, operation: Operation, answers: npt.ArrayLike) -> None:
        """Send one command, and expect these replies."""
        self.send(stage, operation)
        values = [int(value) for value in np.asarray(answers).ravel()]
        self.expected += len(values)
        self.checker.expect(reply(stage, operation, value) for value in values)

    def load(self, stage: int, params: RawParameters) -> None:
        """Send all words of a stage."""
        self.send(stage, Operation.BEGIN)
        self.send(stage, Operation.WORD, words(params))

    def read(self, stage: int, operation: Operation, params: RawParameters) -> None:
        """Read a stage out and expect these words."""
        self.ask(stage, operation, words(params))


def command(stage: int, operation: int, data: int = 0) -> dict[str, int]:
    """Make a command."""
    return {"kind": ControlKind.COMMAND.value, "stage": stage, "operation": int(operation), "data": data}


def reply(stage: int, operation: int, data: int) -> dict[str, int]:
    """Make a reply."""
    return {"kind": ControlKind.REPLY.value, "stage": stage, "operation": int(operation), "data": data}


def words(params: RawParameters) -> Ints:
    """Give the words of a stage in the order of the chain: row by row, each row's bias last."""
    return np.hstack([params.weight, params.bias[:, None]]).ravel()


def draw_words(rng: np.random.Generator, form: Any, shape: tuple[int, ...], shrink: int = 0) -> Ints:
    """Draw words of a format, ``2^shrink`` times smaller than it allows."""
    return rng.integers(form.min_int >> shrink, (form.max_int >> shrink) + 1, shape, dtype=np.int64)


def items(**fields: npt.ArrayLike) -> list[Item]:
    """Make items of structures from an array a field; numbers stand for arrays of themselves."""
    arrays = np.broadcast_arrays(*(np.asarray(values) for values in fields.values()))
    flat = [array.ravel().tolist() for array in arrays]
    return [dict(zip(fields, row, strict=True)) for row in zip(*flat, strict=True)]
