"""Ctrl-C, kept back until what is under way is done."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_interrupts() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C in the block instead of raising it; a second one is raised at once.

    Yields
    ------
    callable
        Whether there was one. It is then the caller's to raise.

    Notes
    -----
    Only Python's own handler is replaced, and only the main thread can: elsewhere, and within another such block,
    nothing is held and the answer is no.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield lambda: False
        return
    noted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal noted
        if noted:
            signal.default_int_handler(number, frame)
        noted = True

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
