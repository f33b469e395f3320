"""A network whose links are open: for stalls, arbitrary initial tokens, bit flips and watching."""

import itertools
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from dyadprop.plan import Plan
from dyadprop_hw.layouts import StageStatus
from dyadprop_hw.network import control_data_bits, make_cost_head, make_stages, network_ports
from dyadprop_hw.streams import connect_stream
from dyadprop_sim.library import Ports


class OpenNetwork(wiring.Component):
    """The same stages and cost head as `dyadprop_hw.network.DyadNetwork`, with every link between them led outside.

    Parameters
    ----------
    plan : Plan

    Members
    -------
    activation_L_out, activation_L_in : streams
        ``x_l`` as it leaves stage ``l``, and as it enters stage ``l + 1`` or the cost head.
    sensitivity_L_out, sensitivity_L_in : streams
        ``lambda_l`` as it leaves stage ``l + 1`` or the cost head, and as it enters stage ``l``.
    others
        As in ``DyadNetwork``.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._stages = make_stages(plan)
        self._head = make_cost_head(plan)
        row: list[Any] = [*self._stages, self._head]
        members: dict[str, Any] = network_ports(plan.net, control_data_bits(plan))
        for index, (below, above) in enumerate(itertools.pairwise(row), start=1):
            members[f"activation_{index}_out"] = below.signature.members["activation_out"]
            members[f"activation_{index}_in"] = above.signature.members["activation_in"]
            members[f"sensitivity_{index}_out"] = above.signature.members["sensitivity_out"]
            members[f"sensitivity_{index}_in"] = below.signature.members["sensitivity_in"]
        members["status"] = Out(StageStatus).array(len(self._stages))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Lead every stream outside, the control chain apart."""
        m = Module()
        row: list[Any] = [*self._stages, self._head]
        for stage in self._stages:
            m.submodules[f"stage_{stage.numbers.index}"] = stage
        m.submodules.head = self._head
        outer: Any = self
        connect_stream(m, wiring.flipped(outer.input), row[0].activation_in)
        connect_stream(m, wiring.flipped(outer.target), self._head.target_in)
        connect_stream(m, wiring.flipped(outer.control_in), row[0].control_in)
        for index, (below, above) in enumerate(itertools.pairwise(row), start=1):
            connect_stream(m, below.activation_out, wiring.flipped(getattr(self, f"activation_{index}_out")))
            connect_stream(m, wiring.flipped(getattr(self, f"activation_{index}_in")), above.activation_in)
            connect_stream(m, above.sensitivity_out, wiring.flipped(getattr(self, f"sensitivity_{index}_out")))
            connect_stream(m, wiring.flipped(getattr(self, f"sensitivity_{index}_in")), below.sensitivity_in)
            connect_stream(m, below.control_out, above.control_in)
        connect_stream(m, self._head.output, wiring.flipped(outer.output))
        connect_stream(m, self._head.control_out, wiring.flipped(outer.control_out))
        if self.plan.net.input_gradient:
            connect_stream(m, row[0].sensitivity_out, wiring.flipped(outer.input_sensitivity))
        m.d.comb += [port.eq(stage.status) for port, stage in zip(outer.status, self._stages, strict=True)]
        return m


def network_streams(plan: Plan, *, open_links: bool) -> Ports:
    """Give the streams of a network's design in the harness's order."""
    stages = range(1, len(plan.stages) + 1)
    links: list[tuple[str, str]] = []
    if open_links:
        links = [(f"{name}_{l}_out", f"{name}_{l}_in") for l in stages for name in ("activation", "sensitivity")]
    return Ports(
        inputs=("input", "target", "control_in"),
        outputs=("output", "control_out", *(("input_sensitivity",) if plan.net.input_gradient else ())),
        links=tuple(links),
        status=tuple(f"status__{l - 1}" for l in stages),
    )
