"""The RTL in Icarus: the golden model's words and Verilator's cycles, and a process that nobody is left with."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.cache import cache_folder
from dyadprop.comparison import Comparison, compare_checkpoints, compare_parameters, compare_results, compare_training
from dyadprop.plan import plan_network
from dyadprop.results import Stats
from dyadprop.widths import target_format
from dyadprop_sim import icarus_program, icarus_simulation
from dyadprop_sim.commands.verify import compare_network, training_runs
from dyadprop_sim.icarus import IcarusDevice, IcarusNetwork
from dyadprop_sim.icarus_program import build_program, join_processes
from dyadprop_sim.icarus_simulation import IcarusSimulation
from dyadprop_sim.library import Ports
from dyadprop_sim.random_networks import Case, random_case
from dyadprop_sim.rtl_network import pack

# Of the networks of test_rtl.py those that are small and have few samples: Verilator's libraries are there already.
MAX_WIDTH = 5
SEEDS = (2, 3, 5, 8)
STALLS = (0.1, 0.3, 0.6)


def name(kind: str, seed: int) -> str:
    return f"{kind}?stalls={STALLS[seed % 3]}&seed={seed}"


# -- the same bits, the same cycles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_icarus_equals_golden_on_a_random_network(seed: int) -> None:
    comparison, failure = compare_network(name("icarus", seed), seed, max_width=MAX_WIDTH)
    assert failure is None, failure["text"] if failure else ""
    assert comparison.equal > 300
    assert comparison.different == 0


def clocked(stats: Stats) -> tuple[int, int]:
    assert stats.cycles > 0
    return stats.cycles, stats.transfer_cycles


def same_runs(case: Case, seed: int, samples: int, *names: str) -> int:
    """Make every call on both devices; compare words and cycles, and say how many words were compared."""
    net = case.net
    x = net.formats.activation.to_floats(case.x[:samples])
    y = target_format(net).to_floats(case.targets[:samples])
    params = [entry.decode() for entry in case.params]
    total = Comparison()
    with dp.open(names[0], net) as one, dp.open(names[1], net) as other:
        for device in (one, other):
            device.load(params)
        total += compare_parameters(net, one.parameters(), other.parameters())
        calls = (
            lambda device: device.gradients(x, y),
            lambda device: device.predict(x),
            lambda device: device.vjp(x, y, scale=1.0),
        )
        for call in calls:
            mine, its = call(one), call(other)
            total += compare_results(net, mine, its)
            assert clocked(mine.stats) == clocked(its.stats)
        for batch_size, rate in training_runs(net, seed):
            for device in (one, other):
                device.load(params)
            mine, its = (device.train(x, y, rate.value, batch_size) for device in (one, other))
            total += compare_training(net, mine, its)
            assert clocked(mine.stats) == clocked(its.stats)
            total += compare_checkpoints(net, one.checkpoint(), other.checkpoint())
    assert total.different == 0, total.first
    return total.equal


@pytest.mark.parametrize("seed", SEEDS)
def test_stalls_come_in_the_same_cycles_as_verilators(seed: int) -> None:
    case = random_case(seed, max_width=MAX_WIDTH)
    assert same_runs(case, seed, 4, name("icarus", seed), name("verilator", seed)) > 80


@pytest.mark.parametrize(("seed", "kind"), [(1000, "extremes"), (1001, "uniform")])
def test_without_stalls_each_call_takes_the_same_cycles_as_in_verilator(seed: int, kind: str) -> None:
    case = random_case(seed, kind=kind, batch=255, max_width=6)
    assert same_runs(case, seed, 5, "icarus", "verilator") > 200


# -- a device ----------------------------------------------------------------------------------------------------------

# Two rows of the first stage's lanes do not exist.
NET = dp.Network(4, [dp.Dense(4, "tanh", lanes=3), dp.Dense(2, lanes=2)])
RNG = np.random.default_rng(1)
X, Y = RNG.uniform(-1, 1, (7, 4)), RNG.uniform(-1, 1, (7, 2))


@pytest.fixture
def device() -> Iterator[IcarusDevice]:
    with dp.open("icarus", NET) as opened:
        assert isinstance(opened, IcarusDevice)
        opened.load(NET.init(0))
        yield opened


def process_of(simulation: IcarusSimulation) -> int:
    return simulation._vvp._vvp.pid


def runs(pid: int) -> bool:
    """Whether a process is there, be it as a zombie."""
    return Path(f"/proc/{pid}").exists()


def test_it_is_installed_under_its_name(device: IcarusDevice) -> None:
    assert dp.devices()["icarus"].startswith("The RTL itself in Icarus Verilog")
    assert device.info.kind == "icarus"
    assert device.info.lanes == (3, 2)
    assert device.info.network == NET.hash
    with dp.open("verilator", NET) as verilator:
        assert device.info.gateware == verilator.info.gateware


def test_a_device_takes_the_cycles_that_the_plan_predicts(device: IcarusDevice) -> None:
    plan = plan_network(NET)
    # The command that reads the gradients finds them written.
    assert device.gradients(X[:1], Y[:1]).stats.cycles >= plan.gradient_latency
    assert device.predict(X[:1]).stats.cycles == plan.output_latency + 1
    longer, shorter = (device.predict(np.resize(X, (n, 4))).stats.cycles for n in (14, 7))
    assert longer - shorter == 7 * plan.stages[0].tick


def test_a_run_goes_on_where_another_device_stopped(device: IcarusDevice) -> None:
    run: dict[str, Any] = {"learning_rate": 2**-5, "batch_size": 3, "epochs": 2, "shuffle": True, "seed": 4}
    parts = device.train_iter(X, Y, **run, chunk=3)
    first = next(parts)
    checkpoint = device.checkpoint(first.position)
    total = Comparison()
    with dp.open("golden", NET) as golden, dp.open("icarus", NET) as resumed:
        golden.load(NET.init(0))
        whole = golden.train(X, Y, **run)
        resumed.resume(checkpoint)
        rest = resumed.train(X, Y, **run, start=first.position)
        joined = dp.TrainResult.join([first, rest])
        total += compare_training(NET, joined, whole)
        total += compare_checkpoints(NET, resumed.checkpoint(), golden.checkpoint())
    assert total.different == 0, total.first
    # Outputs, exact costs and counts of both epochs; parameters and residuals.
    assert total.equal == 28 + 6 + 9 + 2 * (4 * 5 + 2 * 5)


def test_batches_longer_than_a_block_come_back_whole(device: IcarusDevice) -> None:
    x = np.resize(X, (2 * icarus_simulation.BLOCK // 3 + 50, 4))
    with dp.open("golden", NET) as golden:
        golden.load(NET.init(0))
        compared = compare_results(NET, device.predict(x), golden.predict(x))
    assert compared.different == 0
    assert compared.equal > 1400


def test_a_killed_process_is_a_lost_device(device: IcarusDevice) -> None:
    simulation = device._rtl.simulation
    assert isinstance(simulation, IcarusSimulation)
    os.kill(process_of(simulation), signal.SIGKILL)
    with pytest.raises(dp.DeviceLost, match=r"^process \d+, vvp, ended by signal 9, Killed$"):
        device.predict(X)
    assert not runs(process_of(simulation))
    with pytest.raises(dp.DeviceLost, match="cannot be used: an earlier call failed"):
        device.predict(X)


def test_closing_ends_the_process(device: IcarusDevice) -> None:
    simulation = device._rtl.simulation
    assert isinstance(simulation, IcarusSimulation)
    assert runs(process_of(simulation))
    device.close()
    assert not runs(process_of(simulation))
    device.close()
    with pytest.raises(dp.DeviceLost, match="it is closed"):
        device.predict(X)


def test_an_option_out_of_range_names_the_device() -> None:
    with pytest.raises(
        dp.RangeError, match=r"^option stalls of device icarus is '1'; allowed are float from 0.0 to 0.99$"
    ):
        dp.open("icarus?stalls=1", NET)


def test_an_unknown_bit_in_an_answer_is_an_error() -> None:
    rtl = IcarusNetwork(plan_network(NET))
    simulation = rtl.simulation
    assert isinstance(simulation, IcarusSimulation)
    # Nobody has loaded weights.
    message = r"^word 0 of output in cycle \d+ is [0-9a-fxX]*[xX][0-9a-fxX]* \(hexadecimal\); the hardware may give no "
    with pytest.raises(dp.DyadpropError, match=message):
        rtl.run({"input": pack(rtl.input_token, value=[1, 2, 3, 4], learn=0)}, {"output": 2})
    assert not runs(process_of(simulation))
    with pytest.raises(dp.DeviceLost, match="the simulation is closed"):
        rtl.describe()


# -- a simulation of any design ----------------------------------------------------------------------------------------

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
WORDS = np.arange(10, dtype=np.uint64)


def start(verilog: str = ADD_ONE) -> IcarusSimulation:
    return IcarusSimulation(build_program("one place", verilog, lambda: verilog, PORTS), PORTS)


@pytest.fixture
def one_place() -> Iterator[IcarusSimulation]:
    simulation = start()
    yield simulation
    simulation.close()


def test_words_go_through_and_their_cycles_are_told(one_place: IcarusSimulation) -> None:
    cycles: dict[str, np.ndarray] = {}
    out = one_place.run({"i": WORDS}, {"o": 10}, cycles=cycles)["o"]
    assert out.tolist() == list(range(1, 11))
    # As in Verilator (test_library.py).
    assert cycles["o"].tolist() == list(range(1, 21, 2))
    assert one_place.cycle == 20
    slow = one_place.run({"i": WORDS}, {"o": 10}, stalls=0.5, seed=3)["o"]
    assert slow.tolist() == out.tolist()
    assert one_place.cycle > 45
    before = one_place.cycle
    one_place.wait(7)
    assert one_place.cycle == before + 7


def test_a_simulation_that_stalls_says_what_is_missing(one_place: IcarusSimulation) -> None:
    message = (
        r"^the simulation made no progress for 50 cycles \(cycle 5\d\): 2 of 3 words of i taken; status__0 = 0x2b$"
    )
    with pytest.raises(dp.DeviceTimeout, match=message):
        one_place.run({"i": WORDS[:3]}, {"o": 1}, patience=50)
    # It is not broken: the word that stands in it comes out.
    assert one_place.run({}, {"o": 1})["o"].tolist() == [2]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [(0, r"^o__valid in cycle 0 is X; the hardware"), (1, r"^i__ready and o__valid in cycle 0 is X; the hardware")],
)
def test_an_unknown_handshake_is_an_error(inputs: int, message: str) -> None:
    simulation = start(ADD_ONE.replace("if (rst) full <= 0;", ""))
    with pytest.raises(dp.DyadpropError, match=message):
        simulation.run({"i": WORDS[:inputs]}, {"o": 1})
    assert not runs(process_of(simulation))


def test_a_process_that_dies_says_its_last_word() -> None:
    fatal = 'initial begin #9 $fdisplay(32\'h8000_0002, "out of luck"); $finish(0); end\nendmodule'
    simulation = start(ADD_ONE.replace("endmodule", fatal))
    with pytest.raises(dp.DeviceLost, match=r"^process \d+, vvp, ended with exit 0: out of luck$"):
        simulation.run({"i": WORDS}, {"o": 10})
    with pytest.raises(dp.DeviceLost, match="the simulation is closed"):
        simulation.status()


def test_a_process_that_hangs_is_ended(one_place: IcarusSimulation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(icarus_simulation, "SILENCE", 0.3)
    os.kill(process_of(one_place), signal.SIGSTOP)
    with pytest.raises(dp.DeviceTimeout, match=r"^process \d+, vvp, has given no sign of life for 0.3 s$"):
        one_place.run({"i": WORDS}, {"o": 10})
    assert not runs(process_of(one_place))


def test_a_second_ctrl_c_ends_the_process(one_place: IcarusSimulation, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object, numbers: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(icarus_simulation._Process, "tell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one_place.run({"i": WORDS}, {"o": 10})
    assert not runs(process_of(one_place))


def test_what_nobody_holds_any_more_is_ended() -> None:
    simulation = start()
    simulation.run({"i": WORDS}, {"o": 10})
    pid = process_of(simulation)
    del simulation
    gc.collect()
    assert not runs(pid)


SCRIPT = """
import os, signal, sys
import numpy as np
from dyadprop_sim.icarus_simulation import IcarusSimulation
from dyadprop_sim.library import Ports
words = np.arange(3, dtype=np.uint64)
simulation = IcarusSimulation(sys.argv[1], Ports(inputs=("i",), outputs=("o",), status=("status__0",)))
print(simulation._vvp._vvp.pid)
if sys.argv[2] == "fork":
    child = os.fork()
    if child == 0:
        sys.exit(0)  # with all that Python does at its end
    os.waitpid(child, 0)
