"""What a device answers: outputs, costs, gradients, counts."""

from collections.abc import Callable

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.conformance.cases import Case
from dyadprop.conformance.judge import Judge
from dyadprop.network import RawParameters
from dyadprop.widths import target_format

Open = Callable[..., dp.Device]
Judging = Callable[[Case], Judge]


def test_gradients_of_batches_around_each_split(case: Case, opening: Open, judging: Judging) -> None:
    device, judge = opening(case), judging(case)
    compared = 0
    for batch in case.batches:
        x, y = case.inputs(batch), case.targets(batch)
        result = device.gradients(x, y)
        compared += judge.gradients(result, x, y)
        assert result.stats.samples == batch
        assert (result.inputs is not None) == case.net.input_gradient
    assert compared >= len(case.batches) * (case.net.outputs + sum(entry.weight.size for entry in case.params))


def test_labels_are_one_hot_targets(case: Case, opening: Open) -> None:
    device = opening(case)
    if case.net.cost == "squared_error":
        with pytest.raises(dp.ShapeError, match=r"^targets y has shape \(3,\); network expects \(batch, "):
            device.gradients(case.inputs(3), case.labels(3))
        return
    # A single output takes the class itself: 0 or 1.
    labels = case.labels(3)
    one_hot = labels[:, None].astype(float) if case.net.outputs == 1 else np.eye(case.net.outputs)[labels]
    one, two = (device.gradients(case.inputs(3), y) for y in (labels, one_hot))
    assert one.cost == two.cost
    _same(one, two)


def test_prediction_gives_the_outputs_and_touches_nothing(case: Case, opening: Open, judging: Judging) -> None:
    device, judge = opening(case), judging(case)
    batch = case.net.max_batch + 1 if case.net.max_batch < 64 else 9
    x, y = case.inputs(batch), case.targets(batch)
    before = device.gradients(x, y)
    answer = device.predict(x)
    assert judge.predict(answer, x) >= batch * case.net.outputs
    np.testing.assert_array_equal(answer.outputs, before.outputs)
    assert answer.gradients == []
    assert answer.cost is None
    assert answer.inputs is None
    _same(device.gradients(x, y), before)


def test_a_call_leaves_nothing_behind(case: Case, opening: Open) -> None:
    device = opening(case)
    x, y = case.inputs(3), case.targets(3)
    first = device.gradients(x, y)
    device.gradients(case.inputs(2), case.targets(2))
    device.vjp(case.inputs(1), case.seeds(1, 0.1))
    device.predict(case.inputs(4))
    _same(device.gradients(x, y), first)


def test_sums_are_those_of_the_samples(case: Case, opening: Open) -> None:
    device = opening(case)
    x, y = case.inputs(5), case.targets(5)
    whole = device.gradients(x, y)
    alone = [device.gradients(x[i : i + 1], y[i : i + 1]) for i in range(5)]
    for l, entry in enumerate(whole.gradients):
        for name in ("weight", "bias"):
            total = np.sum([getattr(one.gradients[l], name) for one in alone], axis=0)
            if whole.raw is not None:  # words: exact
                np.testing.assert_array_equal(getattr(entry, name), total)
            else:
                np.testing.assert_allclose(getattr(entry, name), total, rtol=1e-9, atol=1e-12)


def test_own_seeds(case: Case, opening: Open, judging: Judging) -> None:
    device, judge = opening(case), judging(case)
    form = case.net.layer_formats(len(case.net.layers)).sensitivity
    for batch, size in ((1, 0.1), (3, 1e-6), (case.batches[-1], 1e3)):
        x, dy = case.inputs(batch), case.seeds(batch, size)
        result = device.vjp(x, dy)
        assert judge.vjp(result, x, dy) > 0
        assert result.cost is None
        if case.net.cost != "sigmoid_cross_entropy":  # there it is no dy that becomes words
            assert form.to_ints(dy * result.stats.scale).saturations == 0
            assert form.to_ints(dy * result.stats.scale * 2).saturations > 0
    x, dy = case.inputs(2), case.seeds(2, 0.01)
    for scale in (1, 4.0, 0.5):
        result = device.vjp(x, dy, scale)
        assert result.stats.scale == scale
        assert judge.vjp(result, x, dy, scale) > 0
    nothing = device.vjp(x, np.zeros_like(dy))
    assert nothing.stats.scale == 1.0
    assert not any(entry.weight.any() or entry.bias.any() for entry in nothing.gradients)


def test_parameters_come_back(case: Case, opening: Open) -> None:
    device = opening(case)
    words = device.predict(case.inputs(1)).raw is not None
    wanted = case.net.quantize(case.params).parameters if words else case.params
    _same_parameters(device.parameters(), wanted)
    other = [dp.Parameters(-entry.weight, -entry.bias) for entry in wanted]
    device.load(other)
    _same_parameters(device.parameters(), other)
    # They are the device's own.
    other[0].weight[:] = 1.0
    device.parameters()[0].weight[:] = 1.0
    _same_parameters(device.parameters(), [dp.Parameters(-entry.weight, -entry.bias) for entry in wanted])


