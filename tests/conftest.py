from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.loops import needed


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-packages", action="store_true", help="a test that needs a package that is not installed fails"
    )
    parser.addoption("--waves", action="store_true", help="write waveforms of the simulations into build/ or tmp_path")


def pytest_configure(config: pytest.Config) -> None:
    needed.required = config.getoption("--require-packages")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if report.failed and "seed" in params:
        report.sections.append(("seed", f"{params['seed']}; again: pytest '{item.nodeid}'"))
    return report
