"""The command line through its own parser; `verify` is tested in tests/sim."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import dyadprop as dp
from dyadprop import cli
from dyadprop.cli import main
from dyadprop.data import digits
from dyadprop.errors import CapacityError, DyadpropError, PackageMissing
from tests import wrong_devices

BATCHES = 45  # of 32, of 1437 samples
PARAMETERS = 32 * 65 + 10 * 33
COUNTS = 3 * 2 + 2 + 1
# Loading, then outputs, cost, gradients and counts of each batch; at the end outputs and counts of the test.
WORDS_OF_AN_EPOCH = BATCHES * (COUNTS + 1 + PARAMETERS + COUNTS) + 1437 * 10 + 360 * 10 + COUNTS


@dataclass
class FakeEntry:
    """What an entry point is to the command line; counts how often it is loaded."""

    name: str
    verb: Any
    loaded: int = 0
    value: str = "some.module"

    def load(self) -> Any:
        self.loaded += 1
        if isinstance(self.verb, Exception):
            raise self.verb
        return self.verb


def verb(run: Any, **attributes: Any) -> SimpleNamespace:
    return SimpleNamespace(
        __doc__="Do something, 100 %.\n\nMore of it.", run=run, add_arguments=lambda parser: None, **attributes
    )


def install(monkeypatch: pytest.MonkeyPatch, *entries: FakeEntry) -> None:
    monkeypatch.setattr(cli, "entry_points", lambda *, group: list(entries))


def failing(error: BaseException) -> Any:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DYADPROP_DEVICE", raising=False)


# -- verbs -----------------------------------------------------------------------------------------


def test_help_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in ("devices", "train", "verify"):
        assert f"    {name} " in out
    assert "List the kinds of device" in out
    assert "Exit codes: 0 ok, 1 mismatch or failed check, 2 usage, 3 device error." in " ".join(out.split())


def test_help_of_a_verb_is_its_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    assert "Train a network on handwritten digits with gradients from a device.\n" in out
    for option in ("--device", "--json", "--seed", "--verbose", "--quiet", "--learning-rate", "--require-accuracy"):
        assert option in out
    assert "(default: $DYADPROP_DEVICE, else verilator)" in " ".join(out.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("dyadprop 0.")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: VERB"),
        (["dance"], "invalid choice: 'dance'"),
        (["devices", "--dance"], "unrecognized arguments: --dance"),
        (["devices", "--seed", "-1"], "'-1' is no whole number from 0 to 2**63 - 1"),
        (["devices", "--seed", "1.5"], "'1.5' is no whole number"),
        (["devices", "--seed", str(2**63)], "is no whole number from 0 to 2**63 - 1"),
        (["devices", "-v", "-q"], "not allowed with argument"),
        (["devices", "--dev", "golden"], "unrecognized arguments: --dev golden"),
        (["train", "--epochs", "0"], "'0' is no whole number from 1"),
        (["train", "--batch-size", "x"], "'x' is no whole number from 1"),
        (["verify", "--networks", "ten"], "invalid int value: 'ten'"),
    ],
)
def test_usage_errors(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_only_the_chosen_verb_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, other = FakeEntry("one", verb(lambda args: 0)), FakeEntry("two", verb(lambda args: 0))
    install(monkeypatch, chosen, other)
    assert main(["one"]) == 0
    assert (chosen.loaded, other.loaded) == (1, 0)


def test_a_broken_verb_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(
        monkeypatch,
        FakeEntry("good", verb(lambda args: 0)),
        FakeEntry("gone", ModuleNotFoundError("No module named 'gone'")),
        FakeEntry("odd", ValueError("two\nlines")),
        FakeEntry("empty", SimpleNamespace(__doc__="Nothing.", run=len)),
    )
    assert main(["good"]) == 0
    assert main(["--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "good Do something, 100 %." in out
    assert "gone not available: verb 'gone' cannot be loaded: No module named 'gone'" in out
    sentences = []
    for name in ("gone", "odd", "empty"):
        assert main([name]) == 3
        sentences.append(capsys.readouterr().err)
    assert sentences == [
        "dyadprop: verb 'gone' cannot be loaded: No module named 'gone'\n",
        "dyadprop: verb 'odd' cannot be loaded: two lines\n",
        "dyadprop: verb 'empty' cannot be used: some.module has no function add_arguments\n",
    ]


def test_the_device_comes_from_option_environment_or_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def run(args: argparse.Namespace) -> int:
        seen.append(args.device)
        return 0

    install(monkeypatch, FakeEntry("own", verb(run, DEFAULT_DEVICE="verilator")), FakeEntry("none", verb(run)))
    for environment in ("", "serial:/dev/ttyUSB0"):
        monkeypatch.setenv("DYADPROP_DEVICE", environment)
        for argv in (["own"], ["own", "--device", "golden"], ["none"]):
            assert main(argv) == 0
    assert seen == ["verilator", "golden", None, "serial:/dev/ttyUSB0", "golden", None]


def test_starting_is_light() -> None:
    """No verb, so nothing heavy: a fresh process says what it has imported."""
    code = (
        "import sys; from dyadprop.cli import main; code = main(['devices', '--help']); "
        "print([m for m in ('amaranth', 'matplotlib', 'sklearn', 'dyadprop.commands.train') if m in sys.modules], code)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.splitlines()[-1] == "[] 0"


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (dp.RangeError("seed is 7"), 2, "seed is 7"),
        (dp.ShapeError("x has\n shape (1,)"), 2, "x has shape (1,)"),
        (dp.FormatError("Q1.99"), 2, "Q1.99"),
        (dp.NetworkMismatch("other hash"), 3, "other hash"),
        (dp.BuildError("g++ failed, see build/log"), 3, "g++ failed, see build/log"),
        (dp.DeviceLost("no cable"), 3, "no cable; `dyadprop devices` lists what can be opened"),
        (dp.DeviceTimeout("no answer"), 3, "no answer; run again with -v to see what it did last"),
        (
            ZeroDivisionError("one by\nzero"),
            3,
            "unexpected ZeroDivisionError: one by zero; run again with -v for the traceback",
        ),
        (ValueError(), 3, "unexpected ValueError: no message; run again with -v for the traceback"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_errors_are_one_sentence(
    error: BaseException, code: int, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, FakeEntry("fail", verb(failing(error))))
    assert main(["fail"]) == code
    captured = capsys.readouterr()
    assert captured.err == f"dyadprop: {sentence}\n"
    assert captured.out == ""


@pytest.mark.parametrize("error", [dp.DeviceLost("no cable"), ZeroDivisionError("one by zero")])
def test_verbose_shows_the_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, FakeEntry("fail", verb(failing(error))))
    assert main(["fail", "-v"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("dyadprop: ")
    assert "run again" not in lines[-1]


def test_notes_belong_to_the_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    error = dp.BuildError("g++ failed")
    error.add_note("this was network 7")
    install(monkeypatch, FakeEntry("fail", verb(failing(error))))
    assert main(["fail"]) == 3
    assert capsys.readouterr().err == "dyadprop: g++ failed; this was network 7\n"


def test_a_reader_that_goes_away() -> None:
    """As `dyadprop devices | head -0` does: no traceback, no complaint of Python at exit."""
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from dyadprop.cli import main; sys.exit(main(['devices']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, "")


# -- devices and JSON ------------------------------------------------------------------------------


@pytest.fixture
def no_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dyadprop.connection.port_names", lambda usb=False: [])


@pytest.mark.usefixtures("no_ports")
def test_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(dp.devices())
    assert any(line.startswith("golden") and "golden model" in line for line in lines)


def test_devices_as_json_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--device", "golden?x=1", "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"devices": {"golden": dp.devices()["golden"]}}
    assert captured.err.startswith("golden ")


@pytest.mark.usefixtures("no_ports")
def test_devices_as_json_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "devices.json"
    assert main(["devices", "--json", str(path)]) == 0
    assert json.loads(path.read_text()) == {"devices": dp.devices(), "boards": []}


def test_device_of_no_known_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--device", "abacus"]) == 2
    assert capsys.readouterr().err.startswith(
        "dyadprop: device 'abacus' is of no known kind; available are chip, float, golden"
    )


def test_json_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["train", "--device", "golden", "--json", str(tmp_path / "file" / "f.json")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("dyadprop: JSON file ")
    assert "cannot be written" in captured.err
    assert captured.out == ""


# -- train -----------------------------------------------------------------------------------------


def test_train_reaches_the_accuracy_of_float(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The default run, on golden; its files hold what it says."""
    assert main(["train", "--device", "golden", "--json", "figures.json"]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    out = tmp_path / "build" / "train"
    assert json.loads((out / "history.json").read_text()) == figures
    assert figures["accuracy"] >= 0.95
    assert abs(figures["accuracy"] - figures["float_accuracy"]) <= 0.01
    assert figures["passed"] is True
    assert figures["words"] == 0
    assert [len(figures[name]) for name in ("history", "float_history")] == [15, 15]
    assert [entry["samples"] for entry in figures["history"]] == [1437] * 15
    assert figures["history"][-1]["cost"] < figures["history"][0]["cost"] / 4
    assert sum(value for key, value in figures["seconds"].items() if key != "total") == pytest.approx(
        figures["seconds"]["total"]
    )

    net = dp.Network.load(out / "net.toml")
    assert net == dp.Network(64, [dp.Dense(32, "tanh"), dp.Dense(10)])
    data = digits()
    with dp.open("golden", net) as device:
        device.load(dp.load_parameters(out / "parameters.npz", net))
        outputs = device.predict(data.test_x).outputs
    assert np.mean(outputs.argmax(axis=1) == data.test_y.argmax(axis=1)) == figures["accuracy"]
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")

    text = capsys.readouterr().out
    assert text.count("epoch ") == 15
    assert "device golden: it is the golden model itself, nothing is compared" in text
    assert f"test accuracy: golden {figures['accuracy']:.4f}, float {figures['float_accuracy']:.4f}" in text


def test_train_compares_each_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong_devices.install(monkeypatch)
    argv = ["train", "--device", "twin", "--epochs", "2", "--require-accuracy", "0", "--json", "-"]
    assert main(argv) == 0
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    assert (figures["words"], figures["mismatches"], figures["first_mismatch"]) == (2 * WORDS_OF_AN_EPOCH, 0, None)
    assert f"words compared: {2 * WORDS_OF_AN_EPOCH:,}, all equal" in captured.err
    assert main([*argv, "--no-compare"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["words"] == 0
    assert "words compared: 0 (nothing is compared, as asked for)" in captured.err


@pytest.mark.parametrize("sample", [0, 5])
@pytest.mark.parametrize(
    ("stage", "signal", "index"),
    [(1, "weight", (31, 63)), (2, "weight", (9, 31)), (1, "bias", (31,)), (2, "bias", (9,))],
)
def test_train_stops_at_a_wrong_word(
    stage: int,
    signal: str,
    index: tuple[int, ...],
    sample: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong_devices.install(monkeypatch)
    name = f"crooked?stage={stage}&signal={signal}&sample={sample}&bit=3"
    assert main(["train", "--device", name, "--json", "figures.json", "--out", "out"]) == 1
    figures = json.loads((tmp_path / "figures.json").read_text())
    first = figures["first_mismatch"]
    assert (first["stage"], first["signal"], first["sample"]) == (stage, f"{signal} gradient", sample)
    assert tuple(first["index"]) == index
    assert abs(first["got"] - first["expected"]) == 8
    assert figures["mismatches"] == 1
    assert figures["words"] == COUNTS + 32 * 10 + 1 + PARAMETERS + COUNTS
    assert figures["passed"] is False
    where = f"{signal} gradient of stage {stage}, index {', '.join(str(i) for i in index)}: "
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(
        f"mismatch: epoch 1, batch 0: {where}device has {first['got']}, golden has {first['expected']}, "
        f"over the batch; sample {sample} alone, {where}device has "
    )
    assert not (tmp_path / "out" / "parameters.npz").exists()


def test_train_stops_at_a_wrong_output_of_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong_devices.install(monkeypatch)
    assert main(["train", "--device", "forgetful?sample=123", "--json", "figures.json"]) == 1
    figures = json.loads((tmp_path / "figures.json").read_text())
    first = figures["first_mismatch"]
    assert (first["stage"], first["signal"], first["sample"], first["index"]) == (2, "output", 123, [9])
    assert first["got"] == first["expected"] ^ 1
    assert (figures["words"], figures["mismatches"]) == (WORDS_OF_AN_EPOCH, 1)
    assert capsys.readouterr().out.splitlines()[-1] == (
        "mismatch: test after epoch 1: output of stage 2, sample 123, index 9: "
        f"device has {first['got']}, golden has {first['expected']}"
    )


# Outputs, a cost a sample, counts of two chunks, words and residuals, and the test's outputs and counts.
WORDS_OF_A_DEVICE_EPOCH = 1437 * 10 + 1437 + 2 * COUNTS + 2 * PARAMETERS + 360 * 10 + COUNTS


def test_train_with_steps_on_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong_devices.install(monkeypatch)
    argv = ["train", "--device", "twin", "--update", "device", "--epochs", "8", "--json", "figures.json"]
    assert main([*argv, "--save", "learnt.npz"]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["words"], figures["mismatches"]) == (8 * WORDS_OF_A_DEVICE_EPOCH, 0)
    assert (figures["update"], figures["batch_size"], figures["learning_rate"], figures["momentum"]) == (
        "device",
        1,
        2**-6,
        0.0,
    )
    assert figures["accuracy"] >= 0.95
    assert abs(figures["accuracy"] - figures["float_accuracy"]) <= 0.01
    assert "checkpoint.npz" in capsys.readouterr().out

    # The same run without the command, from the checkpoint's words to its residuals.
    out = tmp_path / "build" / "train"
    net = dp.Network.load(out / "net.toml")
    data = digits()
    with dp.open("golden", net) as device:
        device.load(net.init(0))
        result = device.train(data.train_x, data.train_y, epochs=8, shuffle=True)
        mine = device.checkpoint()
    checkpoint = dp.load_checkpoint(out / "checkpoint.npz", net)
    assert checkpoint.position == result.position == dp.Position(9, 0)
    assert result.epoch_costs[8] / 1437 == pytest.approx(figures["history"][-1]["cost"], rel=1e-12)
    learnt = dp.load_parameters(tmp_path / "learnt.npz", net)
    compared = 0
    for a, b, c in zip(mine.parameters, checkpoint.parameters, learnt, strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)
        np.testing.assert_array_equal(a.weight, c.weight)
        compared += a.weight.size
    for one, other in zip(mine.residuals, checkpoint.residuals, strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)
        compared += one.weight.size
    assert compared == 2 * (64 * 32 + 32 * 10)


@pytest.mark.parametrize(
    ("wrong", "place"),
    # A wrong weight shows in the outputs of the next chunk, a wrong residual at the epoch's end.
    [("weight", "output of stage 2, sample "), ("residual", "weight residual of stage 1, index 31, 63: ")],
)
def test_train_stops_at_a_wrong_bit_of_what_the_device_learnt(
    wrong: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong_devices.install(monkeypatch)
    argv = ["train", "--device", f"drifting?signal={wrong}", "--update", "device", "--batch-size", "240"]
    assert main([*argv, "--json", "figures.json", "--learning-rate", "0.0001"]) == 1
    figures = json.loads((tmp_path / "figures.json").read_text())
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"mismatch: epoch 1, from batch 4 on: {place}")
    assert figures["first_mismatch"]["text"] == line.removeprefix("mismatch: ")
    assert not (tmp_path / "build" / "train" / "checkpoint.npz").exists()


def test_train_fails_below_the_required_accuracy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--device", "golden", "--epochs", "1", "--quiet", "--require-accuracy", "0.99"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("test accuracy: golden 0.")
    assert lines[-1].startswith("failed: test accuracy is 0.")
    assert lines[-1].endswith("; at least 0.99 is required (--require-accuracy)")
    assert main(["train", "--device", "golden", "--epochs", "1", "--quiet", "--require-accuracy", "0.5"]) == 0


def test_train_fails_far_from_float(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Words of 5 bits learn badly, and float64 does not."""
    coarse = dp.Formats(dp.Q(2, 3), dp.Q(2, 3), dp.Q(2, 3))
    dp.Network(64, [dp.Dense(16, "tanh"), dp.Dense(10)], formats=coarse).save("coarse.toml")
    argv = ["train", "--device", "golden", "--epochs", "3", "--network", "coarse.toml", "--json", "figures.json"]
    assert main(argv) == 0
    capsys.readouterr()
    assert main([*argv, "--require-accuracy", "0.01"]) == 1
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["float_accuracy"] - figures["accuracy"] > 0.01
    assert figures["widths"] == [64, 16, 10]
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"failed: test accuracy is {figures['accuracy']:.4f} and float64's {figures['float_accuracy']:.4f}; "
        "allowed is 0.01 between"
    )


@pytest.mark.parametrize("cost", ["squared_error", "softmax_cross_entropy"])
def test_train_goes_on_from_saved_parameters(cost: str, tmp_path: Path) -> None:
    formats = dp.Formats(activation=dp.Q(6, 10)) if cost == "softmax_cross_entropy" else None
    net = dp.Network(64, [dp.Dense(16, "tanh"), dp.Dense(10, formats=formats)], cost)
    net.save("net.toml")
    costs = []
    for more in ([], ["--load", "p.npz"]):
        argv = ["train", "--device", "golden", "--network", "net.toml", "--epochs", "1", "--json", "figures.json"]
        assert main([*argv, *more, "--save", "p.npz"]) == 0
        costs += [entry["cost"] for entry in json.loads((tmp_path / "figures.json").read_text())["history"]]
    first, second = costs
    assert second < first / 2


def test_train_is_repeatable(tmp_path: Path) -> None:
    def history(seed: int) -> list[tuple[float, float]]:
        argv = ["train", "--device", "golden", "--epochs", "1", "--require-accuracy", "0", "--seed", str(seed), "-q"]
        assert main(argv) == 0
        figures = json.loads((tmp_path / "build" / "train" / "history.json").read_text())
        return [(entry["cost"], entry["test_accuracy"]) for entry in figures["history"]]

    assert history(1) == history(1)
    assert history(1) != history(2)


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--device", "abacus"], 2, "device 'abacus' is of no known kind"),
        (["--device", "golden?speed=9"], 2, "device 'golden' knows no option 'speed'"),
        (["--device", "golden", "--learning-rate", "0"], 2, "learning rate is 0.0; it must be above 0"),
        (["--device", "golden", "--momentum", "1"], 2, "momentum is 1.0"),
        (["--device", "golden", "--update", "device", "--momentum", "0.5"], 2, "momentum is 0.5; with --update device"),
        (["--device", "golden", "--update", "device", "--batch-size", "300"], 2, "batch_size is 300; allowed are"),
        (["--device", "golden", "--update", "device", "--learning-rate", "1e9"], 2, "learning rate 9.98244e+08 with"),
        (["--device", "float", "--learning-rate", "1e9"], 2, "training diverged on device 'float' in epoch 1, batch 0"),
        (["--device", "golden", "--network", "none.toml"], 2, "network file none.toml cannot be read"),
        (
            ["--device", "golden", "--network", "small.toml"],
            2,
            "small.toml has 3 inputs and 2 outputs; digits has 64 and 10",
        ),
        (["--device", "golden", "--load", "none.npz"], 2, "parameter file none.npz cannot be read"),
        (["--device", "golden", "--load", "small.npz"], 3, "parameter file small.npz belongs to network "),
        (["--device", "golden", "--out", "small.toml"], 2, "directory small.toml cannot be made"),
        (["--device", "broken"], 3, "the cable of device 'broken' is out; `dyadprop devices` lists"),
    ],
)
def test_train_errors(
    argv: list[str], code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong_devices.install(monkeypatch)
    small = dp.Network(3, [dp.Dense(2)])
    small.save("small.toml")
    dp.save_parameters("small.npz", small, small.init())
    assert main(["train", *argv]) == code
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("dyadprop: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("sklearn.datasets", "the digits data set needs the package sklearn"),
        ("matplotlib.axes", "the picture of the learning curve needs the package matplotlib"),
    ],
)
def test_missing_packages_are_named(
    missing: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "dyadprop.plots", raising=False)
    assert main(["train", "--device", "golden"]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"dyadprop: {sentence}, which is not installed; try pip install 'dyadprop[demo]'\n"
    assert captured.out == ""


@pytest.mark.parametrize("error", [CapacityError("too small"), PackageMissing("no such package")])
def test_what_another_argument_puts_right_is_usage(error: DyadpropError, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: argparse.Namespace) -> int:
        raise error

    install(monkeypatch, FakeEntry("fail", verb(run)))
    assert main(["fail"]) == 2
