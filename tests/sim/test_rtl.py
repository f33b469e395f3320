"""The hardware description against the golden model, on random networks, always under random stalls of every stream."""

import numpy as np
import pytest

from dyadprop.device import Device, open_device
from dyadprop.network import Dense, Network
from dyadprop.widths import target_format
from dyadprop_sim.commands.verify import compare_network
from dyadprop_sim.random_networks import Case

NETWORKS = 200
# Small networks: what differs between networks is structure, and each one is a build of its own, paid by the lane.
LAYERS = (1, 2, 1, 2, 1, 3, 1, 2, 1, 4, 2, 1, 2, 1, 3, 1, 2, 1, 2, 5)
MAX_WIDTHS = (3, 3, 3, 5, 2, 3, 3)


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_rtl_equals_golden_on_a_random_network(seed: int) -> None:
    stalls = (0.1, 0.3, 0.6)[seed % 3]
    layers, max_width = LAYERS[seed % len(LAYERS)], MAX_WIDTHS[seed % len(MAX_WIDTHS)]
    comparison, failure = compare_network(
        f"verilator?stalls={stalls}&seed={seed}", seed, layers=layers, max_width=max_width
    )
    assert failure is None, failure["text"] if failure else ""
    assert comparison.equal > 10
    assert comparison.different == 0


@pytest.mark.parametrize("kind", ["extremes", "uniform"])
@pytest.mark.parametrize("seed", [1000, 1001])
def test_the_fast_build_equals_golden_at_the_largest_batch(seed: int, kind: str) -> None:
    comparison, failure = compare_network("verilator", seed, kind=kind, batch=255, max_width=6)
    assert failure is None, failure["text"] if failure else ""
    assert comparison.equal > 1000
    assert comparison.different == 0


def case_of(net: Network, seed: int) -> Case:
    """Draw parameters and nine samples for a network."""
    rng = np.random.default_rng(seed)
    x = net.formats.activation.to_ints(rng.uniform(-1, 1, (9, net.inputs))).words
    targets = target_format(net).to_ints(rng.uniform(-1, 1, (9, net.outputs))).words
    return Case(net, net.quantize(net.init(seed)).raw, x, targets, "realistic")


def _answers(device: Device, case: Case) -> list[bytes]:
    """Load, ask for gradients and train: all words of all answers."""
    net = case.net
    x = net.formats.activation.to_floats(case.x)
    y = target_format(net).to_floats(case.targets)
    device.load([entry.decode() for entry in case.params])
    raw = device.gradients(x, y).raw
    assert raw is not None
    device.train(x, y, learning_rate=2**-6)
    answers = [raw.outputs.tobytes(), *(part.tobytes() for g in raw.gradients for part in g[:2])]
    return answers + [part.tobytes() for entry in device.parameters() for part in entry]


@pytest.mark.parametrize("stalls", [0.0, 0.5])
def test_answers_do_not_depend_on_what_came_before(stalls: float) -> None:
    net = Network(3, [Dense(4, "tanh", lanes=3), Dense(2)])
    case = case_of(net, 7)
    other = Network(2, [Dense(3, "relu", lanes=2)], input_gradient=True)
    with open_device(f"verilator?stalls={stalls}&seed=1", net) as device:
        first = _answers(device, case)
        again = _answers(device, case)
        with open_device(f"verilator?stalls={stalls}", other) as another:
            _answers(another, case_of(other, 8))
        after_another = _answers(device, case)
    with open_device(f"verilator?stalls={stalls}&seed=2", net) as device:
        after_reset = _answers(device, case)
    with open_device("golden", net) as golden:
        expected = _answers(golden, case)
    assert len(expected) == 1 + 2 * 2 + 2 * 2
    for got in (first, again, after_another, after_reset):
        assert got == expected
