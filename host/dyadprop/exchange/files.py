"""Networks in files of any kind, told apart by their endings."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from dyadprop.errors import NetworkMismatch, RangeError
from dyadprop.exchange.chain import Imported
from dyadprop.exchange.keras_models import from_keras, load_keras
from dyadprop.exchange.onnx_files import from_onnx, to_onnx
from dyadprop.exchange.torch_models import from_torch, load_torch
from dyadprop.network import Network, Parameters
from dyadprop.parameter_files import load_parameters, save_parameters

READABLE = (".toml", ".onnx", ".keras", ".pt", ".pth")
WRITABLE = (".toml", ".onnx")
PARAMETERS = (".safetensors", ".npz")  # beside a .toml, with its name


class Source(NamedTuple):
    """A network, and its parameters where the file has any.

    Attributes
    ----------
    net : Network
    params : list of Parameters or None
    """

    net: Network
    params: list[Parameters] | None


def read_network(path: str | Path, *, cost: str | None = None, parameters: str | Path | None = None) -> Source:
    """Read a network from a file of any kind in ``READABLE``.

    Parameters
    ----------
    path : path
        ``net.toml``, with the parameters of ``net.safetensors`` or ``net.npz`` where one of them is there and is its
        own.
    cost : str, optional
        Of a foreign model, squared_error where not given; a ``.toml`` names its own.
    parameters : path, optional
        A parameter file of the network in a ``.toml``.

    Raises
    ------
    RangeError, ShapeError, FormatError, NetworkMismatch, PackageMissing
    """
    path = Path(path)
    if path.suffix not in READABLE:
        raise RangeError(f"network file {path} ends in {path.suffix!r}; allowed are {', '.join(READABLE)}")
    if path.suffix == ".toml":
        if cost is not None:
            raise RangeError(f"network file {path} names its own cost; --cost is for {', '.join(READABLE[1:])}")
        net = Network.load(path)
        return Source(net, _parameters(net, path, parameters))
    if parameters is not None:
        raise RangeError(f"network file {path} holds its own parameters; a parameter file goes with a .toml")
    options: dict[str, Any] = {} if cost is None else {"cost": cost}
    found: Imported
    match path.suffix:
        case ".onnx":
            found = from_onnx(path, **options)
        case ".keras":
            found = from_keras(load_keras(str(path)), **options)
        case _:
            found = from_torch(load_torch(str(path)).eval(), **options)
    return Source(found.net, found.params)


def write_network(path: str | Path, source: Source) -> list[Path]:
    """Write a network to a file of a kind in ``WRITABLE``; parameters beside a ``.toml``, where there are any.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    RangeError, PackageMissing
    """
    path = Path(path)
    if path.suffix == ".toml":
        source.net.save(path)
        if source.params is None:
            return [path]
        ending = PARAMETERS[0] if find_spec("safetensors") else PARAMETERS[1]
        return [path, save_parameters(path.with_suffix(ending), source.net, source.params)]
    if path.suffix == ".onnx":
        if source.params is None:
            raise RangeError(f"ONNX file {path} needs parameters; give --parameters, or put them beside the .toml")
        to_onnx(source.net, source.params, path)
        return [path]
    raise RangeError(f"network file {path} ends in {path.suffix!r}; allowed are {', '.join(WRITABLE)}")


def _parameters(net: Network, path: Path, given: str | Path | None) -> list[Parameters] | None:
    if given is not None:
        return load_parameters(given, net)
    for ending in PARAMETERS:
        beside = path.with_suffix(ending)
        if beside.exists():
            try:
                return load_parameters(beside, net)
            except NetworkMismatch:
                continue  # of the network that stood here before
    return None
