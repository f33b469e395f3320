"""The golden model: a whole network in words, bit for bit what docs/arithmetic.md says."""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from dyadprop.checkpoints import check_residual
from dyadprop.errors import RangeError, ShapeError
from dyadprop.formats import Ints, Q
from dyadprop.network import Network, RawParameters
from dyadprop.rates import FULL_SCALE, check_residuals
from dyadprop.relaxation.laws import energy
from dyadprop.relaxation.state import State
from dyadprop.widths import StageNumbers, stage_numbers, target_format
from dyadprop_sim import arithmetic


@dataclass
class Trace:
    """Everything that one pass over a batch computes, as words; ``l`` is the key.

    Attributes
    ----------
    activations : dict
        ``x_l``, int64 array (batch, n_l), format A_l, for ``l = 0..L``.
    sensitivities : dict
        ``lambda_l``, int64 array (batch, n_l), format S_l, for ``l = 1..L``, and for 0 with the network's input
        gradient. Empty after a forward-only pass, as the next two.
    deltas : dict
        ``delta_l``, int64 array (batch, n_l), format S_l, for ``l = 1..L``.
    gradients : list of RawParameters
        ``G_l`` of layers ``1..L``, summed over the batch, exact.
    saturations : Counter
        By (stage, signal): what stages and cost head count (section 1). Equal to one that spells out its zeros.
    """

    activations: dict[int, Ints]
    sensitivities: dict[int, Ints] = field(default_factory=dict)
    deltas: dict[int, Ints] = field(default_factory=dict)
    gradients: list[RawParameters] = field(default_factory=list)
    saturations: Counter[tuple[int, str]] = field(default_factory=Counter)

    @property
    def outputs(self) -> Ints:
        """``x_L``, int64 array (batch, n_L)."""
        return self.activations[len(self.activations) - 1]

    @property
    def inputs(self) -> Ints | None:
        """``lambda_0``, int64 array (batch, n_0), or None where it is not computed."""
        return self.sensitivities.get(0)


def predict(net: Network, params: Sequence[RawParameters], x: Ints) -> Trace:
    """Run a batch forward only; see `Model.predict`."""
    return Model(net, params).predict(x)


def textbook(net: Network, params: Sequence[RawParameters], x: Ints, targets: Ints, *, seeds: bool = False) -> Trace:
    """Run a batch through textbook backpropagation; see `Model.textbook`."""
    return Model(net, params).textbook(x, targets, seeds=seeds)


@dataclass
class Training:
    """What a training run gives; the model holds the rest.

    Attributes
    ----------
    outputs : int64 array (presented, n_L), format A_L
    saturations : Counter
        By (stage, signal); ``(l, "weight")`` counts the steps that a word could not take whole.
    """

    outputs: Ints
    saturations: Counter[tuple[int, str]]


# Answers a batch (inputs, targets) with its outputs and gradients, and what saturated.
Answer = Callable[["Model", Ints, Ints], Trace]


