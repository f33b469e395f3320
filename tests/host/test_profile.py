from __future__ import annotations

import json

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.cli import main
from dyadprop.profile import SIGNALS, Loss, Signal, choose_format, choose_formats, loss, signals
from dyadprop_sim import reference


@pytest.mark.parametrize(
    ("values", "bits", "least", "form"),
    [
        ([0.5, -0.25, 2**-7], 8, -32, dp.Q(1, 7)),  # 0.5 itself is no word of Q0.8
        ([0.5 - 2**-8, -0.5], 8, -32, dp.Q(0, 8)),
        ([100.0, 90.0, -3.0], 8, -32, dp.Q(8, 0)),
        ([3.0, 2.5], 4, -32, dp.Q(3, 1)),
        ([2.0**-20], 6, -32, dp.Q(-14, 20)),  # exact, and with most room
        ([2.0**-20], 6, 1, dp.Q(6, 0)),  # lost in each
        ([0.0, 0.0], 8, -32, dp.Q(8, 0)),  # any would do: the one with most room
        ([1e9, -1e9], 8, -32, dp.Q(8, 0)),
        # One large value among many small ones is given up.
        ([*np.linspace(-0.1, 0.1, 999), 0.3], 4, -32, dp.Q(-2, 6)),
    ],
)
def test_a_format_by_hand(values, bits, least, form):
    assert choose_format(np.array(values), bits, least_integer_bits=least) == form


@pytest.mark.parametrize("seed", range(10))
def test_no_other_format_of_that_width_is_better(seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_t(3, 400) * 2.0 ** rng.uniform(-12, 4)
    bits = int(rng.integers(4, 19))
    chosen = choose_format(values, bits)

    def harm(form: dp.Q) -> float:
        return float(np.sum((form.to_floats(form.to_ints(values).words) - values) ** 2))

    others = [dp.Q(m, bits - m) for m in range(bits - 32, bits + 1)]
    assert harm(chosen) == min(harm(form) for form in others)
    assert chosen.width == bits


@pytest.mark.parametrize("cost", ["squared_error", "sigmoid_cross_entropy", "softmax_cross_entropy"])
@pytest.mark.parametrize("last", ["tanh", "sigmoid", "identity"])
@pytest.mark.parametrize("seed", range(3))
def test_signals_are_those_of_the_reference(cost, last, seed):
    if cost != "squared_error" and last != {"sigmoid": "sigmoid", "softmax": "identity"}[cost.partition("_")[0]]:
        last = "sigmoid" if cost.startswith("sigmoid") else "identity"
    net = dp.Network(
        3, [dp.Dense(4, "tanh"), dp.Dense(5, "leaky_relu"), dp.Dense(2, last)], cost, input_gradient=True, max_batch=4
    )
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-1, 1, (6, 3)), rng.uniform(0, 1, (6, 2))
    snapshots = [net.init(seed), net.init(seed + 1)]
    found = signals(net, snapshots, x, y)
    names = [(0, "activation"), (0, "sensitivity"), *((l, name) for l in (1, 2, 3) for name in SIGNALS)]
    assert [(s.layer, s.name) for s in found] == names
    compared = 0
    for signal in found:
        wanted = []
        for params in snapshots:
            for part in (slice(0, 4), slice(4, 8)):
                trace = reference.textbook(net, params, x[part], y[part])
                match signal.name:
                    case "activation":
                        wanted.append(trace.activations[signal.layer].ravel())
                    case "sensitivity":
                        wanted.append(trace.sensitivities[signal.layer].ravel())
                    case "gradient":
                        wanted.append(np.concatenate([a.ravel() for a in trace.gradients[signal.layer - 1]]))
        if signal.name == "weight":
            wanted = [np.concatenate([a.ravel() for a in params[signal.layer - 1]]) for params in snapshots]
        values = x.ravel() if (signal.layer, signal.name) == (0, "activation") else np.concatenate(wanted)
        np.testing.assert_allclose(signal.values, values, rtol=1e-12, atol=1e-15)
        compared += values.size
    assert compared == 18 + 2 * (18 + 6 * (4 + 5 + 2) * 2 + (16 + 25 + 12) * 3)
    assert found[0].largest == np.abs(x).max()


def test_labels_are_taken_and_the_door_is_shut():
    net = dp.Network(2, [dp.Dense(3)], "softmax_cross_entropy")
    x = np.eye(3)[:, :2]
    one_hot = choose_formats(net, net.init(0), x, np.eye(3), 10)
    assert choose_formats(net, net.init(0), x, np.arange(3), 10) == one_hot
    with pytest.raises(dp.ShapeError, match=r"^inputs x has shape \(3, 3\); network expects \(batch, 2\)$"):
        choose_formats(net, net.init(0), np.eye(3), np.arange(3))
    with pytest.raises(dp.ShapeError, match=r"^no parameters given; formats are chosen from at least one set of them$"):
        choose_formats(net, [], x, np.arange(3))
    with pytest.raises(dp.RangeError, match=r"^inputs x is nan at index"):
        choose_formats(net, net.init(0), x * np.nan, np.arange(3))


