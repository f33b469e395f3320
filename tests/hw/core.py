"""A core in a compiled simulation, and a network behind it in messages."""

from __future__ import annotations

import ctypes
import struct

import numpy as np
from amaranth.hdl import ClockDomain, ClockSignal, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from dyadprop.network import Network, RawParameters
from dyadprop.operations import Operation
from dyadprop.plan import plan_network
from dyadprop.protocol import RECEIVE_SLOTS, Answer, Command, SelfTest, WireSizes
from dyadprop.self_test_program import Program
from dyadprop_hw.chip import Core
from dyadprop_hw.clocked_network import DOMAIN
from dyadprop_hw.streams import connect_stream
from dyadprop_sim.benches.packets import message
from dyadprop_sim.library import BuildOptions, Ports, build_library
from dyadprop_sim.simulation import Simulation, _pointer, _pointers

OPTIONS = BuildOptions(optimize="-O0", assertions=True, random_start=True)
WAIT_STEP = 1000
IDENTITY = b'{"protocol": 1, "board": ""}'


class Lonely(wiring.Component):
    """A core without a line: its plain inputs are zero. With the cycles that its self-test takes."""

    def __init__(self, core: Core) -> None:
        self.core = core
        members = {name: core.signature.members[name] for name in ("rx", "tx", "status", "verdict")}
        super().__init__({**members, "test_cycles": Out(32)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.core = core = self.core
        if core.split:  # the same clock; benches give it others
            m.domains += ClockDomain(DOMAIN, reset_less=True)
            m.d.comb += ClockSignal(DOMAIN).eq(ClockSignal())
        connect_stream(m, wiring.flipped(self.rx), core.rx)
        connect_stream(m, core.tx, wiring.flipped(self.tx))
        m.d.comb += [outer.eq(inner) for outer, inner in zip(self.status, core.status, strict=True)]
        m.d.comb += self.verdict.eq(core.verdict)
        with m.If(core.verdict == SelfTest.RUNNING):
            m.d.sync += self.test_cycles.eq(self.test_cycles + 1)
        return m


class CoreSimulation:
    def __init__(
        self,
        net: Network,
        seed: int = 0,
        stalls: float = 0.0,
        program: Program | None = None,
        slots: int = RECEIVE_SLOTS,
        *,
        split: bool = False,
    ) -> None:
        self.net = net
        self.plan = plan_network(net)
        stages = tuple(f"status__{k}" for k in range(len(self.plan.stages)))
        self.ports = Ports(inputs=("rx",), outputs=("tx",), status=(*stages, "verdict", "test_cycles"))
        path = build_library(
            "a core",
            f"core {net.hash} {self.plan.stages!r} {IDENTITY!r} {program!r} {slots} {split}",
            lambda: Lonely(Core(self.plan, IDENTITY, 1e6, 100_000, program, slots, split=split)),
            self.ports,
            OPTIONS,
        )
        self.simulation = Simulation(path, self.ports, seed=seed, randomize=True)
        self.stalls = max(1, round(256 * stalls)) if stalls else 0
        self.seed = seed

    def exchange(self, sent: bytes, patience: int = 3000) -> bytes:
        """Give bytes, and take what comes until nothing has moved for a while."""
        self.seed += 1
        given = [np.frombuffer(sent, np.uint8).astype(np.uint64)]
        taken = [np.zeros(1 << 17, np.uint64)]
        moved_in, moved_out = np.zeros(2, np.uint64), np.zeros(2, np.uint64)
        self.simulation._library.dyad_run(
            self.simulation._handle,
            _pointers(given),
            _pointer(np.array([len(sent), 0], np.uint64)),
            _pointers(taken),
            _pointers([np.zeros(0, np.uint64)]),
            _pointer(np.array([len(taken[0]), 0], np.uint64)),
            _pointer(moved_in),
            _pointer(moved_out),
            np.array([self.stalls, self.stalls, 0], np.uint32).ctypes.data_as(ctypes.POINTER(ctypes.c_uint32)),
            ctypes.c_uint64(self.seed),
            ctypes.c_uint64(patience),
        )
        assert moved_in[0] == len(sent), f"took {moved_in[0]} of {len(sent)} bytes; {self.simulation.describe()}"
        return taken[0][: int(moved_out[0])].astype(np.uint8).tobytes()

    def verdict(self) -> tuple[SelfTest, int]:
        """Say what the self-test says, and for how many cycles it has run."""
        *_, verdict, cycles = self.simulation.status()
        return SelfTest(verdict), cycles

    def wait_for_verdict(self, limit: int) -> tuple[SelfTest, int]:
        """Let cycles pass until the self-test is over."""
        for _ in range(0, limit, WAIT_STEP):
            if self.verdict()[0] != SelfTest.RUNNING:
                break
            self.simulation.wait(WAIT_STEP)
        return self.verdict()

    def close(self) -> None:
        self.simulation.close()


class Messages:
    """What a network's words are on the wire."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.sizes = WireSizes(net)

    def words(self, values: np.ndarray, size: int) -> bytes:
        return b"".join(int(v).to_bytes(size, "little", signed=True) for v in np.asarray(values).ravel())

    def numbers(self, body: bytes, size: int) -> list[int]:
        assert len(body) % size == 0
        return [int.from_bytes(body[i : i + size], "little", signed=True) for i in range(0, len(body), size)]

    def parameters(self, command: Command, params: list[RawParameters]) -> bytes:
        sizes = self.sizes.weight_word if command == Command.LOAD else self.sizes.gradient_word
        return b"".join(
            message(command, bytes([l]) + self.words(np.hstack([entry.weight, entry.bias[:, None]]), size))
            for l, (entry, size) in enumerate(zip(params, sizes, strict=True), start=1)
        )

    def load(self, params: list[RawParameters]) -> bytes:
        return self.parameters(Command.LOAD, params) + message(Command.COMMIT)

    def samples(self, command: Command, x: np.ndarray, targets: np.ndarray | None = None) -> bytes:
        body = b""
        for k in range(len(x)):
            body += self.words(x[k], self.sizes.input_word)
            if targets is not None:
                body += self.words(targets[k], self.sizes.target_word)
        return message(command, body)

    def control(self, *entries: tuple[int, Operation, int]) -> bytes:
        return message(Command.CONTROL, b"".join(struct.pack("<BBi", *entry) for entry in entries))

    def reply(self, body: bytes) -> tuple[int, Operation, list[int]]:
        count, size = self.sizes.reply(body[0], Operation(body[1]))
        assert len(body) == 2 + count * size
        return body[0], Operation(body[1]), self.numbers(body[2:], size) if count else []


__all__ = ["IDENTITY", "Answer", "CoreSimulation", "Messages"]
