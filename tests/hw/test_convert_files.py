"""`dyadprop convert` between files: their endings decide."""

from __future__ import annotations

import json

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.cli import main
from tests.loops.needed import skip_without

NET = dp.Network(3, [dp.Dense(4, "tanh", formats=dp.Formats(dp.Q(2, 8))), dp.Dense(2, "sigmoid")])


@pytest.fixture
def toml(tmp_path):
    NET.save(tmp_path / "net.toml")
    return tmp_path / "net.toml"


def test_toml_goes_to_toml_with_the_parameters_beside_it(toml, tmp_path):
    (tmp_path / "out").mkdir()
    assert main(["convert", str(toml), str(tmp_path / "out" / "alone.toml")]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["alone.toml"]
    dp.save_parameters(tmp_path / "net.npz", NET, NET.init(1))
    figures = tmp_path / "figures.json"
    assert main(["convert", str(toml), str(tmp_path / "out" / "copy.toml"), "--json", str(figures)]) == 0
    written = json.loads(figures.read_text())["written"]
    assert len(written) == 2
    assert dp.Network.load(written[0]) == NET
    np.testing.assert_array_equal(dp.load_parameters(written[1], NET)[0].weight, NET.init(1)[0].weight)


def test_parameters_of_another_network_are_not_taken(toml, tmp_path, capsys):
    skip_without("onnx")
    other = dp.Network(3, [dp.Dense(4), dp.Dense(2)])
    dp.save_parameters(tmp_path / "net.npz", other, other.init(1))
    argv = ["convert", str(toml), str(tmp_path / "net.onnx")]
    assert main(argv) == 2
    sentence = f"ONNX file {tmp_path}/net.onnx needs parameters; give --parameters, or put them beside the .toml"
    assert capsys.readouterr().err == f"dyadprop: {sentence}\n"
    assert main([*argv, "--parameters", str(tmp_path / "net.npz")]) != 0
    assert "belongs to network" in capsys.readouterr().err


def test_through_onnx_and_back_to_verilog(toml, tmp_path):
    skip_without("onnx")
    parameters = dp.save_parameters(tmp_path / "start.npz", NET, NET.init(2))
    onnx, back, verilog = tmp_path / "net.onnx", tmp_path / "back.toml", tmp_path / "net.v"
    assert main(["convert", str(toml), str(onnx), "--parameters", str(parameters)]) == 0
    assert main(["convert", str(onnx), str(back), "--cost", "sigmoid_cross_entropy"]) == 0
    net = dp.Network.load(back)
    assert net == dp.Network(3, [dp.Dense(4, "tanh"), dp.Dense(2, "sigmoid")], "sigmoid_cross_entropy")
    (beside,) = [path for path in tmp_path.iterdir() if path.stem == "back" and path != back]
    for mine, other in zip(dp.load_parameters(beside, net), NET.init(2), strict=True):
        np.testing.assert_array_equal(mine.weight, other.weight.astype(np.float32))
    assert main(["convert", str(onnx), str(verilog)]) == 0
    assert "module net(" in verilog.read_text()


@pytest.mark.parametrize(
    ("source", "target", "more", "sentence"),
    [
        ("net.txt", "a.v", [], "network file {0}/net.txt ends in '.txt'; allowed are .toml, .onnx, .keras, .pt, .pth"),
        ("net.toml", "a.txt", [], "output file {0}/a.txt ends in '.txt'; allowed are .v, .toml, .onnx"),
        ("net.toml", "a.v", ["--cost", "squared_error"], "network file {0}/net.toml names its own cost; --cost is for "
         ".onnx, .keras, .pt, .pth"),
        ("net.onnx", "a.v", ["--parameters", "p.npz"], "network file {0}/net.onnx holds its own parameters; a "
         "parameter file goes with a .toml"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("toml")
def test_what_does_not_go_together(source, target, more, sentence, tmp_path, capsys):
    assert main(["convert", str(tmp_path / source), str(tmp_path / target), *more]) == 2
    assert capsys.readouterr().err == f"dyadprop: {sentence.format(tmp_path)}\n"


def test_what_is_said_of_a_layer_reaches_the_user(tmp_path, capsys):
    skip_without("torch")
    import torch
    from torch import nn

    torch.save(nn.Sequential(nn.Linear(2, 2), nn.Softmax(1)), tmp_path / "m.pt")
    assert main(["convert", str(tmp_path / "m.pt"), str(tmp_path / "a.v")]) == 2
    assert capsys.readouterr().err.startswith(
        "dyadprop: torch model: layer '1' (Softmax) is no activation of a stage; po"
    )
