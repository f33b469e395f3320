from __future__ import annotations

import copy

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.comparison import (
    Comparison,
    Difference,
    compare_parameters,
    compare_results,
    compare_saturations,
    compare_words,
    locate,
)
from dyadprop.results import Saturation
from dyadprop_sim.random_networks import random_case

BATCH = 4
NET = dp.Network(3, [dp.Dense(5, "tanh"), dp.Dense(2)], input_gradient=True)
PARAMETERS = 5 * (3 + 1) + 2 * (5 + 1)
COUNTS = 3 * 2 + 2 + 1  # activation and sensitivity of stages 0..2, weights of 1..2, target
RESULT_WORDS = BATCH * 2 + 1 + PARAMETERS + BATCH * 3 + COUNTS


def answer(net: dp.Network = NET, batch: int = BATCH) -> dp.Result:
    rng = np.random.default_rng(5)
    with dp.open("golden", net) as device:
        device.load(net.init(seed=3))
        return device.gradients(rng.uniform(-1, 1, (batch, net.inputs)), rng.uniform(-1, 1, (batch, net.outputs)))


def test_equal_results_are_counted_word_by_word() -> None:
    assert compare_results(NET, answer(), answer()) == Comparison(equal=RESULT_WORDS)


@pytest.mark.parametrize("bit", [0, 13])
def test_each_wrong_word_is_found_with_its_place(bit: int) -> None:
    """Flip one bit of each word of a result in turn."""
    expected = answer()
    assert expected.raw is not None
    assert expected.raw.inputs is not None
    places = [(2, "output", expected.raw.outputs, True), (0, "input gradient", expected.raw.inputs, True)]
    for stage in (1, 2):
        places.append((stage, "weight gradient", expected.raw.gradients[stage - 1].weight, False))
        places.append((stage, "bias gradient", expected.raw.gradients[stage - 1].bias, False))
    found = 0
    for number, (stage, signal, words, by_sample) in enumerate(places):
        for index in np.ndindex(words.shape):
            got = copy.deepcopy(expected)
            assert got.raw is not None
            array = [
                got.raw.outputs,
                got.raw.inputs,
                *(array for g in got.raw.gradients for array in (g.weight, g.bias)),
            ][number]
            assert array is not None
            array[index] ^= 1 << bit
            comparison = compare_results(NET, got, expected)
            sample, rest = (index[0], index[1:]) if by_sample else (None, index)
            assert comparison == Comparison(
                RESULT_WORDS - 1,
                1,
                Difference(stage, signal, sample, rest, int(words[index]) ^ (1 << bit), int(words[index])),
            )
            found += 1
    assert found == RESULT_WORDS - 1 - COUNTS


def test_cost_and_counts_are_words_too() -> None:
    expected = answer()
    assert expected.raw is not None
    assert expected.raw.cost is not None
    got = copy.deepcopy(expected)
    got.raw = expected.raw._replace(cost=expected.raw.cost + 2**70)
    got.stats.saturations = [Saturation(1, "sensitivity", 3)]
    comparison = compare_results(NET, got, expected)
    assert (comparison.equal, comparison.different) == (RESULT_WORDS - 2, 2)
    assert comparison.first == Difference(2, "cost", None, (), expected.raw.cost + 2**70, expected.raw.cost)


def test_first_is_the_earliest_in_the_flow_of_values() -> None:
    expected = answer()
    got = copy.deepcopy(expected)
    assert got.raw is not None
    assert got.raw.inputs is not None
    got.raw.inputs[0, 0] += 1
    order = []
    for array in (got.raw.gradients[0].bias, got.raw.gradients[1].weight, got.raw.outputs):
        first = compare_results(NET, got, expected).first
        assert first is not None
        order.append((first.stage, first.signal))
        array.flat[0] += 1
    assert order == [(0, "input gradient"), (1, "bias gradient"), (2, "weight gradient")]
    comparison = compare_results(NET, got, expected)
    assert comparison.different == 4
    assert comparison.first is not None
    assert comparison.first.signal == "output"


def test_saturation_counts() -> None:
    got = [Saturation(1, "weight", 2), Saturation(2, "activation", 1)]
    expected = [Saturation(1, "weight", 2), Saturation(2, "target", 5)]
    assert compare_saturations(NET, got, expected) == Comparison(
        COUNTS - 2, 2, Difference(2, "saturated activation", None, (), 1, 0)
    )


