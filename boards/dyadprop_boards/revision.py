"""Which gateware a bitstream was made of, and what made it."""

import hashlib
from importlib.resources import files
from pathlib import Path

DIGITS = 12

# Modules of the host that decide a design; the gateware is taken whole, and of the boards what is around it.
HOST_SOURCES = (
    *("baud", "costs", "formats", "messages", "network", "operations", "plan", "protocol"),
    *("self_test", "self_test_program", "tables", "timing", "widths"),
)
BOARD_SOURCES = ("board_link", "clocks", "design", "identity", "top")

# Those of the boards that decide what becomes of it: how lanes are shared out, what tools are told, and what is done to
# a netlist between them.
FLOW_SOURCES = (
    *(
        "capacity.py",
        "fpgas.py",
        "lane_choice.py",
        "memories.py",
        "memory_mapping.py",
        "resources.py",
        "resource_coefficients.json",
        "table.py",
    ),
    *(
        "ecp5_adders.py",
        "ecp5_choices.py",
        "ecp5_constants.py",
        "ecp5_layout.py",
        "ecp5_packing.py",
        "ecp5_registers.py",
        "ecp5_resets.py",
    ),
    *("gowin_packing.py", "netlist.py", "passes.py", "pll.py", "platforms.py", "project.py"),
)


def gateware_revision() -> str:
    """Give `DIGITS` hexadecimal digits that change with the gateware's source."""
    host, gateware, boards = (Path(str(files(name))) for name in ("dyadprop", "dyadprop_hw", "dyadprop_boards"))
    paths = [host / f"{name}.py" for name in HOST_SOURCES]
    paths += sorted(gateware.glob("*.py"))
    return _digest([*paths, *(boards / f"{name}.py" for name in BOARD_SOURCES)])


def flow_revision() -> str:
    """Give as many that change with the way from the gateware to a bitstream."""
    return _digest([Path(str(files("dyadprop_boards"))) / name for name in FLOW_SOURCES])


def _digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:DIGITS]
