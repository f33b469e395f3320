"""The network in a clock domain of its own, so that the link in front of it may be slower."""

from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from dyadprop.plan import Plan
from dyadprop_hw.clock_crossing import ClockCrossing
from dyadprop_hw.network import DyadNetwork, control_data_bits, network_ports
from dyadprop_hw.streams import connect_stream

DOMAIN = "network"
"""Of the network; it needs no reset. Everything else is in ``sync``."""
HOLD = 16
"""Cycles of ``sync`` that a reset is held, and as many again until it has ended on the other side too: right for
networks whose clock is at least a quarter of the link's."""


class ClockedNetwork(wiring.Component):
    """A `DyadNetwork` in the domain ``network``, seen from ``sync``.

    Parameters
    ----------
    plan : Plan

    Members
    -------
    input, target, output, control_in, control_out, input_sensitivity : streams
        As of `DyadNetwork`, in ``sync``.
    restart : In(1)
        Reset the network, and lose what is on its way to or from it.
    restarting : Out(1)
        From the cycle behind ``restart``, or from reset on, until that is done: for ``2 * HOLD`` cycles, in which
        nobody may use the streams.

    Notes
    -----
    A `ClockCrossing` for each stream.
    """

    restart: Signal
    restarting: Signal

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        super().__init__(
            {**network_ports(plan.net, control_data_bits(plan)), "restart": In(1), "restarting": Out(1, init=1)}
        )

    def elaborate(self, platform: object) -> Module:
        """One domain each side of the crossings, whose resets are registers: these must not glitch."""
        m = Module()
        m.domains.outside = ClockDomain(local=True)
        m.domains.inside = ClockDomain(local=True)
        left = Signal(range(2 * HOLD), init=2 * HOLD - 1)
        held = Signal(init=1)
        cleared = Signal()
        # The third and fourth rank may have copies all over the FPGA (`dyadprop_boards.ecp5_resets`).
        m.submodules.clear = FFSynchronizer(held, cleared, o_domain=DOMAIN, init=1, stages=4)
        m.d.comb += [
            ClockSignal("outside").eq(ClockSignal("sync")),
            ResetSignal("outside").eq(held),
            ClockSignal("inside").eq(ClockSignal(DOMAIN)),
            ResetSignal("inside").eq(cleared),
        ]
        with m.If(self.restart):
            m.d.sync += [left.eq(2 * HOLD - 1), held.eq(1), self.restarting.eq(1)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
            with m.If(left == HOLD):
                m.d.sync += held.eq(0)
        with m.Else():
            m.d.sync += self.restarting.eq(0)

        network = DyadNetwork(self.plan)
        m.submodules.network = DomainRenamer("inside")(network)
        for name, member in network_ports(self.plan.net, control_data_bits(self.plan)).items():
            ours, its = getattr(self, name), getattr(network, name)
            inward = member.flow == In
            source, sink = (ours, its) if inward else (its, ours)
            domains = ("outside", "inside") if inward else ("inside", "outside")
            m.submodules[f"{name}_crossing"] = crossing = ClockCrossing(source.payload.shape(), *domains)
            connect_stream(m, wiring.flipped(source) if inward else source, crossing.i)
            connect_stream(m, crossing.o, sink if inward else wiring.flipped(sink))
        return m