def test_a_loss_by_hand():
    formats = dp.Formats(dp.Q(2, 2), dp.Q(2, 2), dp.Q(2, 2))
    net = dp.Network(2, [dp.Dense(1)], formats=formats, max_batch=3)
    found = loss(net, Signal(1, "weight", np.array([0.0, 0.1, 0.5, 3.0])))
    # 0.1 becomes zero, 3.0 the largest word, 1.75
    noise = np.sqrt((0.1**2 + 1.25**2) / (0.1**2 + 0.5**2 + 3.0**2))
    assert found.noise == pytest.approx(noise)
    assert found == Loss("Q2.2", 0.25, 1.75, 0.25, 0.25, found.noise)
    assert str(found) == "25.00% limited, 25% become zero, noise 41%"
    # 4 + 4 - 1 bits for a product, 2 for three of them
    wide = loss(net, Signal(1, "gradient", np.array([0.0625, 15.0])))
    assert wide == Loss("Q5.4", 0.0625, 15.9375, 0.0, 0.0, 0.0)
    assert str(wide) == "fits"


def test_a_network_keeps_everything_but_its_formats():
    net = dp.Network(
        3, [dp.Dense(4, "leaky_relu", slope=0.25, lanes=2), dp.Dense(2)], input_gradient=True, max_batch=17
    )
    x, y = np.ones((2, 3)), np.zeros((2, 2))
    chosen = choose_formats(net, net.init(0), x, y, 10)
    assert chosen.widths == net.widths
    assert (chosen.input_gradient, chosen.max_batch, chosen.cost) == (True, 17, net.cost)
    assert [(layer.activation, layer.slope, layer.lanes) for layer in chosen.layers] == [
        (layer.activation, layer.slope, layer.lanes) for layer in net.layers
    ]
    for l in range(3):
        formats = chosen.layer_formats(l)
        assert {formats.activation.width, formats.weight.width, formats.sensitivity.width} == {10}
    for bits in (3, 19, 8.0):
        with pytest.raises(dp.RangeError, match=f"^bits of a word is {bits}; allowed are whole numbers from 4 to 18$"):
            choose_formats(net, net.init(0), x, y, bits)  # type: ignore[arg-type]  # 8.0 is what it must refuse


def test_the_verb(tmp_path, capsys):
    own, saved, figures = tmp_path / "own.toml", tmp_path / "net.toml", tmp_path / "f.json"
    narrow = dp.Formats(dp.Q(1, 3), dp.Q(1, 3), dp.Q(1, 3))
    start = dp.Network(64, [dp.Dense(8, "tanh"), dp.Dense(10)], formats=narrow, input_gradient=True)
    start.save(own)
    parameters = dp.save_parameters(tmp_path / "start.npz", start, start.init(5))
    argv = ["profile", "--bits", "6", "--epochs", "2", "--out", str(tmp_path), "--save", str(saved)]
    argv += ["--network", str(own), "--load", str(parameters)]
    assert main([*argv, "--json", str(figures)]) == 0
    net = dp.Network.load(saved)
    document = json.loads(figures.read_text())
    assert document["network"] == net.hash
    rows = document["signals"]
    assert [(row["signal"], row["layer"]) for row in rows][:3] == [
        ("activation", 0),
        ("sensitivity", 0),
        ("activation", 1),
    ]
    assert len(rows) == 10
    for row in rows:
        if row["signal"] != "gradient":
            assert row["chosen"]["format"] == str(getattr(net.layer_formats(row["layer"]), row["signal"]))
            assert row["has"]["format"] == "Q1.3"
            assert row["chosen"]["noise"] < row["has"]["noise"]
        assert 0 <= row["chosen"]["limited"] < 0.05
        assert row["most"] <= row["largest"]
    assert (tmp_path / "ranges.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert out.count("become zero") >= 3
    assert "learning rates on the device, batch 1: " in out


def test_no_epochs_profile_the_start_alone(tmp_path, capsys):
    assert main(["profile", "--epochs", "0", "--out", str(tmp_path)]) == 0
    assert "weight 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--bits", "3"], "bits of a word is 3; allowed are whole numbers from 4 to 18"),
        (["--epochs", "-1"], "epochs are -1; they must be at least 0"),
        (["--batch-size", "0"], "batch_size is 0; allowed are whole numbers from 1 to 255"),
        (["--learning-rate", "1000"], "training diverged; try a smaller learning rate than 1000"),
    ],
)
def test_the_verb_refuses(argv, sentence, tmp_path, capsys):
    assert main(["profile", *argv, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"dyadprop: {sentence}\n"
