"""Options of the conformance suite; pytest finds them here, and only where the suite is run.

A ``conftest.py`` would do, but pytest reads those of ``--pyargs`` packages after the command line.
"""

from typing import Any

SUITE = "dyadprop.conformance"


def pytest_load_initial_conftests(early_config: Any, parser: Any, args: list[str]) -> None:
    """Add the options, if the suite is what is run."""
    if not any(arg.startswith(SUITE) for arg in args):
        return
    group = parser.getgroup(SUITE, "dyadprop's conformance suite")
    group.addoption("--device", help="device to test, kind[:address][?key=value] (default: $DYADPROP_DEVICE or golden)")
    group.addoption("--network", metavar="NET.TOML", help="the only network that the device can hold")
    group.addoption("--device-seed", type=int, default=0, metavar="N", help="of the random network (default: 0)")
