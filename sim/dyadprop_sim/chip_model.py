"""The device's side of docs/protocol.md in Python, on the golden model: what drivers and benches are tested against.

It has no wire: `ChipModel.receive` takes the bytes that came and gives those that leave. Loss, delay and time are the
caller's.
"""

import json
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence

import numpy as np

from dyadprop.formats import Ints
from dyadprop.network import Network, RawParameters
from dyadprop.operations import COUNTER_BITS, SCALE_BITS, Operation
from dyadprop.packets import Decoder, Frame, encode
from dyadprop.plan import plan_network
from dyadprop.protocol import (
    CONTROL_BYTES,
    CONTROL_OPERATIONS,
    COUNTER_BYTES,
    MAX_PAYLOAD,
    MESSAGE_HEADER,
    MIN_PERIOD,
    NONCE_BYTES,
    PERIOD_FRACTION_BITS,
    RECEIVE_SLOTS,
    REGISTER_BYTES,
    SEND_SLOTS,
    TRIAL_SECONDS,
    VERSION,
    Answer,
    Command,
    Packet,
    Reason,
    Register,
    WireSizes,
)
from dyadprop.widths import StageNumbers, stage_numbers, target_format
from dyadprop_sim import arithmetic, golden

_WRAP = 1 << 16
_HALF = 1 << 15
_COUNT = 1 << COUNTER_BITS
_WHILE_HELD = (Command.IDENTIFY, Command.ECHO, Command.REGISTERS, Command.RELEASE)
_SAMPLES = (Command.FORWARD, Command.LEARN, Command.LEARN_SEED, Command.STEP)

# Runs until it waits for bytes or for room.
_Steps = Generator[None, None, None]


