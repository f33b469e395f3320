"""The golden model against one written unit by unit, against automatic differentiation, and against its own laws."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

from dyadprop.errors import RangeError, ShapeError
from dyadprop.formats import Formats, Q
from dyadprop.network import ACTIVATIONS, COSTS, Dense, Network, RawParameters
from dyadprop.widths import stage_numbers, target_format
from dyadprop_sim import arithmetic, golden, random_networks
from dyadprop_sim.bounds import error_bounds
from dyadprop_sim.random_networks import Case, random_case

SEEDS = range(40)


# -- a second model: one number at a time, in rationals ---------------------------------------------------------------


class Slow:
    """docs/arithmetic.md with Python's own integers and rationals; every saturation counted where it happens."""

    def __init__(self, case: Case, seeds: bool) -> None:
        self.counts: Counter[tuple[int, str]] = Counter()
        self.net = case.net
        net, L = case.net, len(case.net.layers)
        default, last = net.formats, net.layer_formats(L)
        A = [default.activation] + [net.layer_formats(l).activation for l in range(1, L + 1)]
        S = [default.sensitivity] + [net.layer_formats(l).sensitivity for l in range(1, L + 1)]
        n = net.widths
        self.outputs, self.inputs = [], []
        self.G = [[[0] * (n[l - 1] + 1) for _ in range(n[l])] for l in range(1, L + 1)]
        for x0, target in zip(case.x.tolist(), case.targets.tolist(), strict=True):
            x = [[Fraction(v, 2 ** A[0].fraction_bits) for v in x0]]
            for l in range(1, L + 1):
                scale = 2 ** net.layer_formats(l).weight.fraction_bits
                w, b = case.params[l - 1].weight.tolist(), case.params[l - 1].bias.tolist()
                row = []
                for i in range(n[l]):
                    a = sum((Fraction(w[i][j], scale) * x[-1][j] for j in range(n[l - 1])), Fraction(b[i], scale))
                    row.append(self.phi(l, a, A[l]))
                x.append(row)
            self.outputs.append([int(v * 2 ** A[L].fraction_bits) for v in x[L]])
            if seeds:
                lam = [Fraction(v, 2 ** S[L].fraction_bits) for v in target]
            elif net.cost == "softmax_cross_entropy":
                p = arithmetic.softmax(np.array([self.outputs[-1]]), last.activation.fraction_bits)[0].tolist()
                lam = [
                    self.word(Fraction(v - y, 2**14), S[L], (L, "sensitivity")) for v, y in zip(p, target, strict=True)
                ]
            else:
                lam = [
                    self.word(v - Fraction(y, 2 ** A[L].fraction_bits), S[L], (L, "sensitivity"))
                    for v, y in zip(x[L], target, strict=True)
                ]
            for l in range(L, 0, -1):
                delta = [self.delta(l, s, v, S[l], A[l]) for s, v in zip(lam, x[l], strict=True)]
                unit = 2 ** (S[l].fraction_bits + A[l - 1].fraction_bits)
                for i in range(n[l]):
                    for j, v in enumerate([*x[l - 1], Fraction(1)]):
                        product = delta[i] * v * unit
                        assert product.denominator == 1
                        self.G[l - 1][i][j] += int(product)
                if l > 1 or net.input_gradient:
                    scale = 2 ** net.layer_formats(l).weight.fraction_bits
                    w = case.params[l - 1].weight.tolist()
                    lam = [
                        self.word(
                            sum((Fraction(w[i][j], scale) * delta[i] for i in range(n[l])), Fraction(0)),
                            S[l - 1],
                            (l - 1, "sensitivity"),
                        )
                        for j in range(n[l - 1])
                    ]
            self.inputs.append([int(v * 2 ** S[0].fraction_bits) for v in lam] if net.input_gradient else None)

    def word(self, value: Fraction, form: Q, key: tuple[int, str] | None) -> Fraction:
        rounded = round(value * 2**form.fraction_bits)
        limited = min(max(rounded, form.min_int), form.max_int)
        if key is not None:
            self.counts[key] += rounded != limited
        return Fraction(limited, 2**form.fraction_bits)

    def phi(self, l: int, a: Fraction, form: Q) -> Fraction:
        layer = self.net.layers[l - 1]
        if layer.activation in ("tanh", "sigmoid"):
            f = form.fraction_bits
            # Beyond +-64 every table has ended; int64 ends later.
            z = min(max(round(a * 2**f), -(64 << f)), 64 << f)
            return Fraction(int(arithmetic.look_up(np.array([z]), f, layer.activation, f)[0]), 2**f)
        if a < 0:
            slopes = {"identity": Fraction(1), "relu": Fraction(0), "leaky_relu": Fraction(layer.slope)}
            a *= slopes[layer.activation]
        return self.word(a, form, (l, "activation"))

    def delta(self, l: int, lam: Fraction, x: Fraction, S: Q, A: Q) -> Fraction:
        layer = self.net.layers[l - 1]
        if l == len(self.net.layers) and self.net.cost != "squared_error":
            return lam
        match layer.activation:
            case "identity":
                return lam
            case "relu":
                return lam if x > 0 else Fraction(0)
            case "leaky_relu":
                return lam if x > 0 else self.word(lam * Fraction(layer.slope), S, None)
        p = min(2 * A.fraction_bits, max(14, S.width - 2))
        s = self.word(1 - x * x if layer.activation == "tanh" else x - x * x, Q(2, p), None)
        return self.word(s * lam, S, None)


