"""Devices that work on words: quantise, split, run, add up, decode."""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from dyadprop.checkpoints import check_residual
from dyadprop.costs import real_cost, squared_error_words
from dyadprop.course import CHUNK
from dyadprop.device import Device, Trained
from dyadprop.errors import RangeError
from dyadprop.formats import Floats, Ints
from dyadprop.interrupts import held_interrupts
from dyadprop.network import Network, Parameters, QuantizedParameters, RawParameters
from dyadprop.rates import Rate, check_rate, check_residuals
from dyadprop.results import RawResult, RawTraining, Result, Saturation, Stats, WireStats, saturation_list
from dyadprop.widths import stage_numbers, target_format

Counts = dict[tuple[int, str], int]


class _Stopped(Exception):
    """Ends a call whose result nobody will see, because of Ctrl-C."""


@dataclass
class Part:
    """What a device answers for one part of a batch.

    Attributes
    ----------
    outputs : int64 array (samples, n_L)
        Format ``A_L``.
    inputs : int64 array (samples, n_0) or None
        ``lambda_0``, format ``S_0``; None unless the network has the input gradient and sensitivities were asked for.
    gradients : list of RawParameters
        Exact sums over the part; empty for a forward-only part and for training.
    saturations : dict
        Count by (stage, signal), of the signals that the device itself produces.
    cycles, transfer_cycles : int
        Until the gradients are written, and for reading them out; 0 where nothing is clocked.
    """

    outputs: Ints
    inputs: Ints | None
    gradients: list[RawParameters]
    saturations: Counts
    cycles: int = 0
    transfer_cycles: int = 0


