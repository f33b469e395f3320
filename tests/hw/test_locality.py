# amaranth: UnusedElaboratable=no
"""Locality as a fact of the netlist: which wires leave a stage, and whom a lane touches."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from dyadprop.formats import Formats, Q
from dyadprop.network import Dense, Network
from dyadprop.plan import Plan, plan_network
from dyadprop_hw import network, stage
from dyadprop_hw.lane import Lane
from dyadprop_hw.network import DyadNetwork
from tests.hw.netlist import Netlist, NetlistModule

STREAMS_BELOW = ("activation_in", "sensitivity_out")
STREAMS_ABOVE = ("activation_out", "sensitivity_in")
CHAIN = ("control_in", "control_out")
SHARED = {"clk", "rst"}
FIELDS = ("payload", "valid", "ready")


def make_plan(*, input_gradient: bool = True, cost: str = "squared_error") -> Plan:
    dense = [Dense(5, "tanh", lanes=4), Dense(4, "relu", lanes=4), Dense(3, lanes=3)]
    small = Formats(Q(3, 5), Q(3, 5), Q(2, 6))
    return plan_network(Network(3, dense, cost, input_gradient=input_gradient, formats=small, max_batch=4))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan()


@pytest.fixture(scope="module")
def netlist(plan: Plan) -> Netlist:
    return Netlist(DyadNetwork(plan))


def wires(streams: Iterable[str]) -> set[str]:
    return {f"{stream}__{field}" for stream in streams for field in FIELDS}


def foreign_wires(module: NetlistModule, allowed: set[str]) -> list[str]:
    """List the ports of a module that are none of the allowed wires; by bits, as a port has any of its names."""
    bits = {bit for name in allowed for bit in module.nets[name]}
    return sorted(port for port, own in module.ports.items() if not set(own) <= bits)


def stage_wires(module: NetlistModule) -> set[str]:
    streams = [*STREAMS_ABOVE, *CHAIN, STREAMS_BELOW[0]]
    if "sensitivity_out__valid" in module.nets:
        streams.append(STREAMS_BELOW[1])
    return wires(streams) | SHARED | {"status"}


# -- what leaves a stage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("input_gradient", [False, True])
def test_stage_meets_the_world_in_four_streams_the_chain_and_its_status(input_gradient: bool) -> None:
    plan = make_plan(input_gradient=input_gradient)
    top = Netlist(DyadNetwork(plan)).module("top")
    stages = [cell for cell in top.children if cell.startswith("stage_")]
    assert len(stages) == 3
    for cell in stages:
        module = top.child(cell)
        allowed = stage_wires(module)
        assert ("sensitivity_out__valid" in allowed) == (input_gradient or cell != "stage_1")
        assert foreign_wires(module, allowed) == []
        # And each of them is there, whole: the check above did not pass for want of ports.
        crossing = {bit for bits in module.ports.values() for bit in bits}
        assert all(set(module.nets[name]) <= crossing for name in allowed)


def test_cost_head_meets_the_world_in_its_streams_and_the_chain(netlist: Netlist) -> None:
    head = netlist.module("top").child("head")
    assert (
        foreign_wires(head, wires(["activation_in", "output", "target_in", "sensitivity_out", *CHAIN]) | SHARED) == []
    )


def test_network_has_no_other_ports(netlist: Netlist, plan: Plan) -> None:
    top = netlist.module("top")
    streams = ["input", "target", "output", "input_sensitivity", *CHAIN]
    status = {f"status__{index}" for index in range(len(plan.stages))}
    assert set(top.ports) == wires(streams) | SHARED | status


def test_stage_touches_its_two_neighbours_only(netlist: Netlist, plan: Plan) -> None:
    top = netlist.module("top")
    row = [*(f"stage_{s.numbers.index}" for s in plan.stages), "head"]
    assert set(top.children) == set(row)
    for position, cell in enumerate(row):
        near = set(row[max(0, position - 1) : position + 2]) - {cell}
        outside = {f"<status__{position}>"}
        if position == 0:
            outside |= {f"<{wire}>" for wire in wires(["input", "input_sensitivity", "control_in"])}
        if cell == "head":
            outside |= {f"<{wire}>" for wire in wires(["target", "output", "control_out"])}
        touched = set().union(*top.neighbours(cell).values())
        assert touched <= near | outside, f"{cell} touches {sorted(touched - near - outside)}"
        assert near <= touched


def test_clock_and_reset_alone_reach_every_stage(netlist: Netlist) -> None:
    top = netlist.module("top")
    many = {
        port.port
        for pins in top.touchers.values()
        for port in pins
        if len({pin.cell for pin in pins if pin.cell is not None}) > 2
    }
    assert many == SHARED


def test_no_path_crosses_a_stage_without_a_clock_edge(netlist: Netlist) -> None:
    for cell in ("stage_1", "stage_2", "stage_3"):
        module = netlist.module("top").child(cell)
        sources = module.sources()
        assert len(sources) >= 10
        # Whether a command of the chain is this stage's own is seen in the word itself, in the same cycle.
        control = {bit for field in ("payload", "valid") for bit in module.nets[f"control_in__{field}"]}
        own = {port for port, bits in module.ports.items() if set(bits) <= control}
        for output, inputs in sources.items():
            allowed = own if set(module.ports[output]) <= set(module.nets["control_in__ready"]) else set()
            assert inputs <= allowed, f"{output} of {cell} follows {sorted(inputs)}"


# -- what leaves a lane ----------------------------------------------------------------------------------------------


def lanes_of(module: NetlistModule) -> list[str]:
    return sorted((cell for cell in module.children if re.fullmatch(r"lane_\d+", cell)), key=lambda cell: int(cell[5:]))


def far_touches(module: NetlistModule) -> list[str]:
    """List what a lane touches besides its two neighbours; both ends of the row also meet the stage."""
    lanes = lanes_of(module)
    found = []
    for position, cell in enumerate(lanes):
        near = set(lanes[max(0, position - 1) : position + 2]) - {cell}
        for port, touched in module.neighbours(cell).items():
            far = {name for name in touched - near if name.startswith(("lane_", "<"))}
            inner = touched - near - far
            if 0 < position < len(lanes) - 1 or (touched & near and inner):
                far |= inner
            found += [f"{cell}.{port} -> {name}" for name in sorted(far)]
    return found


@pytest.mark.parametrize("cell", ["stage_1", "stage_2", "stage_3"])
def test_lane_touches_its_two_neighbours_only(netlist: Netlist, cell: str) -> None:
    module = netlist.module("top").child(cell)
    lanes = lanes_of(module)
    assert len(lanes) >= 3
    assert far_touches(module) == []
    for before, after in pairwise(lanes):
        assert after in set().union(*module.neighbours(before).values())


def test_waves_enter_at_the_first_lane_and_leave_at_the_last(netlist: Netlist) -> None:
    module = netlist.module("top").child("stage_2")
    lanes = lanes_of(module)
    first, last = (set().union(*module.neighbours(cell).values()) for cell in (lanes[0], lanes[-1]))
    assert first == {"forward", "backward", "loader", "control", lanes[1]}
    assert lanes[0] not in last
    assert last & {"forward", "backward", "loader", "memory"} == set()


@pytest.mark.parametrize("cell", ["stage_1", "stage_2", "stage_3"])
def test_each_hop_between_lanes_is_a_register(netlist: Netlist, cell: str) -> None:
    module = netlist.module("top").child(cell)
    lanes = lanes_of(module)
    for lane in lanes:
        sources = module.child(lane).sources()
        # Deltas, the forward wave and the rate end in the last lane.
        assert len(sources) == (4 if lane == lanes[-1] else 7)
        assert all(not inputs for inputs in sources.values())


# -- the check can fail ----------------------------------------------------------------------------------------------


def test_wire_from_stage_to_stage_is_found(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Signal(name="secret")

    class Talker(stage.Stage):
        def elaborate(self, platform: object) -> Module:
            m = super().elaborate(platform)
            m.d.sync += secret.eq(self.status.forward)
            return m

    class Listener(stage.Stage):
        def elaborate(self, platform: object) -> Module:
            m = super().elaborate(platform)
            m.d.sync += Signal(name="heard").eq(secret)
            return m

    bits = network.control_data_bits(plan)
    kinds = (Talker, stage.Stage, Listener)
    monkeypatch.setattr(
        network, "make_stages", lambda plan: [kind(s, bits) for kind, s in zip(kinds, plan.stages, strict=True)]
    )
    top = Netlist(DyadNetwork(plan)).module("top")
    found = {
        cell: foreign_wires(top.child(cell), stage_wires(top.child(cell))) for cell in ("stage_1", "stage_2", "stage_3")
    }
    assert found == {"stage_1": ["secret"], "stage_2": [], "stage_3": ["secret"]}
    assert "stage_3" in set().union(*top.neighbours("stage_1").values())


def test_enable_broadcast_to_all_lanes_is_found(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    enable = Signal(name="enable")

    class Obedient(Lane):
        def elaborate(self, platform: object) -> Module:
            m = super().elaborate(platform)
            m.d.sync += Signal(name="obeyed").eq(enable)
            return m

    class Commander(stage.Stage):
        def elaborate(self, platform: object) -> Module:
            m = super().elaborate(platform)
            m.d.sync += enable.eq(self.status.forward)
            return m

    monkeypatch.setattr(stage, "Lane", Obedient)
    top = Netlist(Commander(plan.stages[1], network.control_data_bits(plan))).module("top")
    found = far_touches(top)
    assert {entry.partition(" ")[0] for entry in found} == {f"lane_{p}.enable" for p in range(4)}
    assert "lane_0.enable -> lane_3" in found


def test_path_without_a_register_is_found() -> None:
    class Hasty(wiring.Component):
        def __init__(self) -> None:
            super().__init__({"wave_in": In(4), "other_in": In(4), "wave_out": Out(4)})

        def elaborate(self, platform: object) -> Module:
            m = Module()
            held = Signal(4)
            m.d.sync += held.eq(self.other_in)
            m.d.comb += self.wave_out.eq(self.wave_in + held)
            return m

    assert Netlist(Hasty()).module("top").sources() == {"wave_out": {"wave_in"}}
