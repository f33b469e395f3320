"""A device inside scikit-learn: ``Classifier`` and ``Regressor`` (``pip install 'dyadprop[sklearn]'``).

The device is a string, opened where it is needed and closed behind it, so that estimators can be cloned, searched over,
put into pipelines, sent to other processes and pickled.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from dyadprop.checks import whole_number
from dyadprop.device import Device, open_device
from dyadprop.errors import RangeError
from dyadprop.formats import Floats
from dyadprop.network import Dense, Network, Parameters
from dyadprop.optional import optional_packages
from dyadprop.profile import choose_formats
from dyadprop.relaxation.reals import softmax
from dyadprop.results import Saturation, Stats, sum_stats
from dyadprop.training import Learner, Momentum

with optional_packages("dyadprop.sklearn", "sklearn"):
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = ["Classifier", "Regressor"]

PROFILED = 500  # samples whose signals the formats are chosen from
_MANY = 2**31 - 1


class Estimator(BaseEstimator):
    """What `Classifier` and `Regressor` share: scaling, choosing formats, learning, and asking the device.

    Parameters
    ----------
    hidden : sequence of int
        Units of each hidden layer.
    activation : {"relu", "leaky_relu", "tanh", "sigmoid"}
        Of the hidden layers.
    device : str or None
        Name of the device; None means ``$DYADPROP_DEVICE`` or ``golden``.
    bits : int
        Of every word, 4 to 18. Each signal's format is chosen from a run in float64 over the same samples.
    update : {"host", "device"}
        Who takes the steps: momentum on real parameters here, or the device's own lossless SGD on words.
    learning_rate : float
        Of a batch's mean gradient.
    momentum : float
        Of updates on the host.
    batch_size, epochs : int
    on_saturation : {"count", "warn", "raise"}
        As of `Device`.
    random_state : int, RandomState or None

    Attributes
    ----------
    net_ : Network
        With the chosen formats.
    params_ : list of Parameters
    saturations_ : list of Saturation
        Of the last epoch on the host, or of the whole run on the device.
    loss_curve_ : list of float
        Mean cost a sample in each epoch.
    mean_, scale_ : arrays (features,)
        Inputs are standardised before they become words.
    n_iter_ : int
    """

    def __init__(
        self,
        hidden: Sequence[int] = (32,),
        activation: str = "tanh",
        *,
        device: str | None = None,
        bits: int = 16,
        update: str = "host",
        learning_rate: float = 0.05,
        momentum: float = 0.9,
        batch_size: int = 16,
        epochs: int = 60,
        on_saturation: str = "count",
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.device = device
        self.bits = bits
        self.update = update
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.batch_size = batch_size
        self.epochs = epochs
        self.on_saturation = on_saturation
        self.random_state = random_state

    def _fit(self, x: Floats, y: Floats, outputs: int, cost: str) -> None:
        if self.update not in ("host", "device"):
            raise RangeError(f"update is {self.update!r}; allowed are host and device")
        epochs = whole_number("epochs", self.epochs, 1, _MANY)
        self.mean_ = x.mean(axis=0)
        scale = x.std(axis=0)
        self.scale_ = np.where(scale > 0.0, scale, 1.0)
        seed = int(check_random_state(self.random_state).randint(_MANY))
        layers = [*(Dense(width, self.activation) for width in self.hidden), Dense(outputs)]
        net = Network(x.shape[1], layers, cost)
        start = net.init(seed)
        scaled = self._scaled(x)
        with open_device("float", net) as device:
            snapshots = [start, *self._learn(device, start, scaled, y, seed)]
        self.net_ = choose_formats(net, snapshots, scaled[:PROFILED], y[:PROFILED], self.bits)
        with self._open() as device:
            *_, self.params_ = self._learn(device, start, scaled, y, seed)
        self.n_iter_ = epochs

    def _learn(
        self, device: Device, start: list[Parameters], x: Floats, y: Floats, seed: int
    ) -> list[list[Parameters]]:
        """Give the parameters after the first epoch and after the last."""
        batch_size = min(self.batch_size, len(x))
        self.loss_curve_ = []
        snapshots = []
        if self.update == "host":
            learner = Learner(device, start, Momentum(self.learning_rate, self.momentum))
            for _ in range(self.epochs):
                steps = [step.result.stats for step in learner.epoch(x, y, batch_size, seed)]
                snapshots.append(learner.params)
                self.loss_curve_.append(learner.history[-1].cost)
            self._note(steps)
        else:
            device.load(start)
            parts = []
            # Steps of a device take the sum over a batch.
            for part in device.train_iter(
                x, y, self.learning_rate / batch_size, batch_size, self.epochs, True, seed, chunk=len(x) + batch_size
            ):
                parts.append(part.stats)
                snapshots.append(device.parameters())
                self.loss_curve_.append(part.cost / len(x))
            self._note(parts)
        return [snapshots[0], snapshots[-1]]

    def _note(self, stats: list[Stats]) -> None:
        self.saturations_: list[Saturation] = sum_stats(stats).saturations

    def _open(self) -> Device:
        return open_device(self.device, self.net_, on_saturation=self.on_saturation)

    def _scaled(self, x: Floats) -> Floats:
        return np.asarray((x - self.mean_) / self.scale_)

    def _outputs(self, x: Any) -> Floats:
        check_is_fitted(self)
        x = validate_data(self, x, reset=False, dtype=np.float64)
        with self._open() as device:
            device.load(self.params_)
            return device.predict(self._scaled(x)).outputs


class Classifier(ClassifierMixin, Estimator):
    """A classifier behind ``softmax_cross_entropy`` whose gradients and outputs come from a device.

    Parameters and attributes are those of `Estimator`, and ``classes_``.
    """

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Learn from samples ``X`` (samples, features) and their classes ``y`` (samples,)."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        one_hot = np.eye(max(len(self.classes_), 2))[labels]
        self._fit(np.asarray(X), np.asarray(one_hot), one_hot.shape[1], "softmax_cross_entropy")
        return self

    def predict(self, X: npt.ArrayLike) -> Any:
        """Give the class of each sample."""
        check_is_fitted(self)
        return self.classes_[np.minimum(np.argmax(self._outputs(X), axis=1), len(self.classes_) - 1)]

    def decision_function(self, X: npt.ArrayLike) -> Floats:
        """Give the logits (samples, classes); for two classes the second's less the first's (samples,)."""
        outputs = self._outputs(X)
        return outputs if len(self.classes_) > 2 else outputs[:, 1] - outputs[:, 0]

    def predict_proba(self, X: npt.ArrayLike) -> Floats:
        """Give the probability of each class, the softmax of the device's logits in float64."""
        return softmax(self._outputs(X))[:, : len(self.classes_)]


class Regressor(RegressorMixin, Estimator):
    """A regressor behind ``squared_error`` whose gradients and outputs come from a device.

    Parameters and attributes are those of `Estimator`; targets are standardised too, by ``target_mean_`` and
    ``target_scale_``.
    """

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Learn from samples ``X`` (samples, features) and targets ``y`` (samples,) or (samples, outputs)."""
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        targets = np.asarray(y, dtype=np.float64)
        self._flat = targets.ndim == 1
        targets = targets.reshape(len(targets), -1)
        self.target_mean_, spread = targets.mean(axis=0), targets.std(axis=0)
        self.target_scale_ = np.where(spread > 0.0, spread, 1.0)
        self._fit(np.asarray(X), (targets - self.target_mean_) / self.target_scale_, targets.shape[1], "squared_error")
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def predict(self, X: npt.ArrayLike) -> Floats:
        """Give the target of each sample, in the shape of those that it learnt from."""
        outputs = self._outputs(X) * self.target_scale_ + self.target_mean_
        return np.asarray(outputs[:, 0] if self._flat else outputs)
