"""torch models in and out."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.exchange.files import read_network
from dyadprop.exchange.torch_models import load_torch
from tests.loops.needed import needed

needed("torch")

import torch  # noqa: E402 - behind the skip
from torch import nn  # noqa: E402 - behind the skip

ACTIVATIONS = {
    "identity": lambda: [],
    "relu": lambda: [nn.ReLU()],
    "leaky_relu": lambda: [nn.LeakyReLU(0.125)],
    "tanh": lambda: [nn.Tanh()],
    "sigmoid": lambda: [nn.Sigmoid()],
}
POSSIBLE = "possible are dense layers in a chain, each with at most one of relu, leaky_relu, tanh, sigmoid behind it"


def outputs(net: dp.Network, params, x) -> np.ndarray:
    with dp.open("float", net) as device:
        device.load(params)
        return device.predict(x).outputs


@pytest.mark.parametrize("seed", range(5))
def test_a_random_chain_computes_the_same(seed):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    widths = rng.integers(1, 9, rng.integers(2, 6)).tolist()
    kinds = rng.choice(list(ACTIVATIONS), len(widths) - 1).tolist()
    layers = []
    for n_in, n_out, kind in zip(widths, widths[1:], kinds, strict=False):
        layers += [nn.Linear(n_in, n_out, bias=bool(rng.integers(2)), dtype=torch.float64), *ACTIVATIONS[kind]()]
    model = nn.Sequential(*layers)
    net, params = dp.from_torch(model)
    assert net.widths == tuple(widths)
    assert [layer.activation for layer in net.layers] == kinds
    x = rng.normal(size=(7, widths[0]))
    expected = model(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(outputs(net, params, x), expected, rtol=1e-12, atol=1e-14)
    back = dp.to_torch(net, params, dtype=torch.float64)
    np.testing.assert_allclose(back(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-12, atol=1e-14)
    again = dp.from_torch(back)
    assert again.net == net
    for mine, other in zip(params, again.params, strict=True):
        np.testing.assert_array_equal(mine.weight, other.weight)
        np.testing.assert_array_equal(mine.bias, other.bias)
    places = [index for index, layer in enumerate(back) if isinstance(layer, nn.Linear)]
    assert list(back.state_dict()) == [f"{index}.{name}" for index in places for name in ("weight", "bias")]


def test_what_changes_nothing_is_left_out_and_layers_may_be_shared():
    act, twice = nn.Tanh(), nn.Linear(4, 4)
    model = nn.Sequential(
        nn.Flatten(), nn.Sequential(nn.Linear(6, 4), act, nn.Identity()), twice, act, nn.Dropout(), twice, act
    )
    net, params = dp.from_torch(model.eval())
    assert net.widths == (6, 4, 4, 4)
    assert [layer.activation for layer in net.layers] == ["tanh"] * 3
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    expected = model(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(outputs(net, params, x.reshape(5, 6)), expected, atol=1e-6)


def test_options_and_a_single_layer():
    formats = dp.Formats(dp.Q(3, 5), dp.Q(2, 6), dp.Q(1, 7))
    net, _ = dp.from_torch(nn.Linear(3, 2), "softmax_cross_entropy", formats=formats, input_gradient=True, max_batch=9)
    assert net == dp.Network(
        3, [dp.Dense(2)], "softmax_cross_entropy", formats=formats, input_gradient=True, max_batch=9
    )


class Own(nn.Linear):
    def forward(self, x):
        return x @ self.weight.T * 2


class OwnChain(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ([nn.Linear(2, 2), nn.GELU()], f"layer '1' (GELU) cannot be mapped; {POSSIBLE}"),
        ([nn.Conv2d(1, 1, 1)], f"layer '0' (Conv2d) cannot be mapped; {POSSIBLE}"),
        ([Own(2, 2)], f"layer '0' (Own) cannot be mapped; {POSSIBLE}"),
        ([nn.Linear(2, 2), OwnChain(nn.Linear(2, 2))], f"layer '1' (OwnChain) cannot be mapped; {POSSIBLE}"),
        ([nn.Sequential(nn.Linear(2, 2)), nn.Linear(3, 1)], "layer '1' (Linear) takes 3 inputs; layer '0.0' (Linear) "
         "before it gives 2"),
        ([nn.Tanh(), nn.Linear(2, 2)], f"layer '0' (Tanh) has no dense layer before it; {POSSIBLE}"),
        ([nn.Linear(2, 2), nn.Tanh(), nn.ReLU()], "layer '2' (ReLU) stands behind another activation of layer '0' "
         f"(Linear); {POSSIBLE}"),
        ([nn.Linear(2, 2), nn.LeakyReLU()], "layer '1' (LeakyReLU) has the slope 0.01 below zero; possible are powers "
         "of two from 2**-15 to 1/2: here 2**-7 = 0.0078125 or 2**-6 = 0.015625"),
        ([nn.Linear(2, 2), nn.LeakyReLU(0.9)], "layer '1' (LeakyReLU) has the slope 0.9 below zero; possible are "
         "powers of two from 2**-15 to 1/2: here 2**-1 = 0.5"),
        ([nn.Linear(2, 2), nn.Softmax(1)], "layer '1' (Softmax) is no activation of a stage; possible is to leave it "
         "out and to take cost='softmax_cross_entropy', whose outputs are logits"),
        ([nn.Linear(2, 2), nn.BatchNorm1d(2)], "layer '1' (BatchNorm1d) is no stage; possible is to fold it into the "
         "Linear before it: torch.nn.utils.fusion.fuse_linear_bn_eval"),
        ([nn.Linear(2, 2), nn.Dropout()], "layer '1' (Dropout) drops units; possible is model.eval(), in which it "
         "changes nothing"),
        ([nn.Flatten(0), nn.Linear(2, 2)], "layer '0' (Flatten) mixes samples, or leaves axes; possible is "
         "nn.Flatten()"),
        ([nn.Linear(2, 2), nn.Flatten()], f"layer '1' (Flatten) stands behind a dense layer; possible is one in front; "
         f"{POSSIBLE}"),
    ],
)  # fmt: skip
def test_what_cannot_be_mapped_is_named(layers, sentence):
    with pytest.raises((dp.RangeError, dp.ShapeError)) as caught:
        dp.from_torch(nn.Sequential(*layers))
    assert str(caught.value) == f"torch model: {sentence}"


def test_nothing_is_no_network():
    with pytest.raises(dp.RangeError, match=r"^torch model holds no dense layer; possible are"):
        dp.from_torch(nn.Sequential())
    bad = nn.Linear(1, 1)
    nn.init.constant_(bad.weight, torch.nan)
    with pytest.raises(dp.RangeError, match="weight of stage 1 is nan"):
        dp.from_torch(bad)


def test_words_are_exact_in_float32():
    net = dp.Network(5, [dp.Dense(4, "sigmoid"), dp.Dense(3, "leaky_relu", slope=0.25)])
    params = net.quantize(net.init(3)).parameters
    model = dp.to_torch(net, params)
    assert model[0].weight.dtype == torch.float32
    for mine, other in zip(params, dp.from_torch(model).params, strict=True):
        np.testing.assert_array_equal(mine.weight, other.weight)
    with pytest.raises(dp.ShapeError, match=r"^1 layers of parameters given; network expects 2$"):
        dp.to_torch(net, params[:1])


def test_a_saved_model_is_read_without_running_its_code(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(), nn.Linear(4, 2), nn.Sigmoid())
    torch.save(model, tmp_path / "m.pt")
    source = read_network(tmp_path / "m.pt", cost="sigmoid_cross_entropy")
    expected = dp.from_torch(copy.deepcopy(model).eval(), "sigmoid_cross_entropy")
    assert source.net == expected.net
    assert source.params is not None
    np.testing.assert_array_equal(source.params[1].weight, expected.params[1].weight)
    torch.save(nn.Sequential(Own(2, 2)), tmp_path / "own.pt")
    torch.save(model.state_dict(), tmp_path / "state.pt")
    (tmp_path / "noise.pt").write_bytes(b"noise")
    for name, sentence in (
        ("own.pt", r"^torch file \S+own.pt cannot be read: .*; possible is torch.save\(model\) of a"),
        ("state.pt", r"^torch file \S+state.pt holds a OrderedDict; expected a whole model"),
        ("noise.pt", r"^torch file \S+noise.pt cannot be read: "),
        ("none.pt", r"^torch file \S+none.pt cannot be read: "),
    ):
        with pytest.raises(dp.RangeError, match=sentence):
            load_torch(str(tmp_path / name))