class WordDevice(Device):
    """A device that takes and gives words: golden model, simulated and real hardware.

    Parameters
    ----------
    net : Network
    on_saturation : {"count", "warn", "raise"}

    Notes
    -----
    Ctrl-C waits for the part of a call that is under way (``max_batch`` samples, or `CHUNK` forward only or training),
    skips the others and puts accumulators back: the device stays usable. A second one does not wait.
    """

    OPTIONS: tuple[str, ...] = ()
    learns = True

    def __init__(self, net: Network, *, on_saturation: str = "count", **_: Any) -> None:
        super().__init__(net, on_saturation=on_saturation)
        self._device_seconds = 0.0
        self._interrupted: Callable[[], bool] = lambda: False
        self._trained = False  # whether the accumulators may hold residuals
        self._bounds = [0] * len(net.layers)  # of each stage's residuals, in size

    @abstractmethod
    def _load_words(self, params: list[RawParameters]) -> None:
        """Take parameters as words of the layers' weight formats."""

    @abstractmethod
    def _read_words(self) -> list[RawParameters]:
        """Give the parameters held now, as words."""

    @abstractmethod
    def _forward_words(self, x: Ints) -> Part:
        """Run a part forward only."""

    @abstractmethod
    def _gradient_words(self, x: Ints, targets: Ints, *, seeds: bool) -> Part:
        """Run a part of at most ``max_batch`` samples; accumulators are clear before it and behind it.

        Parameters
        ----------
        x : int64 array (samples, n_0), format A_0
        targets : int64 array (samples, n_L)
            In the target format; with ``seeds`` they are ``lambda_L`` itself, format ``S_L``.
        """

    @abstractmethod
    def _train_words(self, x: Ints, targets: Ints, *, batch_size: int, exponent: int, scale: int) -> Part:
        """Learn from samples in their order, starting from the accumulators as they are (section 8).

        Parameters
        ----------
        x : int64 array (samples, n_0), format A_0
            Of many batches.
        targets : int64 array (samples, n_L), target format of the cost
        batch_size : int
            A step after each so many samples, and after the last, shorter, batch; at most ``max_batch``.
        exponent : int
            ``k``: the step is ``2^-k`` of the accumulators; it fits every stage.
        scale : int
            ``m``, 129 to 256: seeds are times ``m / 256``.

        Returns
        -------
        Part
            Without gradients and input gradients; ``(l, "weight")`` counts the steps that a word could not take whole.
        """

    @abstractmethod
    def _read_residuals(self) -> list[RawParameters]:
        """Give what the accumulators hold, with the gradients' fraction bits; they keep it."""

    @abstractmethod
    def _write_residuals(self, residuals: list[RawParameters]) -> None:
        """Put sums into the accumulators."""

    def _begin_call(self) -> None:
        """Note that a call begins: what `_wire` gives is counted from here."""

    def _wire(self) -> tuple[int, int, WireStats]:
        """Give retries, bytes and the rest of what the wire did since the call began."""
        return 0, 0, WireStats()

    @contextmanager
    def _call(self, *, needs_parameters: bool = True, check: Callable[[], None] | None = None) -> Iterator[None]:
        noted = False
        with super()._call(needs_parameters=needs_parameters, check=check), held_interrupts() as interrupted:
            self._interrupted = interrupted
            self._begin_call()
            with suppress(_Stopped):
                yield
            noted = interrupted()
        if noted:  # outside: the device has not failed
            raise KeyboardInterrupt

    def _count_load(self, params: list[Parameters]) -> list[Saturation]:
        return _weight_saturations(self.net.quantize(params))

    def _load(self, params: list[Parameters]) -> list[Saturation]:
        quantized = self.net.quantize(params)
        self._load_words(quantized.raw)
        self._clear_residuals()
        self._bounds = [0] * len(self._bounds)
        return _weight_saturations(quantized)

    def _parameters(self) -> list[Parameters]:
        return [entry.decode() for entry in self._read_words()]

    def _predict(self, x: Floats) -> Result:
        words, saturated = self.net.formats.activation.to_ints(x)
        part, ticks = self._forward(words)
        return self._result(part, {(0, "activation"): saturated}, len(x), ticks=ticks)

    def _gradients(self, x: Floats, y: Floats) -> Result:
        last = len(self.net.layers)
        words, x_count = self.net.formats.activation.to_ints(x)
        form = target_format(self.net)
        targets, y_count = form.to_ints(y)
        part, ticks = self._split(words, targets, seeds=False)
        result = self._result(part, {(0, "activation"): x_count, (last, "target"): y_count}, len(x), ticks=ticks)
        assert result.raw is not None
        if self.net.cost == "squared_error":
            exact = squared_error_words(part.outputs, targets)
            result.raw = result.raw._replace(cost=exact)
            result.cost = float(np.ldexp(float(exact), -result.raw.cost_fraction_bits))
        else:
            result.cost = real_cost(self.net, result.outputs, form.to_floats(targets))
        return result

    def _vjp(self, x: Floats, dy: Floats, scale: float | None) -> Result:
        last = len(self.net.layers)
        first, first_ticks = None, 0
        words, x_count = self.net.formats.activation.to_ints(x)
        if self.net.cost == "sigmoid_cross_entropy":
            # That stage takes dC/da_L (docs/arithmetic.md, section 6); its slope comes from the device's own outputs.
            first, first_ticks = self._forward(words)
            outputs = self.net.layer_formats(last).activation.to_floats(first.outputs)
            dy = dy * outputs * (1.0 - outputs)
        if scale is None:
            scale = self._auto_scale(dy)
        seeds, seed_count = self.net.layer_formats(last).sensitivity.to_ints(dy * scale)
        part, ticks = self._split(words, seeds, seeds=True)
        result = self._result(
            part, {(0, "activation"): x_count, (last, "sensitivity"): seed_count}, len(x), ticks=ticks
        )
        if first is not None:
            result.stats.cycles += first.cycles
            result.stats.ticks += first_ticks
        result.stats.scale = scale
        result.gradients = [Parameters(g.weight / scale, g.bias / scale) for g in result.gradients]
        if result.inputs is not None:
            result.inputs = result.inputs / scale
        return result

    # -- learning on the device ---------------------------------------------------------------------------------------

    def _check_rate(self, rate: Rate, batch_size: int) -> None:
        check_rate(self.net, rate, batch_size)
        check_residuals(self.net, self._bounds, batch_size)

    def _train(self, x: Floats, y: Floats, batch_size: int, rate: Rate) -> Trained:
        last = len(self.net.layers)
        words, x_count = self.net.formats.activation.to_ints(x)
        form = target_format(self.net)
        targets, y_count = form.to_ints(y)
        self._trained = True
        self._bounds = [(1 << s.step_shift(rate.exponent)) >> 1 for s in stage_numbers(self.net)]
        part = self._clocked(
            lambda: self._train_words(words, targets, batch_size=batch_size, exponent=rate.exponent, scale=rate.scale)
        )
        starts = range(0, len(x), batch_size)
        # Each step waits for the pipeline to drain.
        result = self._result(
            part,
            {(0, "activation"): x_count, (last, "target"): y_count},
            len(x),
            ticks=len(x) + len(starts) * (2 * last - 1),
        )
        assert result.raw is not None
        fraction = result.raw.cost_fraction_bits
        exact = None
        if self.net.cost == "squared_error":
            exact = [squared_error_words(part.outputs[i : i + batch_size], targets[i : i + batch_size]) for i in starts]
            costs = [float(np.ldexp(float(cost), -fraction)) for cost in exact]
        else:
            real = form.to_floats(targets)
            costs = [real_cost(self.net, result.outputs[i : i + batch_size], real[i : i + batch_size]) for i in starts]
        raw = RawTraining(part.outputs, result.raw.output_format, exact, fraction)
        return Trained(result.outputs, costs, raw, result.stats)

    def _residuals(self) -> list[RawParameters]:
        return self._read_residuals() if self._trained else self._no_residuals()

    def _check_checkpoint(self, params: list[Parameters], residuals: list[RawParameters]) -> None:
        stages = stage_numbers(self.net)
        if len(residuals) != len(stages):
            raise RangeError(
                f"checkpoint holds residuals of {len(residuals)} stages; device {self.kind!r} needs those of "
                f"{len(stages)}: load(checkpoint.parameters) starts without"
            )
        for held, entry in zip(params, self.net.quantize(params).parameters, strict=True):
            if not all(np.array_equal(a, b) for a, b in zip(held, entry, strict=True)):
                raise RangeError(f"checkpoint's parameters are no words, so device {self.kind!r} cannot hold them")
        for s, residual in zip(stages, residuals, strict=True):
            check_residual(s, residual)

    def _resume(self, params: list[Parameters], residuals: list[RawParameters]) -> None:
        quantized = self.net.quantize(params)
        self._load_words(quantized.raw)
        self._trained = True
        self._write_residuals(residuals)
        self._bounds = [entry.largest for entry in residuals]

    def _no_residuals(self) -> list[RawParameters]:
        return [
            RawParameters(
                np.zeros((s.outputs, s.inputs), dtype=np.int64),
                np.zeros(s.outputs, dtype=np.int64),
                s.gradient_fraction,
            )
            for s in stage_numbers(self.net)
        ]

    def _clear_residuals(self) -> None:
        if self._trained:
            self._write_residuals(self._no_residuals())
            self._trained = False

    @contextmanager
    def _clear_accumulators(self) -> Iterator[None]:
        """Lend the accumulators, cleared, to a call for gradients; what training left in them comes back behind it."""
        if not self._trained:
            yield
            return
        kept = self._read_residuals()
        self._clear_residuals()
        yield  # a call that fails in here leaves the device unusable: nothing to restore
        self._write_residuals(kept)
        self._trained = True

    # -- parts of a batch ---------------------------------------------------------------------------------------------

    def _clocked(self, work: Any) -> Part:
        start = time.perf_counter()
        part: Part = work()
        self._device_seconds += time.perf_counter() - start
        return part

    def _forward(self, x: Ints) -> tuple[Part, int]:
        """Run a batch forward only; give the ticks too."""
        parts = self._parts(len(x), CHUNK, lambda part: self._forward_words(x[part]))
        self._check_interrupts()
        return _joined(parts), len(x) + len(parts) * (len(self.net.layers) - 1)

    def _split(self, x: Ints, targets: Ints, *, seeds: bool) -> tuple[Part, int]:
        """Run a batch in parts of at most ``max_batch`` samples; integer sums do not depend on the split."""
        with self._clear_accumulators():
            parts = self._parts(
                len(x), self.net.max_batch, lambda part: self._gradient_words(x[part], targets[part], seeds=seeds)
            )
        self._check_interrupts()
        return _joined(parts), len(x) + len(parts) * (2 * len(self.net.layers) - 1)

    def _parts(self, samples: int, size: int, work: Callable[[slice], Part]) -> list[Part]:
        """Run parts of so many samples, until Ctrl-C."""
        parts: list[Part] = []
        for start in range(0, samples, size):
            if parts and self._interrupted():
                break
            parts.append(self._clocked(lambda start=start: work(slice(start, start + size))))
        return parts

    def _check_interrupts(self) -> None:
        if self._interrupted():
            raise _Stopped

    def _result(self, part: Part, host_counts: Counts, samples: int, *, ticks: int) -> Result:
        last = len(self.net.layers)
        output_format = self.net.layer_formats(last).activation
        input_format = self.net.formats.sensitivity
        raw = RawResult(
            outputs=part.outputs,
            output_format=output_format,
            gradients=part.gradients,
            inputs=part.inputs,
            input_format=input_format,
            cost=None,
            cost_fraction_bits=2 * output_format.fraction_bits + 1,
        )
        retries, crossed, wire = self._wire()
        stats = Stats(
            samples=samples,
            ticks=ticks,
            cycles=part.cycles,
            transfer_cycles=part.transfer_cycles,
            saturations=saturation_list([*host_counts.items(), *part.saturations.items()]),
            retries=retries,
            bytes=crossed,
            device_seconds=self._device_seconds,
            wire=wire,
        )
        self._device_seconds = 0.0
        return Result(
            outputs=output_format.to_floats(part.outputs),
            cost=None,
            gradients=[entry.decode() for entry in part.gradients],
            inputs=None if part.inputs is None else input_format.to_floats(part.inputs),
            raw=raw,
            stats=stats,
        )


def _weight_saturations(quantized: QuantizedParameters) -> list[Saturation]:
    return saturation_list(((index, "weight"), count) for index, count in enumerate(quantized.saturations, start=1))


def _joined(parts: list[Part]) -> Part:
    """Make one part of several."""
    if len(parts) == 1:
        return parts[0]
    counts: Counts = {}
    for part in parts:
        for key, count in part.saturations.items():
            counts[key] = counts.get(key, 0) + count
    inputs = [part.inputs for part in parts if part.inputs is not None]
    return Part(
        outputs=np.concatenate([part.outputs for part in parts]),
        inputs=np.concatenate(inputs) if inputs else None,
        gradients=[
            RawParameters(
                np.sum([g.weight for g in layer], axis=0),
                np.sum([g.bias for g in layer], axis=0),
                layer[0].fraction_bits,
            )
            for layer in zip(*(part.gradients for part in parts), strict=True)
        ],
        saturations=counts,
        cycles=sum(part.cycles for part in parts),
        transfer_cycles=sum(part.transfer_cycles for part in parts),
    )
