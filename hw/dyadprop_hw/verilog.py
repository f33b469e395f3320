"""Verilog of a network for other people's tools: hierarchy kept, readable names, a table of its ports."""

import re
from collections.abc import Iterator
from enum import EnumMeta
from typing import Any

from amaranth._toolchain.yosys import find_yosys
from amaranth.back import rtlil
from amaranth.hdl import Shape
from amaranth.lib import data, wiring

from dyadprop.errors import RangeError
from dyadprop.plan import Plan
from dyadprop_hw.layouts import Fixed, StageStatus
from dyadprop_hw.network import DyadNetwork, control_data_bits, network_ports

WAIVED = {
    "CASEOVERLAP": "cases select by one bit each, of which one is set",
    "DECLFILENAME": "all modules are in this one file",
    "UNUSEDSIGNAL": "bits of a wave that a block does not look at, and clk and rst of blocks without registers",
    "WIDTHEXPAND": "operands are written at their own width, and extended by Verilog's rules",
    "WIDTHTRUNC": "a vector's negation, `! a`, means a == 0",
}
"""Verilator's warnings that exported Verilog switches off, and why."""

# Of Verilog's keywords those that could ever be a word of ours.
_KEYWORDS = frozenset({
    "and", "begin", "buf", "case", "default", "disable", "edge", "else", "end", "event", "final", "for", "force",
    "initial", "input", "integer", "join", "large", "medium", "not", "or", "output", "real", "reg", "release",
    "repeat", "signed", "small", "strength", "supply", "table", "task", "time", "unsigned", "wait", "while", "wire",
    "xor",
})  # fmt: skip
_PORT_NAME = re.compile(r"\w+_(in|out)(__\w+)?")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


def export_verilog(plan: Plan, name: str = "network", *, flat: bool = False) -> str:
    """Give a network as Verilog that needs nothing else.

    Parameters
    ----------
    plan : Plan
    name : str
        Of the top module; the names of all others start with it.
    flat : bool
        One module.

    Returns
    -------
    str
        The same bits for the same plan, name and versions. Ports are those of `DyadNetwork`, documented in the header.

    Raises
    ------
    RangeError
        If the name is no Verilog identifier.
    """
    if not _IDENTIFIER.fullmatch(name) or name in _KEYWORDS:
        raise RangeError(f"{name!r} cannot name a Verilog module; a letter, then letters, digits and _ can")
    design = _plain_names(_port_names(rtlil.convert(DyadNetwork(plan), name=name, emit_src=False)))
    # Amaranth counts ports from 0, yosys from 1, and puts a port 0 at the end of the list.
    design = re.sub(r"(?m)^(  wire width \d+ (?:input|output) )(\d+)", lambda m: f"{m[1]}{int(m[2]) + 1}", design)
    passes = ["proc", "delete t:$check", *(["flatten -separator _"] if flat else []), "opt_expr", "opt_clean -purge"]
    passes += ["write_verilog -noattr"]
    script = f"read_rtlil <<rtlil\n{design}\nrtlil\nhierarchy -top {name}\n" + "".join(f"{line}\n" for line in passes)
    yosys = find_yosys(lambda version: version >= (0, 40))
    text = str(yosys.run(["-q", "-"], script, ignore_warnings=True))
    # The generator's own line names the machine that it was built on.
    _, _, body = text.partition("*/")
    body = re.sub(r"(?m)^( *reg (?:signed )?(?:\[[^]]*\] )?)(\S+) = ([^;]+);", r"\1\2;\n  initial \2 = \3;", body)
    off = "".join(f"/* verilator lint_off {warning} */\n" for warning in WAIVED)
    return f"{_header(plan, name)}\n{off}{body.rstrip()}\n"


# -- names -----------------------------------------------------------------------------------------------------------


def _port_names(design: str) -> str:
    """Call each module's ports as its component calls them, where the netlist took the name of a wire inside."""
    modules = re.split(r"(?m)^(?=module )", design)
    renamed: dict[str, dict[str, str]] = {}
    # The top module comes first, and its ports are right.
    for k, module in enumerate(modules[2:], start=2):
        own = module.split(maxsplit=2)[1]
        names = renamed[own] = dict(_better_names(module))
        swap = names | {better: port for port, better in names.items()}
        if swap:
            modules[k] = "".join(_swap(line, swap) for line in module.splitlines(keepends=True))
    text = "".join(modules)

    def cell(match: re.Match[str]) -> str:
        names = renamed.get(match[1], {})
        return re.sub(r"(?m)^(    connect )(\S+)", lambda m: m[1] + names.get(m[2], m[2]), match[0])

    return re.sub(r"(?ms)^  cell (\\\S+) \S+\n.*?^  end$", cell, text)


