"""A running simulation: words in, words out, one call a transaction."""

import ctypes
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dyadprop.errors import DeviceLost, DeviceTimeout
from dyadprop_sim.library import Ports

Words = npt.NDArray[np.uint64]
DEFAULT_PATIENCE = 100_000  # cycles in which nothing moves; a network that may need more asks for more

_POINTER = ctypes.POINTER(ctypes.c_uint64)


class Simulation:
    """One instance of a design in a shared library (`dyadprop_sim.library`).

    Parameters
    ----------
    path : Path
        Of the library.
    ports : Ports
        The design's streams, as it was built.
    seed : int
        Of random register and memory contents.
    randomize : bool
        Start from them (needs ``BuildOptions.random_start``); reset is applied afterwards in each case.
    select : int
        Value of the design's selector port, if it has one.
    spell : callable, optional
        Turns the words of the status ports into text for messages; without it they are shown as they are.
    """

    def __init__(
        self,
        path: Path,
        ports: Ports,
        *,
        seed: int = 0,
        randomize: bool = False,
        select: int = 0,
        spell: Callable[[Sequence[int]], str] | None = None,
    ) -> None:
        self.ports = ports
        self._spell = spell
        library = ctypes.CDLL(str(path))
        library.dyad_create.restype = ctypes.c_void_p
        library.dyad_cycle.restype = ctypes.c_uint64
        library.dyad_link_held.restype = ctypes.c_uint64
        library.dyad_link_seen.restype = ctypes.c_uint64
        self.library = library
        self._library = library
        self._owned = ctypes.c_void_p(
            library.dyad_create(ctypes.c_uint64(seed), ctypes.c_int(randomize), ctypes.c_uint64(select))
        )
        self._free = weakref.finalize(self, library.dyad_destroy, self._owned)

    @property
    def cycle(self) -> int:
        """Clock cycles since reset."""
        return int(self._library.dyad_cycle(self._handle))

    @property
    def handle(self) -> ctypes.c_void_p:
        """The C++ object, for what else the library has; it is not there any more after `close`."""
        return self._handle

    @property
    def _handle(self) -> ctypes.c_void_p:
        if not self._free.alive:
            raise DeviceLost("the simulation is closed")
        return self._owned

    def close(self) -> None:
        """Free the simulation; a second call does nothing."""
        self._free()

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
            Chance that a stream stalls in a cycle (both ends of a link have one), below 1.
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
        fed = [np.ascontiguousarray(inputs.get(name, ()), dtype=np.uint64) for name in ports.inputs]
        taken = [np.zeros(outputs.get(name, 0), dtype=np.uint64) for name in ports.outputs]
        times = [np.zeros(len(words) if cycles is not None else 0, dtype=np.uint64) for words in taken]
        assert not set(inputs) - set(ports.inputs)
        assert not set(outputs) - set(ports.outputs)

        def chance(name: str) -> int:
            share = stalls if isinstance(stalls, (int, float)) else stalls.get(name, 0.0)
            assert 0 <= share < 1
            return max(1, round(256 * share)) if share else 0

        stall_words = [chance(name) for name in (*ports.inputs, *ports.outputs)]
        for source, sink in ports.links:
            stall_words += [chance(sink), chance(source)]
        moved_in = np.zeros(len(fed) + 1, dtype=np.uint64)
        moved_out = np.zeros(len(taken) + 1, dtype=np.uint64)
        in_counts = np.array([*(len(words) for words in fed), 0], dtype=np.uint64)
        out_counts = np.array([*(len(words) for words in taken), 0], dtype=np.uint64)
        stall_array = np.array([*stall_words, 0], dtype=np.uint32)
        stuck = self._library.dyad_run(
            self._handle,
            _pointers(fed),
            _pointer(in_counts),
            _pointers(taken),
            _pointers(times),
            _pointer(out_counts),
            _pointer(moved_in),
            _pointer(moved_out),
            stall_array.ctypes.data_as(ctypes.POINTER(ctypes.c_uint32)),
            ctypes.c_uint64(seed),
            ctypes.c_uint64(patience),
        )
        if stuck:
            missing = [
                f"{moved_in[k]} of {len(w)} words of {ports.inputs[k]} taken"
                for k, w in enumerate(fed)
                if moved_in[k] < len(w)
            ]
            missing += [
                f"{moved_out[k]} of {len(w)} words of {ports.outputs[k]} given"
                for k, w in enumerate(taken)
                if moved_out[k] < len(w)
            ]
            raise DeviceTimeout(
                f"the simulation made no progress for {patience} cycles (cycle {self.cycle}): "
                f"{', '.join(missing)}; {self.describe()}"
            )
        if cycles is not None:
            cycles.update(zip(ports.outputs, times, strict=True))
        return dict(zip(ports.outputs, taken, strict=True))

    def wait(self, cycles: int) -> None:
        """Let cycles pass in which nothing is offered or taken."""
        self._library.dyad_wait(self._handle, ctypes.c_uint64(cycles))

    def status(self) -> list[int]:
        """Read the status ports as plain words."""
        words = np.zeros(len(self.ports.status) + 1, dtype=np.uint64)
        self._library.dyad_status(self._handle, _pointer(words))
        return [int(word) for word in words[:-1]]

    def describe(self) -> str:
        """Say what each stage is doing."""
        if self._spell is not None:
            return self._spell(self.status())
        return "; ".join(f"{name} = {word:#x}" for name, word in zip(self.ports.status, self.status(), strict=True))

    # -- open links ---------------------------------------------------------------------------------------------------

    def link_push(self, link: int, words: npt.ArrayLike) -> None:
        """Put tokens at the end of a link's queue."""
        for word in np.asarray(words, dtype=np.uint64).ravel():
            self._library.dyad_link_push(self._handle, ctypes.c_int(link), ctypes.c_uint64(int(word)))

    def link_capacity(self, link: int, tokens: int) -> None:
        """Limit the tokens that a link holds; 0 is no limit."""
        self._library.dyad_link_capacity(self._handle, ctypes.c_int(link), ctypes.c_uint64(tokens))

    def link_held(self, link: int) -> int:
        """Count the tokens that a link holds."""
        return int(self._library.dyad_link_held(self._handle, ctypes.c_int(link)))

    def link_flip(self, link: int, position: int, mask: int) -> None:
        """Flip bits of a token that a link holds."""
        assert position < self.link_held(link)
        self._library.dyad_link_flip(self._handle, ctypes.c_int(link), ctypes.c_uint64(position), ctypes.c_uint64(mask))

    def link_seen(self, link: int) -> Words:
        """Take the tokens that have entered a link since the last call."""
        count = int(self._library.dyad_link_seen(self._handle, ctypes.c_int(link), None, ctypes.c_uint64(0)))
        words = np.zeros(count, dtype=np.uint64)
        self._library.dyad_link_seen(self._handle, ctypes.c_int(link), _pointer(words), ctypes.c_uint64(count))
        return words


def _pointer(array: Words) -> "ctypes._Pointer[ctypes.c_uint64]":
    return array.ctypes.data_as(_POINTER)


def _pointers(arrays: list[Words]) -> "ctypes.Array[ctypes._Pointer[ctypes.c_uint64]]":
    table = (_POINTER * (len(arrays) + 1))()
    for k, array in enumerate(arrays):
        if len(array):
            table[k] = _pointer(array)
    return table
