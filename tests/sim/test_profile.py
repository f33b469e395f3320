from __future__ import annotations

import json

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.cli import main
from dyadprop_sim.profile import choose_format, choose_formats, signals


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


def test_signals_are_those_of_the_float_device():
    net = dp.Network(3, [dp.Dense(4, "tanh"), dp.Dense(2, "sigmoid")], "sigmoid_cross_entropy", input_gradient=True)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (6, 3)), rng.uniform(0, 1, (6, 2))
    found = signals(net, [net.init(0), net.init(1)], x, y)
    names = [(0, "activation"), *((l, n) for l in (1, 2) for n in ("activation", "weight", "sensitivity"))]
    assert [(s.layer, s.name) for s in found] == names
    assert [s.values.size for s in found] == [18, 2 * 24, 2 * 16, 2 * 24, 2 * 12, 2 * 10, 2 * 12]
    with dp.open("float", net) as device:
        outputs = []
        for seed in (0, 1):
            device.load(net.init(seed))
            outputs.append(device.predict(x).outputs)
    np.testing.assert_array_equal(found[4].values, np.concatenate(outputs).ravel())
    np.testing.assert_array_equal(found[6].values, np.concatenate([o - y for o in outputs]).ravel())
    assert found[0].largest == np.abs(x).max()


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
            choose_formats(net, net.init(0), x, y, bits)  # type: ignore[arg-type]


def test_the_verb(tmp_path, capsys):
    saved, figures = tmp_path / "net.toml", tmp_path / "f.json"
    argv = ["profile", "--bits", "6", "--epochs", "2", "--out", str(tmp_path), "--save", str(saved)]
    assert main([*argv, "--json", str(figures)]) == 0
    net = dp.Network.load(saved)
    document = json.loads(figures.read_text())
    assert document["network"] == net.hash
    assert [(row["signal"], row["layer"]) for row in document["signals"]][:2] == [("activation", 0), ("activation", 1)]
    assert len(document["signals"]) == 7
    for row in document["signals"]:
        assert row["format"] == str(getattr(net.layer_formats(row["layer"]), row["signal"]))
        assert 0 <= row["clipped"] < 0.05
        assert row["most"] <= row["largest"]
    assert (tmp_path / "ranges.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert out.count("become zero") >= 3
    assert "learning rates on the device, batch 1: " in out


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--bits", "3"], "bits of a word is 3; allowed are whole numbers from 4 to 18"),
        (["--epochs", "0"], "epochs are 0 and batch size is 16; both must be at least 1"),
        (["--learning-rate", "1000"], "the float64 run diverged; try a smaller learning rate than 1000"),
    ],
)
def test_the_verb_refuses(argv, sentence, tmp_path, capsys):
    assert main(["profile", *argv, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"dyadprop: {sentence}\n"
