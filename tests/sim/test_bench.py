"""The verb bench through the command line, on small networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.cli import main
from dyadprop.comparison import Comparison, Difference
from dyadprop_sim import measure
from dyadprop_sim.commands import bench
from dyadprop_sim.commands.bench import StreamCase, plain_gradients


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DYADPROP_DEVICE", raising=False)
    monkeypatch.setattr(bench, "STREAMS", (StreamCase((5, 4, 3), 20, 0.3),))
    monkeypatch.setattr(bench, "SPEED", (5, 4, 3))


def arguments(tmp_path: Path, *more: str) -> list[str]:
    return ["bench", "simulation", "--samples", "20", "--rounds", "1", "--json", str(tmp_path / "bench.json"), *more]


@pytest.mark.usefixtures("small")
def test_the_suite_simulation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path, "--seed", "2")) == 0
    out = capsys.readouterr().out
    document = json.loads((tmp_path / "bench.json").read_text())
    assert document["suite"] == "simulation"
    assert document["seed"] == 2
    assert document["failures"] == []
    assert document["passed"]
    (stream,) = document["streams"]
    for figure in ("interval", "output_latency", "gradient_latency"):
        assert stream[figure] == stream[f"predicted_{figure}"] > 0
        assert f"{stream[figure]:.10g}" in out
    assert stream["cycles_a_gradient"] == stream["cycles"] / 20
    assert sum(stream["shares"].values()) == pytest.approx(1.0)
    assert stream["shares"]["useful"] == stream["busy_share"] > stream["busy_share_with_fill_and_drain"] > 0.0
    assert f"{stream['busy_share']:.1%}" in out
    speed = document["speed"]
    assert set(speed["gradients_per_second"]) == {"verilator", "golden", "numpy"}
    assert min(speed["gradients_per_second"].values()) > 0
    assert 0 <= speed["share_outside_simulation"] < 1
    assert speed["batch"] == 255
    # Streams of 1, 10, 20 and 30 samples, and one batch on the device: outputs, cost, gradients, counts.
    parameters = 4 * 6 + 3 * 5
    counts = 3 * 2 + 2 + 1
    assert document["words"] == 61 * 3 + 4 * parameters + 255 * 3 + 1 + parameters + counts
    assert document["mismatches"] == 0
    assert f"words compared with the golden model: {document['words']:,}, all equal" in out


@pytest.mark.usefixtures("small")
def test_what_is_not_as_it_must_be_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "STREAMS", (StreamCase((5, 4, 3), 20, 0.9),))

    def crooked(*args: Any) -> measure.Streaming:
        got = measure.measure_streaming(*args)
        wrong = Comparison(different=2, first=Difference(2, "output", 3, (1,), 4, 5))
        return replace(got, interval=got.interval + 0.5, gradient_latency=got.gradient_latency - 1, compared=wrong)

    monkeypatch.setattr(bench, "measure_streaming", crooked)
    assert main(arguments(tmp_path)) == 1
    failures = json.loads((tmp_path / "bench.json").read_text())["failures"]
    out = capsys.readouterr().out
    assert len(failures) == 4
    assert "5-4-3: cycles a gradient, steady state: measured" in failures[0]
    assert "last gradient, one sample alone: measured" in failures[1]
    assert "5-4-3: multipliers are busy" in failures[2]
    assert "the goal is 0.9" in failures[2]
    assert failures[3] == (
        "2 words differ from the golden model's; the first: "
        "output of stage 2, sample 3, index 1: device has 4, golden has 5"
    )
    assert all(f"failed: {failure}\n" in out for failure in failures)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--samples", "1"], "number of samples is 1; at least 2 are needed to see a steady state"),
        (["--rounds", "0"], "number of rounds is 0; at least 1 is needed"),
        (["--device", "golden"], "device is 'golden'; bench opens its own devices, so none can be chosen"),
    ],
)
def test_bad_arguments(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    assert capsys.readouterr().err == f"dyadprop: {sentence}\n"


def test_plain_gradients_are_the_float_reference_s() -> None:
    net = StreamCase((5, 7, 6, 3), 90, 0.0).net
    params = net.init(4)
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(9, 5)), rng.normal(size=(9, 3))
    with dp.open("float", net) as device:
        device.load(params)
        expected = device.gradients(x, y).gradients
    got = plain_gradients(params, x, y)
    assert len(got) == 3
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one.weight, other.weight, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(one.bias, other.bias, rtol=1e-12, atol=1e-14)
