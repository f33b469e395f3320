from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dyadprop.cli import main
from dyadprop_sim.commands.verify import EPOCHS, training_runs
from dyadprop_sim.random_networks import random_case
from tests import wrong_devices


@pytest.fixture(autouse=True)
def _devices(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_devices.install(monkeypatch)


def words_of(seed: int) -> int:
    """Words that one network must be compared in, counted from its description."""
    case = random_case(seed)
    net, batch = case.net, len(case.x)
    parameters = sum(n_out * (n_in + 1) for n_in, n_out in zip(net.widths, net.widths[1:], strict=False))
    counts = 3 * len(net.layers) + 3
    outputs = batch * net.outputs
    backward = parameters + (batch * net.inputs if net.input_gradient else 0)
    cost = 1 if net.cost == "squared_error" else 0
    gradients = outputs + cost + backward + counts
    return (
        counts  # load
        + 2 * parameters  # read back before and after
        + 2 * gradients  # twice
        + (outputs + counts)  # predict
        + (outputs + backward + counts)  # vjp
        + sum(
            EPOCHS * (outputs + cost * -(-batch // batch_size))
            + counts  # train
            + 2 * 2 * parameters  # words and residuals, before and after
            + gradients
            for batch_size, _ in training_runs(net, seed)
        )
    )


@pytest.mark.parametrize("seed", [0, 40])
def test_a_right_device(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "verify.json"
    argv = ["verify", "--device", "twin", "--networks", "12", "--seed", str(seed), "--json", str(path)]
    assert main(argv) == 0
    words = sum(words_of(s) for s in range(seed, seed + 12))
    assert json.loads(path.read_text()) == {
        "device": "twin",
        "seed": seed,
        "networks": 12,
        "words": words,
        "mismatches": 0,
        "failures": [],
    }
    assert capsys.readouterr().out == (
        f"twin: {words:,} words of 12 networks compared with the golden model, all equal\n"
    )


def suitable(stages: int) -> int:
    """Find a network with that many stages and a batch in which every sample is another."""
    for seed in range(1000):
        case = random_case(seed)
        if len(case.net.layers) == stages and len(np.unique(case.x, axis=0)) == len(case.x) >= 5:
            return seed
    raise AssertionError("no such network")


@pytest.mark.parametrize("sample", [0, 4])
@pytest.mark.parametrize("signal", ["weight", "bias"])
@pytest.mark.parametrize(("stages", "stage"), [(1, 1), (3, 1), (3, 2), (3, 3)])
def test_a_wrong_bit_is_found(
    stages: int, stage: int, signal: str, sample: int, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = suitable(stages)
    case = random_case(seed)
    name = f"crooked?stage={stage}&signal={signal}&sample={sample}&bit=2"
    assert main(["verify", "--device", name, "--networks", "1", "--seed", str(seed), "--json", "-"]) == 1
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["words"] == words_of(seed)
    # One word each time that the sample takes part: gradients, the seed's gradients, gradients again, behind each run.
    mismatches = 3 + len(training_runs(case.net, seed))
    assert document["mismatches"] == mismatches
    (failure,) = document["failures"]
    n_out, n_in = case.net.widths[stage], case.net.widths[stage - 1]
    index = [n_out - 1, n_in - 1] if signal == "weight" else [n_out - 1]
    assert failure["seed"] == seed
    assert failure["call"] == "gradients"
    assert (failure["stage"], failure["signal"], failure["sample"]) == (stage, f"{signal} gradient", sample)
    assert failure["index"] == index
    assert failure["got"] == failure["expected"] ^ 4
    assert failure["again"] == f"dyadprop verify --device '{name}' --networks 1 --seed {seed}"
    lines = captured.err.splitlines()
    where = f"{signal} gradient of stage {stage}, index {', '.join(str(i) for i in index)}: "
    assert lines[0].startswith(
        f"mismatch in network {seed}: gradients: {where}device has {failure['got']}, golden has {failure['expected']}, "
        f"over the batch; sample {sample} alone, {where}"
    )
    assert lines[1] == f"  again: {failure['again']}"
    assert lines[2] == f"{name}: {mismatches} of {words_of(seed):,} words of 1 network differ, in 1 of the networks"


@pytest.mark.parametrize("wrong", ["weight", "residual"])
def test_a_wrong_bit_of_what_was_learnt_is_found(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    seed = next(s for s in range(100) if len(training_runs(random_case(s).net, s)) == 2)
    (size, rate), *_ = training_runs(random_case(seed).net, seed)
    name = f"drifting?signal={wrong}"
    assert main(["verify", "--device", name, "--networks", "1", "--seed", str(seed), "--json", "-"]) == 1
    (failure,) = json.loads(capsys.readouterr().out)["failures"]
    assert failure["call"] == f"state after train in batches of {size} at {rate.scale}/256 * 2^{-rate.exponent}"
    # The second epoch may have carried a residual's bit into the weight.
    assert failure["stage"] == 1
    assert failure["signal"] in ("weight", "weight residual")


@pytest.mark.parametrize("sample", [0, 3])
def test_a_wrong_output_names_its_sample(sample: int, capsys: pytest.CaptureFixture[str]) -> None:
    seed = suitable(2)
    net = random_case(seed).net
    argv = ["--device", f"forgetful?sample={sample}", "--networks", "1", "--seed", str(seed), "--json", "-"]
    assert main(["verify", *argv]) == 1
    (failure,) = json.loads(capsys.readouterr().out)["failures"]
    assert failure["call"] == "predict"
    assert (failure["stage"], failure["signal"], failure["sample"]) == (2, "output", sample)
    assert failure["index"] == [net.outputs - 1]
    assert failure["got"] == failure["expected"] ^ 1


def test_the_other_networks_are_compared_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Only the first few are printed; the document has them all."""
    assert main(["verify", "--device", "crooked", "--networks", "8", "--json", "-"]) == 1
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert [failure["seed"] for failure in document["failures"]] == list(range(8))
    assert document["words"] == sum(words_of(seed) for seed in range(8))
    assert captured.err.count("mismatch in network") == 5


@pytest.mark.parametrize("networks", ["0", "-3"])
def test_nothing_to_compare_is_an_error(networks: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--device", "golden", "--networks", networks]) == 2
    assert capsys.readouterr().err == f"dyadprop: number of networks is {networks}; at least 1 must be compared\n"


def test_no_word_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("dyadprop_sim.commands.verify._calls", lambda *_: iter(()))
    assert main(["verify", "--device", "golden"]) == 3
    assert capsys.readouterr().err == "dyadprop: no word of device 'golden' was compared, so nothing is verified\n"


def test_float_has_no_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--device", "float", "--seed", "5"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("dyadprop: a float result has no words to compare")
    assert err.endswith("this was network 5; again: dyadprop verify --device float --networks 1 --seed 5\n")


def test_a_device_that_goes_away_names_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--device", "broken", "--seed", "3"]) == 3
    err = capsys.readouterr().err
    assert err.startswith("dyadprop: the cable of device 'broken' is out; this was network 3; again: ")
    assert err.count("\n") == 1


def test_golden_says_what_that_is_worth(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--device", "golden", "--networks", "1"]) == 0
    assert capsys.readouterr().out.startswith("device golden is compared with another copy of itself\n")
