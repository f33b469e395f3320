"""``torch.nn.Sequential`` in and out. Imports torch only when called."""

from collections.abc import Iterator, Sequence
from typing import Any

from dyadprop.errors import RangeError
from dyadprop.exchange.chain import POSSIBLE, Chain, Imported, Options
from dyadprop.formats import Formats
from dyadprop.network import Network, Parameters
from dyadprop.optional import optional_packages


def from_torch(
    module: Any,
    cost: str = "squared_error",
    *,
    formats: Formats | None = None,
    input_gradient: bool = False,
    max_batch: int = 255,
) -> Imported:
    """Read a network and its parameters from a torch model.

    Parameters
    ----------
    module : torch.nn.Sequential, nested or not, torch.nn.Linear or dyadprop.torch.Module
        Of Linear, ReLU, LeakyReLU (its slope a power of two), Tanh, Sigmoid, and what changes nothing: Identity,
        Dropout in ``eval()`` mode, and a Flatten in front.
    cost, formats, input_gradient, max_batch
        What a torch model does not say; as of `Network`.

    Returns
    -------
    Imported
        ``net, params``.

    Raises
    ------
    RangeError, ShapeError
        By the layer's name, with what would be possible.
    PackageMissing

    Examples
    --------
    >>> net, params = dp.from_torch(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)))  # doctest: +SKIP
    """
    with optional_packages("a torch model", "torch"):
        from torch import nn
    chain = Chain("torch model")
    from dyadprop.torch import Module

    if isinstance(module, Module):
        module = to_torch(module.net, module.parameter_list())
    for name, layer in _leaves(module, "", nn):
        where = f"layer {name or '0'!r} ({type(layer).__name__})"
        match _plain(layer, nn):
            case nn.Linear():
                bias = None if layer.bias is None else _array(layer.bias)
                chain.dense(where, _array(layer.weight), bias)
            case nn.ReLU():
                chain.activation(where, "relu")
            case nn.LeakyReLU():
                chain.activation(where, "leaky_relu", layer.negative_slope)
            case nn.Tanh():
                chain.activation(where, "tanh")
            case nn.Sigmoid():
                chain.activation(where, "sigmoid")
            case nn.Identity():
                pass
            case nn.Dropout():
                if layer.training and layer.p > 0.0:
                    raise chain.refuse(where, "drops units; possible is model.eval(), in which it changes nothing")
            case nn.Flatten():
                if not chain.empty:
                    raise chain.refuse(where, f"stands behind a dense layer; possible is one in front; {POSSIBLE}")
                if (layer.start_dim, layer.end_dim) != (1, -1):
                    raise chain.refuse(where, "mixes samples, or leaves axes; possible is nn.Flatten()")
            case nn.Softmax() | nn.LogSoftmax():
                raise chain.softmax(where)
            case nn.BatchNorm1d():
                raise chain.refuse(
                    where,
                    "is no stage; possible is to fold it into the Linear before it: "
                    "torch.nn.utils.fusion.fuse_linear_bn_eval",
                )
            case _:
                raise chain.refuse(where, f"cannot be mapped; {POSSIBLE}")
    return chain.finish(Options(cost, formats, input_gradient, max_batch))


def to_torch(net: Network, params: Sequence[Parameters], *, dtype: Any = None) -> Any:
    """Make the equal ``torch.nn.Sequential``; behind softmax_cross_entropy it ends in the logits, as ``net`` does.

    Parameters
    ----------
    net : Network
    params : sequence of Parameters
        ``device.parameters()`` too: words of a device are exact in float32.
    dtype : torch.dtype, optional
        Of its parameters; torch's default where not given.

    Returns
    -------
    torch.nn.Sequential

    Raises
    ------
    ShapeError, RangeError, PackageMissing
    """
    with optional_packages("a torch model", "torch"):
        import torch
        from torch import nn
    layers: list[Any] = []
    for n_in, layer, entry in zip(net.widths, net.layers, net.check_parameters(params), strict=False):
        linear = nn.Linear(n_in, layer.outputs, dtype=dtype)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(entry.weight))
            linear.bias.copy_(torch.from_numpy(entry.bias))
        layers.append(linear)
        match layer.activation:
            case "relu":
                layers.append(nn.ReLU())
            case "leaky_relu":
                layers.append(nn.LeakyReLU(layer.slope))
            case "tanh":
                layers.append(nn.Tanh())
            case "sigmoid":
                layers.append(nn.Sigmoid())
    return nn.Sequential(*layers)


def load_torch(path: str) -> Any:
    """Read a file that ``torch.save`` wrote of a whole model, without running code from it.

    Raises
    ------
    RangeError
        If it holds anything but layers that `from_torch` takes.
    """
    with optional_packages("a torch model", "torch"):
        import torch
        from torch import nn
    known = [
        nn.Sequential, nn.Linear, nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Identity, nn.Dropout, nn.Flatten,
        nn.Softmax, nn.LogSoftmax,
    ]  # fmt: skip
    try:
        with torch.serialization.safe_globals(known):
            module = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zip's and torch's own kinds
        reason = " ".join(str(error).split())[:200]
        raise RangeError(
            f"torch file {path} cannot be read: {reason}; possible is torch.save(model) of a torch.nn.Sequential, or "
            "an export to ONNX"
        ) from error
    if not isinstance(module, nn.Module):
        raise RangeError(
            f"torch file {path} holds a {type(module).__name__}; expected a whole model, as torch.save(model) writes it"
        )
    return module


def _leaves(module: Any, name: str, nn: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(module, nn.Sequential) or type(module).forward is not nn.Sequential.forward:
        yield name, module
        return
    for key, child in module._modules.items():  # named_children() leaves out what is there a second time
        yield from _leaves(child, f"{name}.{key}" if name else key, nn)


def _plain(layer: Any, nn: Any) -> Any:
    """Give the layer, or None if it is a subclass that computes something of its own."""
    ours = {getattr(nn, base.__name__, None) for base in type(layer).__mro__}
    return layer if any(kind is not None and type(layer).forward is kind.forward for kind in ours) else None


def _array(tensor: Any) -> Any:
    return tensor.detach().cpu().double().numpy()
