"""The whole network: stages and cost head in a row."""

import itertools
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from dyadprop.network import Network
from dyadprop.operations import COUNTER_BITS
from dyadprop.plan import Plan
from dyadprop.widths import target_format
from dyadprop_hw.cost_head import CostHead
from dyadprop_hw.layouts import StageStatus, activation_token, control_token, sensitivity_token, target_token
from dyadprop_hw.stage import Stage
from dyadprop_hw.streams import connect_stream


def control_data_bits(plan: Plan) -> int:
    """Bits of a control word's data: a gradient, or a counter that stays positive."""
    return max(COUNTER_BITS + 1, *(stage.numbers.gradient_bits for stage in plan.stages))


def make_stages(plan: Plan) -> list[Stage]:
    """Make the stages of a network, first stage first, connected to nothing."""
    return [Stage(stage, control_data_bits(plan)) for stage in plan.stages]


def make_cost_head(plan: Plan) -> CostHead:
    """Make the cost head of a network."""
    net = plan.net
    last = len(net.layers)
    formats = net.layer_formats(last)
    return CostHead(
        last + 1,
        net.outputs,
        formats.activation,
        target_format(net),
        formats.sensitivity,
        softmax=net.cost == "softmax_cross_entropy",
        data_bits=control_data_bits(plan),
    )


def network_ports(net: Network, data_bits: int) -> dict[str, Any]:
    """Give the streams of a whole network; `DyadNetwork` describes them."""
    last = net.layer_formats(len(net.layers))
    ports: dict[str, Any] = {
        "input": In(stream.Signature(activation_token(net.formats.activation))),
        "target": In(stream.Signature(target_token(target_format(net), last.sensitivity))),
        "output": Out(stream.Signature(activation_token(last.activation))),
        "control_in": In(stream.Signature(control_token(data_bits))),
        "control_out": Out(stream.Signature(control_token(data_bits))),
    }
    if net.input_gradient:
        first = net.formats
        ports["input_sensitivity"] = Out(stream.Signature(sensitivity_token(first.sensitivity, first.activation)))
    return ports


class DyadNetwork(wiring.Component):
    """Stages ``1..L`` and the cost head, each connected to its neighbours and to nothing else.

    Parameters
    ----------
    plan : Plan

    Members
    -------
    input : In(stream of activation_token)
        ``n_0`` words a sample, format ``A_0``; ``learn`` of its first word counts.
    target : In(stream of target_token)
        ``n_L`` words for each sample with ``learn``.
    output : Out(stream of activation_token)
        ``n_L`` words a sample.
    control_in, control_out : streams of control_token
        The ends of the chain through all stages (`dyadprop.operations`). Replies leave in the order of their commands.
    input_sensitivity : Out(stream of sensitivity_token)
        ``n_0`` words for each sample with ``learn``, where the network has the input gradient.
    status : array of Out(StageStatus)

    Notes
    -----
    ``Plan.interval`` cycles a sample in steady state, ``Plan.gradient_latency`` alone.
    """

    input: Any
    target: Any
    output: Any
    control_in: Any
    control_out: Any
    input_sensitivity: Any
    status: Any

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        super().__init__(
            {
                **network_ports(plan.net, control_data_bits(plan)),
                "status": Out(StageStatus).array(len(plan.stages)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Put the row together."""
        m = Module()
        stages = make_stages(self.plan)
        head = make_cost_head(self.plan)
        for stage in stages:
            m.submodules[f"stage_{stage.numbers.index}"] = stage
        m.submodules.head = head

        row: list[Any] = [*stages, head]
        connect_stream(m, wiring.flipped(self.input), stages[0].activation_in)
        connect_stream(m, wiring.flipped(self.target), head.target_in)
        connect_stream(m, wiring.flipped(self.control_in), stages[0].control_in)
        for below, above in itertools.pairwise(row):
            connect_stream(m, below.activation_out, above.activation_in)
            connect_stream(m, above.sensitivity_out, below.sensitivity_in)
            connect_stream(m, below.control_out, above.control_in)
        connect_stream(m, head.output, wiring.flipped(self.output))
        connect_stream(m, head.control_out, wiring.flipped(self.control_out))
        if self.plan.net.input_gradient:
            connect_stream(m, stages[0].sensitivity_out, wiring.flipped(self.input_sensitivity))
        m.d.comb += [port.eq(stage.status) for port, stage in zip(self.status, stages, strict=True)]
        return m
