"""What simulations have in common: words in, words out, one call a transaction, whatever simulates."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dyadprop.errors import DeviceTimeout
from dyadprop_sim.library import Ports

Words = npt.NDArray[np.uint64]
DEFAULT_PATIENCE = 100_000  # cycles in which nothing moves; a network that may need more asks for more


@dataclass
class Transaction:
    """What is to go through the streams in one call, and how far it has come.

    Attributes
    ----------
    fed : list of uint64 arrays
        Words of each input stream.
    taken : list of uint64 arrays
        Words of each output stream: zeros, until they come.
    times : list of uint64 arrays
        The cycles in which they came; empty where nobody asked.
    moved_in, moved_out : uint64 arrays
        How many words have moved, a stream.
    stalls : list of int
        Chances in 256 of a stall, or 256 and the cycles for which the stream is closed: of each input, each output,
        then of each link that of the token that it offers and that of the token that it takes.
    seed : int
        Of the stalls.
    patience : int
        Cycles in which nothing moves before the run counts as stuck.
    """

    fed: list[Words]
    taken: list[Words]
    times: list[Words]
    moved_in: Words
    moved_out: Words
    stalls: list[int]
    seed: int
    patience: int


class TransactionSimulation(ABC):
    """One instance of a design in a simulator; a subclass is one kind of simulator.

    Parameters
    ----------
    ports : Ports
        The design's streams, as it was built.
    spell : callable, optional
        Turns the words of the status ports into text for messages; without it they are shown as they are.
    """

    def __init__(self, ports: Ports, spell: Callable[[Sequence[int]], str] | None) -> None:
        self.ports = ports
        self._spell = spell

    @property
    @abstractmethod
    def cycle(self) -> int:
        """Clock cycles since reset."""

    @abstractmethod
    def close(self) -> None:
        """Free the simulation; a second call does nothing."""

    @abstractmethod
    def wait(self, cycles: int) -> None:
        """Let cycles pass in which nothing is offered or taken."""

    @abstractmethod
    def status(self) -> list[int]:
        """Read the status ports as plain words."""

    @abstractmethod
    def _move(self, transaction: Transaction) -> bool:
        """Move its words; say whether all did. If not, it got stuck: the others may yet move in another one."""

    def run(
        self,
        inputs: Mapping[str, Words],
        outputs: Mapping[str, int],
        *,
        stalls: Mapping[str, float] | float = 0.0,
        seed: int = 0,
        patience: int = DEFAULT_PATIENCE,
        cycles: dict[str, Words] | None = None,
    ) -> dict[str, Words]:
        """Feed words and wait for words.

        Parameters
        ----------
        inputs : mapping of stream name to uint64 words
        outputs : mapping of stream name to the number of words expected
        stalls : float or mapping of stream name to float
            Chance that a stream stalls in a cycle (both ends of a link have one), below 1. A whole number from 1 on:
            the stream is closed for so many cycles and then open.
        seed : int
            Of the stalls.
        patience : int
            Cycles in which nothing moves before the run counts as stuck.
        cycles : dict, optional
            Filled with the cycle of each output word, a stream.

        Returns
        -------
        dict of stream name to uint64 words

        Raises
        ------
        DeviceTimeout
            If nothing moved for ``patience`` cycles; with what was missing and the state of each stage.
        """
        ports = self.ports
        assert not set(inputs) - set(ports.inputs)
        assert not set(outputs) - set(ports.outputs)

        def chance(name: str) -> int:
            share = stalls if isinstance(stalls, (int, float)) else stalls.get(name, 0.0)
            assert 0 <= share < 1 or share == int(share)
            if share >= 1:
                return 256 + int(share)
            return max(1, round(256 * share)) if share else 0

        stall_words = [chance(name) for name in (*ports.inputs, *ports.outputs)]
        for source, sink in ports.links:
            stall_words += [chance(sink), chance(source)]
        taken = [np.zeros(outputs.get(name, 0), dtype=np.uint64) for name in ports.outputs]
        transaction = Transaction(
            fed=[np.ascontiguousarray(inputs.get(name, ()), dtype=np.uint64) for name in ports.inputs],
            taken=taken,
            times=[np.zeros(len(words) if cycles is not None else 0, dtype=np.uint64) for words in taken],
            moved_in=np.zeros(len(ports.inputs), dtype=np.uint64),
            moved_out=np.zeros(len(ports.outputs), dtype=np.uint64),
            stalls=stall_words,
            seed=seed,
            patience=patience,
        )
        if not self._move(transaction):
            rows = (
                (ports.inputs, transaction.fed, transaction.moved_in, "taken"),
                (ports.outputs, taken, transaction.moved_out, "given"),
            )
            missing = [
                f"{moved} of {len(words)} words of {name} {verb}"
                for names, all_words, counts, verb in rows
                for name, words, moved in zip(names, all_words, counts, strict=True)
                if moved < len(words)
            ]
            raise DeviceTimeout(
                f"the simulation made no progress for {patience} cycles (cycle {self.cycle}): "
                f"{', '.join(missing)}; {self.describe()}"
            )
        if cycles is not None:
            cycles.update(zip(ports.outputs, transaction.times, strict=True))
        return dict(zip(ports.outputs, taken, strict=True))

    def describe(self) -> str:
        """Say what each stage is doing."""
        if self._spell is not None:
            return self._spell(self.status())
        return "; ".join(f"{name} = {word:#x}" for name, word in zip(self.ports.status, self.status(), strict=True))
