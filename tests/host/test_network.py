"""Networks: what they allow, their hash, their files, and parameters on their way in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from dyadprop.errors import DyadpropError, FormatError, NetworkMismatch, RangeError, ShapeError
from dyadprop.formats import Formats, Q
from dyadprop.network import Dense, Network, Parameters, RawParameters, check_same_network
from dyadprop.widths import stage_numbers, sum_bits, target_format
from dyadprop_sim.random_networks import random_case

PLAIN = Network(64, [Dense(32, "tanh"), Dense(10)])
SPECIAL = Network(
    3,
    [
        Dense(5, "leaky_relu", slope=0.25, lanes=2),
        Dense(2, "sigmoid", formats=Formats(Q(1, 9), Q(0, 8), Q(-2, 12))),
    ],
    "sigmoid_cross_entropy",
    input_gradient=True,
    max_batch=31,
)
LOGITS = Network(7, [Dense(6, "relu"), Dense(4)], "softmax_cross_entropy", formats=Formats(Q(6, 10)))


make_dense: Any = Dense  # called with what its types forbid
make_network: Any = Network


# -- what is allowed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: Dense(0), RangeError, "outputs of a layer is 0; allowed are whole numbers from 1 to 4096"),
        (lambda: Dense(4097), RangeError, "outputs of a layer is 4097; allowed are whole numbers from 1 to 4096"),
        (lambda: make_dense(2.0), RangeError, "outputs of a layer is 2.0; allowed are whole numbers from 1 to 4096"),
        (lambda: Dense(True), RangeError, "outputs of a layer is True; allowed are"),
        (
            lambda: Dense(2, "gelu"),
            RangeError,
            "activation 'gelu' is not known; allowed are identity, relu, leaky_relu, tanh, sigmoid",
        ),
        (
            lambda: make_dense(2, formats=Q(4, 12)),
            FormatError,
            r"formats of a layer are Q\(.*\); expected dyadprop.Formats or None",
        ),
        (lambda: Dense(2, lanes=3), RangeError, "lanes of a layer is 3; allowed are whole numbers from 1 to 2"),
        (
            lambda: Dense(2, slope=0.3),
            RangeError,
            r"slope of leaky_relu is 0.3; allowed are powers of two from 2\*\*-15 to 2\*\*-1",
        ),
        (lambda: Dense(2, slope=1.0), RangeError, "slope of leaky_relu is 1.0; allowed are powers of two"),
        (
            lambda: Dense(2, slope=2.0**-16),
            RangeError,
            "slope of leaky_relu is 1.52587890625e-05; allowed are powers of two",
        ),
        (lambda: Dense(2, slope=-0.5), RangeError, "slope of leaky_relu is -0.5; allowed are powers of two"),
        (lambda: Dense(2, slope=math.inf), RangeError, "slope of leaky_relu is inf; allowed are powers of two"),
        (
            lambda: Network(0, [Dense(1)]),
            RangeError,
            "inputs of a network is 0; allowed are whole numbers from 1 to 4096",
        ),
        (lambda: Network(1, []), RangeError, "a network has 0 layers; allowed are 1 to 64"),
        (lambda: Network(1, [Dense(1)] * 65), RangeError, "a network has 65 layers; allowed are 1 to 64"),
        (lambda: make_network(1, [Dense(1), 3]), RangeError, "layer 2 is 3; expected a dyadprop.Dense"),
        (
            lambda: Network(1, [Dense(1)], "hinge"),
            RangeError,
            "cost 'hinge' is not known; allowed are squared_error, sigmoid_cross_entropy, softmax_cross_entropy",
        ),
        (
            lambda: Network(1, [Dense(1, "tanh")], "softmax_cross_entropy"),
            RangeError,
            "cost softmax_cross_entropy needs a last layer with activation identity; got tanh",
        ),
        (
            lambda: Network(1, [Dense(1)], "sigmoid_cross_entropy"),
            RangeError,
            "cost sigmoid_cross_entropy needs a last layer with activation sigmoid; got identity",
        ),
        (
            lambda: make_network(1, [Dense(1)], formats=3),
            FormatError,
            "formats of a network are 3; expected dyadprop.Formats or None",
        ),
        (
            lambda: make_network(1, [Dense(1)], input_gradient=1),
            RangeError,
            "input_gradient is 1; allowed are True and False",
        ),
        (
            lambda: Network(1, [Dense(1)], max_batch=0),
            RangeError,
            "max_batch is 0; allowed are whole numbers from 1 to 65535",
        ),
        (lambda: Network(1, [Dense(1)], max_batch=65536), RangeError, "max_batch is 65536; allowed are"),
        (
            lambda: Network(1, [Dense(1), Dense(1, "tanh", formats=Formats(Q(8, 0)))]),
            FormatError,
            r"activation format of layer 2 \(tanh\) is Q8.0; it needs at least 1 fraction bit",
        ),
    ],
)
def test_impossible_networks_say_what_is_allowed(make, error, sentence):
    with pytest.raises(error, match=f"^{sentence}") as caught:
        make()
    assert isinstance(caught.value, DyadpropError)


def test_the_ends_of_what_is_allowed():
    assert Dense(4096, slope=2.0**-15).leak_bits == 15
    assert Dense(1, slope=0.5).leak_bits == 1
    assert Dense(3).leak_bits == 7
    net = Network(4096, [Dense(1)] * 64, max_batch=65535)
    assert net.widths == (4096, *[1] * 64)


def test_sizes_may_be_integers_of_numpy():
    net = make_network(np.int64(3), [make_dense(np.int32(2), lanes=np.int64(1))], max_batch=np.uint8(9))
    assert net == Network(3, [Dense(2, lanes=1)], max_batch=9)
    assert net.hash == Network(3, [Dense(2)], max_batch=9).hash


def test_what_a_network_says_of_itself():
    assert SPECIAL.widths == (3, 5, 2)
    assert (SPECIAL.inputs, SPECIAL.outputs, SPECIAL.cost) == (3, 2, "sigmoid_cross_entropy")
    assert SPECIAL.input_gradient is True
    assert SPECIAL.layer_formats(0) == SPECIAL.layer_formats(1) == SPECIAL.formats == Formats()
    assert SPECIAL.layer_formats(2) == Formats(Q(1, 9), Q(0, 8), Q(-2, 12))
    assert repr(PLAIN) == "<Network 64-32-10 (tanh, identity), squared_error, hash 685ca8c482d71855>"


# -- hash -------------------------------------------------------------------------------------------------------------


def test_hashes_are_what_built_hardware_remembers():
    # A change of these numbers makes every bitstream and parameter file out there one of another network.
    assert PLAIN.hash == "685ca8c482d71855"
    assert SPECIAL.hash == "9430d19f153f5b3f"
    assert LOGITS.hash == "3f3f9509f7eafebb"


def test_everything_that_decides_a_bit_is_in_the_hash_and_nothing_else():
    def net(inputs=3, outputs=4, activation="leaky_relu", slope=0.25, lanes=None, own=None, **options):
        return Network(inputs, [Dense(outputs, activation, slope=slope, lanes=lanes, formats=own), Dense(2)], **options)

    different = [
        net(),
        net(inputs=4),
        net(outputs=5),
        net(activation="relu"),
        net(slope=0.5),
        net(own=Formats(Q(3, 13))),
        net(own=Formats(weight=Q(3, 13))),
        net(own=Formats(sensitivity=Q(3, 13))),
        net(formats=Formats(Q(3, 13))),
        net(cost="softmax_cross_entropy"),
        net(input_gradient=True),
        net(max_batch=254),
        Network(3, [Dense(2)]),
    ]
    assert len({n.hash for n in different}) == len(different) == len(set(different))
    assert net(lanes=2).hash == net().hash
    assert net(own=Formats()).hash == net().hash
    assert Network(3, [Dense(4, slope=0.25)]).hash == Network(3, [Dense(4, slope=0.5)]).hash  # of no leaky_relu


def test_check_same_network():
    check_same_network("device", PLAIN.hash, PLAIN)
    with pytest.raises(NetworkMismatch, match=f"^device belongs to network abc; this network is {PLAIN.hash} "):
        check_same_network("device", "abc", PLAIN)


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [PLAIN, SPECIAL, LOGITS], ids=["plain", "special", "logits"])
def test_toml_brings_back_the_same_network(tmp_path, net):
    path = tmp_path / "net.toml"
    net.save(path)
    back = Network.load(str(path))
    assert back == net
    assert back.hash == net.hash
    assert [layer.lanes for layer in back.layers] == [layer.lanes for layer in net.layers]


@pytest.mark.parametrize("seed", range(30))
def test_toml_brings_back_random_networks(tmp_path, seed):
    net = random_case(seed, batch=1).net
    net.save(tmp_path / "net.toml")
    back = Network.load(tmp_path / "net.toml")
    assert back == net
    assert back.hash == net.hash


GOOD = """\
schema = 1
inputs = 3
cost = "squared_error"

