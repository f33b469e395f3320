"""Where a training run stands: parameters and residuals, to go on from to the last bit."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dyadprop.errors import RangeError, ShapeError
from dyadprop.files import write_atomically
from dyadprop.formats import Ints
from dyadprop.network import Network, Parameters, RawParameters, check_same_network
from dyadprop.results import FIRST, Position
from dyadprop.widths import StageNumbers

_LAYOUT = 1


@dataclass(frozen=True)
class Checkpoint:
    """Everything that learning on a device goes on from.

    Attributes
    ----------
    network : str
        Hash of the network.
    parameters : list of Parameters
        float64; exactly what the device holds.
    residuals : list of RawParameters
        What steps left in the gradient accumulators, exact; empty on ``float``, where nothing is left.
    position : Position
        Where the run stands: ``start`` of the call of `Device.train` that goes on.
    """

    network: str
    parameters: list[Parameters]
    residuals: list[RawParameters]
    position: Position = FIRST


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint as npz, with the hash of its network.

    Raises
    ------
    RangeError
        If the file's name ends otherwise, or it cannot be written.
    """
    _check_ending(path)
    arrays = {
        "layout": np.array(_LAYOUT),
        "network": np.array(checkpoint.network),
        "position": np.array(checkpoint.position, dtype=np.int64),
    }
    for index, entry in enumerate(checkpoint.parameters, start=1):
        arrays[f"{index}.weight"], arrays[f"{index}.bias"] = entry
    for index, residual in enumerate(checkpoint.residuals, start=1):
        arrays[f"{index}.weight residual"], arrays[f"{index}.bias residual"] = residual.weight, residual.bias
        arrays[f"{index}.fraction bits"] = np.array(residual.fraction_bits)
    packed = io.BytesIO()
    np.savez(packed, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes the names for its own options
    write_atomically("checkpoint", path, packed.getvalue())


def load_checkpoint(path: str | Path, net: Network) -> Checkpoint:
    """Read a checkpoint that `save_checkpoint` wrote.

    Raises
    ------
    NetworkMismatch
        If it belongs to another network.
    RangeError, ShapeError
        If the file cannot be read or holds something else.
    """
    _check_ending(path)
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
    except Exception as error:  # a broken file fails in zipfile, zlib or NumPy, each with errors of its own
        raise RangeError(f"checkpoint {path} cannot be read: {error}") from error
    check_same_network(f"checkpoint {path}", str(arrays.get("network", "unknown")), net)
    layers = range(1, len(net.layers) + 1)
    try:
        layout = _whole_numbers(path, "layout", arrays["layout"], ())
        if layout != _LAYOUT:
            raise RangeError(f"checkpoint {path} has layout {layout}; this version reads layout {_LAYOUT}")
        epoch, batch = _whole_numbers(path, "position", arrays["position"], (2,))
        params = [Parameters(arrays[f"{i}.weight"], arrays[f"{i}.bias"]) for i in layers]
        residuals = []
        for i in layers if "1.weight residual" in arrays else ():
            name = f"{i}.fraction bits"
            fraction = _whole_numbers(path, name, arrays[name], ())
            residuals.append(RawParameters(arrays[f"{i}.weight residual"], arrays[f"{i}.bias residual"], fraction))
    except KeyError as error:
        raise ShapeError(f"checkpoint {path} holds no array {error}") from error
    return Checkpoint(net.hash, net.check_parameters(params), residuals, Position(epoch, batch))


def _whole_numbers(path: str | Path, name: str, array: Ints, shape: tuple[int, ...]) -> Any:
    """Give an array of integers as Python's own, a number where ``shape`` is empty."""
    if array.shape != shape or array.dtype.kind not in "iu":
        raise ShapeError(
            f"checkpoint {path}: {name} is {array.dtype} of shape {array.shape}; expected integers of shape {shape}"
        )
    return array.tolist()


def check_residual(stage: StageNumbers, residual: RawParameters) -> None:
    """Raise ShapeError or RangeError unless the accumulators of a stage can hold ``residual``."""
    where = f"residuals of stage {stage.index}"
    if residual.fraction_bits != stage.gradient_fraction:
        raise RangeError(
            f"{where} have {residual.fraction_bits} fraction bits; its gradients have {stage.gradient_fraction}"
        )
    limit = 1 << (stage.gradient_bits - 1)
    shapes = {"weight": (stage.outputs, stage.inputs), "bias": (stage.outputs,)}
    for name, shape in shapes.items():
        sums = getattr(residual, name)
        if sums.shape != shape:
            raise ShapeError(f"{name} {where} have shape {sums.shape}; network expects {shape}")
        if sums.dtype != np.int64:
            raise RangeError(f"{name} {where} are {sums.dtype}; expected int64")
        if sums.min(initial=0) < -limit or sums.max(initial=0) >= limit:
            raise RangeError(
                f"{name} {where} reach from {sums.min()} to {sums.max()}; an accumulator of {stage.gradient_bits} bits "
                f"holds {-limit} to {limit - 1}"
            )


def _check_ending(path: str | Path) -> None:
    if Path(path).suffix != ".npz":
        raise RangeError(f"checkpoint {path} ends in {Path(path).suffix!r}; allowed is .npz")
