"""Parameter files: both kinds bring back every bit, and refuse what is not theirs."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from dyadprop import parameter_files
from dyadprop.errors import NetworkMismatch, RangeError, ShapeError
from dyadprop.network import Dense, Network
from dyadprop.parameter_files import load_parameters, save_parameters

needs_safetensors = pytest.mark.skipif(find_spec("safetensors") is None, reason="safetensors is not installed")
ENDINGS = [".npz", pytest.param(".safetensors", marks=needs_safetensors)]


def network() -> Network:
    return Network(3, [Dense(4, "tanh"), Dense(2)])


@pytest.mark.parametrize("ending", ENDINGS)
def test_parameters_come_back_bit_for_bit(tmp_path, ending):
    net = network()
    params = net.init(5)
    path = tmp_path / f"params{ending}"
    save_parameters(path, net, params)
    back = load_parameters(str(path), net)
    assert len(back) == 2
    for got, expected in zip(back, params, strict=True):
        np.testing.assert_array_equal(got.weight, expected.weight)
        np.testing.assert_array_equal(got.bias, expected.bias)
        assert got.weight.dtype == np.float64


@pytest.mark.parametrize("ending", ENDINGS)
def test_parameters_of_another_network_are_refused(tmp_path, ending):
    net = network()
    other = Network(3, [Dense(4, "relu"), Dense(2)])
    path = tmp_path / f"params{ending}"
    save_parameters(path, net, net.init())
    sentence = f"^parameter file {path} belongs to network {net.hash}; this network is {other.hash} "
    with pytest.raises(NetworkMismatch, match=sentence):
        load_parameters(path, other)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_broken_file_is_named(tmp_path, ending):
    path = tmp_path / f"params{ending}"
    path.write_bytes(b"no such thing")
    with pytest.raises(RangeError, match=f"^parameter file {path} cannot be read: "):
        load_parameters(path, network())
    with pytest.raises(RangeError, match="cannot be read: "):
        load_parameters(tmp_path / f"missing{ending}", network())


def test_a_file_without_hash_or_arrays_is_refused(tmp_path):
    net = network()
    path = tmp_path / "params.npz"
    arrays: dict[str, Any] = {"1.weight": np.zeros((4, 3))}
    np.savez(path, **arrays)
    with pytest.raises(NetworkMismatch, match=r"belongs to network unknown; this network is"):
        load_parameters(path, net)
    np.savez(path, network=np.array(net.hash), **arrays)
    with pytest.raises(ShapeError, match=f"^parameter file {path} holds no array '1.bias'$"):
        load_parameters(path, net)


def test_another_ending_is_refused(tmp_path):
    net = network()
    sentence = r"^parameter file .*params.txt ends in '.txt'; allowed are .safetensors and .npz$"
    with pytest.raises(RangeError, match=sentence):
        save_parameters(tmp_path / "params.txt", net, net.init())
    with pytest.raises(RangeError, match=sentence):
        load_parameters(tmp_path / "params.txt", net)
    assert list(tmp_path.iterdir()) == []


def test_without_safetensors_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(parameter_files, "safetensors", None)
    net = network()
    sentence = r"params.safetensors needs the package safetensors: pip install 'dyadprop\[save\]', or use .npz$"
    with pytest.raises(RangeError, match=sentence):
        save_parameters(tmp_path / "params.safetensors", net, net.init())
    with pytest.raises(RangeError, match=sentence):
        load_parameters(tmp_path / "params.safetensors", net)


def test_parameters_that_do_not_fit_are_not_written(tmp_path):
    net = network()
    params = net.init()
    params[1] = params[1]._replace(weight=params[1].weight.T)
    with pytest.raises(ShapeError, match=r"^weight of stage 2 has shape \(4, 2\); network expects \(2, 4\)$"):
        save_parameters(tmp_path / "params.npz", net, params)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("installed", [pytest.param(True, marks=needs_safetensors), False])
def test_without_an_ending_it_is_safetensors_where_installed(tmp_path, monkeypatch, installed):
    if not installed:
        monkeypatch.setattr(parameter_files, "safetensors", None)
    net = network()
    written = save_parameters(tmp_path / "params", net, net.init(5))
    assert written == tmp_path / ("params.safetensors" if installed else "params.npz")
    assert list(tmp_path.iterdir()) == [written]
    for path in (written, tmp_path / "params"):
        np.testing.assert_array_equal(load_parameters(path, net)[0].weight, net.init(5)[0].weight)
    assert save_parameters(str(tmp_path / "other.npz"), net, net.init()) == tmp_path / "other.npz"
    with pytest.raises(RangeError, match=r"missing\.\w+ cannot be read"):
        load_parameters(tmp_path / "missing", net)
    with pytest.raises(RangeError, match=r"^parameter file \. has no name$"):
        save_parameters("", net, net.init())
