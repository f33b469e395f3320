"""Bench of core and chip: gradients through bytes and through pins; another baud rate, tried and kept or not."""

import struct
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock

from dyadprop import Dense, Network
from dyadprop.network import RawParameters
from dyadprop.operations import Operation
from dyadprop.plan import plan_network
from dyadprop.protocol import Answer, Command, Packet, Register, SelfTest, WireSizes
from dyadprop_hw.chip import Chip, Core
from dyadprop_sim.benches.control import draw_words
from dyadprop_sim.benches.packets import Damage, Host, message
from dyadprop_sim.benches.serial_line import LineReceiver, LineSender
from dyadprop_sim.benches.variants import Variants
from dyadprop_sim.benches.wire import WireBench
from dyadprop_sim.golden import Model

NET = Network(2, [Dense(2, "relu", lanes=1), Dense(1, lanes=1)], input_gradient=True, max_batch=4)
PLAN = plan_network(NET)
IDENTITY = b"{}"
CLOCK, BAUD = 48_000.0, 8_000  # a trial of 12,000 cycles


def make_top() -> Variants:
    """Make a core and a chip of the same network, and a core whose network has a clock of its own."""
    return Variants(
        {
            "core": Core(PLAN, IDENTITY, CLOCK, BAUD),
            "chip": Chip(Core(PLAN, IDENTITY, CLOCK, BAUD)),
            "split": Core(PLAN, IDENTITY, CLOCK, BAUD, split=True),
        }
    )


class CoreBench(WireBench):
    """A core between streams of bytes."""

    def __init__(self, dut: Any, seed: int, variant: str = "core") -> None:
        super().__init__(dut, variant, seed, quiet=300)
        for name in ("overflow", "framing_error", "line_busy"):
            self.input(name, 1)


class ChipBench(WireBench):
    """A chip between two wires."""

    def __init__(self, dut: Any, seed: int) -> None:
        super().__init__(dut, "chip", seed, quiet=400)

    def _add_link(self) -> None:
        period = CLOCK / BAUD
        self.sender = LineSender(self.dut.clk, self.dut.chip__rx, period)
        self.receiver = LineReceiver(self.dut.clk, self.dut.chip__tx, period, self.said.append)
        self.to_device = self.sender  # type: ignore[assignment]
        self._quiet.append(self.sender)
        self._running += [self.sender, self.receiver]

    def rate(self, period: int) -> None:
        """Go to another bit period, in sixteenths of a cycle."""
        self.sender.period = self.receiver.period = period / 16


def words(values: Any, size: int) -> bytes:
    """Give words as bytes."""
    return b"".join(int(v).to_bytes(size, "little", signed=True) for v in np.asarray(values).ravel())


def draw_parameters(rng: np.random.Generator) -> list[RawParameters]:
    """Draw weights."""
    drawn = []
    for s in (stage.numbers for stage in PLAN.stages):
        weight = draw_words(rng, s.weight, (s.outputs, s.inputs), 3)
        drawn.append(RawParameters(weight, draw_words(rng, s.weight, (s.outputs,), 3), s.weight.fraction_bits))
    return drawn


async def learn(bench: WireBench, host: Host, seed: int, damage: Damage) -> int:
    """Load, learn from three samples and read the gradients; give the words that were compared."""
    sizes = WireSizes(NET)
    rng = np.random.default_rng(seed)
    params = draw_parameters(rng)
    x = draw_words(rng, NET.formats.activation, (3, NET.inputs), 2)
    y = draw_words(rng, NET.formats.activation, (3, NET.outputs), 2)
    trace = Model(NET, params).textbook(x, y)
    rows = [np.hstack([entry.weight, entry.bias[:, None]]) for entry in params]
    commands = b"".join(
        message(Command.LOAD, bytes([l]) + words(entry, size))
        for l, (entry, size) in enumerate(zip(rows, sizes.weight_word, strict=True), start=1)
    )
    commands += message(Command.COMMIT)
    samples = b"".join(words(a, sizes.input_word) + words(b, sizes.target_word) for a, b in zip(x, y, strict=True))
    commands += message(Command.LEARN, samples)
    commands += message(
        Command.CONTROL, b"".join(struct.pack("<BBi", l, Operation.READ_GRADIENT, 0) for l in range(1, 3))
    )
    found = await bench.ask(host, commands, 1 + 3 + 3 + 2, damage)
    assert trace.inputs is not None
    expected = {
        Answer.COMMITTED: [b""],
        Answer.OUTPUT: [words(row, sizes.output_word) for row in trace.outputs],
        Answer.INPUT_SENSITIVITY: [words(row, sizes.sensitivity_word) for row in trace.inputs],
        Answer.REPLY: [
            bytes([l, Operation.READ_GRADIENT]) + words(np.hstack([entry.weight, entry.bias[:, None]]), size)
            for l, (entry, size) in enumerate(zip(trace.gradients, sizes.gradient_word, strict=True), start=1)
        ],
    }
    for kind, bodies in expected.items():
        assert [body for answer, body in found if answer == kind] == bodies, f"{kind!r} differs"
    return sum(map(len, expected.values()))


