"""Bench of the packet decoder: whole packets, broken ones and rubbish, against cobs and zlib."""

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from dyadprop.protocol import MAX_PAYLOAD
from dyadprop_hw.packet_decoder import PacketDecoder, PacketHead
from dyadprop_sim.benches.packets import Damage, Fields, decode, is_accepted
from dyadprop_sim.benches.ports import Codec, Item
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants


def make_top() -> Variants:
    """Make a decoder."""
    return Variants({"decoder": PacketDecoder()})


class DecoderBench(Testbench):
    """A decoder with a buffer of 128 bytes behind it."""

    def __init__(self, dut: Any, seed: int, *, stalls: bool = True) -> None:
        super().__init__(dut, "decoder", seed, stalls=stalls)
        self.inputs, self.input_times = self.source("bytes", 8)
        self.packets, self.packet_times = self.checked("packet", PacketHead)
        self.payloads = self.checker("payload")
        self.buffer = bytearray(MAX_PAYLOAD)
        self.bad = 0
        self.expected_bad = 0
        self.expected = 0
        self.packet_times.call(self._took)

    def _took(self, item: Item) -> None:
        assert isinstance(item, dict)
        self.payloads.check(bytes(self.buffer[: item["length"]]))

    async def watch(self) -> None:
        """Keep the buffer."""
        edge = RisingEdge(self.dut.clk)
        ports = {name: self.port(name, width) for name, width in (("write", 1), ("offset", 7), ("byte", 8), ("bad", 1))}
        while True:
            await edge
            self.bad += ports["bad"].bits()
            if ports["write"].bits():
                self.buffer[ports["offset"].bits()] = ports["byte"].bits()

    def send(self, wire: bytes) -> None:
        """Send whole blocks, and expect what cobs and zlib make of them."""
        self.inputs.send(wire)
        codec = Codec(PacketHead["header"].shape)
        for block in wire.split(b"\0")[:-1]:
            if not block:
                continue
            packet = decode(block)
            if packet is None or not is_accepted(block):
                self.expected_bad += 1
                continue
            fields = {name: getattr(packet, name) for name in ("kind", "session", "sequence", "acknowledge", "credit")}
            self.packets.expect([{"header": codec.encode(fields), "length": len(packet.payload)}])
            self.payloads.expect([packet.payload])
            self.expected += 1

    def draw(self) -> Fields:
        """Draw a packet; payloads may be too long."""
        rng = self.rng
        size = rng.choice([0, 1, rng.randrange(140), MAX_PAYLOAD - 1, MAX_PAYLOAD, MAX_PAYLOAD + 1])
        payload = rng.randbytes(size) if rng.random() < 0.5 else bytes(rng.choices([0, 1, 255], k=size))
        return Fields(rng.randrange(256), rng.randrange(256), rng.randrange(1 << 16), rng.randrange(3), payload, 0)

    async def end(self) -> None:
        """Finish, with all that was sent compared."""
        await self.finish(packet=self.expected, payload=self.expected)
        assert self.bad == self.expected_bad, f"{self.bad} bad packets, expected {self.expected_bad}"


@cocotb.test()
@cocotb.parametrize(seed=[1, 2, 3])
async def packets(dut: Any, seed: int) -> None:
    """Of packets, damaged packets and rubbish those that are whole are taken, and all others counted."""
    bench = DecoderBench(dut, seed)
    await bench.start(bench.watch())
    damage = Damage(bench.rng, 0.4)
    for _ in range(30):
        rubbish = bench.rng.randbytes(bench.rng.choice([0, 0, 1, 5, 300])) + b"\0" * bench.rng.randrange(3)
        bench.send(rubbish + damage([bench.draw(), bench.draw()]) + b"\0")
        await bench.drain()
    bench.send(Fields(1, 2, 3, 4, b"the end").wire)
    await bench.end()
    assert bench.expected > 20
    assert bench.bad > 10


@cocotb.test()
async def cycles(dut: Any) -> None:
    """A byte a cycle, a packet the cycle after its delimiter."""
    bench = DecoderBench(dut, 1, stalls=False)
    await bench.start(bench.watch())
    bench.send(Fields(1, 2, 3, 4, bytes(100)).wire)
    await bench.end()
    taken = bench.input_times.taken
    assert taken[-1] - taken[0] == len(taken) - 1 == 112
    assert bench.packet_times.offered == [taken[-1] + 1]