def _swap(line: str, names: dict[str, str]) -> str:
    # The first name of a cell's connection is a port of that cell's module, not of this one.
    head = re.match(r"    connect \S+|", line)
    assert head is not None
    return head[0] + re.sub(r"(?<!\S)\\\S+", lambda name: names.get(name[0], name[0]), line[head.end() :])


def _better_names(module: str) -> Iterator[tuple[str, str]]:
    """Give ``(port, member)`` for the ports of a module that could have the name of a member of its component."""
    ports = {}
    for width, port in re.findall(r"(?m)^  wire width (\d+) (?:input|output) \d+ +(?:signed )?(\\\S+)$", module):
        ports[port] = int(width)
    taken = set(ports)
    for port, width in ports.items():
        if _PORT_NAME.fullmatch(port[1:]):
            continue
        whole = r"(?: \[0\])?" if width == 1 else rf"(?: \[{width - 1}:0\])?"
        aliases = re.findall(rf"(?m)^connect (\\\S+) {re.escape(port)}{whole}$", module)
        members = [alias for alias in aliases if _PORT_NAME.fullmatch(alias[1:]) and alias not in taken]
        if len(members) == 1:
            taken.add(members[0])
            yield port, members[0]


def _plain_names(design: str) -> str:
    """Let no name need Verilog's backslash."""
    names = set(re.findall(r"(?<!\S)\\\S+", design))
    plain = {name for name in names if _IDENTIFIER.fullmatch(name[1:]) and name[1:] not in _KEYWORDS}
    taken = set(plain)
    changed = {}
    for name in sorted(names - plain):
        better = "\\" + re.sub(r"\W+", "_", name[1:]).strip("_")
        while better in taken or better[1:] in _KEYWORDS:
            better += "_"
        taken.add(better)
        changed[name] = better
    return re.sub(r"(?<!\S)\\\S+", lambda match: changed.get(match[0], match[0]), design)


# -- header ----------------------------------------------------------------------------------------------------------


def _header(plan: Plan, name: str) -> str:
    net = plan.net
    lines = [
        f"{name}: {net!r}",
        f"Lanes {'/'.join(map(str, plan.lanes))}; {plan.multipliers} multipliers; {plan.interval} cycles a sample.",
        "Made by `dyadprop convert`; change the network, not this file.",
        "",
        "clk      in   rising edge",
        "rst      in   synchronous, high; hold it for one cycle or more",
        "",
        "Streams. A word moves in each cycle in which NAME__valid and NAME__ready are both high; a word that is",
        "offered stays until it is taken. Fields of NAME__payload; Qm.n is two's complement, n fraction bits:",
        "",
    ]
    rows = []
    for stream, member in network_ports(net, control_data_bits(plan)).items():
        layout = member.signature.members["payload"].shape
        way = "in" if member.flow == wiring.In else "out"
        rows.append((stream, way, layout.size, list(_fields(layout))))
    rows += [(f"status__{k}", "out", StageStatus.size, list(_fields(StageStatus))) for k in range(len(plan.stages))]
    wide = max(len(row[0]) for row in rows)
    for stream, way, size, fields in rows:
        title = f"{stream:{wide}} {way:3} {f'[{size - 1}:0]':7} "
        for position, field in enumerate(fields):
            lines.append((title if position == 0 else " " * len(title)) + field)
    lines += ["", "status__K is no stream: what stage K + 1 is doing, for messages."]
    lines += ["", "Warnings of Verilator that are off:", ""]
    lines += [f"{warning}: {why}" for warning, why in WAIVED.items()]
    return "".join(f"// {line}".rstrip() + "\n" for line in lines)


def _fields(layout: Any) -> Iterator[str]:
    for name, field in data.Layout.cast(layout):
        low, high = field.offset, field.offset + field.width - 1
        bits = f"[{low}]" if low == high else f"[{high}:{low}]"
        shape = field.shape
        if isinstance(shape, Fixed):
            meaning = str(shape.q)
        elif isinstance(shape, EnumMeta):
            members: list[Any] = list(shape)
            meaning = ", ".join(f"{member.value} = {member.name}" for member in members)
        else:
            meaning = "signed" if Shape.cast(shape).signed else "flag" if field.width == 1 else "unsigned"
        yield f"{bits:8} {name}: {meaning}"
