"""Prove that a mutant changes nothing that a register, a memory or an output sees: then it is no fault at all."""

import re
from collections.abc import Sequence
from pathlib import Path

from dyadprop_sim.gates import run_yosys

TIMEOUT = 20  # seconds of the SAT solver for one mutant; what takes longer counts as not proven

_STATE = re.compile(
    r"(?ms)^(?:  attribute [^\n]*\n)*  cell (\$memrd_v2|\$memwr_v2|\$s?dffc?e?) (\S+)\n(.*?)^  end\n"
    r"|^(?:  attribute [^\n]*\n)*  cell \$meminit_v2 \S+\n.*?^  end\n"
    r"|^(?:  attribute [^\n]*\n)*  memory [^\n]*\n"
)
_WIDTHS = {"ADDR": "ABITS", "DATA": "WIDTH", "D": "WIDTH", "Q": "WIDTH"}


def prove_equivalent(design: str, commands: Sequence[str], folder: Path) -> list[bool]:
    """Say which mutants leave every next state and every output as it is, whatever the present state.

    Parameters
    ----------
    design : str
        RTLIL of the flat module ``top``.
    commands : sequence of str
        yosys's, one a mutant.
    folder : Path
        For files; empty.

    Notes
    -----
    Registers and memories are cut open: what they hold becomes an input, what they take an output. Stricter than
    equivalence of the whole machine, so a proof is a proof, and the lack of one says nothing.
    """
    if not commands:
        return []
    (folder / "flat.il").write_text(design)
    lines = ["read_rtlil flat.il"]
    for k, command in enumerate(commands):
        alone = re.sub(r"-ctrl \S+ \S+ \S+ ", "", command).replace("-module top", f"-module gate_{k}")
        lines += [f"copy top gate_{k}", alone]
    run_yosys("\n".join([*lines, "write_rtlil all.il", ""]), folder)

    modules = re.split(r"(?m)^(?=(?:attribute [^\n]*\n)*module )", (folder / "all.il").read_text())
    numbers: dict[tuple[str, str], int] = {}
    (folder / "cut.il").write_text("".join(_cut(module, numbers) for module in modules))
    lines = ["read_rtlil cut.il", "design -save all"]
    for k in range(len(commands)):
        lines += [
            "design -load all",
            f"miter -equiv -flatten top gate_{k} miter",
            "hierarchy -top miter",
            "opt -full",
            f"tee -o sat_{k}.txt sat -timeout {TIMEOUT} -prove trigger 0 miter",
        ]
    run_yosys("\n".join([*lines, ""]), folder)
    return ["SUCCESS!" in (folder / f"sat_{k}.txt").read_text() for k in range(len(commands))]


def _cut(module: str, numbers: dict[tuple[str, str], int]) -> str:
    """Turn registers and memory ports into ports of the module, with the same number in each module."""

    def replace(match: re.Match[str]) -> str:
        kind, cell, body = match[1], match[2], match[3]
        if kind is None:
            return ""
        lines = []
        for port, signal in re.findall(r"(?m)^    connect \\(\S+) (.*)$", body):
            if port == "CLK" or (kind.startswith("$mem") and port.endswith("RST")):
                continue
            name = "WIDTH" if port == "EN" and kind == "$memwr_v2" else _WIDTHS.get(port)
            found = re.search(rf"parameter (?:signed )?\\{name} (\d+)", body) if name else None
            width = int(found[1]) if found else 1
            count = numbers.setdefault((cell, port), 1 + len(numbers))
            if port == "Q" or (kind == "$memrd_v2" and port == "DATA"):
                lines.append(
                    f"  wire width {width} input {1000 + count} \\cut_{count}\n  connect {signal} \\cut_{count}\n"
                )
            else:
                lines.append(
                    f"  wire width {width} output {1000 + count} \\cut_{count}\n  connect \\cut_{count} {signal}\n"
                )
        return "".join(lines)

    return _STATE.sub(replace, module)
