"""Run all cocotb benches; each test here is one block in one simulator, with all the cocotb tests of that block."""

from pathlib import Path

import pytest

from dyadprop_sim.benches.runner import BLOCKS, SIMULATORS, run_bench
from dyadprop_sim.benches.waves import write_save_file

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
    elsewhere |= dict.fromkeys(("receive_window", "send_window"), "session")
    elsewhere |= dict.fromkeys(("command_side", "answer_side", "stage_sizes", "vector_queue"), "bridge")
    elsewhere |= dict.fromkeys(("line_rate", "link_registers"), "chip")
    components = {path.stem for path in folder.glob("*.py") if "wiring.Component" in path.read_text()}
    components.remove("self_test")  # in a whole core: tests/hw/test_self_test.py
    assert {elsewhere.get(name, name) for name in components} <= set(BLOCKS)
    assert {"divider", "table_lookup", "control_port", "open_network"} <= set(BLOCKS)


def test_save_file_shows_each_stream(tmp_path):
    verilog = tmp_path / "block.v"
    verilog.write_text(
        "module top(clk, rst);\n  input clk;\n  input rst;\n  input [7:0] a__i__payload;\n  input a__i__valid;\n"
        "  output a__i__ready;\n  output [3:0] a__status;\nendmodule\n"
    )
    text = write_save_file(verilog, tmp_path, "verilator").read_text().splitlines()
    assert text[0] == f'[dumpfile] "{tmp_path / "dump.vcd"}"'
    start = text.index("-a i")
    stream = ["@28", "top.a__i__valid", "top.a__i__ready", "@22", "top.a__i__payload[7:0]"]
    assert text[start + 1 : start + 6] == stream
    assert text[-1] == "top.a__status[3:0]"
