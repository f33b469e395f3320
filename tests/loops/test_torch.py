"""dyadprop.torch inside the training code that people have."""

from __future__ import annotations

import copy
import gc
import io
import pickle

import numpy as np
import pytest

import dyadprop as dp
from tests.loops.needed import needed

needed("torch")

import torch  # noqa: E402 - behind the skip
from torch import nn  # noqa: E402 - behind the skip
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402 - behind the skip

from dyadprop.torch import Module  # noqa: E402 - behind the skip

NET = dp.Network(3, [dp.Dense(5, "tanh"), dp.Dense(4, "leaky_relu", slope=0.25), dp.Dense(2)], input_gradient=True)
SECOND = r"^a device computes first derivatives only; the gradient of a gradient \(double backward, create_graph=True\)"


def data(seed: int, samples: int = 6, dtype=torch.float64, net: dp.Network = NET):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, net.inputs, dtype=dtype, generator=generator)
    return x, torch.randn(samples, net.outputs, dtype=dtype, generator=generator)


def counted(device: dp.Device) -> list[str]:
    """Note the calls that a device gets from now on."""
    calls: list[str] = []

    def watch(name: str, call):
        def noted(*arguments, **options):
            calls.append(name)
            return call(*arguments, **options)

        return noted

    for name in ("load", "predict", "gradients", "vjp"):
        setattr(device, name, watch(name, getattr(device, name)))
    return calls


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters()]


def assert_close(mine, other, tolerance=1e-12) -> None:
    mine, other = list(mine), list(other)
    assert len(mine) == len(other) > 0
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# -- the same numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(3))
def test_layers_and_losses_before_and_behind(seed, dtype):
    torch.manual_seed(seed)
    mine = nn.Sequential(nn.Linear(7, 3), nn.LayerNorm(3), Module(NET, "float", dtype=torch.float32), nn.Linear(2, 4))
    inner = mine[2]
    other = nn.Sequential(nn.Linear(7, 3), nn.LayerNorm(3), dp.to_torch(NET, inner.parameter_list()), nn.Linear(2, 4))
    mine.to(dtype), other.to(dtype)
    assert list(mine.state_dict()) == list(other.state_dict())
    other.load_state_dict(mine.state_dict())
    x, labels = torch.randn(9, 7, dtype=dtype), torch.randint(0, 4, (9,))
    for model in (mine, other):
        nn.functional.cross_entropy(model(x), labels).backward()
    assert mine(x).dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert_close(gradients(mine), gradients(other), tolerance)
    assert_close([mine(x)], [other(x)], tolerance)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 5, 3)])
def test_axes_in_front_are_kept(shape):
    model = Module(NET, "float", dtype=torch.float64)
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert_close([model(x)], [dp.to_torch(NET, NET.init(0), dtype=torch.float64)(x)])


@pytest.mark.parametrize("cost", dp.network.COSTS)
def test_the_built_in_cost(cost):
    last = {"sigmoid_cross_entropy": "sigmoid"}.get(cost, "identity")
    net = dp.Network(3, [dp.Dense(4, "tanh"), dp.Dense(2, last)], cost, input_gradient=True)
    model = Module(net, "float", dtype=torch.float64)
    other = dp.to_torch(net, net.init(0), dtype=torch.float64)
    x, _ = data(1)
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    one_hot = nn.functional.one_hot(labels, 2).double()
    formula = {
        "squared_error": lambda out: 0.5 * nn.functional.mse_loss(out, one_hot, reduction="sum"),
        "sigmoid_cross_entropy": lambda out: nn.functional.binary_cross_entropy(out, one_hot, reduction="sum"),
        "softmax_cross_entropy": lambda out: nn.functional.cross_entropy(out, labels, reduction="sum"),
    }[cost]
    compared = 0
    for targets in (one_hot, one_hot.float(), *([labels] if cost != "squared_error" else [])):
        for reduction, parts in (("mean", 6), ("sum", 1)):
            a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
            model.zero_grad(), other.zero_grad()
            mine, expected = model.loss(a, targets, reduction), formula(other(b)) / parts
            (3.0 * mine).backward(), (3.0 * expected).backward()
            assert_close([mine.detach(), a.grad, *gradients(model)], [expected.detach(), b.grad, *gradients(other)])
            compared += 1
    assert compared == (4 if cost == "squared_error" else 6)
    with pytest.raises(dp.RangeError, match=r"^reduction is 'none'; allowed are mean, sum$"):
        model.loss(x, one_hot, "none")
    with pytest.raises(dp.RangeError, match=r"^targets y require a gradient; a device gives none"):
        model.loss(x, one_hot.requires_grad_())