def with_seeds(case: Case, seed: int) -> Case:
    form = case.net.layer_formats(len(case.net.layers)).sensitivity
    rng = np.random.default_rng(seed)
    return case._replace(targets=rng.integers(form.min_int, form.max_int, case.targets.shape, endpoint=True))


@pytest.mark.parametrize("seeds", [False, True], ids=["targets", "seeds"])
@pytest.mark.parametrize("kind", random_networks.KINDS)
@pytest.mark.parametrize("seed", range(15))
def test_every_bit_and_count_equals_the_unit_by_unit_model(seed, kind, seeds):
    case = random_case(seed, kind=kind, max_width=7, batch=1 + seed % 4)
    if seeds:
        case = with_seeds(case, seed)
    trace = golden.textbook(case.net, case.params, case.x, case.targets, seeds=seeds)
    slow = Slow(case, seeds)
    compared = 0
    assert trace.outputs.tolist() == slow.outputs
    for got, expected in zip(trace.gradients, slow.G, strict=True):
        assert np.column_stack([got.weight, got.bias]).tolist() == expected
        compared += got.weight.size + got.bias.size
    if case.net.input_gradient:
        assert trace.inputs is not None
        assert trace.inputs.tolist() == slow.inputs
    else:
        assert trace.inputs is None
    assert trace.saturations == slow.counts
    assert compared == sum(p.weight.size + p.bias.size for p in case.params)


# -- real-number backpropagation by somebody else's automatic differentiation -----------------------------------------


def activations(net: Network, params, x):
    """Give ``x_0 .. x_L``, and the last pre-activation."""
    result, a = [x], None
    for layer, (w, b) in zip(net.layers, params, strict=True):
        a = anp.dot(result[-1], w.T) + b
        match layer.activation:
            case "identity":
                x = a
            case "relu":
                x = anp.where(a > 0, a, 0.0)
            case "leaky_relu":
                x = anp.where(a > 0, a, layer.slope * a)
            case "tanh":
                x = anp.tanh(a)
            case "sigmoid":
                x = 1 / (1 + anp.exp(-a))
        result.append(x)
    return [*result, a]


def autograd_cost(net: Network, params, x, y):
    *_, x, a = activations(net, params, x)
    if net.cost == "squared_error":
        return 0.5 * anp.sum((x - y) ** 2)
    if net.cost == "sigmoid_cross_entropy":
        # From the pre-activation: the derivative y - sigmoid then holds for targets beyond [0, 1] too.
        return anp.sum(anp.logaddexp(0.0, a) - y * a)
    top = anp.max(a, axis=1, keepdims=True)
    # sum(y) = 1 in the data; a constant 1 keeps the derivative softmax - y for targets that were rounded.
    return anp.sum(anp.log(anp.sum(anp.exp(a - top), axis=1)) + top[:, 0]) - anp.sum(y * a)


