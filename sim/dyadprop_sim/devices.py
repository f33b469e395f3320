"""Devices in software: the float64 reference and the golden model, behind the interface of the hardware."""

import numpy as np

from dyadprop.costs import real_cost
from dyadprop.device import Device, DeviceInfo, Trained
from dyadprop.errors import Refused
from dyadprop.formats import Floats, Ints
from dyadprop.network import Network, Parameters, RawParameters
from dyadprop.rates import Rate
from dyadprop.results import Result, Saturation, Stats
from dyadprop.training import DIVERGED
from dyadprop.words import Part, WordDevice
from dyadprop_sim import golden, reference


class FloatDevice(Device):
    """float64 textbook backpropagation in NumPy, without formats: the reference.

    Parameters
    ----------
    net : Network
    on_saturation : {"count", "warn", "raise"}
        Nothing saturates here.
    """

    kind = "float"
    OPTIONS: tuple[str, ...] = ()
    learns = True

    def __init__(self, net: Network, *, on_saturation: str = "count") -> None:
        super().__init__(net, on_saturation=on_saturation)
        self._params: list[Parameters] = []

    @property
    def info(self) -> DeviceInfo:
        """Who answers; no formats."""
        return DeviceInfo(
            kind=self.kind,
            network=self.net.hash,
            gateware="",
            board="",
            clock=0.0,
            formats=(),
            lanes=(),
            max_batch=self.net.max_batch,
        )

    def _load(self, params: list[Parameters]) -> list[Saturation]:
        self._params = params
        return []

    def _parameters(self) -> list[Parameters]:
        return [Parameters(entry.weight.copy(), entry.bias.copy()) for entry in self._params]

    def _predict(self, x: Floats) -> Result:
        return self._result(reference.predict(self.net, self._params, x), None)

    def _gradients(self, x: Floats, y: Floats) -> Result:
        trace = reference.textbook(self.net, self._params, x, y)
        return self._result(trace, real_cost(self.net, trace.outputs, y))

    def _vjp(self, x: Floats, dy: Floats, scale: float | None) -> Result:
        if self.net.cost == "sigmoid_cross_entropy":
            # That stage takes dC/da_L (docs/arithmetic.md, section 6).
            outputs = reference.predict(self.net, self._params, x).outputs
            dy = dy * outputs * (1.0 - outputs)
        result = self._result(reference.textbook(self.net, self._params, x, dy, seeds=True), None)
        # A power of two goes in and out of float64 without a trace.
        result.stats.scale = self._auto_scale(dy) if scale is None else scale
        return result

    def _train(self, x: Floats, y: Floats, batch_size: int, rate: Rate) -> Trained:
        params, outputs = reference.train(self.net, self._params, x, y, batch_size=batch_size, learning_rate=rate.value)
        if not all(np.all(np.abs(values) < DIVERGED) for entry in params for values in entry):
            raise Refused(f"training diverged; try a smaller learning rate than {rate.value:g}")
        self._params = params
        parts = [slice(i, i + batch_size) for i in range(0, len(x), batch_size)]
        costs = [real_cost(self.net, outputs[part], y[part]) for part in parts]
        return Trained(outputs, costs, None, Stats(samples=len(x)))

    def _resume(self, params: list[Parameters], residuals: list[RawParameters]) -> None:
        self._params = params

    def _result(self, trace: reference.RealTrace, cost: float | None) -> Result:
        return Result(
            outputs=trace.outputs,
            cost=cost,
            gradients=trace.gradients,
            inputs=trace.sensitivities.get(0),
            raw=None,
            stats=Stats(samples=len(trace.outputs)),
        )


class GoldenDevice(WordDevice):
    """The golden model: docs/arithmetic.md in NumPy, bit for bit what the hardware answers.

    Parameters
    ----------
    net : Network
    on_saturation : {"count", "warn", "raise"}
    """

    kind = "golden"
    OPTIONS: tuple[str, ...] = ()

    def __init__(self, net: Network, *, on_saturation: str = "count") -> None:
        super().__init__(net, on_saturation=on_saturation)
        self._model: golden.Model | None = None

    @property
    def info(self) -> DeviceInfo:
        """Who answers."""
        return DeviceInfo(
            kind=self.kind,
            network=self.net.hash,
            gateware="",
            board="",
            clock=0.0,
            formats=tuple(self.net.layer_formats(index) for index in range(len(self.net.layers) + 1)),
            lanes=(),
            max_batch=self.net.max_batch,
        )

    @property
    def _held(self) -> golden.Model:
        assert self._model is not None, "Device asks for load() first"
        return self._model

    def _load_words(self, params: list[RawParameters]) -> None:
        self._model = golden.Model(self.net, params)

    def _read_words(self) -> list[RawParameters]:
        return list(self._held.params)

    def _forward_words(self, x: Ints) -> Part:
        return _part(self._held.predict(x))

    def _gradient_words(self, x: Ints, targets: Ints, *, seeds: bool) -> Part:
        return _part(self._held.textbook(x, targets, seeds=seeds))

    def _train_words(self, x: Ints, targets: Ints, *, batch_size: int, exponent: int, scale: int) -> Part:
        training = self._held.train(x, targets, batch_size=batch_size, exponent=exponent, scale=scale)
        return Part(training.outputs, None, [], training.saturations)

    def _read_residuals(self) -> list[RawParameters]:
        return list(self._held.residuals)

    def _write_residuals(self, residuals: list[RawParameters]) -> None:
        self._held.load_residuals(residuals)


def _part(trace: golden.Trace) -> Part:
    return Part(trace.outputs, trace.inputs, trace.gradients, trace.saturations)
