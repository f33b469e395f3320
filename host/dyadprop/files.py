"""Files are written whole or not at all."""

import errno
import os
from contextlib import suppress
from pathlib import Path

from dyadprop.errors import RangeError


def write_atomically(what: str, path: str | Path, content: bytes | str) -> None:
    """Write a file so that at each moment the old or the new content is there, never a part of it.

    Parameters
    ----------
    what : str
        How messages call it: "checkpoint".
    path : path
        A link is followed; what is no file, as ``/dev/stdout``, is written to as it is.
    content : bytes or str
        Text becomes UTF-8.

    Raises
    ------
    RangeError
        If it cannot be written; what was there before still is.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            target.write_bytes(data)  # a directory says so here
            return
        beside = _beside(target)
        try:
            beside.write_bytes(data)
            if target.exists():
                beside.chmod(target.stat().st_mode)
            os.replace(beside, target)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
    except OSError as error:
        raise RangeError(f"{what} {path} cannot be written: {error.strerror or error}") from error


def check_writable(what: str, path: str | Path) -> None:
    """Raise now what `write_atomically` would raise after an hour's work; an existing file is left as it is.

    Raises
    ------
    RangeError
        If the file cannot be written.
    """
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            if target.is_dir() or not os.access(target, os.W_OK):
                number = errno.EISDIR if target.is_dir() else errno.EACCES
                raise OSError(number, os.strerror(number))
            return
        beside = _beside(target)
        beside.touch()
        beside.unlink()
    except OSError as error:
        raise RangeError(f"{what} {path} cannot be written: {error.strerror or error}") from error


def _beside(target: Path) -> Path:
    # In the same directory: only there can it take the target's place in one step.
    return target.with_name(f".{target.name}.{os.getpid()}.part")