@pytest.mark.parametrize("block", range(10))
def test_outputs_and_gradients_lie_within_the_derived_bounds_of_autograd(block):
    networks = entries = unsure = units = 0
    tightest = 0.0
    for seed in range(block * 25, block * 25 + 25):
        case = random_case(seed, kind="realistic")
        net = case.net
        model = golden.Model(net, case.params)
        trace = model.textbook(case.x, case.targets)
        if trace.saturations:
            continue
        bounds = error_bounds(model, trace)
        params = [tuple(p.decode()) for p in case.params]
        x = net.formats.activation.to_floats(case.x)
        y = target_format(net).to_floats(case.targets)
        cost = autograd.grad(lambda p, v, net=net, y=y: autograd_cost(net, p, v, y), (0, 1))
        expected, expected_inputs = cost(params, x)
        pairs = [
            (got, want, bound)
            for raw, layer, layer_bound in zip(trace.gradients, expected, bounds.gradients, strict=True)
            for got, want, bound in zip(raw.decode(), layer, layer_bound, strict=True)
        ]
        if trace.inputs is not None:
            inputs = net.formats.sensitivity.to_floats(trace.inputs)
            pairs.append((inputs, expected_inputs, bounds.sensitivities[0]))
        for l, real in enumerate(activations(net, params, x)[:-1]):
            got = net.layer_formats(l).activation.to_floats(trace.activations[l])
            pairs.append((got, real, bounds.activations[l]))
        for got, want, bound in pairs:
            assert got.shape == want.shape == bound.shape
            # float64 rounds too: far below the smallest lsb here.
            slack = 1e-11 * max(1.0, float(np.abs(want).max()))
            error = np.abs(got - want)
            assert (error <= bound + slack).all(), f"seed {seed}: {error.max()} against {bound.max()}"
            tightest = max(tightest, float((error[bound > 1e-9] / bound[bound > 1e-9]).max(initial=0.0)))
            entries += got.size
        networks += 1
        unsure += bounds.unsure
        units += sum(v.size for v in trace.activations.values())
    assert networks >= 20
    assert entries > 5000
    assert unsure < 0.1 * units
    assert tightest > 0.2  # a bound that nothing comes near would bound nothing


def test_bounds_refuse_a_saturated_trace():
    case = next(c for c in (random_case(s, kind="extremes") for s in range(50)) if c.net.cost == "squared_error")
    model = golden.Model(case.net, case.params)
    trace = model.textbook(case.x, case.targets)
    assert trace.saturations
    with pytest.raises(ValueError, match=r"values were limited to their format: \{.*\}; no error is bounded"):
        error_bounds(model, trace)


