"""Steps of a build, each kept: the same tool, with the same arguments and files, is not run a second time."""

import gzip
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dyadprop.cache import CACHE_VARIABLE, cache_folder
from dyadprop.errors import BuildError
from dyadprop_boards.tools import Tool, failure, run_tool

_log = logging.getLogger(__name__)

STALE = 30 * 24 * 3600  # seconds without use


@dataclass(frozen=True)
class Step:
    """One run of a tool.

    Attributes
    ----------
    tool : Tool
    arguments : tuple of str
    inputs, outputs : tuple of str
        Names of the files in the folder that it reads, and that it must leave there.
    log : str
        Name of its log.
    verdict : callable, optional
        Says of its log whether a failure is a result all the same, as a missed timing is; it is none without outputs.
    finish : callable, optional
        Makes, in the folder it is given, outputs of what the tool left there.
    """

    tool: Tool
    arguments: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    log: str
    verdict: Callable[[str], bool] | None = None
    finish: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Done:
    """What a step took.

    Attributes
    ----------
    tool, version : str
    seconds : float
        Of the run, also where its results were kept from an earlier one.
    kept : bool
        Whether they were.
    passed : bool
        Whether the tool was content.
    """

    tool: str
    version: str
    seconds: float
    kept: bool
    passed: bool


def run_step(step: Step, folder: Path, watch: Callable[[str], None] | None = None) -> Done:
    """Run a step in a folder, or fetch what it left the last time.

    Raises
    ------
    BuildError
        If its tool is missing, fails, hangs, or leaves not all of its outputs; the message names its log.
    """
    version = step.tool.version()
    shelf = _shelf() / _key(step, version, folder)
    log = folder / step.log
    for name in step.outputs:
        (folder / name).unlink(missing_ok=True)  # what an earlier run left is no result of this one
    record = _fetch(shelf, step, folder)
    if record is not None:
        return Done(step.tool.name, version, float(record["seconds"]), kept=True, passed=bool(record["passed"]))
    status, seconds = run_tool(step.tool, step.arguments, folder, log, watch)
    useful = status == 0 or (step.verdict is not None and step.verdict(log.read_text(errors="replace")))
    if useful and step.finish is not None:
        step.finish(folder)
    missing = [name for name in step.outputs if not (folder / name).is_file()]
    if not useful or (status != 0 and missing):
        raise failure(step.tool, status, log)
    if missing:
        raise BuildError(f"{step.tool.name} left no {' and no '.join(missing)}; its log is {log}")
    _keep(shelf, step, folder, {"seconds": seconds, "passed": status == 0})
    return Done(step.tool.name, version, seconds, kept=False, passed=status == 0)


def _shelf() -> Path:
    return cache_folder() / "boards"


def _key(step: Step, version: str, folder: Path) -> str:
    digest = hashlib.sha256(json.dumps([version, step.arguments, step.outputs]).encode())
    for name in step.inputs:
        digest.update(name.encode() + b"\0" + hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()[:32]


def _fetch(shelf: Path, step: Step, folder: Path) -> dict[str, float | bool] | None:
    """Unpack what is kept; None where nothing is, or it cannot be read."""
    try:
        record: dict[str, float | bool] = json.loads((shelf / "record.json").read_text())
        for name in (*step.outputs, step.log):
            with gzip.open(shelf / f"{name}.gz", "rb") as packed, (folder / name).open("wb") as out:
                shutil.copyfileobj(packed, out)
        os.utime(shelf)  # used today: not pruned
        return {"seconds": float(record["seconds"]), "passed": bool(record["passed"])}
    except FileNotFoundError:
        if (shelf / "record.json").exists():  # it lacks another file, and would never be filled again
            shutil.rmtree(shelf, ignore_errors=True)
        return None
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        _log.warning("what is kept in %s cannot be used and is made again: %s", shelf, error)
        shutil.rmtree(shelf, ignore_errors=True)
        return None


def _keep(shelf: Path, step: Step, folder: Path, record: dict[str, float | bool]) -> None:
    """Put a step's files on the shelf, whole or not at all."""
    try:
        shelf.parent.mkdir(parents=True, exist_ok=True)
        _prune(shelf.parent)
        work = Path(tempfile.mkdtemp(prefix="part-", dir=shelf.parent))
        try:
            for name in (*step.outputs, step.log):
                with (
                    (folder / name).open("rb") as file,
                    gzip.open(work / f"{name}.gz", "wb", compresslevel=1) as packed,
                ):
                    shutil.copyfileobj(file, packed)
            (work / "record.json").write_text(json.dumps(record))
            if not shelf.exists():  # another process may have been faster
                work.replace(shelf)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:  # the build itself is done: it is only not kept
        _log.warning(
            "results cannot be kept in %s: %s; $%s names another folder", shelf.parent, error.strerror, CACHE_VARIABLE
        )


def _prune(folder: Path) -> None:
    now = time.time()
    for path in folder.iterdir():
        try:
            if now - path.stat().st_mtime > STALE:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # another process was faster
            continue
