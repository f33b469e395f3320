"""The hardware description itself, run by Icarus Verilog: a network, and it as a device."""

from dyadprop.plan import Plan
from dyadprop_sim.icarus_program import build_program
from dyadprop_sim.icarus_simulation import IcarusSimulation
from dyadprop_sim.rtl_device import RtlDevice
from dyadprop_sim.rtl_network import RtlNetwork, describe_status


class IcarusNetwork(RtlNetwork):
    """A network's RTL in Icarus.

    Parameters
    ----------
    plan, open_links, seed, stalls, patience
        As of `RtlNetwork`.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        open_links: bool = False,
        seed: int = 0,
        stalls: float = 0.0,
        patience: int | None = None,
    ) -> None:
        super().__init__(plan, open_links=open_links, seed=seed, stalls=stalls, patience=patience)
        program = build_program(self._title, self._key, self._make_top, self.ports)
        self.simulation = IcarusSimulation(program, self.ports, spell=describe_status)


class IcarusDevice(RtlDevice):
    """The RTL itself in Icarus Verilog, slow, but no bit that is unknown before reset gets past it.

    Parameters
    ----------
    net, on_saturation, multipliers, seed
        As of `RtlDevice`.
    stalls : float
        Chance that a stream stalls in a cycle. Above 0 the links between stages are open and stall too, all of them in
        the same cycles as those of device verilator.
    """

    kind = "icarus"

    def _simulate(self, *, stalls: float, seed: int) -> IcarusNetwork:
        return IcarusNetwork(self.plan, open_links=stalls > 0, stalls=stalls, seed=seed)
