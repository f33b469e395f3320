"""What a bitstream is told to be made of is all that decides it."""

import ast
from importlib.resources import files
from pathlib import Path

import pytest

from dyadprop_boards.revision import BOARD_SOURCES, FLOW_SOURCES, HOST_SOURCES

DECIDES_NOTHING = {"errors"}
HOST, GATEWARE, BOARDS = (Path(str(files(name))) for name in ("dyadprop", "dyadprop_hw", "dyadprop_boards"))


def imports(path: Path, package: str) -> set[str]:
    """Give the modules of a package that a module imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{package}."):
            found.add(node.module.split(".")[1])
    return found


def test_all_that_the_gateware_imports_is_in_its_revision() -> None:
    sources = [*GATEWARE.glob("*.py"), *(BOARDS / f"{name}.py" for name in BOARD_SOURCES)]
    assert len(sources) > 40
    for path in sources:
        assert imports(path, "dyadprop") - DECIDES_NOTHING <= set(HOST_SOURCES), path


@pytest.mark.parametrize("name", [name for name in FLOW_SOURCES if name.endswith(".py")])
def test_all_that_shares_lanes_out_and_packs_is_in_a_revision(name: str) -> None:
    """What runs the tools and reads their logs decides nothing, nor does what is said."""
    beyond = {"floorplan", "logs", "progress", "refusal", "result", "revision", "steps", "tools"}
    listed = {Path(source).stem for source in FLOW_SOURCES} | set(BOARD_SOURCES)
    assert imports(BOARDS / name, "dyadprop_boards") - beyond <= listed


def test_sources_are_there() -> None:
    missing = [
        path
        for path in (
            *(HOST / f"{name}.py" for name in HOST_SOURCES),
            *(BOARDS / f"{name}.py" for name in BOARD_SOURCES),
            *(BOARDS / name for name in FLOW_SOURCES),
        )
        if not path.is_file()
    ]
    assert not missing