@pytest.mark.parametrize("name", ["golden", "verilator"])
def test_words_of_a_device_are_passed_on_unchanged(name):
    net = dp.Network(3, [dp.Dense(4, "tanh"), dp.Dense(2)], input_gradient=True)
    x, y = data(2)
    with dp.open(name, net) as device, dp.open("golden", net) as golden:
        model = Module(net, device, dtype=torch.float64)
        a = x.clone().requires_grad_()
        model.loss(a, y, "sum").backward()
        golden.load(net.init(0))
        expected = golden.gradients(x.numpy(), y.numpy())
        words = [array for entry in expected.gradients for array in entry]
        assert len(words) == 4
        for mine, other in zip([a.grad, *gradients(model)], [expected.inputs, *words], strict=True):
            np.testing.assert_array_equal(mine.numpy(), other)
        model.zero_grad()
        (model(x) * y).sum().backward()
        expected = golden.vjp(x.numpy(), y.numpy())
        for mine, other in zip(gradients(model), [array for e in expected.gradients for array in e], strict=True):
            np.testing.assert_array_equal(mine.numpy(), other)


def test_a_mean_loss_loses_no_bits():
    """Seeds of 2e-6 would all be zero in Q2.14; one power of two for the whole batch keeps them."""
    net = dp.Network(4, [dp.Dense(6, "tanh"), dp.Dense(2)])
    x, y = data(3, 400, net=net)
    model, other = Module(net, "golden", dtype=torch.float64), dp.to_torch(net, net.init(0), dtype=torch.float64)
    for each in (model, other):
        (nn.functional.mse_loss(each(x), y) * 1e-3).backward()
    scale = model.device.stats.scale
    largest = float(np.abs(2e-3 * (model(x) - y).detach().numpy() / 800).max())
    form = net.layer_formats(2).sensitivity
    assert form.max / 2 < largest * scale <= form.max
    assert scale > 2**15
    for mine, expected in zip(gradients(model), gradients(other), strict=True):
        cosine = nn.functional.cosine_similarity(mine.ravel(), expected.ravel(), dim=0)
        assert cosine > 0.99999
    assert [s for s in model.device.stats.saturations if s.signal == "sensitivity"] == []


# -- calls ------------------------------------------------------------------------------------------------------------


def test_calls_and_loads_are_as_few_as_can_be():
    model = Module(NET, "float", dtype=torch.float64)
    calls = counted(model.device)
    x, y = data(4)
    model.loss(x, y).backward()
    model.loss(x, y).backward()
    assert calls == ["load", "gradients", "gradients"]
    calls.clear()
    model(x).sum().backward()
    assert calls == ["predict", "vjp"]
    calls.clear()
    torch.optim.SGD(model.parameters(), 0.1).step()
    model.loss(x, y)
    model.get_parameter("0.weight").data[0, 0] += 1.0  # behind autograd's back: its version stays
    model.loss(x, y)
    model.loss(x, y)
    assert calls == ["load", "gradients", "load", "gradients", "gradients"]


def test_saturation_of_weights_and_signals_is_in_the_stats():
    net = dp.Network(1, [dp.Dense(1)])
    model = Module(net, "golden", params=[dp.Parameters(np.array([[100.0]]), np.zeros(1))])
    model.loss(torch.ones(1, 1), torch.zeros(1, 1))
    assert model.device.stats.saturations == [dp.Saturation(1, "sensitivity", 1), dp.Saturation(1, "weight", 1)]
    with dp.open("golden", net, on_saturation="raise") as strict:
        with pytest.raises(dp.SaturationError, match=r"^parameters do not fit their format: 1 of weight"):
            Module(net, strict, params=model.parameter_list())(torch.ones(1, 1))


# -- the door ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m, x: m(x[:, :2]), r"inputs x have shape \(6, 2\); network expects \(batch, 3\)"),
        (lambda m, x: m(torch.tensor(1.0)), r"inputs x have shape \(\); network expects \(batch, 3\)"),
        (lambda m, x: m(x.float()), "inputs x are torch.float32 and parameters torch.float64; allowed are float32 or"),
        (lambda m, x: m.bfloat16()(x.bfloat16()), "inputs x are torch.bfloat16 and parameters torch.bfloat16; allowed"),
        (lambda m, x: m(x[:0]), r"inputs x has shape \(0, 3\); a batch has at least 1 sample"),
        (lambda m, x: m(x * torch.nan), r"inputs x is nan at index \(0, 0\); every entry must be finite"),
        (lambda m, x: m.loss(x, x), r"targets y has shape \(6, 3\); network expects \(batch, 2\)"),
        (lambda m, x: m.loss(x, x[:2, :2]), "targets y have 2 samples; inputs x have 6"),
    ],
)
def test_the_door(call, sentence):
    model = Module(NET, "float", dtype=torch.float64)
    with pytest.raises((dp.ShapeError, dp.RangeError), match=f"^{sentence}"):
        call(model, data(0)[0])