def test_parameters() -> None:
    expected = NET.quantize(NET.init(seed=1)).parameters
    assert compare_parameters(NET, expected, expected) == Comparison(equal=PARAMETERS)
    got = [dp.Parameters(entry.weight.copy(), entry.bias.copy()) for entry in expected]
    got[1].bias[1] += 2.0**-12
    comparison = compare_parameters(NET, got, expected)
    word = int(expected[1].bias[1] * 2**12)
    assert comparison == Comparison(PARAMETERS - 1, 1, Difference(2, "bias", None, (1,), word + 1, word))
    got[0].weight[0, 0] += 2.0**-14
    with pytest.raises(dp.DyadpropError, match=r"weight of stage 1 holds values that are no words of Q4\.12"):
        compare_parameters(NET, got, expected)


def test_what_cannot_be_compared_is_refused() -> None:
    expected = answer()
    shorter = answer(batch=BATCH - 1)
    with pytest.raises(dp.ShapeError, match=r"output of stage 2 has shape \(3, 2\); golden has \(4, 2\)"):
        compare_results(NET, shorter, expected)
    with dp.open("golden", NET) as device:
        device.load(NET.init(seed=3))
        outputs_only = device.predict(np.zeros((BATCH, 3)))
    with pytest.raises(dp.DyadpropError, match=r"device answered with outputs, gradients of 0 stages, golden with"):
        compare_results(NET, outputs_only, expected)
    assert expected.raw is not None
    other = copy.deepcopy(expected)
    other.raw = expected.raw._replace(
        gradients=[expected.raw.gradients[0], expected.raw.gradients[1]._replace(fraction_bits=20)]
    )
    with pytest.raises(dp.DyadpropError, match=r"gradient of stage 2 has 20 fraction bits; golden has 26"):
        compare_results(NET, other, expected)
    with dp.open("float", NET) as device:
        device.load(NET.init(seed=3))
        real = device.gradients(np.zeros((BATCH, 3)), np.zeros((BATCH, 2)))
    with pytest.raises(dp.DyadpropError, match="a float result has no words"):
        compare_results(NET, real, expected)


def test_comparisons_add_up_and_keep_the_first() -> None:
    total = Comparison()
    total += compare_words(1, "weight", [1, 2, 3], [1, 2, 3])
    total += compare_words(2, "weight", [[1, 2], [3, 4]], [[1, 5], [3, 6]])
    total += compare_words(3, "weight", [7], [8])
    assert (total.words, total.equal, total.different) == (8, 5, 3)
    assert str(total.first) == "weight of stage 2, index 0, 1: device has 2, golden has 5"


@pytest.mark.parametrize("seed", range(8))
def test_every_kind_of_network(seed: int) -> None:
    case = random_case(seed)
    x = case.net.formats.activation.to_floats(case.x)
    with dp.open("golden", case.net) as device:
        device.load([entry.decode() for entry in case.params])
        comparison = compare_results(case.net, device.predict(x), device.predict(x))
    stages = len(case.net.layers)
    assert comparison == Comparison(equal=len(x) * case.net.outputs + 3 * stages + 3)


def test_locate_says_when_only_the_batch_is_wrong() -> None:
    difference = Difference(1, "weight gradient", None, (0, 0), 1, 2)
    with dp.open("golden", NET) as device, dp.open("golden", NET) as golden:
        for one in (device, golden):
            one.load(NET.init(seed=3))
        x, y = np.zeros((3, 3)), np.zeros((3, 2))
        sample, text = locate(difference, device, golden, 3, lambda one, part: one.gradients(x[part], y[part]))
    assert sample is None
    assert text == f"{difference}, over the batch; each of its 3 samples alone is right"


def test_locate_survives_a_device_that_fails() -> None:
    difference = Difference(1, "weight gradient", None, (0, 0), 1, 2)
    with dp.open("golden", NET) as device, dp.open("golden", NET) as golden:
        sample, text = locate(difference, device, golden, 3, lambda one, part: one.predict(np.zeros((1, 3))))
    assert sample is None
    assert text.startswith(f"{difference}, over the batch; asking for each sample alone failed: device 'golden' has no")