[[layers]]
outputs = 2
activation = "tanh"
"""


def test_a_short_file_is_enough(tmp_path):
    path = tmp_path / "net.toml"
    path.write_text(GOOD)
    assert Network.load(path) == Network(3, [Dense(2, "tanh")])


@pytest.mark.parametrize(
    ("old", "new", "error", "sentence"),
    [
        ("schema = 1", "schema = 2", RangeError, "has schema 2; this version reads schema 1"),
        ("schema = 1\n", "", RangeError, "has schema None; this version reads schema 1"),
        ("inputs = 3", "inputs = ", RangeError, "cannot be read: "),
        ("inputs = 3\n", "", RangeError, ": key 'inputs' is missing"),
        ("inputs = 3", "inputs = 3\nmomentum = 1", RangeError, ": unknown key 'momentum'; allowed are cost, formats, "),
        ("inputs = 3", 'inputs = "3"', RangeError, ": inputs of a network is '3'; allowed are whole numbers"),
        ("outputs = 2", "outputs = 0", RangeError, ": outputs of a layer is 0; allowed are"),
        ("outputs = 2\n", "", RangeError, ": layer 1 has keys activation; allowed are activation, formats, lanes, "),
        (
            "outputs = 2",
            "outputs = 2\nbias = 1",
            RangeError,
            ": layer 1 has keys activation, bias, outputs; allowed are",
        ),
        ("outputs = 2", 'outputs = 2\nformats = {weight = "Q4"}', FormatError, ": format 'Q4' is not of the form"),
        ("outputs = 2", "outputs = 2\nformats = 3", RangeError, ": formats of layer 1 is 3; expected a table of"),
        (
            "outputs = 2",
            'outputs = 2\nformats = {gain = "Q4.4"}',
            RangeError,
            ": formats of layer 1 is .*; expected a table",
        ),
        ('cost = "squared_error"', "formats = 1", RangeError, ": formats is 1; expected a table of"),
        ("[[layers]]", "[layers]", RangeError, r": layers must be an array of tables, \[\[layers\]\]"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, old, new, error, sentence):
    path = tmp_path / "net.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(error, match=f"^network file {path}( |){sentence}"):
        Network.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RangeError, match=f"^network file {tmp_path}/none.toml cannot be read: "):
        Network.load(tmp_path / "none.toml")


# -- parameters -------------------------------------------------------------------------------------------------------


def test_starting_parameters_are_the_same_numbers_everywhere():
    params = PLAIN.init(0)
    assert params[0].weight[0, :3].tolist() == [0.06848084366072715, -0.11510664311806484, -0.22951323803190266]
    assert params[1].weight[-1, -1] == -0.309220020192739
    assert LOGITS.init(7)[0].weight[0, :2].tolist() == [0.2316317947460533, 0.7354970416893735]


@pytest.mark.parametrize(
    ("activation", "fan"), [("tanh", 40 + 30), ("sigmoid", 70), ("identity", 70), ("relu", 40), ("leaky_relu", 40)]
)
def test_starting_weights_are_uniform_to_their_bound(activation, fan):
    weight, bias = Network(40, [Dense(30, activation)]).init(3)[0]
    bound = math.sqrt(6 / fan)
    assert 0.98 * bound < np.abs(weight).max() <= bound
    assert abs(weight.mean()) < 0.06 * bound
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert not bias.any()
    assert (weight.shape, bias.shape) == ((30, 40), (30,))


def test_seeds_decide_the_starting_parameters():
    one, two, other = PLAIN.init(1), PLAIN.init(1), PLAIN.init(2)
    np.testing.assert_array_equal(one[1].weight, two[1].weight)
    assert (one[1].weight != other[1].weight).all()
    with pytest.raises(RangeError, match=r"^seed is -1; allowed are whole numbers from 0 to "):
        PLAIN.init(-1)


def test_quantized_parameters_show_what_a_device_will_hold():
    net = Network(2, [Dense(1, formats=Formats(weight=Q(1, 3))), Dense(1)])
    params = [
        Parameters(np.array([[0.0625, 0.1875]]), np.array([5.0])),  # ties: to 0 and to 2 eighths; limited to 7 eighths
        Parameters(np.array([[-9.0]]), np.array([1.0])),
    ]
    got = net.quantize(params)
    assert got.raw[0].weight.tolist() == [[0, 2]]
    assert got.raw[0].bias.tolist() == [7]
    assert got.raw[0].fraction_bits == 3
    assert got.parameters[0].weight.tolist() == [[0.0, 0.25]]
    assert got.parameters[1].weight.tolist() == [[-8.0]]
    assert got.saturations == [1, 1]


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (lambda p: p[:1], ShapeError, "1 layers of parameters given; network expects 2"),
        (
            lambda p: [p[0], p[1]._replace(weight=p[1].weight.T)],
            ShapeError,
            r"weight of stage 2 has shape \(32, 10\); network expects \(10, 32\)",
        ),
        (
            lambda p: [p[0]._replace(bias=np.zeros((32, 1))), p[1]],
            ShapeError,
            r"bias of stage 1 has shape \(32, 1\); network expects \(32,\)",
        ),
        (
            lambda p: [p[0], p[1]._replace(bias=np.full(10, np.inf))],
            RangeError,
            r"bias of stage 2 is inf at index \(0,\); every entry must be finite",
        ),
        (lambda p: [p[0], 3], ShapeError, r"parameters of stage 2 are not a pair \(weight, bias\)"),
        (
            lambda p: [p[0], p[1]._replace(bias=np.full(10, 1j))],
            RangeError,
            "bias of stage 2 holds complex128; expected real numbers",
        ),
    ],
    ids=["layers", "transposed", "column", "infinity", "no pair", "complex"],
)
def test_parameters_that_do_not_fit_are_refused(change, error, sentence):
    with pytest.raises(error, match=f"^{sentence}$"):
        PLAIN.quantize(change(PLAIN.init()))


def test_checked_parameters_are_copies():
    params = PLAIN.init()
    PLAIN.check_parameters(params)[0].weight[0, 0] = 77.0
    assert params[0].weight[0, 0] != 77.0


def test_raw_gradients_decode_exactly():
    raw = RawParameters(np.array([[2**52 + 1, -1]]), np.array([3]), 60)
    got = raw.decode()
    assert got.weight.tolist() == [[(2**52 + 1) * 2.0**-60, -(2.0**-60)]]
    assert got.bias.tolist() == [3 * 2.0**-60]


# -- what follows from a network --------------------------------------------------------------------------------------


def test_stage_numbers_of_a_network():
    first, last = stage_numbers(SPECIAL)
    assert (first.index, first.inputs, first.outputs, first.columns) == (1, 3, 5, 4)
    assert (first.activation, first.leak_bits, first.matched, first.has_sensitivity) == ("leaky_relu", 2, False, True)
    assert (last.input, last.output, last.weight) == (Q(4, 12), Q(1, 9), Q(0, 8))
    assert (last.sensitivity, last.input_sensitivity) == (Q(-2, 12), Q(2, 14))
    assert last.matched
    assert not last.has_slope_product
    assert (last.accumulator_fraction, last.sensitivity_sum_fraction, last.gradient_fraction) == (20, 20, 24)
    assert last.accumulator_bits == 8 + 16 - 1 + 3
    assert last.sensitivity_sum_bits == 8 + 10 - 1 + 2
    assert last.gradient_bits == 10 + 16 - 1 + 5
    assert last.slope == Q(2, 14)
    assert not stage_numbers(PLAIN)[0].has_sensitivity
    assert stage_numbers(PLAIN)[0].has_slope_product


@pytest.mark.parametrize(
    ("f", "width", "p"), [(12, 16, 14), (12, 18, 16), (5, 16, 10), (17, 18, 16), (7, 4, 14), (1, 4, 2)]
)
def test_format_of_the_slope(f, width, p):
    formats = Formats(Q(1, f), Q(4, 12), Q(1, width - 1))
    assert stage_numbers(Network(1, [Dense(1, "tanh", formats=formats)]))[0].slope == Q(2, p)


def test_bits_of_the_bias_operand():
    def operand(form: Q) -> int:
        return stage_numbers(Network(1, [Dense(1)], formats=Formats(form)))[0].operand_bits

    assert operand(Q(4, 12)) == 16
    assert operand(Q(1, 12)) == 14  # 1.0 needs a second integer bit


@pytest.mark.parametrize("terms", [1, 2, 3, 4, 7, 8, 255, 256, 4097])
@pytest.mark.parametrize(("a", "b"), [(2, 2), (16, 18), (18, 18)])
def test_sum_bits_hold_every_sum_and_one_bit_less_does_not_always(a, b, terms):
    largest = terms << (a + b - 2)
    bits = sum_bits(a, b, terms)
    assert largest <= 2 ** (bits - 1) - 1
    assert largest > 2 ** (bits - 2) - 1


def test_target_formats():
    assert target_format(PLAIN) == Q(4, 12)
    assert target_format(SPECIAL) == Q(1, 9)
    assert target_format(LOGITS) == Q(2, 14)
