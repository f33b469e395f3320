"""Run all cocotb benches; each test here is one block in one simulator, with all the cocotb tests of that block."""

from pathlib import Path

import pytest

from dyadprop_sim.benches.runner import BLOCKS, SIMULATORS, run_bench

BUILD = Path(__file__).parents[2] / "build" / "sim"


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("block", BLOCKS)
def test_bench(block, simulator, request):
    outcome = run_bench(block, simulator, BUILD, show_waves=request.config.getoption("--waves"))
    assert not outcome.failures, f"{outcome}; log: {outcome.log}\n" + "\n".join(
        f"{name}: {message}" for name, message in outcome.failures.items()
    )


def test_every_block_has_a_bench():
    import dyadprop_hw

    folder = Path(dyadprop_hw.__file__).parent
    # Each file with a component; what is tested under another name, and what is no component.
    elsewhere = {"streams": "queue", "control_port": "stage_control"}
    components = {path.stem for path in folder.glob("*.py") if "wiring.Component" in path.read_text()}
    assert {elsewhere.get(name, name) for name in components} <= set(BLOCKS)
    assert {"divider", "table_lookup", "control_port", "open_network"} <= set(BLOCKS)
