"""Bench of the bridge: messages to and from a network, without packets, under stalls."""

import struct
from typing import Any

import cocotb
import numpy as np
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from dyadprop.operations import Operation
from dyadprop.protocol import MIN_PERIOD, Answer, Command, Reason, WireSizes
from dyadprop_hw.bridge import Bridge
from dyadprop_hw.network import DyadNetwork, control_data_bits, network_ports
from dyadprop_hw.send_window import MessageByte
from dyadprop_hw.streams import connect_stream
from dyadprop_sim.benches.blocks.chip import IDENTITY, NET, PLAN, draw_parameters, words
from dyadprop_sim.benches.control import draw_words
from dyadprop_sim.benches.packets import message, split_messages
from dyadprop_sim.benches.ports import Item
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants
from dyadprop_sim.golden import Model

SIZES = WireSizes(NET)


class BridgedNetwork(wiring.Component):
    """A bridge and its network, without registers."""

    def __init__(self) -> None:
        super().__init__(
            {
                "received": In(stream.Signature(8)),
                "messages": Out(stream.Signature(MessageByte)),
                "change_period": Out(1),
                "keep_period": Out(1),
                "refused": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Connect the two."""
        m = Module()
        outer: Any = self
        m.submodules.bridge = bridge = Bridge(PLAN, IDENTITY)
        m.submodules.network = network = DyadNetwork(PLAN)
        connect_stream(m, wiring.flipped(outer.received), bridge.received)
        connect_stream(m, bridge.messages, wiring.flipped(outer.messages))
        for name, member in network_ports(NET, control_data_bits(PLAN)).items():
            ends = getattr(bridge, name), getattr(network, name)
            connect_stream(m, *(ends if member.flow == In else reversed(ends)))
        m.d.comb += [
            bridge.register_value.eq(0x01020304 + bridge.register_index),
            bridge.register_there.eq(1),
            bridge.period.eq(1234),
            outer.change_period.eq(bridge.change_period),
            outer.keep_period.eq(bridge.keep_period),
            outer.refused.eq(bridge.refused),
        ]
        return m


def make_top() -> Variants:
    """Make a bridge with a network."""
    return Variants({"bridge": BridgedNetwork()})


class BridgeBench(Testbench):
    """A bridge that is given messages; its answers are compared by kind, in order."""

    def __init__(self, dut: Any, seed: int, *, stalls: bool = True) -> None:
        super().__init__(dut, "bridge", seed, stalls=stalls)
        self.commands, _ = self.source("received", 8)
        self.answers = {kind: self.checker(kind.name.lower()) for kind in Answer}
        self.counts = dict.fromkeys((kind.name.lower() for kind in Answer), 0)
        _, monitor = self.sink("messages", MessageByte)
        monitor.call(self._hear)
        self._bytes = b""

    def _hear(self, item: Item) -> None:
        assert isinstance(item, dict)
        self._bytes += bytes([item["byte"]])
        if item["last"]:
            ((kind, body),), rest = split_messages(self._bytes)
            assert not rest
            self._bytes = b""
            self.answers[Answer(kind)].check(body)

    def send(self, kind: int, body: bytes = b"") -> None:
        """Send a command."""
        self.commands.send(message(kind, body))

    def expect(self, kind: Answer, *bodies: bytes) -> None:
        """Expect answers of one kind."""
        self.answers[kind].expect(bodies)
        self.counts[kind.name.lower()] += len(bodies)

    def refuse(self, kind: int, reason: Reason, expected: int, got: int) -> None:
        """Expect a refusal."""
        self.expect(Answer.REFUSED, struct.pack("<BBII", kind, reason, expected, got))

    def control(self, *entries: tuple[int, Operation, int]) -> None:
        """Send operations."""
        self.send(Command.CONTROL, b"".join(struct.pack("<BBi", *entry) for entry in entries))


@cocotb.test()
@cocotb.parametrize(seed=[1, 2, 3])
async def samples(dut: Any, seed: int) -> None:
    """Weights, samples of every kind and read-outs, one behind the other without a pause."""
    bench = BridgeBench(dut, seed)
    await bench.start()
    rng = np.random.default_rng(seed)
    params = draw_parameters(rng)
    model = Model(NET, params)
    layers = range(1, 3)
    rows = [np.hstack([entry.weight, entry.bias[:, None]]) for entry in params]
    for l, entry, size in zip(layers, rows, SIZES.weight_word, strict=True):
        bench.send(Command.LOAD, bytes([l]) + words(entry, size))
    bench.send(Command.COMMIT)
    bench.expect(Answer.COMMITTED, b"")
    total = None
    for command in (Command.LEARN, Command.FORWARD, Command.LEARN_SEED, Command.HOLD):
        count = 1 if command == Command.HOLD else 3 if command == Command.FORWARD else int(rng.integers(1, 3))
        x = draw_words(rng, NET.formats.activation, (count, NET.inputs), 2)
        if command == Command.FORWARD:
            trace = model.predict(x)
            bench.send(command, words(x, SIZES.input_word))
        else:
            seeds = command != Command.LEARN
            form = NET.formats.sensitivity if seeds else NET.formats.activation
            y = draw_words(rng, form, (count, NET.outputs), 3)
            trace = model.textbook(x, y, seeds=seeds)
            if command == Command.HOLD:
                bench.send(command, words(x, SIZES.input_word))
                bench.send(Command.ECHO, b"held")
                bench.expect(Answer.ECHO, b"held")
                bench.send(Command.STEP, bytes(5))
                bench.refuse(Command.STEP, Reason.HELD, Command.RELEASE, Command.STEP)
                bench.send(Command.RELEASE, words(y, SIZES.target_word))
            else:
                pairs = zip(x, y, strict=True)
                body = b"".join(words(a, SIZES.input_word) + words(b, SIZES.target_word) for a, b in pairs)
                bench.send(command, body)
            assert trace.inputs is not None
            bench.expect(Answer.INPUT_SENSITIVITY, *(words(row, SIZES.sensitivity_word) for row in trace.inputs))
            sums = [np.hstack([entry.weight, entry.bias[:, None]]) for entry in trace.gradients]
            total = sums if total is None else [a + b for a, b in zip(total, sums, strict=True)]
        bench.expect(Answer.OUTPUT, *(words(row, SIZES.output_word) for row in trace.outputs))
    assert total is not None
    bench.control(*((l, Operation.READ_GRADIENT, 0) for l in layers), (1, Operation.CLEAR, 0))
    for l, entry, size in zip(layers, total, SIZES.gradient_word, strict=True):
        bench.expect(Answer.REPLY, bytes([l, Operation.READ_GRADIENT]) + words(entry, size))
    bench.expect(Answer.REPLY, bytes([1, Operation.CLEAR]))
    bench.send(Command.WRITE_GRADIENT, bytes([2]) + words(total[0][0], SIZES.gradient_word[1]))
    bench.expect(Answer.WRITTEN, b"\2")
    bench.control((2, Operation.READ_GRADIENT, 0))
    bench.expect(Answer.REPLY, bytes([2, Operation.READ_GRADIENT]) + words(total[0][0], SIZES.gradient_word[1]))
    await bench.finish(**bench.counts)


@cocotb.test()
@cocotb.parametrize(seed=[1, 2])
async def other_commands(dut: Any, seed: int) -> None:
    """Identity, echo, registers, rates; what cannot be done is refused, and its body skipped."""
    bench = BridgeBench(dut, seed)
    await bench.start()
    bench.send(Command.IDENTIFY, b"a nonce!")
    bench.expect(Answer.IDENTITY, b"a nonce!" + IDENTITY)
    bench.send(0x55, bytes(40))
    bench.refuse(0x55, Reason.KIND, 0, 0x55)
    bench.send(Command.ECHO, bytes(300))
    bench.expect(Answer.ECHO, bytes(300))
    bench.send(Command.REGISTERS)
    bench.expect(Answer.REGISTERS, struct.pack("<12I", *(0x01020304 + k for k in range(12))))
    bench.send(Command.BAUD, struct.pack("<H", MIN_PERIOD))
    bench.expect(Answer.BAUD, struct.pack("<H", MIN_PERIOD))
    bench.send(Command.BAUD, struct.pack("<H", MIN_PERIOD - 1))
    bench.refuse(Command.BAUD, Reason.PERIOD, MIN_PERIOD, MIN_PERIOD - 1)
    bench.send(Command.KEEP_BAUD)
    bench.expect(Answer.BAUD, struct.pack("<H", 1234))
    bench.send(Command.LEARN, bytes(SIZES.inputs + SIZES.targets + 1))
    size = SIZES.inputs + SIZES.targets
    bench.refuse(Command.LEARN, Reason.LENGTH, size, size + 1)
    bench.send(Command.COMMIT)
    bench.refuse(Command.COMMIT, Reason.INCOMPLETE, 2, 0)
    bench.control((9, Operation.CLEAR, 0), (3, Operation.COUNTERS, 0), (3, Operation.CLEAR, 0))
    bench.refuse(Command.CONTROL, Reason.STAGE, 3, 9)
    bench.expect(Answer.REPLY, bytes([3, Operation.COUNTERS]) + bytes(4))
    bench.refuse(Command.CONTROL, Reason.OPERATION, 0, Operation.CLEAR)
    bench.send(Command.ECHO, b"end")
    bench.expect(Answer.ECHO, b"end")
    await bench.finish(**bench.counts)