@cocotb.test()
@cocotb.parametrize(seed=[1, 2])
async def gradients_through_bytes(dut: Any, seed: int) -> None:
    """A core's outputs, input sensitivities and gradients are the golden model's, over a link that damages packets."""
    bench = CoreBench(dut, seed)
    await bench.start()
    damage = Damage(bench.rng, 0.0 if seed == 1 else 0.2)
    assert await learn(bench, Host(7, 65534, 65535), seed, damage) == 9


@cocotb.test()
@cocotb.parametrize(period=[900, 1998, 5000])
async def two_clocks(dut: Any, period: int) -> None:
    """They are too where the network has its own clock, faster or slower than the link's, session after session.

    A session begins while the samples of the one before are still on their way: nothing of them comes out.
    """
    bench = CoreBench(dut, period, "split")
    Clock(dut.network_clk, period, unit="ps").start(start_high=bool(bench.rng.getrandbits(1)))
    await bench.start()
    undamaged = Damage(bench.rng, 0.0)
    assert await learn(bench, Host(7, 65534, 65535), period, undamaged) == 9
    for session in (8, 9):
        left = Host(session, 1, 2)
        samples = bench.rng.randbytes(8 * 4), bench.rng.randbytes(4 * 6)
        commands = message(Command.FORWARD, samples[0]) + message(Command.LEARN, samples[1])
        bench.to_device.send(left.open().wire + left.packet(Packet.DATA, commands).wire)
        await bench.cycles(bench.rng.randrange(300, 1200))
        assert await learn(bench, Host(session + 10, 3, 4), session, undamaged) == 9


@cocotb.test()
async def gradients_through_pins(dut: Any) -> None:
    """A chip's are too; lines that fail are counted."""
    bench = ChipBench(dut, 1)
    await bench.start()
    host = Host(1, 2, 3)
    assert await learn(bench, host, 3, Damage(bench.rng, 0.0)) == 9
    bench.sender.send(b"\0", stop=0, idle=2)
    (registers,) = await bench.ask(host, message(Command.REGISTERS), 1)
    values = dict(zip(Register, struct.unpack("<12I", registers[1]), strict=True))
    assert values[Register.FRAMING_ERRORS] == 1
    assert values[Register.SELF_TEST] == SelfTest.NOT_BUILT_IN
    assert values[Register.OVERFLOWS] == values[Register.BAD_PACKETS] == 0


@cocotb.test()
async def another_rate(dut: Any) -> None:
    """A rate is answered at the old one, then tried; it stays when it was said to, else the old one returns in time."""
    bench = ChipBench(dut, 1)
    await bench.start()
    host = Host(1, 2, 3)
    new, third = 64, 200
    assert await bench.ask(host, message(Command.BAUD, struct.pack("<H", new)), 1) == [(0xC0, struct.pack("<H", new))]
    bench.rate(new)
    assert await bench.ask(host, message(Command.ECHO, b"try"), 1) == [(0x82, b"try")]
    assert await bench.ask(host, message(Command.KEEP_BAUD), 1) == [(0xC0, struct.pack("<H", new))]
    await bench.cycles(round(CLOCK / 4))
    assert await bench.ask(host, message(Command.BAUD, struct.pack("<H", third)), 1) == [
        (0xC0, struct.pack("<H", third))
    ]
    bench.rate(third)
    assert await bench.ask(host, message(Command.ECHO, b"try"), 1) == [(0x82, b"try")]
    # Nobody says that it works.
    await bench.cycles(round(CLOCK / 4))
    bench.rate(new)
    assert await bench.ask(host, message(Command.ECHO, b"back"), 1) == [(0x82, b"back")]
