"""The hardware description against the golden model, on random networks, always under random stalls of every stream."""

import pytest

from dyadprop_sim.commands.verify import compare_network

NETWORKS = 200
# Small networks: what differs between networks is structure, and each one is a build of its own.
SIZES = {"max_width": 5}


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_rtl_equals_golden_on_a_random_network(seed: int) -> None:
    stalls = (0.1, 0.3, 0.6)[seed % 3]
    comparison, failure = compare_network(f"verilator?stalls={stalls}&seed={seed}", seed, **SIZES)
    assert failure is None, failure["text"] if failure else ""
    assert comparison.equal > 10
    assert comparison.different == 0
