"""What a command tells: lines for people, one JSON document for programs."""

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from dyadprop.errors import RangeError
from dyadprop.files import check_writable, write_atomically


class Report:
    """Output of one command.

    Parameters
    ----------
    json_path : str or None
        File for `write`; ``-`` is standard output, and then the lines for people go to standard error. None: no file.
    quiet : bool
        Whether lines said by `say` are dropped; `result` is heard in each case.

    Raises
    ------
    RangeError
        If the file cannot be written. It is tried now, not after minutes of work.
    """

    def __init__(self, json_path: str | None = None, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._json_path = json_path
        if json_path is not None and json_path != "-":
            try:
                Path(json_path).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RangeError(f"JSON file {json_path} cannot be written: {error.strerror}") from error
            check_writable("JSON file", json_path)

    @classmethod
    def of(cls, args: Namespace) -> "Report":
        """Make the report that the common options ``--json`` and ``-q`` ask for."""
        return cls(args.json, quiet=args.quiet)

    @property
    def bar_disabled(self) -> bool | None:
        """What tqdm's ``disable`` takes: None shows the bar on a terminal only."""
        return True if self.quiet else None

    def say(self, line: str) -> None:
        """Print a line of progress."""
        if not self.quiet:
            self.result(line)

    def result(self, line: str) -> None:
        """Print a line that ``-q`` does not silence: what the command found."""
        print(line, file=sys.stderr if self._json_path == "-" else sys.stdout, flush=True)

    def write(self, document: Any) -> None:
        """Write the JSON document, if one was asked for."""
        if self._json_path is None:
            return
        if self._json_path == "-":
            print(json_text(document), end="", flush=True)
        else:
            write_json(self._json_path, document)


def json_text(document: Any) -> str:
    """Give a document as JSON text; NaN and infinity, which JSON lacks, become null."""
    return json.dumps(_finite(document), indent=2, allow_nan=False) + "\n"


def write_json(path: str | Path, document: Any) -> None:
    """Write a document as JSON.

    Raises
    ------
    RangeError
        If the file cannot be written.
    """
    write_atomically("JSON file", path, json_text(document))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and value - value != 0.0:
        return None
    return value
