"""One abstract device behind every name: what a training loop calls, whoever answers."""

import copy
import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl

import numpy as np
import numpy.typing as npt

from dyadprop.checkpoints import Checkpoint
from dyadprop.checks import finite_array, whole_number
from dyadprop.costs import real_targets
from dyadprop.course import CHUNK, WHOLE, Course
from dyadprop.errors import DeviceLost, DyadpropError, RangeError, Refused, ShapeError
from dyadprop.formats import Floats
from dyadprop.interrupts import held_interrupts
from dyadprop.network import Network, Parameters, RawParameters, check_same_network
from dyadprop.rates import Rate, nearest_rate
from dyadprop.results import FIRST, Position, RawTraining, Result, Saturation, Stats, TrainResult
from dyadprop.turns import TurnLock, Worker

ON_SATURATION = ("count", "warn", "raise")
ENTRY_POINT_GROUP = "dyadprop.devices"
DEVICE_VARIABLE = "DYADPROP_DEVICE"
DEFAULT_DEVICE = "golden"
SUBMITTED = ("load", "parameters", "predict", "gradients", "vjp", "train", "checkpoint", "resume")


class SaturationWarning(UserWarning):
    """Values were limited to their format; asked for by ``on_saturation="warn"``."""


class SaturationError(RangeError):
    """Values were limited to their format; asked for by ``on_saturation="raise"``.

    Attributes
    ----------
    saturations : list of Saturation
    result : Result, TrainResult or None
        What the call would have returned: it has been done. None from `Device.load`, which has loaded nothing.
    """

    def __init__(
        self, message: str, saturations: Sequence[Saturation] = (), result: Result | TrainResult | None = None
    ) -> None:
        super().__init__(message)
        self.saturations = list(saturations)
        self.result = result


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C while a device learnt; the device stays usable.

    Attributes
    ----------
    result : TrainResult
        What was learnt until then, in whole batches. The device holds that and no more; ``result.position`` is the
        ``start`` with which the run goes on.
    """

    def __init__(self, result: TrainResult) -> None:
        super().__init__(f"training stopped before epoch {result.position.epoch}, batch {result.position.batch}")
        self.result = result


@dataclass(frozen=True)
class DeviceInfo:
    """Who answers.

    Attributes
    ----------
    kind : str
        Name under which the device was opened.
    network : str
        Hash of the network that it was built for.
    gateware : str
        Revision of the hardware description, empty where there is none.
    board : str
    clock : float
        Hz; 0 where nothing is clocked by time.
    formats : tuple of dyadprop.Formats
        Of the input and of each layer.
    lanes : tuple of int
        Of each stage, empty where there are none.
    max_batch : int
        Samples that the device accumulates in one go.
    protocol : int
        Version of the packet protocol, 0 where there is no wire.
    port : str
        Where it was found, empty where there is no wire.
    baud : int
        Bits a second on it, 0 where that means nothing.
    round_trip : float
        Seconds from a packet to its answer, measured.
    """

    kind: str
    network: str
    gateware: str
    board: str
    clock: float
    formats: tuple[Any, ...]
    lanes: tuple[int, ...]
    max_batch: int
    protocol: int = 0
    port: str = ""
    baud: int = 0
    round_trip: float = 0.0


class Trained(NamedTuple):
    """What a backing answers to whole batches of training.

    Attributes
    ----------
    outputs : float64 array (samples, n_L)
    costs : list of float
        Of each batch, summed over its samples.
    raw : RawTraining or None
    stats : Stats
    """

    outputs: Floats
    costs: list[float]
    raw: RawTraining | None
    stats: Stats


class Device(ABC):
    """A thing that computes exact gradients of one network.

    Parameters
    ----------
    net : Network
    on_saturation : {"count", "warn", "raise"}
        What a user hears of values limited to their format; they are counted in ``result.stats`` in each case.
        "raise" is a `SaturationError`: `load` then has loaded nothing; every other call has been done, and the error
        carries its result. Training stops behind the part of the run in which it happened.

    Notes
    -----
    One lock a device: threads take turns, in the order in which they came. A call that fails at the door
    (`ShapeError`, `RangeError`), or that the backing turns down (`Refused`, a RangeError too), has done nothing. A call
    that fails inside in any other way leaves the device *unusable*, and each later call says so in a `DeviceLost`.
    """

    kind = "device"
    learns = False  # whether it takes steps itself: has `_train` and `_resume`

    def __init__(self, net: Network, *, on_saturation: str = "count") -> None:
        if on_saturation not in ON_SATURATION:
            raise RangeError(f"on_saturation is {on_saturation!r}; allowed are {', '.join(ON_SATURATION)}")
        self.net = net
        self._on_saturation = on_saturation
        self._lock = TurnLock()
        self._worker = Worker(self._lock, f"dyadprop {self.kind}")
        self._process = os.getpid()
        self._unusable: str | None = None
        self._loaded = False
        # What `load` took last, and limited; None where the device may hold something else by now.
        self._last_load: tuple[list[Parameters], list[Saturation]] | None = None
        self._stats = Stats()

    # -- what a backing provides -------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def info(self) -> DeviceInfo:
        """Who answers: network hash, formats, lanes, largest batch."""

    def _count_load(self, params: list[Parameters]) -> list[Saturation]:
        """Count what would saturate if checked parameters were loaded; nothing where numbers are real."""
        return []

    @abstractmethod
    def _load(self, params: list[Parameters]) -> list[Saturation]:
        """Take checked parameters; return what saturated."""

    @abstractmethod
    def _parameters(self) -> list[Parameters]:
        """Give the parameters held now."""

    @abstractmethod
    def _predict(self, x: Floats) -> Result:
        """Answer checked inputs, forward only."""

    @abstractmethod
    def _gradients(self, x: Floats, y: Floats) -> Result:
        """Answer checked inputs and targets."""

    @abstractmethod
    def _vjp(self, x: Floats, dy: Floats, scale: float | None) -> Result:
        """Answer checked inputs and seeds; undo ``scale`` in gradients and input gradients.

        ``None`` is the `_auto_scale` of what becomes words: behind sigmoid_cross_entropy not ``dy`` itself.
        """

    def _train(self, x: Floats, y: Floats, batch_size: int, rate: Rate) -> Trained:
        """Learn from checked samples in their order; only the last batch may be shorter. Needed where it `learns`."""
        raise NotImplementedError

    def _check_rate(self, rate: Rate, batch_size: int) -> None:  # noqa: B027 - real numbers take every rate
        """Raise RangeError unless steps of that rate can be taken now; asked before each part of a run."""

    def _residuals(self) -> list[RawParameters]:
        """Give what steps left in the accumulators; nothing where numbers are real."""
        return []

    def _resume(self, params: list[Parameters], residuals: list[RawParameters]) -> None:
        """Take parameters and residuals of a checkpoint that fits this device. Needed where it `learns`."""
        raise NotImplementedError

    def _close(self) -> None:  # noqa: B027 - most devices hold nothing that must be given back
        """Give back what is held."""

    # -- what a user calls -------------------------------------------------------------------------------------------

    def load(self, params: Sequence[Parameters]) -> list[Saturation]:
        """Load parameters: rounded half to even, saturated (`Network.quantize` shows the result).

        Parameters
        ----------
        params : sequence of Parameters
            Weight ``(n_l, n_{l-1})`` and bias ``(n_l,)`` of each layer.

        Returns
        -------
        list of Saturation

        Raises
        ------
        ShapeError, RangeError
            Before anything is loaded.
        """
        checked = self.net.check_parameters(params)
        if self._on_saturation == "raise" and (expected := self._count_load(checked)):
            raise SaturationError(
                f"parameters do not fit their format: {_listed(expected)}; nothing was loaded", expected
            )
        with self._call(needs_parameters=False):
            self._last_load = None
            saturations = self._load(checked)
            self._loaded = True
            self._last_load = checked, saturations
        self._tell(saturations, None, stacklevel=3)
        return saturations

    @contextmanager
    def holding(self, params: Sequence[Parameters]) -> Iterator[list[Saturation]]:
        """Lend the device with these parameters in it; other threads wait. For loops that bring them along each call.

        Parameters
        ----------
        params : sequence of Parameters
            Loaded only where they are not, number by number, what `load` was last given.

        Yields
        ------
        list of Saturation
            What was limited when they were loaded, be it now or earlier.

        Raises
        ------
        ShapeError, RangeError
            As of `load`.
        """
        checked = self.net.check_parameters(params)
        self._check_process()
        with self._lock:
            if self._last_load is None or not _same_parameters(self._last_load[0], checked):
                self.load(checked)
            assert self._last_load is not None
            yield self._last_load[1]

    @property
    def stats(self) -> Stats:
        """Figures of the last call that gave a result; where a framework makes the calls, they are found here."""
        return self._stats

    def parameters(self) -> list[Parameters]:
        """Give the parameters that the device holds now, exactly, read back from it."""
        with self._call():
            return self._parameters()

    def predict(self, x: npt.ArrayLike) -> Result:
        """Compute outputs only; gradient accumulators are not touched.

        Parameters
        ----------
        x : array (batch, n_0)

        Raises
        ------
        ShapeError, RangeError
        """
        inputs = finite_array("inputs x", x, (None, self.net.inputs))
        return self._timed(lambda: self._predict(inputs))

    def gradients(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Result:
        """Compute outputs, cost and gradients, summed over the batch.

        Parameters
        ----------
        x : array (batch, n_0)
            Any batch of at least 1; the driver splits what is longer than ``info.max_batch``.
        y : array (batch, n_L), or integer labels (batch,) for the cross-entropies

        Raises
        ------
        ShapeError, RangeError
        """
        inputs = finite_array("inputs x", x, (None, self.net.inputs))
        targets = real_targets(self.net, y, len(inputs))
        return self._timed(lambda: self._gradients(inputs, targets))

    def vjp(self, x: npt.ArrayLike, dy: npt.ArrayLike, scale: float | str = "auto") -> Result:
        """Compute gradients for the caller's own ``dC/dx_L``.

        Parameters
        ----------
        x : array (batch, n_0)
        dy : array (batch, n_L)
            ``dC/dx_L`` of each sample.
        scale : "auto" or a power of two
            One factor for the whole batch, applied to ``dy`` before it is rounded and taken out of the results.
            "auto" is the largest with which no entry saturates, so that small seeds keep their bits. Behind
            sigmoid_cross_entropy it is ``dy * x_L * (1 - x_L)`` that becomes words, and the factor is its.

        Returns
        -------
        Result
            ``cost`` is None; ``stats.scale`` is the factor.

        Raises
        ------
        ShapeError, RangeError
        """
        inputs = finite_array("inputs x", x, (None, self.net.inputs))
        seeds = finite_array("seeds dy", dy, (None, self.net.outputs))
        if len(seeds) != len(inputs):
            raise ShapeError(f"seeds dy have {len(seeds)} samples; inputs x have {len(inputs)}")
        factor = None if scale == "auto" else _power_of_two(scale)
        return self._timed(lambda: self._vjp(inputs, seeds, factor))

    def train(
        self,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        learning_rate: float = 2**-6,
        batch_size: int = 1,
        epochs: int = 1,
        shuffle: bool = False,
        seed: int = 0,
        *,
        start: Position = FIRST,
    ) -> TrainResult:
        """Learn on the device: gradients and steps stay on it (lossless SGD, docs/arithmetic.md, section 8).

        Parameters
        ----------
        x : array (samples, n_0)
        y : array (samples, n_L), or integer labels (samples,) for the cross-entropies
        learning_rate : float
            A step is ``learning_rate`` times the gradient *summed* over the batch. The nearest ``m / 256 * 2^-k`` with
            ``m`` from 129 to 256 is used, on every device.
        batch_size : int
            Samples a step, 1 to ``net.max_batch``; the last step of an epoch takes what is left.
        epochs : int
            Of the whole run.
        shuffle : bool
            Present the samples of an epoch in an order that ``seed`` and the epoch's number decide, and nothing else.
        seed : int
        start : Position
            Where the run goes on: the ``position`` of an earlier result of the same run, or of a checkpoint.

        Returns
        -------
        TrainResult

        Raises
        ------
        ShapeError, RangeError
            Before anything is done.
        TrainingInterrupted
            After Ctrl-C: behind the part of the run that was under way, about 1024 samples. A second Ctrl-C does not
            wait for that, and leaves the device unusable.
        """
        course = self._course(x, y, learning_rate, batch_size, epochs, shuffle, seed, start, CHUNK)
        parts = []
        with held_interrupts() as interrupted:
            for part in self._walk(course):
                parts.append(part)
                if interrupted() or (part.stats.saturations and self._on_saturation == "raise"):
                    break
        result = TrainResult.join(parts)
        if interrupted():
            raise TrainingInterrupted(result)
        self._tell(result.stats.saturations, result, stacklevel=3)
        return result

    def train_iter(
        self,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        learning_rate: float = 2**-6,
        batch_size: int = 1,
        epochs: int = 1,
        shuffle: bool = False,
        seed: int = 0,
        *,
        start: Position = FIRST,
        chunk: int = CHUNK,
    ) -> Iterator[TrainResult]:
        """Learn as `train` does, and give results as they come.

        Parameters
        ----------
        x, y, learning_rate, batch_size, epochs, shuffle, seed, start
            As of `train`.
        chunk : int
            Samples a result, about: whole batches of one epoch, at least one. The device never waits within them.

        Yields
        ------
        TrainResult
            Of consecutive parts of the run. Between two of them the device can be used for anything; a run that is
            not taken to its end stops behind the last result.

        Raises
        ------
        ShapeError, RangeError
            Before anything is done.
        TrainingInterrupted
            After Ctrl-C, behind the part that was under way; its ``result`` is that part.
        """
        whole_number("chunk", chunk, 1, WHOLE)
        return self._told(self._course(x, y, learning_rate, batch_size, epochs, shuffle, seed, start, chunk))

    def checkpoint(self, position: Position = FIRST) -> Checkpoint:
        """Read back everything that learning goes on from: parameters and residuals, to the last bit.

        Parameters
        ----------
        position : Position
            Where the run stands (``result.position``); kept in the checkpoint.
        """
        with self._call():
            return Checkpoint(self.net.hash, self._parameters(), self._residuals(), position)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Put the device where a checkpoint was taken: a run that goes on from there is the uninterrupted one.

        Parameters
        ----------
        checkpoint : Checkpoint
            Of the same network; of a device with words for a device with words.

        Raises
        ------
        NetworkMismatch
            If it belongs to another network.
        ShapeError, RangeError
            If it does not fit this kind of device.
        """
        self._check_learns()
        check_same_network("checkpoint", checkpoint.network, self.net)
        params = self.net.check_parameters(checkpoint.parameters)
        self._check_checkpoint(params, checkpoint.residuals)
        with self._call(needs_parameters=False):
            self._last_load = None
            self._resume(params, checkpoint.residuals)
            self._loaded = True

    def submit(self, method: str, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Call a method in another thread: its turn comes behind all calls made before, and before all made later.

        Parameters
        ----------
        method : str
            "load", "parameters", "predict", "gradients", "vjp", "train", "checkpoint" or "resume".
        *args, **kwargs
            As of the method. They are copied: what becomes of them later changes nothing.

        Returns
        -------
        concurrent.futures.Future
            Of what the method returns or raises. Until its turn it can be cancelled.

        Raises
        ------
        RangeError
            If there is no such method.
        DeviceLost
            After a fork.
        """
        if method not in SUBMITTED:
            raise RangeError(f"method {method!r} cannot be submitted; allowed are {', '.join(SUBMITTED)}")
        self._check_process()
        call = getattr(self, method)
        args, kwargs = copy.deepcopy((args, kwargs))
        return self._worker.submit(lambda: call(*args, **kwargs))

    def close(self, *, cancel_futures: bool = False) -> None:
        """Give the device back; a second call does nothing, and neither does one in a forked child.

        Parameters
        ----------
        cancel_futures : bool
            Whether submitted calls that have not begun are cancelled; else they are done first. Leaving a `with` block
            by an error cancels them.
        """
        if os.getpid() != self._process:  # the lock and what is held belong to the parent
            return
        if cancel_futures:
            self._worker.cancel()
        with self._lock:
            if self._unusable != "it is closed":
                self._unusable = "it is closed"
                self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel_futures=kind is not None)

    def __reduce__(self) -> Any:
        raise DyadpropError(
            f"device {self.kind!r} cannot be pickled or copied: it holds hardware or a running simulation; "
            "pass its name and call dyadprop.open() where it is used"
        )

    # -- common to all backings --------------------------------------------------------------------------------------

    @contextmanager
    def _call(self, *, needs_parameters: bool = True, check: Callable[[], None] | None = None) -> Iterator[None]:
        self._check_process()
        with self._lock:
            if self._unusable is not None:
                raise DeviceLost(f"device {self.kind!r} cannot be used: {self._unusable}; open it again")
            if needs_parameters and not self._loaded:
                raise DyadpropError(f"device {self.kind!r} has no parameters yet; call load(params) first")
            if check is not None:
                check()
            try:
                yield
            except Refused:
                raise
            except BaseException as error:
                self._unusable = f"an earlier call failed ({type(error).__name__}: {error})"
                raise

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise DeviceLost(
                f"device {self.kind!r} was opened by process {self._process} and is used by process "
                f"{os.getpid()} after a fork; "
                "open it again there"
            )

    def _timed(self, work: Callable[[], Result]) -> Result:
        start = time.perf_counter()
        with self._call():
            result = work()
            self._stats = result.stats
        result.stats.seconds = time.perf_counter() - start
        self._tell(result.stats.saturations, result, stacklevel=4)
        return result

    def _course(
        self,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        learning_rate: float,
        batch_size: int,
        epochs: int,
        shuffle: bool,
        seed: int,
        start: Position,
        chunk: int,
    ) -> Course:
        self._check_learns()
        inputs = finite_array("inputs x", x, (None, self.net.inputs))
        targets = real_targets(self.net, y, len(inputs))
        rate = nearest_rate(learning_rate)
        size = whole_number("batch_size", batch_size, 1, self.net.max_batch)
        self._check_rate(rate, size)
        return Course(inputs, targets, rate, size, epochs, shuffle, seed, start, chunk)

    def _told(self, course: Course) -> Iterator[TrainResult]:
        parts = self._walk(course)
        while True:
            # Not while the caller has the result: then Ctrl-C is the caller's.
            with held_interrupts() as interrupted:
                part = next(parts, None)
            if part is None:
                return
            if interrupted():
                raise TrainingInterrupted(part)
            self._tell(part.stats.saturations, part, stacklevel=3)
            yield part

    def _walk(self, course: Course) -> Iterator[TrainResult]:
        for part in course.parts():
            begin = time.perf_counter()
            # The lock is held for a part and not for the run: whoever takes the results may never come back.
            with self._call(check=lambda: self._check_rate(course.rate, course.batch_size)):
                self._last_load = None
                trained = self._train(course.x[part.order], course.y[part.order], course.batch_size, course.rate)
                self._stats = trained.stats
            trained.stats.seconds = time.perf_counter() - begin
            yield TrainResult(
                outputs=trained.outputs,
                order=part.order,
                costs=np.array(trained.costs),
                epochs=np.full(len(trained.costs), part.epoch),
                learning_rate=course.rate.value,
                position=part.next,
                raw=trained.raw,
                stats=trained.stats,
            )

    def _check_learns(self) -> None:
        if not self.learns:
            raise DyadpropError(
                f"device {self.kind!r} cannot learn on its own; take its gradients, step on the host and load"
            )

    def _check_checkpoint(self, params: list[Parameters], residuals: list[RawParameters]) -> None:
        if residuals:
            raise RangeError(
                f"checkpoint holds residuals of words, which device {self.kind!r} has not; "
                "load(checkpoint.parameters) starts from its words"
            )

    def _tell(self, saturations: list[Saturation], result: Result | TrainResult | None, *, stacklevel: int) -> None:
        if not saturations or self._on_saturation == "count":
            return
        message = f"values were limited to their format: {_listed(saturations)}; gradients are no longer exact"
        if self._on_saturation == "raise":
            raise SaturationError(message, saturations, result)
        warnings.warn(message, SaturationWarning, stacklevel=stacklevel)

    def _auto_scale(self, seeds: Floats) -> float:
        largest = float(np.max(np.abs(seeds)))
        if largest == 0.0:
            return 1.0
        form = self.net.layer_formats(len(self.net.layers)).sensitivity
        # One step above what the logarithms say, then down: only rounding itself knows whether the last one still fits.
        exponent = min(int(np.floor(np.log2(form.max) - np.log2(largest))) + 2, np.finfo(np.float64).maxexp - 1)
        while form.to_ints(seeds * 2.0**exponent).saturations:
            exponent -= 1
        return float(2.0**exponent)


def _same_parameters(one: list[Parameters], other: list[Parameters]) -> bool:
    return all(
        np.array_equal(a.weight, b.weight) and np.array_equal(a.bias, b.bias) for a, b in zip(one, other, strict=True)
    )


def _listed(saturations: Sequence[Saturation]) -> str:
    return ", ".join(f"{s.count} of {s.signal} in stage {s.stage}" for s in saturations)


def _power_of_two(scale: float | str) -> float:
    if (
        not isinstance(scale, (int, float, np.integer, np.floating))
        or not np.isfinite(scale)
        or scale <= 0
        or np.frexp(scale)[0] != 0.5
    ):
        raise RangeError(f"scale is {scale!r}; allowed are 'auto' and positive powers of two")
    return float(scale)


def devices() -> dict[str, str]:
    """List the kinds of device that `open` knows, each with one line of what it is."""
    listing = {}
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda e: e.name):
        try:
            listing[entry.name] = (entry.load().__doc__ or "").strip().splitlines()[0]
        except ImportError as error:
            listing[entry.name] = f"not available: {error}"
    return listing


def open_device(name: str | None, net: Network, **options: Any) -> Device:
    """Open a device by name.

    Parameters
    ----------
    name : str or None
        ``kind[:address][?key=value&...]``; None means ``$DYADPROP_DEVICE``, or ``golden``.
    net : Network
    **options
        ``on_saturation``, and what the kind takes; those in the name are added.

    Returns
    -------
    Device
        Also a context manager.

    Raises
    ------
    RangeError
        If the kind or an option is not known.
    BuildError, NetworkMismatch
        From the kind itself.
    """
    if name is None:
        name = os.environ.get(DEVICE_VARIABLE) or DEFAULT_DEVICE
    front, _, query = name.partition("?")
    kind, _, address = front.partition(":")
    found: dict[str, EntryPoint] = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if kind not in found:
        raise RangeError(f"device {name!r} is of no known kind; available are {', '.join(sorted(found)) or 'none'}")
    for key, value in parse_qsl(query, keep_blank_values=True):
        options[key.replace("-", "_")] = value
    if address:
        options["address"] = address
    try:
        opener = found[kind].load()
    except ImportError as error:
        raise RangeError(
            f"device {kind!r} needs a package that is not installed: {error}; try pip install 'dyadprop[sim]'"
        ) from error
    allowed = {"on_saturation", *opener.OPTIONS}
    unknown = sorted(set(options) - allowed)
    if unknown:
        raise RangeError(f"device {kind!r} knows no option {unknown[0]!r}; allowed are {', '.join(sorted(allowed))}")
    device: Device = opener(net, **options)
    return device
