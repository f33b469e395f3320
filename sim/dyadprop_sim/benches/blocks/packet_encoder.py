"""Bench of the packet encoder: its bytes against cobs and zlib."""

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from dyadprop.protocol import HEADER, MAX_PAYLOAD
from dyadprop_hw.packet_decoder import PacketHead
from dyadprop_hw.packet_encoder import PacketEncoder
from dyadprop_sim.benches.packets import Fields
from dyadprop_sim.benches.ports import Codec
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants


def make_top() -> Variants:
    """Make an encoder."""
    return Variants({"encoder": PacketEncoder()})


class EncoderBench(Testbench):
    """An encoder with a memory of payloads beside it."""

    def __init__(self, dut: Any, seed: int, *, stalls: bool = True) -> None:
        super().__init__(dut, "encoder", seed, stalls=stalls)
        self.bytes, self.byte_times = self.checked("bytes", 8)
        self.start_port = self.input("start", 1)
        self.head_port = self.input("head", PacketHead)
        self.payload = b""
        self.started: list[int] = []
        self.expected = 0

    async def memory(self) -> None:
        """Give the byte that was asked for two cycles before."""
        edge = RisingEdge(self.dut.clk)
        offset, byte = self.port("offset", 7), self.port("byte", 8)
        text = "x"
        while True:
            await edge
            text, before = offset.text(), text
            known = set(before) <= {"0", "1"} and int(before, 2) < len(self.payload)
            byte.set_bits(self.payload[int(before, 2)] if known else self.rng.randrange(256))

    async def send(self, packet: Fields) -> None:
        """Send one packet when the encoder is idle."""
        edge = RisingEdge(self.dut.clk)
        idle = self.port("idle", 1)
        await edge
        while not idle.bits():
            await edge
        self.payload = packet.payload
        codec = Codec(PacketHead["header"].shape)
        fields = {name: getattr(packet, name) for name in ("kind", "session", "sequence", "acknowledge", "credit")}
        self.head_port.set({"header": codec.encode(fields), "length": len(packet.payload)})
        self.start_port.set(1)
        self.bytes.expect(packet.wire)
        self.expected += len(packet.wire)
        await edge
        self.started.append(self.now())
        self.start_port.set(0)
        self.head_port.set_bits(self.rng.getrandbits(PacketHead.size))

    def draw(self, size: int) -> Fields:
        """Draw a packet."""
        rng = self.rng
        payload = rng.randbytes(size) if rng.random() < 0.5 else bytes(rng.choices([0, 1, 255], k=size))
        sequence, acknowledge = rng.choices([0, 1, 255, 256, 4711, 65535], k=2)
        return Fields(rng.randrange(10), rng.randrange(256), sequence, acknowledge, payload, rng.randrange(17))


@cocotb.test()
@cocotb.parametrize(seed=[1, 2])
async def packets(dut: Any, seed: int) -> None:
    """Packets of all lengths, with zeros in all places."""
    bench = EncoderBench(dut, seed)
    await bench.start(bench.memory())
    for size in (0, 1, 2, 0, MAX_PAYLOAD, MAX_PAYLOAD - 1, *(bench.rng.randrange(MAX_PAYLOAD) for _ in range(12))):
        await bench.send(bench.draw(size))
    await bench.finish(bytes=bench.expected)


@cocotb.test()
async def cycles(dut: Any) -> None:
    """First byte after header, payload and check sum have been put aside; then one every third cycle."""
    bench = EncoderBench(dut, 1, stalls=False)
    await bench.start(bench.memory())
    await bench.send(bench.draw(9))
    await bench.finish(bytes=bench.expected)
    assert bench.byte_times.offered[0] - bench.started[0] == HEADER.size + 9 + 4 + 5
    assert bench.byte_times.taken[-1] - bench.byte_times.taken[0] == 3 * (bench.expected - 1)
