"""Exported Verilog, and gate-level netlists made from it, give the golden model's words."""

from __future__ import annotations

import numpy as np
import pytest

from dyadprop.formats import Formats, Q
from dyadprop.network import Dense, Network
from dyadprop.plan import Plan, plan_network
from dyadprop_hw.verilog import export_verilog
from dyadprop_sim.gates import FAMILIES, synthesize
from dyadprop_sim.library import BuildOptions
from dyadprop_sim.mutation.transcript import Script
from dyadprop_sim.verilator import NetworkSimulation

SMALL = Formats(Q(3, 5), Q(3, 5), Q(2, 6))
TINY = Formats(Q(2, 3), Q(2, 3), Q(2, 3))
NETWORKS = {
    "tanh": Network(3, [Dense(4, "tanh", lanes=3), Dense(2)], input_gradient=True, formats=SMALL, max_batch=4),
    "softmax": Network(2, [Dense(3, "leaky_relu", lanes=1), Dense(3)], "softmax_cross_entropy", formats=SMALL),
}


def compare(plan: Plan, text: str) -> int:
    """Run the whole script; give the number of words that were compared with the golden model's."""
    rtl = NetworkSimulation(plan, options=BuildOptions("-O0"), patience=3000, verilog=text)
    words = 0
    for entry in Script(rtl, 1).run():
        if entry.expected is not None:
            np.testing.assert_array_equal(entry.got, entry.expected, entry.what)
            words += entry.got.size
    rtl.close()
    return words


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_exported_verilog_is_bit_equal(name: str, flat: bool) -> None:
    plan = plan_network(NETWORKS[name])
    assert compare(plan, export_verilog(plan, "top", flat=flat)) > 900


@pytest.mark.parametrize("family", FAMILIES)
def test_gates_are_bit_equal(family: str) -> None:
    net = Network(2, [Dense(2, "tanh", lanes=2), Dense(1)], input_gradient=True, formats=TINY, max_batch=4)
    plan = plan_network(net)
    gates = synthesize(export_verilog(plan, "top"), family)
    assert ("TRELLIS_FF" if family == "ecp5" else "SB_DFF") in gates
    assert compare(plan, gates) > 600


def test_wrong_verilog_is_found() -> None:
    plan = plan_network(NETWORKS["tanh"])
    text = export_verilog(plan, "top")
    # The mirror of tanh's negative side.
    wrong = text.replace("value } ^ {", "value } | {", 1)
    assert wrong != text
    with pytest.raises(AssertionError, match="outputs, before any rate"):
        compare(plan, wrong)
