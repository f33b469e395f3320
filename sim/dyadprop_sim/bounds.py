r"""How far the golden model can be from real-number backpropagation with the same parameters, derived from the formats.

The reference computes with the real values of the *words* of parameters, inputs and targets, so both start equal. Write
`lsb(Q)` for a format's resolution, hats for the golden model's values, and, unit by unit and sample by sample,

    e_l >= |x^_l - x_l|        h_l >= |lambda^_l - lambda_l|        d_l >= |delta^_l - delta_l|

Sums of products are exact, so only the errors of their operands and the one rounding behind them count. Nothing may
saturate: then every `requantize` is off by at most half an lsb.

**Forward.** `e_0 = 0`. The pre-activation is off by `e_a = |W_l| e_{l-1}`; phi stretches that by its slope at most:

    identity, relu, leaky_relu    e_l = e_a + lsb(A_l) / 2
    tanh                          e_l = e_a + 2 lsb(A_l)                 2 lsb: section 3; 2.1 in Q1.17
    sigmoid                       e_l = e_a / 4 + 2 lsb(A_l)

Section numbers are those of docs/arithmetic.md.

**Seed.** `x_L - y` carries `e_L`. Each row of softmax's Jacobian has the absolute sum `2 p_i (1 - p_i) <= 1/2`, and
section 6 adds `2 + n_L / 4` lsb of Q2.14:

    h_L = lsb(S_L) / 2 + e_L                                             squared_error, sigmoid_cross_entropy
    h_L = lsb(S_L) / 2 + max_j(e_L) / 2 + (2 + n_L / 4) 2^-14            softmax_cross_entropy

**Delta.** With `s^` and `s` the two slopes, `s^ lambda^ - s lambda = (s^ - s) lambda^ + s (lambda^ - lambda)`:

    identity, matched             d_l = h_l
    tanh, sigmoid                 d_l = |s^ - s| |lambda^| + (|s^| + |s^ - s|) h_l + lsb(S_l) / 2
        tanh                      |s^ - s| <= lsb(P) / 2 + |x^^2 - x^2|           <= lsb(P) / 2 + e_l (2 |x^| + e_l)
        sigmoid                   |s^ - s| <= lsb(P) / 2 + |x^ - x| |1 - x^ - x|  <= lsb(P) / 2 + e_l (|1 - 2 x^| + e_l)
    relu, leaky_relu, same side   d_l = h_l, or below the kink  slope * h_l, and lsb(S_l) / 2 more for leaky_relu
    relu, leaky_relu, unsure      d_l = |lambda^| + h_l + lsb(S_l) / 2

The sides of the kink are the same for certain where `x^ > 0` and `a^ > e_a`, or `x^ <= 0` and `a^ <= -e_a`; `a^` is the
exact pre-activation of the golden model's own inputs.

**Back, and gradients.**

    h_{l-1} = |W_l|^T d_l + lsb(S_{l-1}) / 2
    |G^_W - G_W| <= sum over the batch of  |delta^_l| e_{l-1}^T + d_l (|x^_{l-1}| + e_{l-1})^T
    |G^_b - G_b| <= sum over the batch of  d_l
"""

from dataclasses import dataclass

import numpy as np

from dyadprop.formats import Floats, Ints
from dyadprop.network import Parameters
from dyadprop.widths import PROBABILITY, StageNumbers, stage_numbers
from dyadprop_sim import arithmetic
from dyadprop_sim.golden import Model, Trace


@dataclass(frozen=True)
class Bounds:
    """Largest possible errors of a trace.

    Attributes
    ----------
    activations : dict
        ``e_l``, float64 array (batch, n_l), for ``l = 0..L``.
    sensitivities : dict
        ``h_l``, float64 array (batch, n_l), for each layer that the trace has.
    gradients : list of Parameters
        Of layers ``1..L``.
    unsure : int
        Units whose side of a kink the formats do not decide.
    """

    activations: dict[int, Floats]
    sensitivities: dict[int, Floats]
    gradients: list[Parameters]
    unsure: int


def error_bounds(model: Model, trace: Trace) -> Bounds:
    """Bound the errors of a textbook pass.

    Parameters
    ----------
    model : Model
    trace : Trace
        Of `Model.textbook` with targets; nothing in it may have saturated.
    """
    if +trace.saturations:
        raise ValueError(f"values were limited to their format: {dict(trace.saturations)}; no error is bounded")
    stages = stage_numbers(model.net)
    L = len(stages)
    weights = [np.abs(entry.decode().weight) for entry in model.params]

    e: dict[int, Floats] = {0: np.zeros(trace.activations[0].shape)}
    e_a: dict[int, Floats] = {}
    for stage, weight in zip(stages, weights, strict=True):
        l = stage.index
        e_a[l] = e[l - 1] @ weight.T
        stretch = 0.25 if stage.activation == "sigmoid" else 1.0
        lsbs = 0.5
        if stage.activation in ("tanh", "sigmoid"):
            lsbs = arithmetic.table_error(stage.activation, stage.output.fraction_bits)
        e[l] = stretch * e_a[l] + lsbs * stage.output.lsb

    h = {L: e[L] + stages[-1].sensitivity.lsb / 2}
    if model.net.cost == "softmax_cross_entropy":
        steps = (2 + model.net.outputs / 4) * PROBABILITY.lsb
        h[L] = np.broadcast_to(e[L].max(axis=1, keepdims=True) / 2 + steps + stages[-1].sensitivity.lsb / 2, e[L].shape)
    gradients: list[Parameters] = []
    unsure = 0
    for stage, weight in zip(reversed(stages), reversed(weights), strict=True):
        l = stage.index
        acc = arithmetic.accumulate(stage, model.params[l - 1], trace.activations[l - 1])
        d, count = _delta_bound(stage, trace, acc, e_a[l], e[l], h[l])
        unsure += count
        delta_size = np.abs(stage.sensitivity.to_floats(trace.deltas[l]))
        x_size = np.abs(stage.input.to_floats(trace.activations[l - 1]))
        gradients.insert(0, Parameters(delta_size.T @ e[l - 1] + d.T @ (x_size + e[l - 1]), d.sum(axis=0)))
        if stage.has_sensitivity:
            h[l - 1] = d @ weight + stage.input_sensitivity.lsb / 2
    return Bounds(e, h, gradients, unsure)


def _delta_bound(stage: StageNumbers, trace: Trace, acc: Ints, e_a: Floats, e: Floats, h: Floats) -> tuple[Floats, int]:
    """Give ``d_l``, and how many units are unsure of their side."""
    if stage.matched or stage.activation == "identity":
        return h, 0
    half = stage.sensitivity.lsb / 2
    x = stage.output.to_floats(trace.activations[stage.index])
    size = np.abs(stage.sensitivity.to_floats(trace.sensitivities[stage.index]))
    if stage.activation in ("tanh", "sigmoid"):
        reach = 2 * np.abs(x) if stage.activation == "tanh" else np.abs(1 - 2 * x)
        slope_error = stage.slope.lsb / 2 + e * (reach + e)
        slope = np.abs(stage.slope.to_floats(arithmetic.slope(stage, trace.activations[stage.index])))
        return slope_error * size + (slope + slope_error) * h + half, 0
    a = np.ldexp(acc.astype(np.float64), -stage.accumulator_fraction)
    leaky = stage.activation == "leaky_relu"
    below = 2.0**-stage.leak_bits * h + half if leaky else np.zeros_like(h)
    sure = np.where(x > 0, a > e_a, a <= -e_a)
    return np.where(sure, np.where(x > 0, h, below), size + h + half), int(np.count_nonzero(~sure))
