"""The quick proofs: each property holds, and its broken design is found out. All of them: ``make formal``."""

from pathlib import Path

import pytest

from dyadprop_sim.formal.checker import check
from dyadprop_sim.formal.properties import PROPERTIES

QUICK = ("relay", "queue-streams", "cost-head", "divider", "resynchronises", "once")


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("name", QUICK)
def test_property_holds_and_can_fail(name: str, tmp_path: Path) -> None:
    (found,) = (p for p in PROPERTIES if p.name == name)
    assert check(name, found.make, found.depth, tmp_path, any_state=found.any_state).holds
    broken = check(f"{name}-broken", found.broken, found.broken_depth, tmp_path, any_state=found.any_state)
    assert not broken.holds
    assert broken.cycle is not None
