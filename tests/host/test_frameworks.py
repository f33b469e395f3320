"""No framework is imported unless it is asked for, and one that is not there is a sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRAMEWORKS = ("jax", "keras", "onnx", "onnxruntime", "optax", "sklearn", "torch")
ADAPTERS = ("dyadprop.jax", "dyadprop.sklearn", "dyadprop.torch")

EVERYTHING_ELSE = f"""
import importlib, pkgutil, sys
import dyadprop as dp

seen = 0
for module in pkgutil.walk_packages(dp.__path__, "dyadprop."):
    if module.name not in {ADAPTERS} and module.name != "dyadprop.__main__":
        importlib.import_module(module.name)
        seen += 1
net = dp.Network(2, [dp.Dense(3, "tanh"), dp.Dense(1)])
with dp.open("golden", net) as device:
    device.load(net.init(0))
    device.gradients([[0.5, 0.25]], [[1.0]])
dp.choose_formats(net, net.init(0), [[0.5, 0.25]], [[1.0]], bits=8)
print(seen, [name for name in {FRAMEWORKS} if name in sys.modules])
"""


def run(program: str) -> str:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_everything_but_the_adapters_does_without() -> None:
    seen, _, imported = run(EVERYTHING_ELSE).partition(" ")
    assert int(seen) > 60
    assert imported == "[]\n"


@pytest.mark.parametrize(
    ("package", "call", "sentence"),
    [
        ("torch", "import dyadprop.torch", "dyadprop.torch needs the package torch"),
        ("torch", "dp.from_torch(None)", "a torch model needs the package torch"),
        ("torch", "dp.to_torch(net, net.init(0))", "a torch model needs the package torch"),
        ("jax", "import dyadprop.jax", "dyadprop.jax needs the package jax"),
        ("sklearn", "import dyadprop.sklearn", "dyadprop.sklearn needs the package sklearn"),
        ("onnx", "dp.from_onnx('net.onnx')", "an ONNX file needs the package onnx"),
        ("onnx", "dp.to_onnx(net, net.init(0), 'net.onnx')", "an ONNX file needs the package onnx"),
        ("keras", "dp.from_keras(None)", "a Keras model needs the package keras"),
    ],
)
def test_a_framework_that_is_not_there_is_a_sentence(package: str, call: str, sentence: str) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None
import dyadprop as dp
from dyadprop.errors import PackageMissing
net = dp.Network(2, [dp.Dense(1)])
try:
    {call}
except PackageMissing as error:
    print(error)
"""
    expected = f"{sentence}, which is not installed; try pip install 'dyadprop[{package}]'"
    assert run(program) == expected + "\n"
