"""A device inside JAX: ``apply`` and ``loss``. Needs jax (``pip install 'dyadprop[jax]'``), nothing else imports it.

Both are functions of a pytree of parameters, as ``net.init()`` gives it, and so fit ``jax.grad``, ``jit``, ``vmap`` and
optax. Parameters are loaded where they differ from what the device was given last; ``device.stats`` has the figures of
the last call, the scale of the seeds and what saturated among them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dyadprop.device import Device
from dyadprop.errors import DyadpropError, RangeError, ShapeError
from dyadprop.network import Network, Parameters
from dyadprop.optional import optional_packages
from dyadprop.results import Result

with optional_packages("dyadprop.jax", "jax"):
    import jax
    import jax.numpy as jnp

__all__ = ["apply", "loss"]

REDUCTIONS = ("mean", "sum")

_Params = Sequence[Parameters]


def apply(device: Device) -> Callable[[_Params, Any], Any]:
    """Make ``f(params, x)``, the outputs of a device, differentiable in reverse.

    Parameters
    ----------
    device : Device
        Open; its network with ``input_gradient=True`` where a gradient goes on to ``x``.

    Returns
    -------
    callable
        ``x`` (..., n_0) gives (..., n_L), in the parameters' dtype. A call is one call to the device, and so is its
        vector-Jacobian product, with one power-of-two scale for the whole batch (`Device.vjp`).

    Notes
    -----
    Under ``vmap``, a call with common parameters stays one call to the device. Gradients under ``vmap`` are one call an
    element, because a device sums over its batch; hand it the batch itself instead.

    Examples
    --------
    >>> f = apply(device)  # doctest: +SKIP
    >>> jax.grad(lambda params: jnp.mean((f(params, x) - y) ** 2))(params)  # doctest: +SKIP
    """
    net = device.net

    def predict(*arrays: Any) -> Any:
        *params, x = arrays
        return _host(device, params, [x], lambda a: [device.predict(a).outputs], joined=True)

    def pull(*arrays: Any) -> Any:
        *params, x, dy = arrays
        return tuple(_host(device, params, [x, dy], lambda a, b: _cotangents(device.vjp(a, b))))

    @jax.custom_vjp
    def core(flat: list[Any], x: Any) -> Any:
        return _callback(predict, [jax.ShapeDtypeStruct((len(x), net.outputs), x.dtype)], *flat, x)[0]

    def forward(flat: list[Any], x: Any) -> Any:
        values = [entry.value for entry in flat]
        _check_perturbed(net, x.perturbed)
        return core(values, x.value), (values, x.value)

    def backward(kept: Any, dy: Any) -> Any:
        flat, x = kept
        dy = _instantiate(dy)
        found = _sealed(pull, _shapes([*flat, x] if net.input_gradient else flat), *flat, x, dy)
        count = len(flat)
        return list(found[:count]), found[count] if net.input_gradient else None

    core.defvjp(forward, backward, symbolic_zeros=True)

    def applied(params: _Params, x: Any) -> Any:
        flat = _flat(net, params)
        inputs = _real(net, "inputs x", x, net.inputs, flat[0].dtype)
        outputs = core(flat, inputs.reshape(-1, net.inputs))
        return outputs.reshape(*inputs.shape[:-1], net.outputs)

    return applied


def loss(device: Device, reduction: str = "mean") -> Callable[[_Params, Any, Any], Any]:
    """Make ``f(params, x, y)``, the network's own cost: value and gradients are one call to the device.

    Parameters
    ----------
    device : Device
        Open; its network with ``input_gradient=True`` where a gradient goes on to ``x``.
    reduction : {"mean", "sum"}
        Over the samples.

    Returns
    -------
    callable
        ``x`` (batch, n_0) and ``y`` (batch, n_L), or integer labels (batch,) for the cross-entropies; one sample
        without the batch too.

    Raises
    ------
    RangeError
        If the reduction is not known.

    Notes
    -----
    Under ``vmap`` it is one call to the device an element.

    Examples
    --------
    >>> cost, gradients = jax.value_and_grad(loss(device))(params, x, y)  # doctest: +SKIP
    """
    if reduction not in REDUCTIONS:
        raise RangeError(f"reduction is {reduction!r}; allowed are {', '.join(REDUCTIONS)}")
    net = device.net

    def compute(*arrays: Any) -> Any:
        *params, x, y = arrays

        def work(a: Any, b: Any) -> list[Any]:
            result = device.gradients(a, b)
            return [result.cost, *_cotangents(result)]

        return tuple(_host(device, params, [x, y], work))

    def answer(flat: list[Any], x: Any, y: Any) -> Any:
        shapes = _shapes([*flat, x] if net.input_gradient else flat)
        return _sealed(compute, [jax.ShapeDtypeStruct((), x.dtype), *shapes], *flat, x, y)

    @jax.custom_vjp
    def core(flat: list[Any], x: Any, y: Any) -> Any:
        return answer(flat, x, y)[0]

    def forward(flat: list[Any], x: Any, y: Any) -> Any:
        _check_perturbed(net, x.perturbed)
        if y.perturbed:
            raise RangeError("a gradient of targets y was asked for; a device gives none with respect to targets")
        cost, *gradients = answer([entry.value for entry in flat], x.value, y.value)
        return cost, gradients

    def backward(gradients: Any, dcost: Any) -> Any:
        chained = [gradient * _instantiate(dcost) for gradient in gradients]
        count = 2 * len(net.layers)
        return chained[:count], chained[count] if net.input_gradient else None, None

    core.defvjp(forward, backward, symbolic_zeros=True)

    def costed(params: _Params, x: Any, y: Any) -> Any:
        flat = _flat(net, params)
        inputs = _real(net, "inputs x", x, net.inputs, flat[0].dtype)
        targets = jnp.asarray(y)
        if inputs.ndim == 1:
            inputs, targets = inputs[None], targets[None]
        labels = net.cost != "squared_error" and jnp.issubdtype(targets.dtype, jnp.integer) and targets.ndim == 1
        if inputs.ndim != 2 or targets.shape != (inputs.shape[:1] if labels else (len(inputs), net.outputs)):
            raise ShapeError(
                f"inputs x have shape {inputs.shape} and targets y {targets.shape}; network expects "
                f"(batch, {net.inputs}) and (batch, {net.outputs})"
                + ("" if net.cost == "squared_error" else ", or integer labels (batch,)")
            )
        cost = core(flat, inputs, targets)
        return cost / len(inputs) if reduction == "mean" else cost

    return costed


# -- under tracing -----------------------------------------------------------------------------------------------------


def _flat(net: Network, params: _Params) -> list[Any]:
    """Give weight, bias, weight, ... in one floating dtype."""
    flat = [jnp.asarray(array) for entry in params for array in entry]
    dtype = jnp.result_type(*flat) if flat else jnp.float32
    if not jnp.issubdtype(dtype, jnp.floating):
        raise RangeError(f"parameters are {dtype}; allowed are real numbers of floating point")
    shapes = [
        shape for n_in, n_out in zip(net.widths, net.widths[1:], strict=False) for shape in ((n_out, n_in), (n_out,))
    ]
    if [array.shape for array in flat] != shapes:
        raise ShapeError(f"parameters have shapes {[array.shape for array in flat]}; network expects {shapes}")
    return [array.astype(dtype) for array in flat]


def _real(net: Network, what: str, values: Any, width: int, dtype: Any) -> Any:
    array = jnp.asarray(values)
    if array.ndim == 0 or array.shape[-1] != width:
        raise ShapeError(f"{what} have shape {array.shape}; network expects (..., {width})")
    return array.astype(dtype)


def _check_perturbed(net: Network, perturbed: bool) -> None:
    if perturbed and not net.input_gradient:
        raise RangeError(
            "a gradient of inputs x was asked for, which this network does not compute; make it with "
            "Network(..., input_gradient=True), or use jax.lax.stop_gradient(x)"
        )


def _shapes(arrays: Sequence[Any]) -> list[Any]:
    return [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]


def _instantiate(cotangent: Any) -> Any:
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return jnp.zeros(cotangent.shape, cotangent.dtype)
    return cotangent


def _callback(work: Callable[..., Any], shapes: Sequence[Any], *arrays: Any) -> Any:
    return jax.pure_callback(lambda *a: _cast(work(*a), shapes), tuple(shapes), *arrays, vmap_method="expand_dims")


def _sealed(work: Callable[..., Any], shapes: Sequence[Any], *arrays: Any) -> Any:
    """Call back from where a second derivative must be refused."""

    @jax.custom_jvp
    def call(*a: Any) -> Any:
        return _callback(work, shapes, *a)

    @call.defjvp
    def _refuse(primals: Any, tangents: Any) -> Any:
        raise DyadpropError("a device computes first derivatives only; the gradient of a gradient is not there")

    return call(*arrays)


# -- on the host -------------------------------------------------------------------------------------------------------


def _cast(found: Sequence[Any], shapes: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(np.asarray(array, dtype=shape.dtype) for array, shape in zip(found, shapes, strict=True))


def _cotangents(result: Result) -> list[Any]:
    arrays = [array for entry in result.gradients for array in entry]
    return arrays if result.inputs is None else [*arrays, result.inputs]


def _host(
    device: Device,
    params: Sequence[Any],
    data: Sequence[Any],
    work: Callable[..., list[Any]],
    *,
    joined: bool = False,
) -> list[Any]:
    """Call the device for each element of what ``vmap`` put in front of the arrays' own axes.

    Parameters
    ----------
    params : sequence of arrays (*lead, ...)
        Weight, bias, weight, ...; an axis of ``lead`` may be 1.
    data : sequence of arrays (*lead, batch, ...)
    work : callable
    joined : bool
        Whether elements with the same parameters can be one batch.
    """
    params = [np.asarray(array, dtype=np.float64) for array in params]
    data = [np.asarray(array) for array in data]
    depth = params[0].ndim - 2
    lead = np.broadcast_shapes(*(array.shape[:depth] for array in (*params, *data)))
    common = all(n == 1 for array in params for n in array.shape[:depth])
    if common and joined:
        (x,) = data
        found = _held(device, [array.reshape(array.shape[depth:]) for array in params], [_rows(x)], work)
        return [array.reshape(*x.shape[:-1], -1) for array in found]
    elements = []
    for index in np.ndindex(lead):
        chosen = [_element(array, index) for array in (*params, *data)]
        elements.append(_held(device, chosen[: len(params)], chosen[len(params) :], work))
    return [np.reshape(np.stack(arrays), (*lead, *np.shape(arrays[0]))) for arrays in zip(*elements, strict=True)]


def _held(device: Device, params: Sequence[Any], data: Sequence[Any], work: Callable[..., list[Any]]) -> list[Any]:
    pairs = [Parameters(weight, bias) for weight, bias in zip(params[::2], params[1::2], strict=True)]
    with device.holding(pairs) as loaded:
        found = work(*data)
        device.stats.add(loaded)
    return found


def _rows(array: Any) -> Any:
    return array.reshape(-1, array.shape[-1])


def _element(array: Any, index: tuple[int, ...]) -> Any:
    return array[tuple(0 if size == 1 else i for i, size in zip(index, array.shape, strict=False))]
