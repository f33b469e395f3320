"""ONNX files in and out."""

from __future__ import annotations

import numpy as np
import pytest

import dyadprop as dp
from tests.loops.needed import needed

needed("onnx", "onnxruntime")

import onnx  # noqa: E402 - behind the skip
import onnxruntime  # noqa: E402 - behind the skip
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - behind the skip

POSSIBLE = "possible are dense layers in a chain, each with at most one of relu, leaky_relu, tanh, sigmoid behind it"


def reference(path, x) -> np.ndarray:
    """Run a file with the runtime of others."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (name,) = (entry.name for entry in session.get_inputs())
    return session.run(None, {name: x})[0]


def outputs(net: dp.Network, params, x) -> np.ndarray:
    with dp.open("float", net) as device:
        device.load(params)
        return device.predict(x).outputs


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(3))
def test_there_and_back(seed, dtype, external, tmp_path):
    rng = np.random.default_rng(seed)
    widths = rng.integers(1, 9, rng.integers(2, 6)).tolist()
    kinds = [str(rng.choice(["identity", "relu", "leaky_relu", "tanh", "sigmoid"])) for _ in widths[1:]]
    net = dp.Network(widths[0], [dp.Dense(n, kind, slope=0.25) for n, kind in zip(widths[1:], kinds, strict=True)])
    params = net.init(seed)
    path = tmp_path / "net.onnx"
    for _ in range(2):  # a file that is there is replaced
        dp.to_onnx(net, params, path, dtype=dtype, external=external)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"][: 1 + external]
    x = rng.normal(size=(7, widths[0])).astype(dtype)
    tolerance = 1e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(reference(path, x), outputs(net, params, x), atol=tolerance)
    back, read = dp.from_onnx(path)
    assert [(layer.outputs, layer.activation) for layer in back.layers] == list(zip(widths[1:], kinds, strict=True))
    assert all(layer.slope == 0.25 for layer in back.layers if layer.activation == "leaky_relu")
    for mine, other in zip(params, read, strict=True):
        np.testing.assert_array_equal(mine.weight.astype(dtype), other.weight)
        np.testing.assert_array_equal(mine.bias.astype(dtype), other.bias)


def test_words_are_exact(tmp_path):
    net = dp.Network(5, [dp.Dense(4, "sigmoid"), dp.Dense(3)])
    params = net.quantize(net.init(3)).parameters
    dp.to_onnx(net, params, tmp_path / "net.onnx")
    for mine, other in zip(params, dp.from_onnx(tmp_path / "net.onnx").params, strict=True):
        np.testing.assert_array_equal(mine.weight, other.weight)
    with pytest.raises(dp.RangeError, match=r"^dtype of an ONNX file is 'int8'; allowed are float32, float64$"):
        dp.to_onnx(net, params, tmp_path / "net.onnx", dtype="int8")
    with pytest.raises(dp.RangeError, match=r"^ONNX file \S+ cannot be written: No such file"):
        dp.to_onnx(net, params, tmp_path / "none" / "net.onnx")


RNG = np.random.default_rng(1)
CONSTANTS = {
    "w": RNG.normal(size=(3, 4)).astype(np.float32),
    "wt": RNG.normal(size=(4, 3)).astype(np.float32),
    "w16": RNG.normal(size=(3, 4)).astype(np.float16),
    "b": RNG.normal(size=4).astype(np.float32),
    "row": RNG.normal(size=(1, 4)).astype(np.float32),
    "one": np.array([0.5], np.float32),
    "shape": np.array([-1, 3]),
    "column": np.array([3, -1]),
    "tall": RNG.normal(size=(6, 2)).astype(np.float32),
    "cube": np.zeros((1, 3, 4), np.float32),
}
Node = tuple  # kind, inputs, attributes


def write(path, nodes, *, x_shape=("n", 3), extra_output=None):
    tensor, made = "x", []
    for number, (kind, inputs, attributes) in enumerate(nodes):
        names = [tensor if name == "" else name for name in inputs]
        out = attributes.pop("out", f"t{number}") if "out" in attributes else f"t{number}"
        made.append(helper.make_node(kind, names, [out], f"n{number}", **attributes))
        if tensor in names:
            tensor = out
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x_shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (tensor, *(extra_output or ()))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in CONSTANTS.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


@pytest.mark.parametrize(
    "nodes",
    [
        [("Gemm", ["", "w", "b"], {"alpha": 0.5, "beta": 2.0})],
        [("Gemm", ["", "wt", "one"], {"transB": 1}), ("Relu", [""], {})],
        [("Gemm", ["", "w"], {}), ("Add", ["b", ""], {}), ("Tanh", [""], {})],
        [("MatMul", ["", "w"], {}), ("Add", ["", "row"], {}), ("Sigmoid", [""], {})],
        [("Transpose", ["wt"], {"out": "tr"}), ("MatMul", ["", "tr"], {}), ("LeakyRelu", [""], {"alpha": 0.125})],
        [("Cast", ["w16"], {"to": 1, "out": "c"}), ("Identity", [""], {}), ("MatMul", ["", "c"], {})],
        [("Reshape", ["", "shape"], {}), ("MatMul", ["", "w"], {}), ("Cast", [""], {"to": 1})],
        [("Flatten", [""], {}), ("Gemm", ["", "w", "row"], {}), ("Tanh", [""], {}), ("MatMul", ["", "wt"], {})],
        [("Constant", [], {"value": numpy_helper.from_array(CONSTANTS["w"]), "out": "k"}), ("MatMul", ["", "k"], {})],
        [("MatMul", ["", "w"], {}), ("Add", ["", "b"], {}), ("Add", ["", "one"], {})],
    ],
    ids=lambda nodes: "-".join(node[0] for node in nodes),
)
def test_graphs_of_other_tools_compute_the_same(nodes, tmp_path):
    path = tmp_path / "net.onnx"
    write(path, [(kind, list(inputs), dict(attributes)) for kind, inputs, attributes in nodes])
    net, params = dp.from_onnx(path)
    x = np.random.default_rng(2).normal(size=(6, 3)).astype(np.float32)
    np.testing.assert_allclose(outputs(net, params, x), reference(path, x), atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        ([("MatMul", ["", "w"], {}), ("Softmax", [""], {})], "node 'n1' (Softmax) is no activation of a stage; "
         "possible is to leave it out and to take cost='softmax_cross_entropy', whose outputs are logits"),
        ([("MatMul", ["", "w"], {}), ("Erf", [""], {})], f"node 'n1' (Erf) cannot be mapped; {POSSIBLE}"),
        ([("Add", ["", "one"], {})], f"node 'n0' (Add) adds an array of shape (1,), which is no bias of a layer; "
         f"{POSSIBLE}"),
        ([("MatMul", ["", "w"], {}), ("Tanh", [""], {}), ("Add", ["", "b"], {})], "node 'n2' (Add) adds an array of "
         f"shape (4,), which is no bias of a layer; {POSSIBLE}"),
        ([("MatMul", ["wt", ""], {})], "node 'n0' (MatMul) multiplies from the left; possible is x @ constant; "
         f"{POSSIBLE}"),
        ([("MatMul", ["", "cube"], {})], "node 'n0' (MatMul) has a weight of shape (4, 3, 1); expected (outputs, "
         "inputs)"),
        ([("Gemm", ["", "w"], {"transA": 1})], "node 'n0' (Gemm) transposes its input; possible is x @ constant + "
         f"constant; {POSSIBLE}"),
        ([("MatMul", ["", "w"], {}), ("LeakyRelu", [""], {})], "node 'n1' (LeakyRelu) has the slope 0.01 below zero; "
         "possible are powers of two from 2**-15 to 1/2: here 2**-7 = 0.0078125 or 2**-6 = 0.015625"),
        ([("MatMul", ["", "w"], {}), ("Flatten", [""], {})], f"node 'n1' (Flatten) stands behind a dense layer; "
         f"possible is one in front; {POSSIBLE}"),
        ([("Flatten", [""], {"axis": 0}), ("MatMul", ["", "w"], {})], "node 'n0' (Flatten) mixes samples; possible is "
         "a shape of (batch, inputs)"),
        ([("Reshape", ["", "column"], {}), ("MatMul", ["", "w"], {})], "node 'n0' (Reshape) mixes samples; possible is "
         "a shape of (batch, inputs)"),
        ([("Reshape", ["", "shape"], {}), ("Gemm", ["", "tall"], {})], "a sample of input 'x' has the shape (3,); "
         "the first layer takes 6 inputs"),
        ([("MatMul", ["", "w"], {}), ("Cast", [""], {"to": 6})], f"node 'n1' (Cast) cannot be mapped; {POSSIBLE}"),
        ([("MatMul", ["", "w"], {}), ("Mul", ["", ""], {})], f"node 'n1' (Mul) is where the chain forks; {POSSIBLE}"),
    ],
)  # fmt: skip
def test_what_cannot_be_mapped_is_named(nodes, sentence, tmp_path):
    path = tmp_path / "net.onnx"
    write(path, [(kind, list(inputs), dict(attributes)) for kind, inputs, attributes in nodes])
    with pytest.raises((dp.RangeError, dp.ShapeError)) as caught:
        dp.from_onnx(path)
    assert str(caught.value) == f"ONNX file {path}: {sentence}"


def test_files_that_are_none(tmp_path):
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    for name in ("noise.onnx", "none.onnx"):
        with pytest.raises(dp.RangeError, match=rf"^ONNX file \S+{name} cannot be read: "):
            dp.from_onnx(tmp_path / name)
    net = dp.Network(3, [dp.Dense(2)])
    dp.to_onnx(net, net.init(), tmp_path / "net.onnx", external=True)
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(dp.RangeError, match=r"^ONNX file \S+net.onnx cannot be read: "):
        dp.from_onnx(tmp_path / "net.onnx")
    write(tmp_path / "two.onnx", [("MatMul", ["", "w"], {})], extra_output=("x",))
    with pytest.raises(dp.RangeError, match=r"^ONNX file \S+two.onnx has inputs x and outputs t0, x; expected one of"):
        dp.from_onnx(tmp_path / "two.onnx")
