"""Parameter sets on disk: safetensors where that package is installed, else npz; with the network's hash."""

import io
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from dyadprop.errors import RangeError, ShapeError
from dyadprop.files import check_writable, write_atomically
from dyadprop.network import Network, Parameters, check_same_network

safetensors: Any
try:
    safetensors = import_module("safetensors")
    import_module("safetensors.numpy")
except ImportError:  # an extra: the npz form needs nothing
    safetensors = None

_HASH = "network"


def save_parameters(path: str | Path, net: Network, params: Sequence[Parameters]) -> Path:
    """Write parameters with the hash of their network.

    Parameters
    ----------
    path : path
        ``*.safetensors`` needs that package (``pip install 'dyadprop[save]'``); ``*.npz`` always works.
        Without an ending, ``.safetensors`` is added where the package is installed, else ``.npz``.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    ShapeError, RangeError
        If the parameters do not fit the network, the ending is another, or the file cannot be written.
    """
    path = _with_ending(path)
    arrays = {}
    for index, entry in enumerate(net.check_parameters(params), start=1):
        arrays[f"{index}.weight"], arrays[f"{index}.bias"] = entry
    if path.suffix == ".npz":
        packed = io.BytesIO()
        np.savez(packed, **{_HASH: np.array(net.hash)}, **arrays)  # type: ignore[arg-type]
        content = packed.getvalue()
    else:
        content = safetensors.numpy.save(arrays, metadata={_HASH: net.hash})
    write_atomically("parameter file", path, content)
    return path


def check_parameter_path(path: str | Path) -> None:
    """Raise now what `save_parameters` would raise about the file's name and place.

    Raises
    ------
    RangeError
    """
    check_writable("parameter file", _with_ending(path))


def load_parameters(path: str | Path, net: Network) -> list[Parameters]:
    """Read parameters that `save_parameters` wrote, under the name that it was given.

    Raises
    ------
    NetworkMismatch
        If they belong to another network.
    RangeError, ShapeError
        If the file cannot be read or holds something else.
    """
    path = Path(path)
    if path.name and not path.suffix:
        found = [path.with_name(path.name + ending) for ending in (".safetensors", ".npz")]
        path = next((candidate for candidate in found if candidate.exists()), _with_ending(path))
    _check_ending(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                arrays = dict(archive)
            got = str(arrays.pop(_HASH, "unknown"))
        else:
            with safetensors.safe_open(path, framework="numpy") as archive:
                arrays = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118 - not a dict
                got = (archive.metadata() or {}).get(_HASH, "unknown")
    except Exception as error:  # each library raises its own kinds for a broken file
        raise RangeError(f"parameter file {path} cannot be read: {error}") from error
    check_same_network(f"parameter file {path}", got, net)
    try:
        params = [Parameters(arrays[f"{i}.weight"], arrays[f"{i}.bias"]) for i in range(1, len(net.layers) + 1)]
    except KeyError as error:
        raise ShapeError(f"parameter file {path} holds no array {error}") from error
    return net.check_parameters(params)


def _with_ending(path: str | Path) -> Path:
    path = Path(path)
    if not path.name:
        raise RangeError(f"parameter file {path} has no name")
    if not path.suffix:
        path = path.with_name(path.name + (".npz" if safetensors is None else ".safetensors"))
    _check_ending(path)
    return path


def _check_ending(path: Path) -> None:
    if path.suffix not in (".safetensors", ".npz"):
        raise RangeError(f"parameter file {path} ends in {path.suffix!r}; allowed are .safetensors and .npz")
    if path.suffix == ".safetensors" and safetensors is None:
        raise RangeError(
            f"parameter file {path} needs the package safetensors: pip install 'dyadprop[save]', or use .npz"
        )