class Model:
    """A network with its parameters in words; a number system for `dyadprop.relaxation.chain.Relaxation` too.

    Parameters
    ----------
    net : Network
    params : sequence of RawParameters
        Words of each layer's weight format.

    Attributes
    ----------
    params : list of RawParameters
        ``W_l``, words; replaced, never changed in place.
    residuals : list of RawParameters
        ``G_l`` between batches, what the steps so far left in the accumulators; zeros to start with.
    scale : int
        The cost's differences are multiplied by ``scale / 256``: 256, unless `scaled` says otherwise.

    Raises
    ------
    ShapeError, RangeError
        If they are no such words.
    """

    def __init__(self, net: Network, params: Sequence[RawParameters]) -> None:
        self.net = net
        self.depth = len(net.layers)
        self.params = list(params)
        self._stages = stage_numbers(net)
        if len(self.params) != self.depth:
            raise ShapeError(f"{len(self.params)} layers of parameters given; network expects {self.depth}")
        for s, entry in zip(self._stages, self.params, strict=True):
            _check_words(f"weights of stage {s.index}", entry.weight, (s.outputs, s.inputs), s.weight)
            _check_words(f"biases of stage {s.index}", entry.bias, (s.outputs,), s.weight)
        self.scale = FULL_SCALE
        self.residuals = [
            RawParameters(np.zeros_like(entry.weight), np.zeros_like(entry.bias), s.gradient_fraction)
            for s, entry in zip(self._stages, self.params, strict=True)
        ]

    # -- textbook backpropagation -------------------------------------------------------------------------------------

    def predict(self, x: Ints) -> Trace:
        """Run a batch forward only.

        Parameters
        ----------
        x : int64 array (batch, n_0), format A_0

        Raises
        ------
        ShapeError, RangeError
            If it holds no such words.
        """
        _check_words("inputs x", x, (len(x), self.net.inputs), self.net.formats.activation)
        trace = Trace({0: x})
        for l, (stage, entry) in enumerate(zip(self._stages, self.params, strict=True), start=1):
            trace.activations[l], saturated = arithmetic.forward(stage, entry, trace.activations[l - 1])
            _count(trace, l, "activation", saturated)
        return trace

    def textbook(self, x: Ints, targets: Ints, *, seeds: bool = False) -> Trace:
        """Run a batch once forward and once back.

        Parameters
        ----------
        x : int64 array (batch, n_0), format A_0
        targets : int64 array (batch, n_L)
            In the cost's target format; with ``seeds`` they are ``lambda_L`` itself, format S_L.
        seeds : bool
            Whether the caller brings ``lambda_L``; its saturation is then the caller's to count.

        Raises
        ------
        ShapeError, RangeError
            If an array holds no such words.
        """
        trace = self.predict(x)
        L = self.depth
        form = self._stages[-1].sensitivity if seeds else target_format(self.net)
        _check_words("seeds" if seeds else "targets", targets, (len(x), self.net.outputs), form)
        if seeds:
            trace.sensitivities[L] = targets
        else:
            trace.sensitivities[L], saturated = arithmetic.seed(
                self._stages[-1], self.net.cost, trace.outputs, targets, self.scale
            )
            _count(trace, L, "sensitivity", saturated)
        for l in range(L, 0, -1):
            stage = self._stages[l - 1]
            trace.deltas[l] = arithmetic.delta(stage, trace.sensitivities[l], trace.activations[l])
            trace.gradients.insert(0, arithmetic.gradient(stage, trace.deltas[l], trace.activations[l - 1]))
            if stage.has_sensitivity:
                back, saturated = arithmetic.backward(stage, self.params[l - 1], trace.deltas[l])
                trace.sensitivities[l - 1] = back
                _count(trace, l - 1, "sensitivity", saturated)
        return trace

    # -- lossless SGD -------------------------------------------------------------------------------------------------

    def scaled(self, scale: int) -> "Model":
        """Give a view of this model, with the same parameters and residuals, whose seeds are times ``scale / 256``."""
        view = copy.copy(self)  # shares the lists, so each sees the other's steps
        view.scale = scale
        return view

    def load_residuals(self, residuals: Sequence[RawParameters]) -> None:
        """Put sums into the accumulators.

        Raises
        ------
        ShapeError, RangeError
            If they do not fit the accumulators.
        """
        if len(residuals) != self.depth:
            raise ShapeError(f"{len(residuals)} layers of residuals given; network expects {self.depth}")
        for s, entry in zip(self._stages, residuals, strict=True):
            check_residual(s, entry)
        self.residuals[:] = residuals

    def step(self, gradients: Sequence[RawParameters], exponent: int) -> Counter[tuple[int, str]]:
        """Add the gradients of a batch to the accumulators and step by ``2^-exponent`` of them.

        Returns
        -------
        Counter
            Of ``(l, "weight")``: entries that left their format and were limited to it.

        Raises
        ------
        ShapeError
            If there are not as many gradients as layers.
        """
        if len(gradients) != self.depth:
            raise ShapeError(f"{len(gradients)} layers of gradients given; network expects {self.depth}")
        counts: Counter[tuple[int, str]] = Counter()
        for l, (s, gradient) in enumerate(zip(self._stages, gradients, strict=True), start=1):
            entry, residual = self.params[l - 1], self.residuals[l - 1]
            shift = s.step_shift(exponent)
            weight = arithmetic.step(entry.weight, residual.weight + gradient.weight, shift, s.weight)
            bias = arithmetic.step(entry.bias, residual.bias + gradient.bias, shift, s.weight)
            self.params[l - 1] = entry._replace(weight=weight.words, bias=bias.words)
            self.residuals[l - 1] = residual._replace(weight=weight.residual, bias=bias.residual)
            count = int(np.count_nonzero(weight.saturated) + np.count_nonzero(bias.saturated))
            if count:
                counts[l, "weight"] += count
        return counts

    def train(
        self,
        x: Ints,
        targets: Ints,
        *,
        batch_size: int,
        exponent: int,
        scale: int = FULL_SCALE,
        answer: Answer | None = None,
    ) -> Training:
        """Learn from each sample once, in their order: a step after each ``batch_size`` samples and after the last.

        Parameters
        ----------
        x : int64 array (samples, n_0), format A_0
        targets : int64 array (samples, n_L), target format of the cost
        batch_size, exponent, scale : int
            The learning rate is ``scale / 256 * 2^-exponent``.
        answer : callable, optional
            What gives the gradients of a batch; textbook backpropagation where not given.

        Raises
        ------
        ShapeError, RangeError
            If an array holds no such words, a stage cannot take such steps, or its accumulators hold too much.
        """
        for s in self._stages:
            _check_step(s, exponent, batch_size)
        check_residuals(self.net, [entry.largest for entry in self.residuals], batch_size)
        model = self.scaled(scale)
        outputs = []
        counts: Counter[tuple[int, str]] = Counter()
        for i in range(0, len(x), batch_size):
            part = slice(i, i + batch_size)
            trace = model.textbook(x[part], targets[part]) if answer is None else answer(model, x[part], targets[part])
            outputs.append(trace.outputs)
            counts += trace.saturations
            counts += model.step(trace.gradients, exponent)
        return Training(np.concatenate(outputs), counts)

    # -- the number system of the relaxation --------------------------------------------------------------------------

    def forward(self, l: int, x: Ints) -> Ints:
        """Give ``x_l``, (batch, n_l), format A_l."""
        return arithmetic.forward(self._stages[l - 1], self.params[l - 1], x).words

    def seed(self, x: Ints, target: Ints) -> Ints:
        """Give ``lambda_L``, (batch, n_L), format S_L."""
        return arithmetic.seed(self._stages[-1], self.net.cost, x, target, self.scale).words

    def delta(self, l: int, sensitivity: Ints, x: Ints) -> Ints:
        """Give ``delta_l``, (batch, n_l), format S_l."""
        return arithmetic.delta(self._stages[l - 1], sensitivity, x)

    def backward(self, l: int, delta: Ints) -> Ints:
        """Give ``lambda_{l-1}``, (batch, n_{l-1}), format S_{l-1}."""
        return arithmetic.backward(self._stages[l - 1], self.params[l - 1], delta).words

    def gradient(self, l: int, delta: Ints, x: Ints) -> RawParameters:
        """Give ``G_l``, summed over the batch."""
        return arithmetic.gradient(self._stages[l - 1], delta, x)

    def random_state(self, batch: int, rng: np.random.Generator) -> State:
        """Draw any words of the right formats: also activations that no table gives."""

        def draw(form: Q, width: int) -> Ints:
            return rng.integers(form.min_int, form.max_int, (batch, width), dtype=np.int64, endpoint=True)

        return State(
            {s.index: draw(s.output, s.outputs) for s in self._stages},
            {s.index: draw(s.sensitivity, s.outputs) for s in self._stages},
        )

    def energy(self, x0: Ints, target: Ints, state: State) -> float:
        """Give ``E`` of the real values of a state, summed over the batch; without the roundings within ``F_l``."""
        params = [entry.decode() for entry in self.params]
        x, y = self.net.formats.activation.to_floats(x0), target_format(self.net).to_floats(target)
        return energy(self.net, params, x, y, self.reals(state))

    def reals(self, state: State) -> State:
        """Give a state as real numbers."""
        return State(
            {s.index: s.output.to_floats(state.activations[s.index]) for s in self._stages},
            {s.index: s.sensitivity.to_floats(state.sensitivities[s.index]) for s in self._stages},
        )


def _count(trace: Trace, l: int, signal: str, saturated: arithmetic.Bools) -> None:
    count = int(np.count_nonzero(saturated))
    if count:
        trace.saturations[l, signal] += count


def _check_step(stage: StageNumbers, exponent: int, batch_size: int) -> None:
    shift, largest = stage.step_shift(exponent), stage.largest_step_shift(batch_size)
    if not 0 <= shift <= largest:
        raise RangeError(f"step shift of stage {stage.index} is {shift}; allowed are 0 to {largest}")


def _check_words(what: str, words: Ints, shape: tuple[int, ...], form: Q) -> None:
    if words.shape != shape:
        raise ShapeError(f"{what} have shape {words.shape}; network expects {shape}")
    if words.dtype != np.int64:
        raise RangeError(f"{what} are {words.dtype}; expected int64 words")
    if words.min(initial=0) < form.min_int or words.max(initial=0) > form.max_int:
        raise RangeError(
            f"{what} reach from {words.min()} to {words.max()}; words of {form} are {form.min_int} to {form.max_int}"
        )
