"""A running simulation that Verilator has compiled: words in, words out, one call a transaction."""

import ctypes
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dyadprop.errors import DeviceLost
from dyadprop_sim.library import Ports
from dyadprop_sim.transactions import Transaction, TransactionSimulation, Words

_POINTER = ctypes.POINTER(ctypes.c_uint64)


class Simulation(TransactionSimulation):
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
        super().__init__(ports, spell)
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

    def _move(self, transaction: Transaction) -> bool:
        t = transaction
        in_counts = np.array([len(words) for words in t.fed], dtype=np.uint64)
        out_counts = np.array([len(words) for words in t.taken], dtype=np.uint64)
        stalls = np.array(t.stalls, dtype=np.uint32)
        stuck = self._library.dyad_run(
            self._handle,
            _pointers(t.fed),
            _pointer(in_counts),
            _pointers(t.taken),
            _pointers(t.times),
            _pointer(out_counts),
            _pointer(t.moved_in),
            _pointer(t.moved_out),
            stalls.ctypes.data_as(ctypes.POINTER(ctypes.c_uint32)),
            ctypes.c_uint64(t.seed),
            ctypes.c_uint64(t.patience),
        )
        return not stuck

    def wait(self, cycles: int) -> None:
        """Let cycles pass in which nothing is offered or taken."""
        self._library.dyad_wait(self._handle, ctypes.c_uint64(cycles))

    def status(self) -> list[int]:
        """Read the status ports as plain words."""
        words = np.zeros(len(self.ports.status) + 1, dtype=np.uint64)
        self._library.dyad_status(self._handle, _pointer(words))
        return [int(word) for word in words[:-1]]

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
