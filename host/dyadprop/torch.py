"""A device inside PyTorch: ``Module``. Needs torch (``pip install 'dyadprop[torch]'``), imported by nothing else here.

How it is made:

    Module.forward  -> dyadprop::apply  (x, parameters)        device.predict
      its backward  -> dyadprop::vjp    (x, dy, parameters)    device.vjp, one power-of-two scale for the whole batch
    Module.loss     -> dyadprop::cost   (x, y, parameters)     device.gradients: cost and gradients in one call
      its backward  -> dyadprop::chain  (dcost, gradients)     no call

The operators are functions of tensors and of the *key* of a device, an integer, so that torch.compile and torch.export
can trace through them. Parameters are loaded where they differ from what the device was given last.
"""

import copy
import secrets
import weakref
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from dyadprop.device import Device, open_device
from dyadprop.errors import DeviceLost, DyadpropError, RangeError, ShapeError
from dyadprop.exchange.chain import layer_keys
from dyadprop.formats import Floats
from dyadprop.network import Network, Parameters, check_same_network
from dyadprop.optional import optional_packages
from dyadprop.results import Result

with optional_packages("dyadprop.torch", "torch"):
    import torch
    from torch import Tensor, nn

__all__ = ["Module"]

REDUCTIONS = ("mean", "sum")
DTYPES = (torch.float32, torch.float64)

# Keys are drawn from 62 bits, so that an exported program of another process never meets a wrong device.
_devices: "weakref.WeakValueDictionary[int, Device]" = weakref.WeakValueDictionary()


