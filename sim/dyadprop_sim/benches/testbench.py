"""What all benches share: clock, reset, seeds, and an end that proves that something was compared."""

import random
from collections.abc import Coroutine
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.simtime import get_sim_time
from cocotb.triggers import RisingEdge

from dyadprop.plan import StagePlan
from dyadprop_sim.benches.checker import Checker
from dyadprop_sim.benches.pipes import PipeDriver, PipeMonitor
from dyadprop_sim.benches.ports import Port
from dyadprop_sim.benches.streams import Stalls, Stream, StreamDriver, StreamMonitor, StreamSink

PERIOD = 2  # ns, so that there is a falling edge
SHARES = (0.0, 0.2, 0.5, 0.8)


class Testbench:
    """A design under test with drivers and monitors around it.

    Parameters
    ----------
    dut : cocotb handle
        Of the top module.
    variant : str
        Of the designs in it, the one to test: what its ports' names begin with.
    seed : int
        Of data and stalls.
    stalls : bool
        Whether streams stall: each at its own rate, drawn with the seed.
    patience : int
        Cycles in which nothing is compared before the bench gives up.
    """

    RESET = 3
    """Cycles for which the design is reset."""

    def __init__(self, dut: Any, variant: str, seed: int, *, stalls: bool = True, patience: int = 2000) -> None:
        self.dut = dut
        self.variant = variant
        self.rng = random.Random(seed)
        self.stalls = stalls
        self.patience = patience
        self.checkers: list[Checker] = []
        self.drivers: list[StreamDriver] = []
        self._quiet: list[Any] = []
        self._running: list[Any] = []

    # -- parts --------------------------------------------------------------------------------------------------------

    def port(self, name: str, shape: Any) -> Port:
        """Reach a plain port."""
        return Port(getattr(self.dut, f"{self.variant}__{name}"), shape)

    def input(self, name: str, shape: Any, value: int = 0) -> Port:
        """Reach a plain input that has a value during reset and from then on until it is set."""
        port = self.port(name, shape)
        port.set_bits(value)
        return port

    def stream(self, name: str, shape: Any) -> Stream:
        """Reach a stream."""
        return Stream(self.dut, f"{self.variant}__{name}", shape)

    def source(self, name: str, shape: Any) -> tuple[StreamDriver, StreamMonitor]:
        """Drive one of the design's input streams, and watch it."""
        stream = self.stream(name, shape)
        driver = StreamDriver(stream, self._stalls(), self.rng)
        self.drivers.append(driver)
        self._quiet.append(driver)
        self._running.append(driver)
        return driver, self._watch(stream)

    def sink(self, name: str, shape: Any) -> tuple[StreamSink, StreamMonitor]:
        """Take from one of the design's output streams, and watch it."""
        stream = self.stream(name, shape)
        sink = StreamSink(stream, self._stalls())
        self._quiet.append(sink)
        self._running.append(sink)
        return sink, self._watch(stream)

    def checked(self, name: str, shape: Any) -> tuple[Checker, StreamMonitor]:
        """Take from one of the design's output streams and compare each item."""
        _, monitor = self.sink(name, shape)
        checker = self.checker(name)
        monitor.call(checker.check)
        return checker, monitor

    def checker(self, name: str) -> Checker:
        """Make a checker that has to be done at the end."""
        checker = Checker(f"{self.variant}.{name}")
        self.checkers.append(checker)
        return checker

    def pipe(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> tuple[PipeDriver, PipeMonitor]:
        """Drive and watch plain ports, given with their shapes."""
        driver = PipeDriver(self.dut.clk, {name: self.port(name, shape) for name, shape in inputs.items()}, self.rng)
        monitor = PipeMonitor(self.dut.clk, {name: self.port(name, shape) for name, shape in outputs.items()}, self.now)
        self._quiet.append(driver)
        self._running.append(monitor)
        return driver, monitor

    def _watch(self, stream: Stream) -> StreamMonitor:
        monitor = StreamMonitor(stream, self.now)
        self._running.append(monitor)
        return monitor

    def _stalls(self) -> Stalls:
        return Stalls(self.rng, self.rng.choice(SHARES) if self.stalls else 0.0)

    # -- running ------------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """Give the present cycle: the same number for all who wake at one edge."""
        return int(get_sim_time("ns")) // PERIOD

    async def start(self, *parts: Coroutine[Any, Any, None]) -> None:
        """Reset, then start drivers, monitors and the given parts of the bench, all at one edge."""
        for part in self._quiet:
            part.quiet()
        self.dut.rst.value = 1
        Clock(self.dut.clk, PERIOD, unit="ns").start(start_high=False)
        for _ in range(self.RESET):
            await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0
        for part in self._running:
            cocotb.start_soon(part.run())
        for coroutine in parts:
            cocotb.start_soon(coroutine)

    async def cycles(self, count: int) -> None:
        """Let cycles pass."""
        edge = RisingEdge(self.dut.clk)
        for _ in range(count):
            await edge

    async def drain(self) -> None:
        """Wait until everything sent is taken and everything expected has come."""
        edge = RisingEdge(self.dut.clk)
        quiet = 0
        before: list[int] = []
        while True:
            left = [driver.open for driver in self.drivers] + [checker.open for checker in self.checkers]
            if not any(left):
                return
            quiet = quiet + 1 if left == before else 0
            before = left
            assert quiet < self.patience, (
                f"nothing moved for {quiet} cycles: "
                + ", ".join(f"{d.stream.name} has {d.open} items to give" for d in self.drivers if d.open)
                + "; "
                + ", ".join(f"{c.name} waits for {c.open} items" for c in self.checkers if c.open)
            )
            await edge

    async def finish(self, **compared: int) -> None:
        """Drain, see that nothing more comes, and that each checker compared as many items as named here."""
        await self.drain()
        await self.cycles(30)
        await self.drain()
        counts = {checker.name.removeprefix(f"{self.variant}."): checker.compared for checker in self.checkers}
        assert counts == compared, f"compared {counts}, expected {compared}"
        assert any(counts.values()), "nothing was compared"
        cocotb.log.info("compared %s", counts)


def fill_weights(dut: Any, path: str, plan: StagePlan, rng: random.Random) -> None:
    """Give a stage's weights random values, where the simulator would start them with X.

    A weight that was never written, as of a row that does not exist, adds nothing: what it meets is zero, whatever it
    is itself. But zero times X is X in Verilog.
    """
    if not cocotb.SIM_NAME.startswith("Icarus"):
        return
    signals = dict(inside(dut, path))
    for lane in range(plan.lanes):
        weights = signals[f"{path}.lane_{lane}.weights"]
        for word in range(plan.words):
            weights[word].value = rng.getrandbits(plan.numbers.weight.width)


def inside(dut: Any, path: str) -> list[tuple[str, Any]]:
    """List the internal signals below a path that the build made public, by their names."""
    names = [(handle._name.strip().removeprefix("\\"), handle) for handle in dut]
    return [(name, handle) for name, handle in names if name.startswith(f"{path}.")]
