"""Figures that follow from a plan, a clock and a line."""

from __future__ import annotations

import pytest

import dyadprop as dp
from dyadprop.plan import plan_network
from dyadprop_boards.result import line_rates
from dyadprop_boards.speed import Work

NET = dp.Network(64, [dp.Dense(32, "tanh", lanes=32), dp.Dense(10, lanes=10)])


def test_work_of_a_plan() -> None:
    plan = plan_network(NET, 200)
    work = Work.of(plan)
    assert work.interval == 65
    assert work.products == 64 * 32 * 2 + 32 * 10 * 3
    assert work.multipliers == 2 * 32 + 2 + 3 * 10
    assert work.useful == pytest.approx(5056 / (96 * 65))
    # 64 inputs and 10 targets of 2 bytes; 10 outputs behind 4 bytes that say so; a packet of 128 bytes is 141 long.
    assert work.bytes_in == pytest.approx(148 * 141 / 128)
    assert work.bytes_out == pytest.approx(24 * 141 / 128)
    figures = work.at(130e6)
    assert figures["gradients_a_second"] == 2e6
    assert figures["operations_a_second"] == 2 * 5056 * 2e6
    assert figures["gradient_latency"] == plan.gradient_latency / 130e6


def test_the_slower_of_line_and_network_decides() -> None:
    work = Work.of(plan_network(NET, 200))
    line = work.on_line(1_000_000, 130e6)
    assert (line["bound_by"], line["gradients_a_second"]) == ("link", line["samples_a_second"])
    assert line["samples_a_second"] == pytest.approx(1e5 / (148 * 141 / 128))
    quick = work.on_line(1e12, 130e6)
    assert (quick["bound_by"], quick["gradients_a_second"]) == ("compute", 2e6)


def test_sensitivities_of_the_inputs_go_over_the_line_too() -> None:
    both = Work.of(plan_network(dp.Network(64, [dp.Dense(10, lanes=5)], input_gradient=True)))
    one = Work.of(plan_network(dp.Network(64, [dp.Dense(10, lanes=5)])))
    assert both.bytes_out - one.bytes_out == pytest.approx((64 * 2 + 4) * 141 / 128)


def test_rates_of_a_line() -> None:
    assert line_rates(1_000_000, 80e6) == [1_000_000, 3_000_000]
    assert line_rates(1_000_000, 11e6) == [1_000_000], "a bit takes four cycles at least"
    assert line_rates(3_000_000, 80e6) == [3_000_000]
