"""Packages that only some tests need: a skip with the reason, or a failure where all of them must run."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

required = False  # set by --require-packages
HINT = "make test-all installs everything and skips nothing"


def missing(*packages: str) -> list[str]:
    return [package for package in packages if find_spec(package) is None]


def needed(*packages: str) -> None:
    """Skip the module that calls this where a package is not there."""
    _skip(packages, whole_module=True)


def skip_without(*packages: str) -> None:
    """Skip the test that calls this where a package is not there."""
    _skip(packages, whole_module=False)


def _skip(packages: tuple[str, ...], *, whole_module: bool) -> None:
    absent = missing(*packages)
    if not absent:
        return
    reason = f"needs {', '.join(absent)}, which is not installed: {HINT}"
    if required:
        raise ModuleNotFoundError(reason)
    # Not silent: tests/conftest.py ends the run with a section that names what was left out.
    pytest.skip(reason, allow_module_level=whole_module)
