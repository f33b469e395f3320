"""Save files for GTKWave that show the streams of a bench's designs."""

import re
from pathlib import Path

_FILES = {"verilator": "dump.vcd", "icarus": "top.fst"}


def write_save_file(verilog: Path, folder: Path, simulator: str) -> Path:
    """Write ``streams.gtkw`` beside the waves: clock and reset, then each stream under its name.

    Parameters
    ----------
    verilog : Path
        The design.
    folder : Path
        Where the simulator wrote its waves.
    simulator : {"verilator", "icarus"}
    """
    text = verilog.read_text()
    top = text[text.index("module top(") :]
    ports = {
        name: f"top.{name}{bits}"
        for bits, name in re.findall(r"^  (?:input|output) (?:(\[.*?\]) )?(\S+) ?;$", top, re.MULTILINE)
    }
    streams = [name.removesuffix("__valid") for name in ports if name.endswith("__valid")]
    inside = {f"{stream}__{part}" for stream in streams for part in ("payload", "valid", "ready")}
    lines = [f'[dumpfile] "{folder / _FILES[simulator]}"', "[timestart] 0", "[sst_expanded] 1", "@28"]
    lines += [ports[name] for name in ("clk", "rst")]
    for stream in streams:
        lines += ["@200", f"-{stream.replace('__', ' ')}", "@28", ports[f"{stream}__valid"], ports[f"{stream}__ready"]]
        lines += ["@22", ports[f"{stream}__payload"]]
    rest = [name for name in ports if name not in inside and name not in ("clk", "rst")]
    if rest:
        lines += ["@200", "-other ports", "@22", *(ports[name] for name in rest)]
    target = folder / "streams.gtkw"
    target.write_text("\n".join(lines) + "\n")
    return target
