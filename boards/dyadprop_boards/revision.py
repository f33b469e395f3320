"""Which gateware a bitstream was made of."""

import hashlib
from importlib.resources import files
from pathlib import Path

DIGITS = 12

# Modules of the host that decide a design; the gateware is taken whole.
HOST_SOURCES = ("baud", "formats", "network", "operations", "plan", "protocol", "tables", "timing", "widths")


def gateware_revision() -> str:
    """Give `DIGITS` hexadecimal digits that change with the gateware's source."""
    digest = hashlib.sha256()
    host, gateware, boards = (Path(str(files(name))) for name in ("dyadprop", "dyadprop_hw", "dyadprop_boards"))
    paths = [host / f"{name}.py" for name in HOST_SOURCES]
    paths += sorted(gateware.glob("*.py"))
    paths += [boards / name for name in ("clocks.py", "link_clock.py", "top.py")]
    for path in paths:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:DIGITS]