class ChipModel:
    """A chip at the end of a wire.

    Parameters
    ----------
    net : Network
        What it was built for.
    board : str
    clock : float
        Hz.
    baud : int
        Rate at power-on.
    now : callable
        Gives seconds; only the trial of a baud rate looks at them.
    seed : int
        Of what memories hold at power-on.
    version : int
        Protocol version that it speaks.

    Attributes
    ----------
    registers : list of int
        A test's link counts lost bytes here.
    """

    def __init__(
        self,
        net: Network,
        *,
        board: str = "model",
        clock: float = 25e6,
        baud: int = 1_000_000,
        now: Callable[[], float] = time.monotonic,
        seed: int = 0,
        version: int = VERSION,
    ) -> None:
        self.net = net
        self.board, self.clock, self.power_on_baud, self.version = board, clock, baud, version
        self._now = now
        self._rng = np.random.default_rng(seed)
        self._stages = stage_numbers(net)
        self._sizes = WireSizes(net)
        plan = plan_network(net, 10**9)
        self._lanes, self._interval, self._latency = plan.lanes, plan.interval, plan.output_latency
        self.reset()

    def reset(self) -> None:
        """Switch it off and on: nothing of before is left, and memories hold anything."""
        self.registers = [0] * len(Register)
        self._period = round(self.clock * (1 << PERIOD_FRACTION_BITS) / self.power_on_baud)
        self._before_trial: int | None = None
        self._trial_ends = 0.0
        self._switch: int | None = None
        self._session: tuple[int, int, int] | None = None
        self._counters: Counter[tuple[int, str]] = Counter()

        def words(bits: int, s: StageNumbers, fraction: int) -> RawParameters:
            drawn = self._rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (s.outputs, s.columns), dtype=np.int64)
            return RawParameters(drawn[:, :-1], drawn[:, -1], fraction)

        self._model = golden.Model(self.net, [words(s.weight.width, s, s.weight.fraction_bits) for s in self._stages])
        self._gradients = [words(s.gradient_bits, s, s.gradient_fraction) for s in self._stages]
        self._begin(0, 0)

    def _begin(self, sequence: int, acknowledge: int) -> None:
        """Forget what was under way; ``sequence`` and ``acknowledge`` are the device's own."""
        self._decoder = getattr(self, "_decoder", None) or Decoder()
        self._slots: deque[bytes] = deque()
        self._used = 0  # bytes of the first slot
        self._expected = acknowledge
        self._kept: deque[Frame] = deque()  # the header's acknowledge is put in when it leaves
        self._sequence = sequence
        self._filling = bytearray()
        self._status = self._gap = False
        self._out = bytearray()
        self._aside: dict[int, RawParameters] = {}
        self._held: Ints | None = None
        self._cleared = True
        self._shifts = [0] * len(self._stages)
        self._scale = 1 << SCALE_BITS
        self._awaits_input = True
        self._steps = self._run()

    # -- the wire -----------------------------------------------------------------------------------------------------

    @property
    def baud(self) -> float:
        """Bits a second at which it listens and speaks now."""
        if self._before_trial is not None and self._now() >= self._trial_ends:
            self._period, self._before_trial = self._before_trial, None
        return self.clock * (1 << PERIOD_FRACTION_BITS) / self._period

    def receive(self, data: bytes) -> bytes:
        """Take bytes that came over the wire; give those that leave."""
        left = bytearray()
        bad = self._decoder.bad
        frames = self._decoder.feed(data)
        self._count(Register.BAD_PACKETS, self._decoder.bad - bad)
        for frame in frames:
            self._packet(frame)
            self._advance()
            left += self._out
            self._out.clear()
        if self._session is not None:
            self._flush()
        left += self._out
        self._out.clear()
        if self._switch is not None and not self._filling:
            self._before_trial, self._period, self._switch = self._period, self._switch, None
            self._trial_ends = self._now() + TRIAL_SECONDS
        return bytes(left)

    def _count(self, register: Register, number: int = 1) -> None:
        self.registers[register] = (self.registers[register] + number) % _COUNT

    # -- the session --------------------------------------------------------------------------------------------------

    def _packet(self, frame: Frame) -> None:
        if frame.kind == Packet.OPEN:
            self._open(frame)
            return
        if self._session is None or frame.session != self._session[0]:
            self._count(Register.FOREIGN_PACKETS)
            self._out += encode(Frame(Packet.CLOSED, frame.session, 0, 0))
            return
        if frame.kind not in (Packet.DATA, Packet.ACK, Packet.POLL, Packet.RESEND):
            self._count(Register.FOREIGN_PACKETS)
            return
        self._acknowledged(frame.acknowledge)
        match frame.kind:
            case Packet.DATA:
                self._data(frame)
            case Packet.POLL:
                self._status = True
            case Packet.RESEND:
                self._say_status()
                if (self._sequence - frame.acknowledge) % _WRAP == len(self._kept):
                    for kept in self._kept:
                        self._transmit(kept)

    def _open(self, frame: Frame) -> None:
        numbers = (frame.session, frame.sequence, frame.acknowledge)
        opened = Frame(
            Packet.OPENED, frame.session, frame.acknowledge, frame.sequence, RECEIVE_SLOTS, bytes([self.version])
        )
        if frame.payload[0] == self.version and self._session != numbers:
            self._session = numbers
            self._begin(frame.acknowledge, frame.sequence)
            self._count(Register.SESSIONS)
        elif self._session == numbers:
            opened = opened._replace(credit=RECEIVE_SLOTS - len(self._slots))
        self._out += encode(opened)

    def _acknowledged(self, number: int) -> None:
        waiting = (self._sequence - number) % _WRAP
        if waiting > len(self._kept):  # outside of what it keeps
            return
        while len(self._kept) > waiting:
            self._kept.popleft()

    def _data(self, frame: Frame) -> None:
        ahead = (frame.sequence - self._expected) % _WRAP
        if ahead == 0 and len(self._slots) < RECEIVE_SLOTS:
            self._slots.append(frame.payload)
            self._expected = (self._expected + 1) % _WRAP
            self._status = True
            return
        self._count(Register.UNEXPECTED_PACKETS)
        if 0 < ahead <= _HALF:
            self._gap = True
        else:
            self._status = True

    def _flush(self) -> None:
        """Send what waits: a slot that is not full, and what nothing else has told."""
        if self._gap:
            self._say(Packet.GAP)
        while self._filling and len(self._kept) < SEND_SLOTS:
            self._send_slot()
            self._advance()
        if self._status:
            self._say_status()

    def _say(self, kind: Packet) -> None:
        credit = RECEIVE_SLOTS - len(self._slots)
        assert self._session is not None
        self._out += encode(Frame(kind, self._session[0], self._sequence, self._expected, credit))
        self._status = self._gap = False

    def _say_status(self) -> None:
        # A GAP must be sent as one; it is a STATUS too.
        self._say(Packet.GAP if self._gap else Packet.STATUS)

    def _send_slot(self) -> None:
        assert self._session is not None
        payload = bytes(self._filling[:MAX_PAYLOAD])
        del self._filling[:MAX_PAYLOAD]
        frame = Frame(Packet.DATA, self._session[0], self._sequence, 0, payload=payload)
        self._sequence = (self._sequence + 1) % _WRAP
        self._kept.append(frame)
        self._transmit(frame)

    def _transmit(self, frame: Frame) -> None:
        if self._gap:
            self._say(Packet.GAP)
        credit = RECEIVE_SLOTS - len(self._slots)
        self._out += encode(frame._replace(acknowledge=self._expected, credit=credit))
        self._status = False

    # -- messages -----------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        if self._session is not None:
            next(self._steps)

    def _take(self, size: int) -> Generator[None, None, bytes]:
        """Take bytes from the slots; a slot that is used up is free again."""
        data = bytearray()
        while len(data) < size:
            if not self._slots:
                yield
                continue
            first = self._slots[0]
            piece = first[self._used : self._used + size - len(data)]
            data += piece
            self._used += len(piece)
            if self._used == len(first):
                self._slots.popleft()
                self._used = 0
                self._status = True
        return bytes(data)

    def _skip(self, size: int) -> _Steps:
        while size:
            piece = min(size, MAX_PAYLOAD)
            yield from self._take(piece)
            size -= piece

    def _answer(self, kind: Answer, body: bytes = b"") -> _Steps:
        self._filling += bytes([kind]) + len(body).to_bytes(MESSAGE_HEADER - 1, "little") + body
        while len(self._filling) >= MAX_PAYLOAD:
            while len(self._kept) >= SEND_SLOTS:
                yield
            self._send_slot()

    def _refuse(self, kind: int, reason: Reason, expected: int, got: int) -> _Steps:
        self._count(Register.REFUSALS)
        body = bytes([kind, reason]) + expected.to_bytes(4, "little") + got.to_bytes(4, "little")
        yield from self._answer(Answer.REFUSED, body)

    def _run(self) -> _Steps:
        commands: dict[int, Callable[[int, int], _Steps]] = {
            Command.IDENTIFY: self._identify,
            Command.ECHO: self._echo,
            Command.REGISTERS: self._read_registers,
            Command.LOAD: self._load,
            Command.COMMIT: self._commit,
            Command.CHECKSUM: self._checksum,
            Command.CONTROL: self._control,
            Command.WRITE_GRADIENT: self._write_gradient,
            Command.HOLD: self._hold,
            Command.RELEASE: self._release,
            Command.BAUD: self._set_baud,
            Command.KEEP_BAUD: self._keep_baud,
            **dict.fromkeys(_SAMPLES, self._samples),
        }
        while True:
            head = yield from self._take(MESSAGE_HEADER)
            kind, size = head[0], int.from_bytes(head[1:], "little")
            if kind not in commands:
                yield from self._skip(size)
                yield from self._refuse(kind, Reason.KIND, 0, kind)
            elif self._held is not None and kind not in _WHILE_HELD:
                yield from self._skip(size)
                yield from self._refuse(kind, Reason.HELD, Command.RELEASE, kind)
            else:
                yield from commands[kind](kind, size)

    def _body(self, kind: int, size: int, expected: int) -> Generator[None, None, bytes | None]:
        """Take a body, or refuse it if it has another length."""
        if size != expected:
            yield from self._skip(size)
            yield from self._refuse(kind, Reason.LENGTH, expected, size)
            return None
        return (yield from self._take(size))

    def _stage(
        self, kind: int, size: int, sizes: Callable[[int], int]
    ) -> Generator[None, None, tuple[int, bytes] | None]:
        """Take a stage and what belongs to it, or refuse it."""
        if size == 0:
            yield from self._refuse(kind, Reason.LENGTH, 1 + sizes(1), 0)
            return None
        stage = (yield from self._take(1))[0]
        if not 1 <= stage <= len(self._stages):
            yield from self._skip(size - 1)
            yield from self._refuse(kind, Reason.STAGE, len(self._stages), stage)
            return None
        if size != 1 + sizes(stage):
            yield from self._skip(size - 1)
            yield from self._refuse(kind, Reason.LENGTH, 1 + sizes(stage), size)
            return None
        return stage, (yield from self._take(size - 1))

    def _identify(self, kind: int, size: int) -> _Steps:
        nonce = yield from self._body(kind, size, NONCE_BYTES)
        if nonce is not None:
            yield from self._answer(Answer.IDENTITY, nonce + json.dumps(self.identity()).encode())

    def identity(self) -> dict[str, object]:
        """Give what it says about itself."""
        formats = [self.net.layer_formats(index) for index in range(len(self.net.layers) + 1)]
        return {
            "protocol": self.version,
            "network": self.net.hash,
            "gateware": "python",
            "board": self.board,
            "clock": self.clock,
            "baud": self.power_on_baud,
            "formats": [
                {name: str(getattr(entry, name)) for name in ("activation", "weight", "sensitivity")}
                for entry in formats
            ],
            "lanes": list(self._lanes),
            "max_batch": self.net.max_batch,
        }

    def _echo(self, kind: int, size: int) -> _Steps:
        if not size:
            yield from self._refuse(kind, Reason.LENGTH, 1, 0)
            return
        yield from self._answer(Answer.ECHO, (yield from self._take(size)))

    def _read_registers(self, kind: int, size: int) -> _Steps:
        if (yield from self._body(kind, size, 0)) is None:
            return
        self._count(Register.NOW, 10)
        self._awaits_input = True
        body = b"".join(value.to_bytes(REGISTER_BYTES, "little") for value in self.registers)
        yield from self._answer(Answer.REGISTERS, body)

    # -- weights and gradients ----------------------------------------------------------------------------------------

    def _load(self, kind: int, size: int) -> _Steps:
        sizes = self._sizes
        found = yield from self._stage(kind, size, lambda l: sizes.words[l - 1] * sizes.weight_word[l - 1])
        if found is not None:
            stage, body = found
            words = _words(body, sizes.weight_word[stage - 1])
            self._aside[stage] = self._shaped(stage, words, self._stages[stage - 1].weight.fraction_bits)

    def _commit(self, kind: int, size: int) -> _Steps:
        if (yield from self._body(kind, size, 0)) is None:
            return
        aside, self._aside = self._aside, {}
        if len(aside) < len(self._stages):
            yield from self._refuse(kind, Reason.INCOMPLETE, len(self._stages), len(aside))
            return
        self._model = golden.Model(self.net, [aside[s.index] for s in self._stages])
        yield from self._answer(Answer.COMMITTED)

    def _checksum(self, kind: int, size: int) -> _Steps:
        found = yield from self._stage(kind, size, lambda l: 0)
        if found is not None:
            stage = found[0]
            sum_ = zlib.crc32(self._weight_bytes(stage))
            yield from self._answer(Answer.CHECKSUM, bytes([stage]) + sum_.to_bytes(4, "little"))

    def _write_gradient(self, kind: int, size: int) -> _Steps:
        sizes = self._sizes
        found = yield from self._stage(kind, size, lambda l: sizes.words[l - 1] * sizes.gradient_word[l - 1])
        if found is not None:
            stage, body = found
            words = _words(body, sizes.gradient_word[stage - 1])
            if self._cleared:  # the other stages' sums still count as cleared
                self._gradients = [
                    RawParameters(np.zeros_like(g.weight), np.zeros_like(g.bias), g.fraction_bits)
                    for g in self._gradients
                ]
                self._cleared = False
            fraction = self._stages[stage - 1].gradient_fraction
            self._gradients[stage - 1] = self._shaped(stage, words, fraction)
            yield from self._answer(Answer.WRITTEN, bytes([stage]))

    def _control(self, kind: int, size: int) -> _Steps:
        if not size or size % CONTROL_BYTES:
            yield from self._skip(size)
            yield from self._refuse(kind, Reason.LENGTH, CONTROL_BYTES, size)
            return
        head = len(self._stages) + 1
        for _ in range(size // CONTROL_BYTES):
            entry = yield from self._take(CONTROL_BYTES)
            stage, operation, data = entry[0], entry[1], int.from_bytes(entry[2:], "little", signed=True)
            if not 1 <= stage <= head:
                yield from self._refuse(kind, Reason.STAGE, head, stage)
            elif operation not in CONTROL_OPERATIONS or (
                stage == head and operation not in (Operation.COUNTERS, Operation.RATE)
            ):
                yield from self._refuse(kind, Reason.OPERATION, 0, operation)
            else:
                words = self._operate(stage, Operation(operation), data)
                yield from self._answer(Answer.REPLY, bytes([stage, operation]) + words)

    def _operate(self, stage: int, operation: Operation, data: int) -> bytes:
        head = stage > len(self._stages)
        match operation:
            case Operation.CLEAR:
                # Each stage on its own; the driver clears all of them.
                entry = self._gradients[stage - 1]
                self._gradients[stage - 1] = entry._replace(
                    weight=np.zeros_like(entry.weight), bias=np.zeros_like(entry.bias)
                )
                return b""
            case Operation.RATE:
                if head:
                    self._scale = data
                else:
                    self._shifts[stage - 1] = data
                return b""
            case Operation.READ_WEIGHT:
                return self._weight_bytes(stage)
            case Operation.READ_GRADIENT:
                self.registers[Register.FIRST_GRADIENT] = self.registers[Register.NOW]
                self._count(Register.NOW, self._sizes.words[stage - 1])
                return _bytes(self._flat(self._gradients[stage - 1]), self._sizes.gradient_word[stage - 1])
            case _:
                l = stage - 1
                keys = [(l, "sensitivity")] if head else [(stage, "activation"), (l, "sensitivity"), (stage, "weight")]
                if not head and stage - 1 == len(self._stages):
                    raise AssertionError
                return b"".join((self._counters[key] % _COUNT).to_bytes(COUNTER_BYTES, "little") for key in keys)

    def _shaped(self, stage: int, words: Sequence[int], fraction: int) -> RawParameters:
        s = self._stages[stage - 1]
        table = np.array(words, dtype=np.int64).reshape(s.outputs, s.columns)
        return RawParameters(table[:, :-1].copy(), table[:, -1].copy(), fraction)

    def _flat(self, entry: RawParameters) -> list[int]:
        words: list[int] = np.hstack([entry.weight, entry.bias[:, None]]).ravel().tolist()
        return words

    def _weight_bytes(self, stage: int) -> bytes:
        return _bytes(self._flat(self._model.params[stage - 1]), self._sizes.weight_word[stage - 1])

    # -- samples ------------------------------------------------------------------------------------------------------

    def _inputs(self, body: bytes) -> Ints:
        words = _words(body[: self._sizes.inputs], self._sizes.input_word)
        self._count(Register.NOW, self._interval)
        if self._awaits_input:
            self.registers[Register.FIRST_INPUT] = self.registers[Register.NOW]
            self._awaits_input = False
        return np.array([words], dtype=np.int64)

    def _output(self, outputs: Ints) -> _Steps:
        self._count(Register.NOW, self._latency)
        self.registers[Register.LAST_OUTPUT] = self.registers[Register.NOW]
        yield from self._answer(Answer.OUTPUT, _bytes(outputs[0].tolist(), self._sizes.output_word))

    def _input_sensitivity(self, sensitivity: Ints | None) -> _Steps:
        if sensitivity is not None:
            body = _bytes(sensitivity[0].tolist(), self._sizes.sensitivity_word)
            yield from self._answer(Answer.INPUT_SENSITIVITY, body)

    def _samples(self, kind: int, size: int) -> _Steps:
        length = self._sizes.inputs + (0 if kind == Command.FORWARD else self._sizes.targets)
        if not size or size % length:
            yield from self._skip(size)
            yield from self._refuse(kind, Reason.LENGTH, length, size)
            return
        for _ in range(size // length):
            body = yield from self._take(length)
            x = self._inputs(body)
            if kind == Command.FORWARD:
                trace = self._model.predict(x)
                self._counters.update(trace.saturations)
                yield from self._output(trace.outputs)
                continue
            trace = self._learn(x, body[self._sizes.inputs :], seeds=kind == Command.LEARN_SEED)
            self._counters.update(trace.saturations)
            if kind == Command.STEP:
                self._step()
            yield from self._output(trace.outputs)
            yield from self._input_sensitivity(trace.inputs)

    def _learn(self, x: Ints, body: bytes, *, seeds: bool) -> golden.Trace:
        last = self._stages[-1]
        form = last.sensitivity if seeds else target_format(self.net)
        words = np.array([_words(body, self._sizes.target_word)], dtype=np.int64)
        # What the format does not have is cut off, as hardware does.
        words = _cut(words, form.width)
        trace = self._model.scaled(self._scale).textbook(x, words, seeds=seeds)
        if self._cleared:
            self._gradients = [
                RawParameters(np.zeros_like(g.weight), np.zeros_like(g.bias), g.fraction_bits) for g in self._gradients
            ]
            self._cleared = False
        self._gradients = [
            g._replace(
                weight=_cut(g.weight + new.weight, s.gradient_bits), bias=_cut(g.bias + new.bias, s.gradient_bits)
            )
            for s, g, new in zip(self._stages, self._gradients, trace.gradients, strict=True)
        ]
        return trace

    def _step(self) -> None:
        for s, shift in zip(self._stages, self._shifts, strict=True):
            entry, sums = self._model.params[s.index - 1], self._gradients[s.index - 1]
            weight = arithmetic.step(entry.weight, sums.weight, shift, s.weight)
            bias = arithmetic.step(entry.bias, sums.bias, shift, s.weight)
            self._model.params[s.index - 1] = entry._replace(weight=weight.words, bias=bias.words)
            self._gradients[s.index - 1] = sums._replace(weight=weight.residual, bias=bias.residual)
            self._counters[s.index, "weight"] += int(weight.saturated.sum() + bias.saturated.sum())

    def _hold(self, kind: int, size: int) -> _Steps:
        body = yield from self._body(kind, size, self._sizes.inputs)
        if body is not None:
            self._held = self._inputs(body)
            trace = self._model.predict(self._held)
            self._counters.update(trace.saturations)
            yield from self._output(trace.outputs)

    def _release(self, kind: int, size: int) -> _Steps:
        if self._held is None:
            yield from self._skip(size)
            yield from self._refuse(kind, Reason.NOT_HELD, Command.HOLD, kind)
            return
        body = yield from self._body(kind, size, self._sizes.targets)
        if body is not None:
            x, self._held = self._held, None
            trace = self._learn(x, body, seeds=True)
            # Its activations were counted when it went forward.
            self._counters.update({key: n for key, n in trace.saturations.items() if key[1] != "activation"})
            yield from self._input_sensitivity(trace.inputs)

    # -- baud rate ----------------------------------------------------------------------------------------------------

    def _set_baud(self, kind: int, size: int) -> _Steps:
        body = yield from self._body(kind, size, 2)
        if body is None:
            return
        period = int.from_bytes(body, "little")
        if period < MIN_PERIOD:
            yield from self._refuse(kind, Reason.PERIOD, MIN_PERIOD, period)
            return
        yield from self._answer(Answer.BAUD, body)
        self._switch = period

    def _keep_baud(self, kind: int, size: int) -> _Steps:
        if (yield from self._body(kind, size, 0)) is not None:
            self._before_trial = None
            yield from self._answer(Answer.BAUD, self._period.to_bytes(2, "little"))


def _words(body: bytes, size: int) -> list[int]:
    return [int.from_bytes(body[i : i + size], "little", signed=True) for i in range(0, len(body), size)]


def _bytes(words: Sequence[int], size: int) -> bytes:
    return b"".join(word.to_bytes(size, "little", signed=True) for word in words)


def _cut(words: Ints, bits: int) -> Ints:
    shift = np.int64(64 - bits)
    return (words << shift) >> shift
