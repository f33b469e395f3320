"""What a build says of how far it is."""

import sys
import time

_LONGEST = 60


class Progress:
    """Says which step is under way; on a terminal one line that is written over and over, else one line a step.

    Parameters
    ----------
    what : str
        What is built: the line's start.
    quiet : bool
        Says nothing.
    """

    def __init__(self, what: str, *, quiet: bool = False) -> None:
        self._what = what
        self._quiet = quiet
        self._live = sys.stderr.isatty() and not quiet
        self._step = ""
        self._start = 0.0

    def step(self, name: str) -> None:
        """Begin a step."""
        self._step, self._start = name, time.monotonic()
        if not self._live and not self._quiet:
            print(f"{self._what}: {name}", file=sys.stderr, flush=True)
        self.watch("")

    def watch(self, line: str) -> None:
        """Show what the step's tool said last."""
        if self._live:
            seconds = time.monotonic() - self._start
            text = f"\r{self._what}: {self._step}, {seconds:.0f} s  {line[:_LONGEST]}\x1b[K"
            print(text, end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line."""
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
