"""Parameter sets on disk: safetensors where that package is installed, else npz; with the network's hash."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dyadprop.errors import NetworkMismatch, RangeError, ShapeError
from dyadprop.network import Network, Parameters, check_same_network

try:
    import safetensors
    import safetensors.numpy
except ImportError:  # an extra: the npz form needs nothing
    safetensors = None

_HASH = "network"


def save_parameters(path: str | Path, net: Network, params: Sequence[Parameters]) -> None:
    """Write parameters with the hash of their network.

    Parameters
    ----------
    path : path
        ``*.safetensors`` needs that package (``pip install 'dyadprop[save]'``); ``*.npz`` always works.

    Raises
    ------
    ShapeError, RangeError
        If the parameters do not fit the network, or the ending is another.
    """
    path = Path(path)
    arrays = {}
    for index, entry in enumerate(net.check_parameters(params), start=1):
        arrays[f"{index}.weight"], arrays[f"{index}.bias"] = entry
    if path.suffix == ".npz":
        np.savez(path, **{_HASH: np.array(net.hash)}, **arrays)  # type: ignore[arg-type]
    elif path.suffix == ".safetensors":
        _need_safetensors(path)
        safetensors.numpy.save_file(arrays, path, metadata={_HASH: net.hash})
    else:
        raise RangeError(f"parameter file {path} ends in {path.suffix!r}; allowed are .safetensors and .npz")


def load_parameters(path: str | Path, net: Network) -> list[Parameters]:
    """Read parameters that `save_parameters` wrote.

    Raises
    ------
    NetworkMismatch
        If they belong to another network.
    RangeError, ShapeError
        If the file cannot be read or holds something else.
    """
    path = Path(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                arrays = dict(archive)
            got = str(arrays.pop(_HASH, "unknown"))
        elif path.suffix == ".safetensors":
            _need_safetensors(path)
            with safetensors.safe_open(path, framework="numpy") as archive:
                arrays = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118 - not a dict
                got = (archive.metadata() or {}).get(_HASH, "unknown")
        else:
            raise RangeError(f"parameter file {path} ends in {path.suffix!r}; allowed are .safetensors and .npz")
    except (NetworkMismatch, RangeError):
        raise
    except Exception as error:  # each library raises its own kinds for a broken file
        raise RangeError(f"parameter file {path} cannot be read: {error}") from error
    check_same_network(f"parameter file {path}", got, net)
    try:
        params = [Parameters(arrays[f"{i}.weight"], arrays[f"{i}.bias"]) for i in range(1, len(net.layers) + 1)]
    except KeyError as error:
        raise ShapeError(f"parameter file {path} holds no array {error}") from error
    return net.check_parameters(params)


def _need_safetensors(path: Path) -> None:
    if safetensors is None:
        raise RangeError(
            f"parameter file {path} needs the package safetensors: pip install 'dyadprop[save]', or use .npz"
        )