# -- its own laws -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_forward_only_is_the_first_half(seed):
    case = random_case(seed)
    whole = golden.textbook(case.net, case.params, case.x, case.targets)
    half = golden.predict(case.net, case.params, case.x)
    assert list(half.activations) == list(whole.activations) == list(range(len(case.net.layers) + 1))
    for l, words in half.activations.items():
        np.testing.assert_array_equal(words, whole.activations[l])
    assert half.sensitivities == {}
    assert half.gradients == []
    assert half.saturations == {k: v for k, v in whole.saturations.items() if k[1] == "activation"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_batch_is_the_sum_of_its_samples(seed):
    case = random_case(seed, batch=7)
    whole = golden.textbook(case.net, case.params, case.x, case.targets)
    parts = [
        golden.textbook(case.net, case.params, case.x[i : i + 1], case.targets[i : i + 1]) for i in range(len(case.x))
    ]
    assert len(parts) == 7
    np.testing.assert_array_equal(whole.outputs, np.concatenate([p.outputs for p in parts]))
    for l, g in enumerate(whole.gradients):
        np.testing.assert_array_equal(g.weight, sum(p.gradients[l].weight for p in parts))
        np.testing.assert_array_equal(g.bias, sum(p.gradients[l].bias for p in parts))
    assert whole.saturations == sum((p.saturations for p in parts), Counter())


@pytest.mark.parametrize("seed", SEEDS)
def test_every_value_is_a_word_of_its_format_and_its_arguments_stay(seed):
    case = random_case(seed)
    before = [p.weight.copy() for p in case.params], case.x.copy(), case.targets.copy()
    trace = golden.textbook(case.net, case.params, case.x, case.targets)
    compared = 0
    for group, name in (
        (trace.activations, "activation"),
        (trace.sensitivities, "sensitivity"),
        (trace.deltas, "sensitivity"),
    ):
        for l, words in group.items():
            form = getattr(case.net.layer_formats(l), name)
            assert words.dtype == np.int64
            assert words.shape == (len(case.x), case.net.widths[l])
            assert form.min_int <= words.min()
            assert words.max() <= form.max_int
            compared += 1
    L = len(case.net.layers)
    assert compared == (L + 1) + L + case.net.input_gradient + L
    for stage, g in zip(stage_numbers(case.net), trace.gradients, strict=True):
        limit = 1 << (stage.gradient_bits - 1)
        assert -limit <= min(g.weight.min(), g.bias.min())
        assert max(g.weight.max(), g.bias.max()) < limit
        assert np.abs(trace.deltas[stage.index]).sum() <= np.abs(trace.sensitivities[stage.index]).sum()
    for kept, entry in zip(before[0], case.params, strict=True):
        np.testing.assert_array_equal(kept, entry.weight)
    np.testing.assert_array_equal(before[1], case.x)
    np.testing.assert_array_equal(before[2], case.targets)


def test_worst_case_data_fills_the_gradient_accumulators():
    net = Network(2, [Dense(1)], formats=Formats(Q(4, 12), Q(4, 12), Q(4, 12)), max_batch=255)
    low = net.formats.activation.min_int
    params = [RawParameters(np.zeros((1, 2), dtype=np.int64), np.zeros(1, dtype=np.int64), 12)]
    x = np.full((255, 2), low, dtype=np.int64)
    seeds = np.full((255, 1), low, dtype=np.int64)
    trace = golden.textbook(net, params, x, seeds, seeds=True)
    assert trace.gradients[0].weight.tolist() == [[255 * 2**30] * 2]
    assert 255 * 2**30 < 1 << (stage_numbers(net)[0].gradient_bits - 1) < 2 * 255 * 2**30


def test_saturations_are_counted_by_stage_and_signal():
    # One unit a layer, so each count can be followed by hand. Q4.4: -8 .. 7.9375.
    form = Q(4, 4)
    net = Network(
        1,
        [Dense(1, "relu"), Dense(1, "identity")],
        formats=Formats(form, form, Q(2, 4)),
        input_gradient=True,
    )
    params = [RawParameters(np.array([[7 * 16]]), np.array([0]), 4)] * 2
    x = np.array([[16], [2 * 16], [-16], [0]])  # x_1 = 7, 14 (limited), 0, 0;   x_2 = 49 and 55 (limited), 0, 0
    targets = np.array([[7 * 16], [0], [0], [3 * 16]])  # lambda_2 = 0.9375, limited, 0, limited at the other end
    trace = golden.textbook(net, params, x, targets)
    assert trace.outputs[:, 0].tolist() == [127, 127, 0, 0]
    assert trace.sensitivities[2][:, 0].tolist() == [15, 31, 0, -32]
    assert trace.sensitivities[1][:, 0].tolist() == [31, 31, 0, -32]  # 7 * lambda_2, limited three times
    assert trace.sensitivities[0][:, 0].tolist() == [31, 31, 0, 0]  # the dead relu cuts the last one
    assert trace.saturations == {
        (1, "activation"): 1,
        (2, "activation"): 2,
        (2, "sensitivity"): 2,
        (1, "sensitivity"): 3,
        (0, "sensitivity"): 2,
    }


def test_a_callers_own_seed_is_not_counted():
    case = random_case(3, kind="extremes")
    L = len(case.net.layers)
    case = with_seeds(case, 0)
    trace = golden.textbook(case.net, case.params, case.x, case.targets, seeds=True)
    np.testing.assert_array_equal(trace.sensitivities[L], case.targets)
    assert (L, "sensitivity") not in trace.saturations


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (lambda c: c._replace(params=c.params[:-1]), ShapeError, "1 layers of parameters given; network expects 2"),
        (lambda c: c._replace(x=c.x[:, :-1]), ShapeError, r"inputs x have shape \(3, 2\); network expects \(3, 3\)"),
        (lambda c: c._replace(x=c.x.astype(np.int32)), RangeError, "inputs x are int32; expected int64 words"),
        (
            lambda c: c._replace(x=c.x + (1 << 20)),
            RangeError,
            "inputs x reach from .*; words of Q4.12 are -32768 to 32767",
        ),
        (
            lambda c: c._replace(targets=c.targets[:1]),
            ShapeError,
            r"targets have shape \(1, 2\); network expects \(3, 2\)",
        ),
        (
            lambda c: c._replace(params=[c.params[0], c.params[1]._replace(weight=c.params[1].weight.T)]),
            ShapeError,
            r"weights of stage 2 have shape \(4, 2\); network expects \(2, 4\)",
        ),
    ],
    ids=["layers", "inputs", "type", "range", "targets", "weights"],
)
def test_what_is_no_word_is_refused(change, error, sentence):
    net = Network(3, [Dense(4, "tanh"), Dense(2)])
    words = np.zeros((3, 3), dtype=np.int64)
    case = change(Case(net, net.quantize(net.init()).raw, words, words[:, :2], "realistic"))
    with pytest.raises(error, match=sentence):
        golden.textbook(case.net, case.params, case.x, case.targets)