def test_what_does_not_fit_is_limited_and_counted(case: Case, opening: Open, judging: Judging) -> None:
    device, judge = opening(case), judging(case)
    net, last = case.net, len(case.net.layers)
    x, y = case.inputs(3), case.targets(3)
    x[1, 0] = 2 * net.formats.activation.max + 1
    x[2, -1] = 3 * net.formats.activation.min
    result = device.gradients(x, y)
    if result.raw is None:
        assert result.stats.saturations == []
        return
    counted = {(entry.stage, entry.signal): entry.count for entry in result.stats.saturations}
    assert counted[0, "activation"] == 2
    if judge.golden is not None:
        judge.gradients(result, x, y)
    if net.cost == "squared_error":
        y = case.targets(2)
        y[0, 0] = 2 * target_format(net).max + 1
        told = {(e.stage, e.signal): e.count for e in device.gradients(case.inputs(2), y).stats.saturations}
        assert told[last, "target"] == 1
    large = [dp.Parameters(entry.weight.copy(), entry.bias.copy()) for entry in case.params]
    large[0].weight[0, 0] = 2 * net.layer_formats(1).weight.max + 1
    assert device.load(large) == [dp.Saturation(1, "weight", 1)]
    _same_parameters(device.parameters(), net.quantize(large).parameters)
    assert device.load(case.params) == []


def test_saturation_warns_or_raises_when_asked_to(first: Case, opening: Open) -> None:
    x, large = first.inputs(2), first.inputs(2)
    large[0, 0] = 2 * first.net.formats.activation.max + 1
    device = opening(first, on_saturation="warn")
    if device.predict(x).raw is None:
        return
    with pytest.warns(dp.SaturationWarning, match=r"^values were limited to their format: 1 of activation in stage 0"):
        device.predict(large)
    device.close()
    device = opening(first, on_saturation="raise")
    with pytest.raises(dp.SaturationError, match=r"^values were limited to their format: 1 of activation in") as caught:
        device.predict(large)
    assert isinstance(caught.value.result, dp.Result)
    params = [dp.Parameters(100.0 + 1e6 * entry.weight, entry.bias) for entry in first.params]
    before = device.parameters()
    with pytest.raises(dp.SaturationError, match=r"^parameters do not fit their format: .*; nothing was loaded$"):
        device.load(params)
    _same_parameters(device.parameters(), before)
    device.predict(x)


def test_figures_of_a_call(case: Case, opening: Open) -> None:
    device = opening(case)
    batch, last = case.net.max_batch + 1 if case.net.max_batch < 64 else 5, len(case.net.layers)
    result = device.gradients(case.inputs(batch), case.targets(batch))
    stats = result.stats
    parts = -(-batch // case.net.max_batch)
    assert stats.samples == batch
    assert stats.ticks == (0 if result.raw is None else batch + parts * (2 * last - 1))
    assert 0.0 < stats.seconds < 600.0
    assert 0.0 <= stats.device_seconds <= stats.seconds
    assert stats.cycles >= 0
    assert stats.transfer_cycles >= 0
    assert stats.retries >= 0
    assert stats.bytes >= 0
    assert stats.scale == 1.0
    if stats.cycles:  # clocked: a sample takes at least a cycle an input
        assert stats.cycles >= batch


def test_who_answers(case: Case, opening: Open, device_name: str) -> None:
    device = opening(case, load=False)
    info = device.info
    assert info.kind == device_name.partition("?")[0].partition(":")[0] == device.kind
    assert info.network == case.net.hash
    assert info.max_batch == case.net.max_batch
    if info.formats:
        assert info.formats == tuple(case.net.layer_formats(l) for l in range(len(case.net.layers) + 1))
    if info.lanes:
        assert len(info.lanes) == len(case.net.layers)
        assert all(1 <= n <= layer.outputs for n, layer in zip(info.lanes, case.net.layers, strict=True))


def _same(one: dp.Result, two: dp.Result) -> None:
    np.testing.assert_array_equal(one.outputs, two.outputs)
    _same_parameters(one.gradients, two.gradients)
    if one.inputs is not None and two.inputs is not None:
        np.testing.assert_array_equal(one.inputs, two.inputs)
    if one.raw is not None and two.raw is not None:
        a: RawParameters
        for a, b in zip(one.raw.gradients, two.raw.gradients, strict=True):
            np.testing.assert_array_equal(a.weight, b.weight)
            np.testing.assert_array_equal(a.bias, b.bias)


def _same_parameters(one: list[dp.Parameters], two: list[dp.Parameters]) -> None:
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)
        np.testing.assert_array_equal(a.bias, b.bias)
