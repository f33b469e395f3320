"""Fixtures of the conformance suite: the device that is tested, the golden model beside it, and the cases."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import dyadprop as dp
from dyadprop.conformance.cases import FIXED, RANDOM, Case, random_case
from dyadprop.conformance.judge import Judge
from dyadprop.device import DEFAULT_DEVICE, DEVICE_VARIABLE

Open = Callable[..., dp.Device]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for `case` on each network, and what asks for `first` on one."""
    own = metafunc.config.getoption("--network")
    seed = metafunc.config.getoption("--device-seed")
    cases = [Case("own", dp.Network.load(own))] if own else [*FIXED, random_case(seed)]
    if "case" in metafunc.fixturenames:
        metafunc.parametrize(
            "case", cases, ids=[f"{RANDOM}-{seed}" if case.name == RANDOM else case.name for case in cases]
        )


@pytest.fixture(scope="session")
def device_name(pytestconfig: pytest.Config) -> str:
    """Name the device that is tested."""
    return str(pytestconfig.getoption("--device") or os.environ.get(DEVICE_VARIABLE) or DEFAULT_DEVICE)


@pytest.fixture
def first(pytestconfig: pytest.Config) -> Case:
    """Give the case for what does not depend on the network."""
    own = pytestconfig.getoption("--network")
    return Case("own", dp.Network.load(own)) if own else FIXED[0]


@pytest.fixture
def opening(device_name: str) -> Iterator[Open]:
    """Give a function that opens the device for a case and loads its parameters; all are closed behind the test."""
    opened: list[dp.Device] = []

    def open_one(case: Case, *, load: bool = True, **options: Any) -> dp.Device:
        device = dp.open(device_name, case.net, **options)
        opened.append(device)
        if load:
            device.load(case.params)
        return device

    yield open_one
    for device in opened:
        device.close()


@pytest.fixture
def judging(opening: Open) -> Iterator[Callable[[Case], Judge]]:
    """Give a function that makes the judge of a case."""
    opened: list[dp.Device] = []

    def judge(case: Case) -> Judge:
        golden = None
        if "golden" in dp.devices():
            golden = dp.open("golden", case.net)
            opened.append(golden)
            golden.load(case.params)
        return Judge(case.net, case.params, golden)

    yield judge
    for device in opened:
        device.close()