# -- the random networks are as various as they claim -----------------------------------------------------------------


def test_random_networks_cover_what_they_should():
    seen: Counter[object] = Counter()
    ties: Counter = Counter()
    sums: Counter = Counter()
    for seed in range(300):
        case = random_case(seed)
        trace = golden.textbook(case.net, case.params, case.x, case.targets)
        seen.update({layer.activation for layer in case.net.layers} | {case.net.cost, case.kind})
        seen.update(
            [("layers", len(case.net.layers)), ("batch", len(case.x)), ("input gradient", case.net.input_gradient)]
        )
        seen["full accumulator"] += case.net.max_batch == len(case.x)
        seen["saturates", case.kind] += bool(trace.saturations)
        seen.update({("counts", signal) for _, signal in trace.saturations})
        for stage, entry in zip(stage_numbers(case.net), case.params, strict=True):
            seen["small weights"] += stage.weight.integer_bits <= 0
            seen["small sensitivities"] += stage.sensitivity.integer_bits <= 0
            seen.update(("width", w) for w in (stage.output.width, stage.weight.width, stage.sensitivity.width))
            acc = arithmetic.accumulate(stage, entry, trace.activations[stage.index - 1])
            shift = stage.accumulator_fraction - stage.output.fraction_bits
            if shift > 0:
                ties[case.kind] += int(np.count_nonzero((acc & ((1 << shift) - 1)) == 1 << (shift - 1)))
                sums[case.kind] += acc.size
    for name in (*ACTIVATIONS, *COSTS, *random_networks.KINDS):
        assert seen[name] >= 20, name
    for layers in range(1, 6):
        assert seen["layers", layers] >= 20, layers
    for batch in random_networks.BATCHES:
        assert seen["batch", batch] >= 20, batch
    for width in range(4, 19):
        assert seen["width", width] >= 10, width
    for key in [
        ("input gradient", True),
        ("input gradient", False),
        "full accumulator",
        "small weights",
        "small sensitivities",
    ]:
        assert seen[key] >= 50, key
    for signal in ("activation", "sensitivity"):
        assert seen["counts", signal] >= 50
    assert seen["saturates", "extremes"] > 0.8 * seen["extremes"]
    assert seen["saturates", "realistic"] < 0.2 * seen["realistic"]
    assert ties["ties"] > 0.1 * sums["ties"]


def test_random_networks_repeat_themselves_exactly():
    for seed in (0, 17):
        one, two = random_case(seed), random_case(seed)
        assert one.net.hash == two.net.hash
        np.testing.assert_array_equal(one.x, two.x)
        np.testing.assert_array_equal(one.targets, two.targets)
    assert random_case(0).net.hash != random_case(1).net.hash
    big = random_case(5, layers=3, max_width=40, batch=9, kind="uniform")
    assert len(big.net.layers) == 3
    assert max(big.net.widths) > 13
    assert big.x.shape[0] == 9


def test_two_runs_give_the_same_bits():
    case = random_case(11)
    one, two = (golden.textbook(case.net, case.params, case.x, case.targets) for _ in range(2))
    assert math.prod(one.outputs.shape) > 0
    for a, b in zip(one.gradients, two.gradients, strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)