def test_a_network_without_input_gradient_says_so_where_one_is_needed():
    net = dp.Network(3, [dp.Dense(2)])
    model = Module(net, "float")
    x = torch.ones(2, 3, requires_grad=True)
    sentence = (
        r"^inputs x require a gradient, which this network does not compute; make it with Network\(..., input_grad"
    )
    for call in (
        lambda: model(x),
        lambda: model.loss(x, torch.ones(2, 2)),
        lambda: nn.Sequential(nn.Linear(3, 3), model)(x),
    ):
        with pytest.raises(dp.RangeError, match=sentence):
            call()
    with torch.no_grad():
        model(x)
    model(x.detach()).sum().backward()


def test_a_device_of_another_network_is_refused():
    with dp.open("float", dp.Network(3, [dp.Dense(2)])) as device:
        with pytest.raises(dp.NetworkMismatch, match=r"^device 'float' belongs to network"):
            Module(NET, device)


def test_second_derivatives_are_refused():
    model = Module(NET, "float", dtype=torch.float64)
    x, y = data(5)
    x.requires_grad_()
    for call in (lambda: model(x).sum(), lambda: model.loss(x, y)):
        for leaves in ([x], list(model.parameters())):
            first = torch.autograd.grad(call(), leaves, create_graph=True)  # allowed: nobody has asked for more
            with pytest.raises(dp.DyadpropError, match=SECOND):
                sum((g**2).sum() for g in first).backward()
    with pytest.raises(dp.DyadpropError, match=SECOND):
        torch.autograd.gradgradcheck(model, (x,))


@pytest.mark.parametrize("way", [lambda m: torch.save(m, io.BytesIO()), pickle.dumps])
def test_a_module_is_not_pickled(way):
    with pytest.raises(
        dp.DyadpropError, match=r"^a dyadprop.torch.Module cannot be pickled: it holds a device; save mod"
    ):
        way(nn.Sequential(Module(NET, "float")))


# -- torch's own machinery --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_gradcheck(seed):
    model = Module(NET, "float", params=NET.init(seed), dtype=torch.float64)
    x, y = data(seed)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: model(x), (x, *model.parameters()))
    assert torch.autograd.gradcheck(lambda x, *_: model.loss(x, y), (x, *model.parameters()))


@pytest.mark.parametrize("kind", ["float", "golden"])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # torch's own
def test_opcheck(kind):
    model = Module(NET, kind, dtype=torch.float64)
    x, y = data(6)
    parameters = list(model.parameters())
    loose = [parameter.detach() for parameter in parameters]
    ops = torch.ops.dyadprop
    cases = [
        (ops.apply, (x.clone().requires_grad_(), parameters, model._key)),
        (ops.apply, (x, parameters, model._key)),
        (ops.apply, (x, loose, model._key)),
        (ops.cost, (x.clone().requires_grad_(), y, parameters, model._key)),
        (ops.vjp, (x, y, loose, model._key, True)),
        (ops.vjp, (x, y, loose, model._key, False)),
        (ops.chain, (torch.tensor(2.0, dtype=x.dtype), loose, x, loose)),
    ]
    passed = [torch.library.opcheck(op.default, arguments) for op, arguments in cases]
    assert len(passed) == len(cases)
    assert all(set(found.values()) == {"SUCCESS"} for found in passed)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it traces
def test_compile():
    torch._dynamo.reset()
    model = Module(NET, "float", dtype=torch.float64)
    whole = nn.Sequential(nn.Linear(3, 3, dtype=torch.float64), model, nn.Tanh())
    fast = torch.compile(whole, backend="aot_eager", fullgraph=True)
    fast_loss = torch.compile(model.loss, backend="aot_eager", fullgraph=True)
    for samples in (6, 6, 5):
        x, y = data(7, samples)
        found = []
        for forward in (whole, fast):
            whole.zero_grad()
            ((forward(x) - y) ** 2).mean().backward()
            found.append(gradients(whole))
        assert_close(*found)
        found = []
        for forward in (model.loss, fast_loss):
            model.zero_grad()
            forward(x, y).backward()
            found.append(gradients(model))
        assert_close(*found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own, while it traces
def test_export():
    model = Module(NET, "float", dtype=torch.float64)
    x, _ = data(8)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    assert "dyadprop.apply" in str(program.graph)
    assert_close([program.module()(x), program.module()(x[:3])], [model(x), model(x[:3])])
    del model
    gc.collect()
    with pytest.raises(
        dp.DeviceLost, match=r"^the device of this dyadprop.torch operator is gone; a compiled or exported"
    ):
        program.module()(x)


def test_deepcopy_shares_the_device_and_nothing_else():
    model = Module(NET, "float", dtype=torch.float64)
    model.get_parameter("0.bias").requires_grad_(False)
    twin = copy.deepcopy(nn.Sequential(model).eval())[0]
    assert twin.device is model.device
    assert not twin.training
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in model.parameters()]
    x, y = data(9)
    assert_close([twin(x)], [model(x)], 0)
    torch.optim.SGD(twin.parameters(), 0.1).zero_grad()
    twin.loss(x, y).backward()
    torch.optim.SGD(twin.parameters(), 0.1).step()
    assert not torch.equal(twin(x), model(x))
    assert_close([model(x)], [dp.to_torch(NET, NET.init(0), dtype=torch.float64)(x)])


