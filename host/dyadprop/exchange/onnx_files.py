"""ONNX files in and out. Imports onnx only when called."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dyadprop.errors import RangeError, ShapeError
from dyadprop.exchange.chain import POSSIBLE, Chain, Imported, Options, layer_keys
from dyadprop.files import check_writable, write_atomically
from dyadprop.formats import Formats
from dyadprop.network import Network, Parameters
from dyadprop.optional import optional_packages

_OPSET = 17
_IR_VERSION = 8  # of that opset's time: old runtimes read it
_DTYPES = ("float32", "float64")

_FLOATS = (1, 10, 11, 16)  # TensorProto's FLOAT, FLOAT16, DOUBLE, BFLOAT16

_Array = npt.NDArray[Any]


def from_onnx(
    file: str | Path,
    cost: str = "squared_error",
    *,
    formats: Formats | None = None,
    input_gradient: bool = False,
    max_batch: int = 255,
) -> Imported:
    """Read a network and its parameters from an ONNX file.

    Parameters
    ----------
    file : path
        Weights inside, or in files beside it. A chain of Gemm, or MatMul and Add, with Relu, LeakyRelu (its slope a
        power of two), Tanh, Sigmoid, and what changes nothing: Identity, Dropout, Cast between floats, and a Flatten
        or Reshape in front.
    cost, formats, input_gradient, max_batch
        What an ONNX file does not say; as of `Network`.

    Returns
    -------
    Imported
        ``net, params``.

    Raises
    ------
    RangeError, ShapeError
        By the node's name, with what would be possible; or if the file cannot be read.
    PackageMissing
    """
    with optional_packages("an ONNX file", "onnx"):
        import onnx
        from onnx import numpy_helper
    try:
        model = onnx.load(str(file))
        base = str(Path(file).parent)
        constants = {entry.name: numpy_helper.to_array(entry, base) for entry in model.graph.initializer}
    except Exception as error:  # protobuf's, the loader's and the file system's own kinds
        raise RangeError(f"ONNX file {file} cannot be read: {' '.join(str(error).split())[:200]}") from error
    reader = _Reader(Chain(f"ONNX file {file}"), constants, onnx.helper.get_attribute_value)
    inputs = [entry.name for entry in model.graph.input if entry.name not in constants]
    outputs = [entry.name for entry in model.graph.output]
    if len(inputs) != 1 or len(outputs) != 1:
        raise RangeError(
            f"ONNX file {file} has inputs {', '.join(inputs) or 'none'} and outputs {', '.join(outputs)}; expected one "
            "of each"
        )
    reader.read(model.graph.node, inputs[0], outputs[0])
    imported = reader.chain.finish(Options(cost, formats, input_gradient, max_batch))
    (entry,) = (entry for entry in model.graph.input if entry.name == inputs[0])
    axes = entry.type.tensor_type.shape.dim[1:]  # none if the file does not say
    sizes = [axis.dim_value for axis in axes if axis.HasField("dim_value")]
    width = imported.net.inputs
    if axes and len(sizes) == len(axes) and math.prod(sizes) != width:
        raise ShapeError(
            f"ONNX file {file}: a sample of input {inputs[0]!r} has the shape {tuple(sizes)}; the first layer takes "
            f"{width} inputs"
        )
    return imported


class _Reader:
    """Follows the one tensor that goes through the graph."""

    def __init__(self, chain: Chain, constants: dict[str, _Array], value: Callable[[Any], Any]) -> None:
        self.chain = chain
        self._constants = constants
        self._value = value

    def read(self, nodes: Sequence[Any], tensor: str, output: str) -> None:
        uses: dict[str, int] = {}
        for node in nodes:
            for name in node.input:
                uses[name] = uses.get(name, 0) + 1
        for number, node in enumerate(nodes):
            where = f"node {node.name or number!r} ({node.op_type})"
            if self._fold(node):
                continue
            if node.domain not in ("", "ai.onnx"):
                raise self.chain.refuse(where, f"is of the domain {node.domain}; {POSSIBLE}")
            if tensor not in node.input or uses[tensor] > 1:
                raise self.chain.refuse(where, f"is where the chain forks; {POSSIBLE}")
            self._take(where, node, tensor)
            tensor = node.output[0]
        if tensor != output:
            raise self.chain.refuse(f"output {output!r}", f"is not the end of the chain, {tensor!r}; {POSSIBLE}")

    def _fold(self, node: Any) -> bool:
        """Compute what depends on constants alone."""
        if node.op_type == "Constant":
            attributes = self._attributes(node)
            value = attributes.get("value")
            if value is not None:
                from onnx import numpy_helper

                self._constants[node.output[0]] = numpy_helper.to_array(value)
            else:
                self._constants[node.output[0]] = np.asarray(next(iter(attributes.values())))
            return True
        if not node.input or any(name not in self._constants for name in node.input if name):
            return False
        first = self._constants[node.input[0]]
        match node.op_type:
            case "Identity":
                result = first
            case "Cast" if self._attributes(node)["to"] in _FLOATS:
                result = first
            case "Transpose":
                result = np.transpose(first, self._attributes(node).get("perm"))
            case "Reshape":
                result = np.reshape(first, self._constants[node.input[1]].tolist())
            case _:
                return False
        self._constants[node.output[0]] = result
        return True

    def _take(self, where: str, node: Any, tensor: str) -> None:
        chain, attributes = self.chain, self._attributes(node)
        match node.op_type:
            case "Gemm":
                self._gemm(where, node, tensor, attributes)
            case "MatMul":
                if node.input[0] != tensor:
                    raise chain.refuse(where, f"multiplies from the left; possible is x @ constant; {POSSIBLE}")
                chain.dense(where, self._constant(where, node.input[1]).T, None)
            case "Add":
                other = node.input[1] if node.input[0] == tensor else node.input[0]
                chain.add_bias(where, self._constant(where, other))
            case "Relu":
                chain.activation(where, "relu")
            case "LeakyRelu":
                chain.activation(where, "leaky_relu", attributes.get("alpha", 0.01))
            case "Tanh":
                chain.activation(where, "tanh")
            case "Sigmoid":
                chain.activation(where, "sigmoid")
            case "Identity" | "Dropout":
                pass
            case "Cast" if attributes["to"] in _FLOATS:
                pass
            case "Flatten" | "Reshape":
                if not chain.empty:
                    raise chain.refuse(where, f"stands behind a dense layer; possible is one in front; {POSSIBLE}")
                if not self._keeps_samples(where, node, attributes):
                    raise chain.refuse(where, "mixes samples; possible is a shape of (batch, inputs)")
            case "Softmax" | "LogSoftmax":
                raise chain.softmax(where)
            case _:
                raise chain.refuse(where, f"cannot be mapped; {POSSIBLE}")

    def _keeps_samples(self, where: str, node: Any, attributes: dict[str, Any]) -> bool:
        """Tell whether a node makes a row of each sample; `from_onnx` compares the row's width with the input's."""
        if node.op_type == "Flatten":
            return bool(attributes.get("axis", 1) == 1)
        shape = self._constant(where, node.input[1]).tolist()
        return len(shape) == 2 and (shape[0] == -1 or (shape[0] == 0 and not attributes.get("allowzero", 0)))

    def _gemm(self, where: str, node: Any, tensor: str, attributes: dict[str, Any]) -> None:
        if node.input[0] != tensor or attributes.get("transA", 0):
            raise self.chain.refuse(where, f"transposes its input; possible is x @ constant + constant; {POSSIBLE}")
        weight = self._constant(where, node.input[1]).astype(np.float64)
        if not attributes.get("transB", 0):
            weight = weight.T
        self.chain.dense(where, weight * attributes.get("alpha", 1.0), None)
        if len(node.input) > 2 and node.input[2]:
            bias = self._constant(where, node.input[2]).astype(np.float64)
            self.chain.add_bias(where, bias * attributes.get("beta", 1.0))

    def _constant(self, where: str, name: str) -> _Array:
        if name not in self._constants:
            raise self.chain.refuse(where, f"takes {name!r}, which is no constant of the file; {POSSIBLE}")
        return self._constants[name]

    def _attributes(self, node: Any) -> dict[str, Any]:
        return {entry.name: self._value(entry) for entry in node.attribute}


def to_onnx(
    net: Network, params: Sequence[Parameters], file: str | Path, *, dtype: str = "float32", external: bool = False
) -> None:
    """Write the equal network as ONNX: ``x`` (batch, n_0) to ``y`` (batch, n_L), logits behind a softmax cost.

    Parameters
    ----------
    net : Network
    params : sequence of Parameters
        ``device.parameters()`` too: words of a device are exact in float32.
    file : path
    dtype : {"float32", "float64"}
    external : bool
        Whether weights go into ``<file>.data`` beside it.

    Raises
    ------
    ShapeError, RangeError, PackageMissing
    """
    with optional_packages("an ONNX file", "onnx"):
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    if dtype not in _DTYPES:
        raise RangeError(f"dtype of an ONNX file is {dtype!r}; allowed are {', '.join(_DTYPES)}")
    check_writable("ONNX file", file)
    element = TensorProto.FLOAT if dtype == "float32" else TensorProto.DOUBLE
    nodes, constants, tensor = [], [], "x"
    last = len(net.layers)
    entries = zip(layer_keys(net), net.layers, net.check_parameters(params), strict=True)
    for l, (key, layer, entry) in enumerate(entries, start=1):
        names = [f"{key}.weight", f"{key}.bias"]
        constants += [
            numpy_helper.from_array(values.astype(dtype), name) for values, name in zip(entry, names, strict=True)
        ]
        kind = {"relu": "Relu", "leaky_relu": "LeakyRelu", "tanh": "Tanh", "sigmoid": "Sigmoid"}.get(layer.activation)
        out = "y" if l == last else f"x{l}"
        summed = f"a{l}" if kind else out
        nodes.append(helper.make_node("Gemm", [tensor, *names], [summed], f"layer{l}", transB=1))
        if kind:
            extra = {"alpha": layer.slope} if kind == "LeakyRelu" else {}
            nodes.append(helper.make_node(kind, [summed], [out], f"layer{l}.{layer.activation}", **extra))
        tensor = out
    graph = helper.make_graph(
        nodes,
        "dyadprop",
        [helper.make_tensor_value_info("x", element, ["batch", net.inputs])],
        [helper.make_tensor_value_info("y", element, ["batch", net.outputs])],
        constants,
    )
    model = helper.make_model(
        graph,
        producer_name="dyadprop",
        doc_string=repr(net),
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", _OPSET)],
    )
    onnx.checker.check_model(model)
    if external:
        data = Path(file).with_name(Path(file).name + ".data")
        data.unlink(missing_ok=True)  # onnx appends to what is there
        onnx.external_data_helper.convert_model_to_external_data(model, location=data.name, size_threshold=0)
        onnx.save_model(model, str(file))
    else:
        write_atomically("ONNX file", file, model.SerializeToString())
