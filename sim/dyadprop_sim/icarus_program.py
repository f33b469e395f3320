"""Build a design into a program for Icarus Verilog's ``vvp``, once, and keep it."""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from dyadprop.errors import BuildError
from dyadprop_sim.builds import kept_build, run_tool
from dyadprop_sim.library import Ports, emit_verilog, emitter_version, source_hash

# Each as yosys writes it: one statement, or several between begin and end.
_PROCESS = re.compile(r"^  always @\(posedge clk\)(?: begin\n((?:    .*\n)+)  end\n|\n((?:    .*\n)+))", re.MULTILINE)


def build_program(what: str, key: str, make_top: Callable[[], Any], ports: Ports) -> Path:
    """Return the program of a design in its harness, building it when it is not in the cache.

    Parameters
    ----------
    what : str
        How messages call the design: "64-32-10, lanes 32/5".
    key : str
        Everything that decides the design besides the gateware's own source, which is added here.
    make_top : callable
        Returns the Amaranth component, or Verilog with a module ``top``; called only when a build is needed.
    ports : Ports
        Without a selector.

    Raises
    ------
    BuildError
        If Icarus is missing, fails or hangs; the message names the log.
    """
    assert not ports.selector
    iverilog = find_icarus("iverilog")
    version = subprocess.run([iverilog, "-V"], capture_output=True, text=True, check=False, timeout=60).stdout
    harness = _harness_source(ports)
    own = Path(__file__).read_text(encoding="utf-8")
    facts = [key, harness, own, source_hash(), emitter_version(), version.partition("\n")[0]]
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:24]

    def build(work: Path, progress: Callable[[str], None]) -> Path:
        progress("elaborating")
        top = make_top()
        text = top if isinstance(top, str) else join_processes(emit_verilog(top, forget=True, names=False))
        (work / "top.v").write_text(text)
        (work / "harness.v").write_text(harness)
        progress("compiling")
        run_tool(work, [iverilog, "-g2005", "-s", "harness", "-o", "program.vvp", "harness.v", "top.v"])
        return work / "program.vvp"

    return kept_build(what, f"{digest}.vvp", build)


def find_icarus(program: str) -> str:
    """Return the path of a program of Icarus, or raise BuildError."""
    path = shutil.which(program)
    if path is None:
        raise BuildError(
            f"Icarus Verilog is not installed: no {program} is on PATH; on Debian: apt-get install iverilog"
        )
    return path


def join_processes(verilog: str) -> str:
    """Put all clocked processes of a flat module into one: woken one by one they take ``vvp`` twice the time."""
    statements = []

    def take(process: re.Match[str]) -> str:
        statements.append(process[1] or process[2])
        return ""

    rest, _, end = _PROCESS.sub(take, verilog).rpartition("endmodule")
    return f"{rest}  always @(posedge clk) begin\n{''.join(statements)}  end\nendmodule{end}"


def _harness_source(ports: Ports) -> str:
    """Put the harness behind what it needs to know of the design."""
    inputs, outputs = ports.input_names, ports.output_names
    connections = [".clk(clk), .rst(rst)"]
    for k, name in enumerate(inputs):
        connections.append(f".{name}__payload(in_payload[{64 * k} +: 64])")
        connections.append(f".{name}__valid(in_valid[{k}]), .{name}__ready(in_ready[{k}])")
    for k, name in enumerate(outputs):
        connections.append(f".{name}__valid(out_valid[{k}]), .{name}__ready(out_ready[{k}])")
    # By their names in the design: an assignment extends them by zeros, a connection would leave the rest open.
    plain = [
        *(f"out_payload[{64 * k} +: 64] = top.{name}__payload" for k, name in enumerate(outputs)),
        *(f"status[{64 * k} +: 64] = top.{name}" for k, name in enumerate(ports.status)),
    ]
    lines = [
        f"`define INPUTS {len(ports.inputs)}",
        f"`define OUTPUTS {len(ports.outputs)}",
        f"`define LINKS {len(ports.links)}",
        f"`define STATUSES {len(ports.status)}",
        "module streams(",
        "  input clk, rst,",
        f"  input [{len(inputs) - 1}:0] in_valid, input [{64 * len(inputs) - 1}:0] in_payload,",
        f"  output [{len(inputs) - 1}:0] in_ready, input [{len(outputs) - 1}:0] out_ready,",
        f"  output [{len(outputs) - 1}:0] out_valid, output [{64 * len(outputs) - 1}:0] out_payload,",
        f"  output [{64 * len(ports.status) - 1}:0] status);",
        f"  top top({', '.join(connections)});",
        *(f"  assign {assignment};" for assignment in plain),
        "endmodule",
        files("dyadprop_sim").joinpath("harness.v").read_text(),
    ]
    return "\n".join(lines)
