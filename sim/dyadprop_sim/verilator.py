"""The hardware description itself, compiled by Verilator into this process: a network, and it as a device."""

from dyadprop.plan import Plan
from dyadprop_sim.library import BuildOptions, build_library
from dyadprop_sim.rtl_device import RtlDevice
from dyadprop_sim.rtl_network import RtlNetwork, describe_status
from dyadprop_sim.simulation import Simulation

# Many designs that run briefly: compiled fast, checked hard.
VERIFICATION = BuildOptions(optimize="-O0", assertions=True, random_start=True)


class NetworkSimulation(RtlNetwork):
    """A network's RTL in Verilator, with all that probes need besides.

    Parameters
    ----------
    plan : Plan
    open_links : bool
        Lead the links between stages through the harness, where they can stall, be preloaded, flipped and watched.
    options : BuildOptions, optional
    seed : int
        Of random contents before reset (``options.random_start``) and of stalls.
    stalls, patience
        As of `RtlNetwork`.
    verilog : str
        A module ``top`` with the network's ports, to be simulated instead of the RTL: exported, or made by synthesis.
    selector : str
        Its selector port (`Ports.selector`).
    """

    simulation: Simulation

    def __init__(
        self,
        plan: Plan,
        *,
        open_links: bool = False,
        options: BuildOptions | None = None,
        seed: int = 0,
        stalls: float = 0.0,
        patience: int | None = None,
        verilog: str = "",
        selector: str = "",
    ) -> None:
        super().__init__(plan, open_links=open_links, seed=seed, stalls=stalls, patience=patience, selector=selector)
        self._path = build_library(
            self._title, f"{self._key} {verilog}", lambda: verilog or self._make_top(), self.ports, options
        )
        self._random_start = options is not None and options.random_start
        self.simulation = self._start(seed, 0)

    def restart(self, *, seed: int = 0, contents: int | None = None, select: int = 0) -> None:
        """Begin again from reset: other stalls, other random contents (if not given, of the same seed), selector."""
        self.simulation.close()
        self._seed = seed
        self.simulation = self._start(seed if contents is None else contents, select)

    def _start(self, contents: int, select: int) -> Simulation:
        return Simulation(
            self._path,
            self.ports,
            seed=contents,
            randomize=self._random_start,
            select=select,
            spell=describe_status,
        )


class VerilatorDevice(RtlDevice):
    """The RTL itself, simulated: built once with Verilator, then one call a batch.

    Parameters
    ----------
    net, on_saturation, multipliers, seed
        As of `RtlDevice`.
    stalls : float
        Chance that a stream stalls in a cycle. Above 0 the design is built for verification instead of speed: links
        between stages are open and stall too, assertions are kept, registers and memories hold random contents before
        reset.
    """

    kind = "verilator"

    def _simulate(self, *, stalls: float, seed: int) -> NetworkSimulation:
        return NetworkSimulation(
            self.plan,
            open_links=stalls > 0,
            options=VERIFICATION if stalls > 0 else None,
            stalls=stalls,
            seed=seed,
        )
