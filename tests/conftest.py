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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # A skip looks green; this must not.
    skips = [report for report in terminalreporter.getreports("skipped") if needed.HINT in str(report.longrepr)]
    places = sorted({report.nodeid.partition("::")[0] for report in skips})
    if places:
        terminalreporter.section("TESTS WERE LEFT OUT", yellow=True, bold=True)
        terminalreporter.line(f"Packages are missing, so not all ran of: {', '.join(places)}. {needed.HINT}.")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if report.failed and "seed" in params:
        report.sections.append(("seed", f"{params['seed']}; again: pytest '{item.nodeid}'"))
    return report
