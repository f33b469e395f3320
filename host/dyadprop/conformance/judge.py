"""What is right: the golden model's bits, or float64 and how far from it a device may be.

The bounds are those of first principles: a word is off by half its lsb wherever it is rounded, by two lsb behind a
table; errors go through a layer as the size of its weights and the steepness of its activation let them; and float64's
own rounding is bounded by the same sums with every sign made positive.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import dyadprop as dp
from dyadprop.comparison import Comparison, compare_checkpoints, compare_results, compare_training
from dyadprop.costs import real_cost
from dyadprop.formats import Floats, Ints
from dyadprop.network import Network, Parameters
from dyadprop.widths import stage_numbers, target_format

TABLE = 2.1  # lsb: tanh and sigmoid (docs/arithmetic.md, section 3)
FLOAT = 1e-12  # of the size of all terms: thousands of roundings of 1.1e-16


@dataclass
class Expected:
    """float64's answer, and how far from it a device may be.

    Attributes
    ----------
    outputs, inputs : float64 arrays
    gradients : list of Parameters
    output_bound, input_bound, gradient_bounds
        Largest distance of each.
    """

    outputs: Floats
    inputs: Floats
    gradients: list[Parameters]
    output_bound: Floats
    input_bound: Floats
    gradient_bounds: list[Parameters]


def expected(
    net: Network, params: Sequence[Parameters], x: Floats, y: Floats, *, seeds: bool = False, words: bool = False
) -> Expected:
    """Backpropagate in float64, with bounds.

    Parameters
    ----------
    net : Network
    params : sequence of Parameters
    x : float64 array (batch, n_0)
    y : float64 array (batch, n_L)
        Targets; with ``seeds`` dC/dx_L, or what a last stage with a matching activation takes.
    seeds : bool
    words : bool
        Whether every signal is rounded to its format, else only float64's own errors count. Nothing may saturate.
    """

    def lsb(index: int, signal: str) -> float:
        return float(getattr(net.layer_formats(index), signal).lsb) if words else 0.0

    last, stages = len(net.layers), stage_numbers(net)
    xs, es, slopes, slope_errors = [x], [np.zeros_like(x)], [], []
    for l, (layer, (weight, bias)) in enumerate(zip(net.layers, params, strict=True), start=1):
        a = xs[-1] @ weight.T + bias
        e = es[-1] @ np.abs(weight).T + FLOAT * (np.abs(xs[-1]) @ np.abs(weight).T + np.abs(bias))
        rounding = lsb(l, "activation") / 2
        match layer.activation:
            case "identity":
                out, slope, wrong, steep = a, np.ones_like(a), np.zeros_like(a), 1.0
            case "relu" | "leaky_relu":
                leak = layer.slope if layer.activation == "leaky_relu" else 0.0
                out, slope, steep = np.where(a > 0, a, leak * a), np.where(a > 0, 1.0, leak), 1.0
                # The side is the output's: what is rounded to 0 has left the upper one.
                wrong = np.where(np.abs(a) > e + 2 * rounding, 0.0, 1.0)
            case "tanh":
                out, steep = np.tanh(a), 1.0
                rounding *= 2 * TABLE
                slope = 1.0 - out * out
                wrong = (e + rounding) * (2.0 + e + rounding)
            case _:
                out = np.where(a >= 0, 1.0, np.exp(-np.abs(a))) / (1.0 + np.exp(-np.abs(a)))
                steep = 0.25
                rounding *= 2 * TABLE
                slope = out * (1.0 - out)
                wrong = (e + rounding) * (1.0 + e + rounding)
        xs.append(out)
        es.append(steep * e + rounding + FLOAT * np.abs(out))
        slopes.append(slope)
        rounded = words and layer.activation in ("tanh", "sigmoid")
        slope_errors.append(wrong + (stages[l - 1].slope.lsb / 2 if rounded else 0.0))
    matched = net.cost != "squared_error"
    if seeds:
        s, h = y, np.full_like(y, FLOAT) * np.abs(y)
        s_bound = h + lsb(last, "sensitivity") / 2
    elif net.cost == "softmax_cross_entropy":
        powers = np.exp(xs[-1] - xs[-1].max(axis=1, keepdims=True))
        s = powers / powers.sum(axis=1, keepdims=True) - y
        wide = (2 + net.outputs / 4) * 2.0**-14 if words else 0.0
        s_bound = es[-1].max(axis=1, keepdims=True) / 2 + wide + lsb(last, "sensitivity") / 2 + FLOAT + np.zeros_like(s)
    else:
        s = xs[-1] - y
        s_bound = es[-1] + lsb(last, "sensitivity") / 2 + FLOAT
    gradients: list[Parameters] = []
    bounds: list[Parameters] = []
    for l in range(last, 0, -1):
        weight = params[l - 1].weight
        if l == last and matched:
            d, d_bound = s, s_bound
        else:
            slope, wrong = slopes[l - 1], slope_errors[l - 1]
            d = slope * s
            d_bound = wrong * np.abs(s) + (np.abs(slope) + wrong) * s_bound + lsb(l, "sensitivity") / 2
        d_bound = d_bound + FLOAT * np.abs(d)
        x_size, d_size = np.abs(xs[l - 1]) + es[l - 1], np.abs(d)
        gradients.insert(0, Parameters(d.T @ xs[l - 1], d.sum(axis=0)))
        bounds.insert(
            0,
            Parameters(
                d_size.T @ es[l - 1] + d_bound.T @ x_size + FLOAT * (d_size.T @ x_size),
                d_bound.sum(axis=0) + FLOAT * d_size.sum(axis=0),
            ),
        )
        s = d @ weight
        s_bound = d_bound @ np.abs(weight) + lsb(l - 1, "sensitivity") / 2 + FLOAT * (d_size @ np.abs(weight))
    return Expected(xs[-1], s, gradients, es[-1], s_bound, bounds)


def close(what: str, got: Floats, wanted: Floats, limit: Floats | float) -> int:
    """Fail unless each number is within its bound; give how many there were."""
    assert got.shape == wanted.shape, f"{what} has shape {got.shape}, expected {wanted.shape}"
    bound = np.broadcast_to(limit, got.shape)
    excess = np.abs(got - wanted) - bound
    worst = np.unravel_index(int(np.argmax(excess)), excess.shape)
    assert excess[worst] <= 0, (
        f"{what} at {tuple(int(i) for i in worst)} is {got[worst]}; float64 has {wanted[worst]}, allowed is a distance "
        f"of {bound[worst]:.3g}"
    )
    return int(got.size)


class Judge:
    """Judges a device's answers for one network and its parameters.

    Parameters
    ----------
    net : Network
    params : sequence of Parameters
    golden : Device or None
        With the same parameters; None where it is not installed.
    """

    def __init__(self, net: Network, params: Sequence[Parameters], golden: dp.Device | None) -> None:
        self.net = net
        self.golden = golden
        self._real = list(params)
        self._words = net.quantize(params).parameters

    def gradients(self, result: dp.Result, x: Floats, y: Floats) -> int:
        """Judge `Device.gradients`; give how many numbers were compared."""
        if result.raw is not None and self.golden is not None:
            return _equal(compare_results(self.net, result, self.golden.gradients(x, y)))
        words = result.raw is not None
        compared = self._close(result, x, y, seeds=False)
        cost = real_cost(
            self.net, result.outputs, target_format(self.net).to_floats(_words(self.net, y)) if words else y
        )
        assert result.cost is not None
        assert abs(result.cost - cost) <= FLOAT * (1.0 + abs(cost)), f"cost is {result.cost}, its outputs give {cost}"
        return compared + 1

    def vjp(self, result: dp.Result, x: Floats, dy: Floats, scale: float | str = "auto") -> int:
        """Judge `Device.vjp`."""
        if result.raw is not None and self.golden is not None:
            wanted = self.golden.vjp(x, dy, scale)
            assert result.stats.scale == wanted.stats.scale
            return _equal(compare_results(self.net, result, wanted))
        if self.net.cost == "sigmoid_cross_entropy":
            dy = dy * result.outputs * (1.0 - result.outputs)
        return self._close(result, x, dy, seeds=True)

    def predict(self, result: dp.Result, x: Floats) -> int:
        """Judge `Device.predict`."""
        if result.raw is not None and self.golden is not None:
            return _equal(compare_results(self.net, result, self.golden.predict(x)))
        wanted = self._expected(result, x, np.zeros_like(result.outputs), seeds=True)
        return close("outputs", result.outputs, wanted.outputs, wanted.output_bound)

    def training(
        self, device: dp.Device, result: dp.TrainResult, x: Floats, y: Floats, *, batch_size: int, **options: Any
    ) -> int:
        """Judge a whole `Device.train` from the parameters on, and what the device holds behind it."""
        if result.raw is None:
            return self._real_training(device, result, x, y, batch_size)
        if self.golden is None:
            return 0  # no bound holds over many steps; what the device says about itself is tested elsewhere
        self.golden.load(self._real)
        wanted = self.golden.train(x, y, batch_size=batch_size, **options)
        compared = _equal(compare_training(self.net, result, wanted))
        compared += _equal(compare_checkpoints(self.net, device.checkpoint(), self.golden.checkpoint()))
        self.golden.load(self._real)
        return compared

    def _real_training(self, device: dp.Device, result: dp.TrainResult, x: Floats, y: Floats, batch_size: int) -> int:
        held, compared, start = self._real, 0, 0
        for k, cost in enumerate(result.costs):
            # The last batch of an epoch takes what is left.
            left = len(x) - start % len(x)
            stop = start + min(batch_size, left)
            part = result.order[start:stop]
            wanted = expected(self.net, held, x[part], y[part])
            compared += close(f"outputs of batch {k}", result.outputs[start:stop], wanted.outputs, 1e-8)
            assert abs(cost - real_cost(self.net, wanted.outputs, y[part])) <= 1e-7 * (1 + abs(cost))
            held = [
                Parameters(p.weight - result.learning_rate * g.weight, p.bias - result.learning_rate * g.bias)
                for p, g in zip(held, wanted.gradients, strict=True)
            ]
            start = stop
        for got, entry in zip(device.parameters(), held, strict=True):
            compared += close("weights", got.weight, entry.weight, 1e-8)
            compared += close("biases", got.bias, entry.bias, 1e-8)
        return compared

    def _expected(self, result: dp.Result, x: Floats, y: Floats, *, seeds: bool) -> Expected:
        if result.raw is None:
            return expected(self.net, self._real, x, y, seeds=seeds)
        form = self.net.formats.activation
        x = form.to_floats(form.to_ints(x).words)
        if not seeds:
            y = target_format(self.net).to_floats(_words(self.net, y))
        elif result.stats.scale != 1.0:
            wanted = expected(self.net, self._words, x, y * result.stats.scale, seeds=True, words=True)
            return _scaled(wanted, 1.0 / result.stats.scale)
        return expected(self.net, self._words, x, y, seeds=seeds, words=True)

    def _close(self, result: dp.Result, x: Floats, y: Floats, *, seeds: bool) -> int:
        if result.stats.saturations:
            return len(result.outputs)  # then no error is bounded
        wanted = self._expected(result, x, y, seeds=seeds)
        compared = close("outputs", result.outputs, wanted.outputs, wanted.output_bound)
        pairs = zip(result.gradients, wanted.gradients, wanted.gradient_bounds, strict=True)
        for l, (got, right, bound) in enumerate(pairs, start=1):
            compared += close(f"weight gradient of layer {l}", got.weight, right.weight, bound.weight)
            compared += close(f"bias gradient of layer {l}", got.bias, right.bias, bound.bias)
        assert (result.inputs is not None) == self.net.input_gradient
        if result.inputs is not None:
            compared += close("input gradient", result.inputs, wanted.inputs, wanted.input_bound)
        return compared


def _scaled(wanted: Expected, factor: float) -> Expected:
    def times(entries: list[Parameters]) -> list[Parameters]:
        return [Parameters(factor * entry.weight, factor * entry.bias) for entry in entries]

    return Expected(
        wanted.outputs,
        factor * wanted.inputs,
        times(wanted.gradients),
        wanted.output_bound,
        factor * wanted.input_bound,
        times(wanted.gradient_bounds),
    )


def _words(net: Network, y: Floats) -> Ints:
    return target_format(net).to_ints(y).words


def _equal(comparison: Comparison) -> int:
    assert comparison.first is None, f"{comparison.different} of {comparison.words} words differ: {comparison.first}"
    assert comparison.words > 0
    return comparison.words
