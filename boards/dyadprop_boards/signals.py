"""Signals that end a command, as exceptions: what it has started is ended too."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Sent by ``kill``, by a service manager, by a terminal that closes. Ctrl-C is Python's own `KeyboardInterrupt`."""


@contextmanager
def raised_signals() -> Iterator[None]:
    """Raise `SystemExit` where one of `ENDING` would end the process on the spot; its code is 128 + the signal.

    Notes
    -----
    Only the main thread can; a signal that is ignored, or that somebody else handles, stays as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    replaced = [number for number in ENDING if signal.getsignal(number) == signal.SIG_DFL]
    for number in replaced:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, signal.SIG_DFL)
