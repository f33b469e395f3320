"""A link of bytes to a design under test."""

from collections.abc import Callable, Generator
from typing import Any

from cocotb.triggers import RisingEdge

from dyadprop_sim.benches.packets import Fields, Host, decode, message, split_messages, talk, undamaged
from dyadprop_sim.benches.ports import Item
from dyadprop_sim.benches.testbench import Testbench


class WireBench(Testbench):
    """A design with streams ``rx`` and ``tx``; what it says is gathered.

    Parameters
    ----------
    quiet : int
        Cycles without a byte either way after which nothing more is expected.
    """

    def __init__(self, dut: Any, variant: str, seed: int, *, stalls: bool = True, quiet: int = 400) -> None:
        super().__init__(dut, variant, seed, stalls=stalls)
        self.quiet_cycles = quiet
        self.said = bytearray()
        self._add_link()

    def _add_link(self) -> None:
        self.to_device, _ = self.source("rx", 8)
        _, monitor = self.sink("tx", 8)
        monitor.call(self._hear)

    def _hear(self, item: Item) -> None:
        assert isinstance(item, int)
        self.said.append(item)

    async def exchange(self, wire: bytes) -> bytes:
        """Give bytes to the device, and what it says until it is quiet."""
        edge = RisingEdge(self.dut.clk)
        self.to_device.send(wire)
        quiet, before = 0, (0, 0)
        while quiet < self.quiet_cycles:
            await edge
            state = (self.to_device.open, len(self.said))
            quiet = quiet + 1 if state == before else 0
            before = state
        assert not self.to_device.open, f"the device left {self.to_device.open} bytes"
        said = bytes(self.said)
        self.said.clear()
        return said

    async def say(self, *packets: Fields) -> list[Fields]:
        """Send packets and give the answers."""
        answers = [decode(block) for block in (await self.exchange(undamaged(list(packets)))).split(b"\0")[:-1]]
        found = [answer for answer in answers if answer is not None]
        assert len(found) == len(answers), "an answer was no packet"
        return found

    async def hold(self, conversation: Generator[bytes, bytes, int]) -> None:
        """Hold a conversation (`talk`)."""
        wire = next(conversation)
        while True:
            answer = await self.exchange(wire)
            try:
                wire = conversation.send(answer)
            except StopIteration:
                return

    async def ask(
        self,
        host: Host,
        commands: bytes,
        count: int,
        damage: Callable[[list[Fields], bool], bytes] = undamaged,
    ) -> list[tuple[int, bytes]]:
        """Send messages, and give so many answers."""
        host.send(commands)
        await self.hold(talk(host, damage, lambda: len(split_messages(host.received)[0]) >= count))
        found, rest = split_messages(host.received)
        assert not rest
        assert len(found) == count, f"{len(found)} answers, expected {count}"
        host.received = b""
        return found


__all__ = ["WireBench", "message"]
