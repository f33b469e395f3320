"""Drivers and monitors of blocks that never wait: what goes in comes out a fixed number of cycles later."""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cocotb.triggers import RisingEdge

from dyadprop_sim.benches.ports import Item, Port


class PipeDriver:
    """Give one item a cycle to a group of ports, random bits behind the last one.

    Parameters
    ----------
    clock : cocotb handle
    ports : dict of str to Port
    rng : random.Random
    """

    def __init__(self, clock: Any, ports: dict[str, Port], rng: random.Random) -> None:
        self.clock = clock
        self.ports = ports
        self._rng = rng

    def quiet(self) -> None:
        """Give random bits."""
        for port in self.ports.values():
            port.set_bits(self._rng.getrandbits(port.codec.width))

    async def give(self, items: Iterable[dict[str, Item]]) -> None:
        """Give items from now on, one a cycle."""
        edge = RisingEdge(self.clock)
        for item in items:
            for name, port in self.ports.items():
                port.set(item[name])
            await edge
        self.quiet()


class PipeMonitor:
    """Write down what some ports hold, cycle by cycle; unknown bits are None.

    Parameters
    ----------
    clock : cocotb handle
    ports : dict of str to Port
    now : callable
        Gives the present cycle.
    """

    def __init__(self, clock: Any, ports: dict[str, Port], now: Callable[[], int]) -> None:
        self.clock = clock
        self.ports = ports
        self.seen: dict[int, dict[str, Item | None]] = {}
        self.now = now

    async def run(self) -> None:
        """Watch for ever."""
        edge = RisingEdge(self.clock)
        while True:
            await edge
            entry: dict[str, Item | None] = {}
            for name, port in self.ports.items():
                text = port.text()
                entry[name] = port.codec.decode(int(text, 2)) if set(text) <= {"0", "1"} else None
            self.seen[self.now()] = entry


async def compare(
    driver: PipeDriver,
    monitor: PipeMonitor,
    inputs: Sequence[dict[str, Item]],
    expected: Sequence[dict[str, Item]],
    latency: int,
) -> None:
    """Give inputs, one a cycle, and compare what comes exactly ``latency`` cycles after each.

    Inputs without an expectation may follow, to hold ports still. Where the outputs are not all the same, no other
    latency up to twice as long may fit: then it is measured, not assumed.
    """
    assert len(inputs) >= len(expected) > 0
    start = monitor.now() + 1
    await driver.give(inputs)
    edge = RisingEdge(driver.clock)
    for _ in range(2 * latency + 1):
        await edge
    for k, item in enumerate(expected):
        seen = monitor.seen.get(start + latency + k)
        assert seen == item, f"item {k}, {inputs[k]}: got {seen} after {latency} cycles, expected {item}"
    if len(expected) > 1 and any(item != expected[0] for item in expected):
        others = [
            delay
            for delay in range(2 * latency + 1)
            if delay != latency and all(monitor.seen.get(start + delay + k) == item for k, item in enumerate(expected))
        ]
        assert not others, f"what is expected after {latency} cycles also came after {others}"