class Module(nn.Module):
    """A network whose outputs and gradients come from a device.

    Parameters
    ----------
    net : Network
        With ``input_gradient=True`` where layers with parameters stand before it.
    device : Device, str or None
        Open, and of this network; or the name of one, which then is opened here.
    params : sequence of Parameters, optional
        To start from; ``net.init(0)`` where not given.
    dtype : torch.dtype, optional
        Of the parameters, float32 or float64; torch's default where not given.

    Attributes
    ----------
    net : Network
    device : Device
        ``device.stats`` has the figures of the last call, the scale of the seeds and what saturated among them. Copies
        of a module share it. Who opened it closes it.

    Raises
    ------
    NetworkMismatch
        If the device is another network's.

    Notes
    -----
    Its parameters are ordinary, named as those of the equal ``nn.Sequential``, so that ``state_dict`` goes both ways.
    They stay real numbers here, where an optimiser steps; the device gets them rounded to its formats. Gradients are
    those of the device: with respect to the rounded ones.

    Examples
    --------
    >>> model = Module(net, "golden")  # doctest: +SKIP
    >>> nn.functional.mse_loss(model(x), y).backward()  # doctest: +SKIP
    """

    def __init__(
        self,
        net: Network,
        device: Device | str | None = None,
        *,
        params: Sequence[Parameters] | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.device = device if isinstance(device, Device) else open_device(device, net)
        check_same_network(f"device {self.device.kind!r}", self.device.net.hash, net)
        self._keys = tuple(layer_keys(net))
        self._key = _register(self.device)
        start = net.init(0) if params is None else net.check_parameters(params)
        for key, n_in, entry in zip(self._keys, net.widths, start, strict=False):
            layer = nn.Linear(n_in, len(entry.bias), dtype=dtype)
            self.add_module(key, layer)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(entry.weight))
                layer.bias.copy_(torch.from_numpy(entry.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Give the outputs of a batch; what stands behind decides ``dC/dx_L``.

        Parameters
        ----------
        x : tensor (..., n_0), float32 or float64 as the parameters

        Returns
        -------
        tensor (..., n_L)

        Raises
        ------
        ShapeError, RangeError
            Also if ``x`` requires a gradient that the network does not compute.
        """
        parameters = self._tensors()
        self._check_input(x, parameters)
        outputs: Tensor = torch.ops.dyadprop.apply(x.reshape(-1, self.net.inputs), parameters, self._key)
        return outputs.reshape(*x.shape[:-1], self.net.outputs)

    def loss(self, x: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
        """Give the network's own cost of a batch; it and all gradients are one call to the device.

        Parameters
        ----------
        x : tensor (batch, n_0)
        y : tensor (batch, n_L), or integer labels (batch,) for the cross-entropies
        reduction : {"mean", "sum"}
            Over the samples.

        Returns
        -------
        tensor ()

        Raises
        ------
        ShapeError, RangeError
            Also if ``y`` requires a gradient, which there is none of.
        """
        if reduction not in REDUCTIONS:
            raise RangeError(f"reduction is {reduction!r}; allowed are {', '.join(REDUCTIONS)}")
        parameters = self._tensors()
        self._check_input(x, parameters)
        if y.requires_grad:
            raise RangeError("targets y require a gradient; a device gives none with respect to targets: y.detach()")
        cost: Tensor = torch.ops.dyadprop.cost(x, y, parameters, self._key)[0]
        return cost / x.shape[0] if reduction == "mean" else cost

    def parameter_list(self) -> list[Parameters]:
        """Give the parameters as `Network` and `Device` take them, float64."""
        tensors = self._tensors()
        return _pairs([_array(tensor) for tensor in tensors])

    def extra_repr(self) -> str:
        """Say which network and device."""
        return f"{self.net!r}, device {self.device.kind!r}"

    def __deepcopy__(self, memo: dict[int, Any]) -> "Module":
        memo[id(self.device)] = self.device  # shared: there is one of it
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def __getstate__(self) -> NoReturn:
        raise DyadpropError(
            "a dyadprop.torch.Module cannot be pickled: it holds a device; save model.state_dict(), or "
            "dyadprop.to_torch(model.net, model.parameter_list())"
        )

    def _tensors(self) -> list[Tensor]:
        layers = [self.get_submodule(key) for key in self._keys]
        return [tensor for layer in layers for tensor in (layer.weight, layer.bias)]

    def _check_input(self, x: Tensor, parameters: list[Tensor]) -> None:
        if x.ndim == 0 or x.shape[-1] != self.net.inputs:
            raise ShapeError(f"inputs x have shape {tuple(x.shape)}; network expects (batch, {self.net.inputs})")
        if x.dtype != parameters[0].dtype or x.dtype not in DTYPES:
            raise RangeError(
                f"inputs x are {x.dtype} and parameters {parameters[0].dtype}; allowed are float32 or float64 for both"
            )
        if x.requires_grad and torch.is_grad_enabled() and not self.net.input_gradient:
            raise RangeError(
                "inputs x require a gradient, which this network does not compute; make it with "
                "Network(..., input_gradient=True), or use x.detach()"
            )


def _register(device: Device) -> int:
    for key, other in list(_devices.items()):
        if other is device:
            return key
    key = secrets.randbits(62)
    _devices[key] = device
    return key


def _device(key: int) -> Device:
    device = _devices.get(key)
    if device is None:
        raise DeviceLost(
            "the device of this dyadprop.torch operator is gone; a compiled or exported program needs its Module, in "
            "the process that made it"
        )
    return device


def _array(tensor: Tensor) -> Floats:
    return np.asarray(tensor.detach().cpu().double().numpy())


def _pairs(arrays: list[Floats]) -> list[Parameters]:
    return [Parameters(weight, bias) for weight, bias in zip(arrays[::2], arrays[1::2], strict=True)]


def _tensor(values: Any, like: Tensor) -> Tensor:
    return torch.as_tensor(np.asarray(values), dtype=like.dtype, device=like.device).clone()


def _flat(result: Result, like: Sequence[Tensor]) -> list[Tensor]:
    arrays = [array for entry in result.gradients for array in entry]
    return [_tensor(array, tensor) for array, tensor in zip(arrays, like, strict=True)]


def _no_second_derivative(ctx: Any, *grads: Any) -> NoReturn:
    raise DyadpropError(
        "a device computes first derivatives only; the gradient of a gradient (double backward, create_graph=True) is "
        "not there"
    )


# -- the operators -----------------------------------------------------------------------------------------------------


@torch.library.custom_op("dyadprop::apply", mutates_args=())
def _apply(x: Tensor, parameters: Sequence[Tensor], key: int) -> Tensor:
    device = _device(key)
    with device.holding(_pairs([_array(p) for p in parameters])) as loaded:
        result = device.predict(_array(x))
        result.stats.add(loaded)
    return _tensor(result.outputs, x)


@_apply.register_fake
def _(x: Tensor, parameters: Sequence[Tensor], key: int) -> Tensor:
    return x.new_empty((x.shape[0], parameters[-1].shape[0]))


@torch.library.custom_op("dyadprop::vjp", mutates_args=())
def _vjp(x: Tensor, dy: Tensor, parameters: Sequence[Tensor], key: int, with_input: bool) -> list[Tensor]:
    device = _device(key)
    with device.holding(_pairs([_array(p) for p in parameters])) as loaded:
        result = device.vjp(_array(x), _array(dy))
        result.stats.add(loaded)
    return _flat(result, parameters) + ([_tensor(result.inputs, x)] if with_input else [])


@_vjp.register_fake
def _(x: Tensor, dy: Tensor, parameters: Sequence[Tensor], key: int, with_input: bool) -> list[Tensor]:
    return [torch.empty_like(p) for p in parameters] + ([torch.empty_like(x)] if with_input else [])


@torch.library.custom_op("dyadprop::cost", mutates_args=())
def _cost(x: Tensor, y: Tensor, parameters: Sequence[Tensor], key: int) -> list[Tensor]:
    device = _device(key)
    with device.holding(_pairs([_array(p) for p in parameters])) as loaded:
        result = device.gradients(_array(x), _targets(y))
        result.stats.add(loaded)
    inputs = [] if result.inputs is None else [_tensor(result.inputs, x)]
    return [_tensor(result.cost, x), *_flat(result, parameters), *inputs]


@_cost.register_fake
def _(x: Tensor, y: Tensor, parameters: Sequence[Tensor], key: int) -> list[Tensor]:
    inputs = [torch.empty_like(x)] if _device(key).net.input_gradient else []
    return [x.new_empty(()), *(torch.empty_like(p) for p in parameters), *inputs]


@torch.library.custom_op("dyadprop::chain", mutates_args=())
def _chain(dcost: Tensor, gradients: Sequence[Tensor], x: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    # x and parameters are here for what they require: a second derivative shall find this operator, and be refused.
    return [gradient * dcost for gradient in gradients]


@_chain.register_fake
def _(dcost: Tensor, gradients: Sequence[Tensor], x: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    return [torch.empty_like(gradient) for gradient in gradients]


def _targets(y: Tensor) -> Any:
    values = y.detach().cpu()
    return values.double().numpy() if values.is_floating_point() else values.numpy()


def _keep_apply(ctx: Any, inputs: Any, output: Any) -> None:
    x, parameters, ctx.key = inputs
    ctx.save_for_backward(x, *parameters)


def _backward_apply(ctx: Any, dy: Tensor) -> Any:
    x, *parameters = ctx.saved_tensors
    with_input = bool(ctx.needs_input_grad[0])
    gradients = torch.ops.dyadprop.vjp(x, dy, parameters, ctx.key, with_input)
    count = len(parameters)
    return gradients[count] if with_input else None, list(gradients[:count]), None


def _keep_cost(ctx: Any, inputs: Any, output: Any) -> None:
    x, _, parameters, _ = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(x, *parameters, *output[1:])


def _backward_cost(ctx: Any, grads: Sequence[Tensor]) -> Any:
    count = len(ctx.needs_input_grad[2])
    x, *kept = ctx.saved_tensors
    parameters, gradients = kept[:count], kept[count:]
    chained = torch.ops.dyadprop.chain(grads[0], gradients, x, parameters)
    with_input = ctx.needs_input_grad[0]
    return chained[count] if with_input else None, None, list(chained[:count]), None


_apply.register_autograd(_backward_apply, setup_context=_keep_apply)
_cost.register_autograd(_backward_cost, setup_context=_keep_cost)
_vjp.register_autograd(_no_second_derivative)
_chain.register_autograd(_no_second_derivative)
