"""Simulations that are built once and kept: the cache, the tools that fill it, and a word on how far they are."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dyadprop.cache import CACHE_VARIABLE, cache_folder
from dyadprop.errors import BuildError

logger = logging.getLogger(__name__)

STALE_BUILD = 24 * 3600  # seconds
STALE_RESULT = 30 * 24 * 3600
SUFFIXES = (".so", ".vvp")  # of what is kept: libraries, programs for Icarus
COMPILED = "compiled-"  # begins the name of a folder with what is compiled once for all libraries
STEP_TIMEOUT = 900  # seconds for one tool; a simulation of a board-sized network compiles in well under 100

Build = Callable[[Path, Callable[[str], None]], Path]


def kept_build(what: str, name: str, build: Build) -> Path:
    """Return a file from the cache, building it when it is not there.

    Parameters
    ----------
    what : str
        How messages call it: "64-32-10, lanes 32/5".
    name : str
        Of the file: a hash of everything that decides it, and a suffix of ``SUFFIXES``.
    build : callable
        Makes it in the folder that it is given, says which step begins, and returns where it is.

    Raises
    ------
    BuildError
        If the cache cannot be written, or from ``build``: then its folder is left for the log in it.
    """
    finished = cache_folder() / name
    try:
        if finished.exists():
            finished.touch()  # used today: not pruned
            return finished
        finished.parent.mkdir(parents=True, exist_ok=True)
        _prune(finished.parent)
        work = Path(tempfile.mkdtemp(prefix=f"build-{name[:8]}-", dir=finished.parent))
    except OSError as error:
        raise BuildError(
            f"simulations cannot be kept in {finished.parent}: {error.strerror}; ${CACHE_VARIABLE} names another"
        ) from error
    progress = _Progress(what)
    try:
        build(work, progress).replace(finished)
    except BuildError:
        progress.end("failed")
        raise
    except BaseException:
        progress.end("interrupted")
        shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work)
    progress.end("done")
    return finished


def run_tool(work: Path, command: Sequence[str], env: dict[str, str] | None = None) -> None:
    """Run a tool in a folder, its output in ``build.log`` there; raise BuildError if it is missing, fails or hangs."""
    log = work / "build.log"
    with log.open("a") as stream:
        stream.write("$ " + " ".join(command) + "\n")
        stream.flush()
        try:
            tool = subprocess.Popen(
                command, cwd=work, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})}, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise BuildError(f"{Path(command[0]).name} cannot be started: {error}") from error
        try:
            status = tool.wait(STEP_TIMEOUT)
        except BaseException as error:
            os.killpg(tool.pid, signal.SIGKILL)  # g++ is two processes: one alone would work on
            tool.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise BuildError(
                f"{Path(command[0]).name} did not end within {STEP_TIMEOUT} s; its log is {log}"
            ) from error
    if status:
        lines = [line for line in log.read_text(errors="replace").splitlines() if "rror" in line]
        raise BuildError(
            f"{Path(command[0]).name} failed: {lines[-1] if lines else f'exit {status}'}; its log is {log}"
        )


def _prune(folder: Path) -> None:
    """Remove what nobody comes back for: results not used for long, and what builds that were killed left."""
    now = time.time()
    for path in folder.iterdir():
        try:
            age = now - path.stat().st_mtime
            if path.is_dir():
                limit = STALE_RESULT if path.name.startswith(COMPILED) else STALE_BUILD
                if path.name.startswith((COMPILED, "build-")) and age > limit:
                    shutil.rmtree(path, ignore_errors=True)
            elif path.suffix in SUFFIXES and age > STALE_RESULT:
                path.unlink()
        except OSError:  # another process was faster
            continue


class _Progress:
    """One line on stderr that says how far a build is; only for designs that take a while, and only once a step."""

    def __init__(self, what: str) -> None:
        self._start = time.monotonic()
        self._what = what
        self._live = sys.stderr.isatty()
        if not self._live:
            logger.info("building the simulation of %s (kept for the next time)", what)

    def __call__(self, step: str) -> None:
        if self._live:
            print(
                f"\rbuilding the simulation of {self._what} (once): {step} ...\x1b[K",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def end(self, how: str) -> None:
        seconds = time.monotonic() - self._start
        if self._live:
            print(f"\rbuilding the simulation of {self._what}: {how} in {seconds:.0f} s\x1b[K", file=sys.stderr)
        else:
            logger.info("building the simulation of %s: %s in %.0f s", self._what, how, seconds)