print(simulation.run({"i": words}, {"o": 3})["o"].tolist(), flush=True)
if sys.argv[2] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("how", "status"), [("exit", 0), ("fork", 0), ("kill", -signal.SIGKILL)])
def test_no_process_outlives_python(how: str, status: int) -> None:
    program = build_program("one place", ADD_ONE, lambda: ADD_ONE, PORTS)
    command = [sys.executable, "-c", SCRIPT, str(program), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (status, "")
    pid, answer = done.stdout.split("\n")[-3:-1]
    assert answer == "[1, 2, 3]"
    deadline = time.monotonic() + 20
    while runs(int(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# -- builds ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty cache."""
    monkeypatch.setenv("DYADPROP_CACHE", str(tmp_path / "cache"))
    return cache_folder()


def test_no_icarus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = build_program("one place", ADD_ONE, lambda: ADD_ONE, PORTS)
    monkeypatch.setenv("PATH", str(tmp_path))
    hint = "is on PATH; on Debian: apt-get install iverilog$"
    with pytest.raises(dp.BuildError, match=rf"^Icarus Verilog is not installed: no iverilog {hint}"):
        dp.open("icarus", NET)
    with pytest.raises(dp.BuildError, match=rf"^Icarus Verilog is not installed: no vvp {hint}"):
        IcarusSimulation(program, PORTS)


def test_a_program_is_built_once(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make_top() -> str:
        made.append(1)
        return ADD_ONE

    first = build_program("one place", "key", make_top, PORTS)
    assert build_program("called otherwise", "key", make_top, PORTS) == first
    assert len(made) == 1
    assert [path.suffix for path in elsewhere.iterdir()] == [".vvp"]
    # Another key or other sources are another program.
    assert build_program("one place", "another key", make_top, PORTS) != first
    monkeypatch.setattr(icarus_program, "source_hash", lambda: "changed")
    assert build_program("one place", "key", make_top, PORTS) != first
    assert len(made) == 3


def test_a_failing_build_names_its_log(elsewhere: Path) -> None:
    with pytest.raises(dp.BuildError, match=r"^iverilog failed: .*rror.*; its log is ") as caught:
        build_program("nonsense", "key", lambda: "module top(input clk; endmodule", PORTS)
    log = str(caught.value).rpartition(" ")[2]
    assert "syntax error" in Path(log).read_text()
    assert not list(elsewhere.glob("*.vvp"))


def test_processes_are_joined_as_they_are() -> None:
    verilog = """module top(clk, a);
  reg b, c;
  always @(posedge clk)
    if (a) b <= c;
    else b <= 1'h0;
  reg d;
  always @(posedge clk) begin
    if (b) begin
      d <= c;
    end
  end
  assign e = d;
endmodule
"""
    assert (
        join_processes(verilog)
        == """module top(clk, a);
  reg b, c;
  reg d;
  assign e = d;
  always @(posedge clk) begin
    if (a) b <= c;
    else b <= 1'h0;
    if (b) begin
      d <= c;
    end
  end
endmodule
"""
    )