def test_no_grad_and_inference_mode():
    model = Module(NET, "float")
    x, y = data(10, dtype=torch.float32)
    x.requires_grad_()
    expected = model(x).detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            out = model(x)
            assert not out.requires_grad
            assert_close([out], [expected], 0)
            assert not model.loss(x, y).requires_grad
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert not model(x.detach()).requires_grad


def test_state_dict_goes_both_ways(tmp_path):
    model = Module(NET, "golden", params=NET.init(4))
    plain = dp.to_torch(NET, NET.init(5))
    assert list(model.state_dict()) == list(plain.state_dict()) == [
        "0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"
    ]  # fmt: skip
    torch.save(model.state_dict(), tmp_path / "state.pt")
    plain.load_state_dict(torch.load(tmp_path / "state.pt"))
    x, _ = data(11, dtype=torch.float32)
    before = model(x)
    assert_close([plain(x)], [before.detach()], 1e-2)
    model.load_state_dict(dp.to_torch(NET, NET.init(5)).state_dict())
    assert not torch.allclose(model(x), before)
    model.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert torch.equal(model(x), before)
    net, params = dp.from_torch(model)
    assert net.widths == NET.widths
    assert all(np.array_equal(a.weight, b.weight) for a, b in zip(params, model.parameter_list(), strict=True))


# -- training loops ---------------------------------------------------------------------------------------------------

LEARNING = dp.Network(3, [dp.Dense(8, "tanh"), dp.Dense(2)])
OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
    "adam": lambda p: torch.optim.Adam(p, 0.02),
    "lbfgs": lambda p: torch.optim.LBFGS(p, max_iter=4, line_search_fn="strong_wolfe"),
}


def problem(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(70, 3, generator=generator, dtype=dtype) * 2 - 1
    return x, torch.stack([x[:, 0] * x[:, 1], 0.5 * torch.sin(3 * x[:, 2])], 1)


@pytest.mark.parametrize("built_in", [False, True])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_takes_the_steps_it_takes_elsewhere(name, built_in):
    x, y = problem(torch.float64)
    model = Module(LEARNING, "float", dtype=torch.float64)
    other = dp.to_torch(LEARNING, LEARNING.init(0), dtype=torch.float64)

    def cost(each):
        if built_in and each is model:
            return model.loss(x, y)
        return 0.5 * ((each(x) - y) ** 2).sum(1).mean()

    histories = []
    for each in (model, other):
        optimiser = OPTIMISERS[name](each.parameters())
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 10)
        history = []

        def closure(each=each, optimiser=optimiser):
            optimiser.zero_grad()
            loss = cost(each)
            loss.backward()
            nn.utils.clip_grad_norm_(each.parameters(), 0.05)
            return loss

        for _ in range(6):
            history.append(float(optimiser.step(closure).detach()))
            schedule.step()
        histories.append(history)
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-6)
    assert histories[0][-1] < 0.9 * histories[0][0]
    assert_close(model.parameters(), other.parameters(), 1e-6)


@pytest.mark.parametrize(("start", "workers"), [(None, 0), ("fork", 2), ("spawn", 1)])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")  # threads; JAX
def test_a_data_loader_with_a_short_last_batch(start, workers):
    x, y = problem()
    model = Module(LEARNING, "golden")  # open before the workers start
    loader = DataLoader(
        TensorDataset(x, y), batch_size=32, shuffle=True, num_workers=workers,
        generator=torch.Generator().manual_seed(1), multiprocessing_context=start, persistent_workers=workers > 0,
    )  # fmt: skip
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    sizes, costs = [], []
    for _ in range(12):
        total = 0.0
        for a, b in loader:
            optimiser.zero_grad()
            loss = model.loss(a, b)
            loss.backward()
            optimiser.step()
            total += loss.item() * len(a) / 70
            sizes.append(len(a))
        costs.append(total)
    assert sizes == [32, 32, 6] * 12
    assert costs[-1] < 0.5 * costs[0]
