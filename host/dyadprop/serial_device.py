"""A board behind a serial port, or a chip behind a socket: `WordDevice` in messages of docs/protocol.md."""

import logging
import math
import secrets
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from dyadprop.connection import RATES, Connection, Opener, connect, find_board, reconnect
from dyadprop.device import DeviceInfo
from dyadprop.errors import (
    DeviceLost,
    DeviceTimeout,
    DyadpropError,
    NetworkMismatch,
    ProtocolError,
    RangeError,
)
from dyadprop.formats import Ints
from dyadprop.journal import Journal, Lesson
from dyadprop.link import LinkCounters, SessionLost, Silence
from dyadprop.messages import Bodies, Flight, check_message_sizes, pack_words
from dyadprop.network import Network, RawParameters, check_same_network
from dyadprop.operations import COUNTER_BITS, SCALE_BITS, STAGE_COUNTERS, Operation
from dyadprop.plan import plan_network
from dyadprop.ports import SerialPort
from dyadprop.protocol import (
    MAX_PERIOD,
    MIN_PERIOD,
    PERIOD_FRACTION_BITS,
    REGISTER_BYTES,
    TRIAL_SECONDS,
    Answer,
    Command,
    Register,
    WireSizes,
)
from dyadprop.results import WireStats
from dyadprop.verdicts import has_failed, spell_verdict
from dyadprop.widths import stage_numbers
from dyadprop.words import Counts, Part, WordDevice

TIMEOUT = 5.0
"""Seconds without progress that are too long, where the name says nothing else."""

SNAPSHOT_AFTER = 8
"""Training is kept to be carried out again until it has so many times the bytes of what it changes."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_COUNT = 1 << COUNTER_BITS
_ECHO_BYTES = 64
_RATE_TOLERANCE = 0.01


class SerialDevice(WordDevice):
    """A board on a serial port, or a chip behind a socket; without an address the board that fits the network.

    Parameters
    ----------
    net : Network
    on_saturation : {"count", "warn", "raise"}
    address : str
        A port's name, ``socket://host:port``, or another URL that pyserial knows. Empty: all ports are looked at.
    baud : int or str
        Rate to talk at; the one at which the device starts where not given.
    board : str
        Name that the board must have.
    timeout : float or str
        Seconds without progress that are too long.
    opener : callable
        Gives the port of an address at a rate.

    Raises
    ------
    RangeError
        If an option is wrong.
    NetworkMismatch
        If the device was built for another network, or is another board.
    DeviceLost, DeviceTimeout
        If there is no such port, nothing answers, or the device failed its self-test.
    ProtocolError
        If what answers speaks another version.
    CapacityError
        If a stage has more weights than one message can carry.
    """

    kind = "serial"
    OPTIONS: tuple[str, ...] = ("address", "baud", "board", "timeout")

    def __init__(
        self,
        net: Network,
        *,
        on_saturation: str = "count",
        address: str = "",
        baud: int | str = 0,
        board: str = "",
        timeout: float | str = TIMEOUT,
        opener: Opener = SerialPort,
    ) -> None:
        super().__init__(net, on_saturation=on_saturation)
        self._sizes = WireSizes(net)
        self._stages = stage_numbers(net)
        check_message_sizes(self._sizes)
        self._address = address
        self._baud = int(_number("baud", baud, int, 0, 100_000_000))
        self._board = board
        self._timeout = float(_number("timeout", timeout, float, 0.01, 3600.0))
        self._opener = opener
        self._link_counters = LinkCounters()
        self._wire_counts = WireStats()
        self._began = self._figures()
        self._recovered = False
        self._journal: Journal | None = None
        self._counters = np.zeros(STAGE_COUNTERS * len(self._stages) + 1, dtype=np.int64)
        self._registers = np.zeros(len(Register), dtype=np.int64)
        self._seconds = 0.0
        self._connection = self._find()
        try:
            self._greet()
        except SessionLost as error:
            self._connection.link.port.close()
            raise DeviceLost(f"device {self.kind!r} was lost: {error}") from error
        except BaseException:
            self._connection.link.port.close()
            raise

    @property
    def info(self) -> DeviceInfo:
        """Who answers."""
        identity, link = self._connection.identity, self._connection.link
        return DeviceInfo(
            kind=self.kind,
            network=identity.network,
            gateware=identity.gateware,
            board=identity.board,
            clock=identity.clock,
            formats=identity.formats,
            lanes=identity.lanes,
            max_batch=identity.max_batch,
            protocol=identity.protocol,
            port=self._connection.address,
            baud=link.port.baud,
            round_trip=link.round_trip,
        )

    def _close(self) -> None:
        self._connection.link.port.close()

    # -- getting there, and back --------------------------------------------------------------------------------------

    def _rates(self) -> list[int]:
        return list(dict.fromkeys([*([self._baud] if self._baud else []), *RATES]))

    def _find(self) -> Connection:
        if not self._address:
            return find_board(self.net, self._board, self._rates(), timeout=self._timeout, opener=self._opener)
        return connect(
            self._address,
            self._rates(),
            timeout=self._timeout,
            seconds=self._timeout,
            opener=self._opener,
            counters=self._link_counters,
        )

    def _greet(self) -> None:
        """Check who answers, set the rate, and learn where the counters stand."""
        self._connection.link.counters = self._link_counters
        identity, where = self._connection.identity, self._connection.address
        check_same_network(
            f"device on {where} (board {identity.board or 'without a name'})", identity.network, self.net
        )
        if self._board not in ("", identity.board):
            raise NetworkMismatch(f"device on {where} is board {identity.board!r}; asked for is {self._board!r}")
        if self._baud and self._baud != (self._connection.link.port.baud or identity.baud):
            self._change_baud(self._baud)
        self._seconds = self._longest_seconds()
        flight = self._flight()
        self._set_rates(flight, [0] * len(self._stages), 1 << SCALE_BITS)
        self._talk(flight, note=False)
        verdict = int(self._registers[Register.SELF_TEST])
        if has_failed(verdict):
            raise DeviceLost(f"device on {where} cannot be used: its self-test {spell_verdict(verdict)}")

    def _longest_seconds(self) -> float:
        """Bound what the device computes between two words that it takes or gives."""
        identity = self._connection.identity
        try:
            layers = [replace(layer, lanes=n) for layer, n in zip(self.net.layers, identity.lanes, strict=True)]
            plan = plan_network(self.net.with_layers(layers), 10**9)
        except (DyadpropError, ValueError) as error:
            _log.warning("lanes of the device on %s make no plan: %s", self._connection.address, error)
            return 0.0
        return (plan.gradient_latency + plan.step_interval + sum(self._sizes.words)) / identity.clock

    def _attempt(self, work: Callable[[], _T], *, restore: bool = True) -> _T:
        """Do work that begins where the journal ends; do it once more in another session if this one is lost."""
        try:
            return work()
        except (SessionLost, Silence) as lost:  # a device that was reset may be silent: it starts at another rate
            if self._recovered:
                raise DeviceLost(f"device {self.kind!r} was lost twice in one call: {lost}") from lost
            _log.warning("%s; begun again", lost)
            self._recovered = True
            self._wire_counts.reconnects += 1
            try:
                self._recover()
            except (SessionLost, DeviceLost, DeviceTimeout) as error:
                if isinstance(lost, Silence):
                    raise DeviceTimeout(f"{lost}; {error}") from error
                raise DeviceLost(f"device {self.kind!r} was lost ({lost}) and did not come back: {error}") from error
        try:
            if restore:
                self._restore()
            return work()
        except SessionLost as error:
            raise DeviceLost(f"device {self.kind!r} was lost twice in one call: {error}") from error

    def _recover(self) -> None:
        link = self._connection.link
        rates = list(dict.fromkeys([link.port.baud, *self._rates()]))
        try:
            self._connection = reconnect(self._connection.address, link, rates, seconds=self._timeout)
        except (SessionLost, DeviceTimeout):
            link.port.close()
            end = link.port.clock() + self._timeout
            while True:  # an adapter that was pulled out takes a while to come back
                try:
                    self._connection = self._find()
                    break
                except (DeviceLost, DeviceTimeout, NetworkMismatch):
                    if link.port.clock() >= end:
                        raise
                    link.port.pause(0.1)
        self._greet()

    def _restore(self) -> None:
        """Bring the device where the journal ends."""
        journal = self._journal
        if journal is None:
            return
        self._send_weights(journal.weights)
        if journal.residuals is not None:
            self._send_residuals(journal.residuals)
        for entry in journal.entries:
            if isinstance(entry, Lesson):
                flight, _ = self._lesson_flight(entry)
                self._talk(flight)
            else:
                self._send_residuals(entry)

    # -- baud rate ----------------------------------------------------------------------------------------------------

    def _change_baud(self, wanted: int) -> None:
        link, identity = self._connection.link, self._connection.identity
        before = link.port.baud
        period = round(identity.clock * (1 << PERIOD_FRACTION_BITS) / wanted)
        got = identity.clock * (1 << PERIOD_FRACTION_BITS) / max(period, 1)
        if not MIN_PERIOD <= period <= MAX_PERIOD or abs(got / wanted - 1) > _RATE_TOLERANCE:
            fastest = identity.clock / (MIN_PERIOD >> PERIOD_FRACTION_BITS)
            raise RangeError(
                f"option baud of device {self.kind} is {wanted}; board {identity.board} at {identity.clock:g} Hz takes "
                f"up to {fastest:.0f}, and of this one it makes {got:.0f}"
            )
        body = period.to_bytes(2, "little")
        flight = Flight()
        flight.say(Command.BAUD, body)
        flight.expect(Answer.BAUD, 2, prefix=body)
        link.talk(flight.commands, flight)
        trial = max(TRIAL_SECONDS / 3, 3 * link.round_trip)
        self._set_port(wanted)
        echo = secrets.token_bytes(_ECHO_BYTES)
        test = Flight()
        test.say(Command.ECHO, echo)
        test.expect(Answer.ECHO, len(echo), prefix=echo)
        if link.talk(test.commands, test, trial):
            test = Flight()
            test.say(Command.KEEP_BAUD)
            test.expect(Answer.BAUD, 2)
            if link.talk(test.commands, test, trial):
                return
        # It may have kept the rate and only its answer was lost: both are tried, the old one first.
        link.port.pause(TRIAL_SECONDS)
        end = link.port.clock() + self._timeout
        while True:
            for rate in (before, wanted):
                self._set_port(rate)
                if link.talk([], test, max(TRIAL_SECONDS, 4 * link.round_trip)):
                    if rate != wanted:
                        _log.warning(
                            "device on %s does not work at %d baud; it stays at %d", link.port.name, wanted, rate
                        )
                    return
            if link.port.clock() >= end:
                raise SessionLost(f"device on {link.port.name} was lost while it changed to {wanted} baud")

    def _set_port(self, rate: int) -> None:
        link = self._connection.link
        if link.port.baud:
            try:
                link.port.baud = rate
            except DeviceLost as error:
                raise SessionLost(str(error)) from error
        link.rate = rate

    # -- what the wire did --------------------------------------------------------------------------------------------

    def _figures(self) -> tuple[int, int, WireStats]:
        counters = self._link_counters
        return (
            counters.retries,
            counters.bytes,
            replace(
                self._wire_counts,
                received_bad=counters.bad_packets,
                send_seconds=counters.send_seconds,
                wait_seconds=counters.wait_seconds,
                unpack_seconds=self._wire_counts.unpack_seconds + counters.receive_seconds,
            ),
        )

    def _begin_call(self) -> None:
        self._began = self._figures()
        self._recovered = False

    def _wire(self) -> tuple[int, int, WireStats]:
        retries, crossed, wire = self._figures()
        return retries - self._began[0], crossed - self._began[1], wire - self._began[2]

    def _clocked(self, work: Any) -> Part:
        part: Part = work()
        self._device_seconds += (part.cycles + part.transfer_cycles) / self._connection.identity.clock
        return part

    @contextmanager
    def _packing(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._wire_counts.pack_seconds += time.perf_counter() - start

    @contextmanager
    def _unpacking(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._wire_counts.unpack_seconds += time.perf_counter() - start

    # -- flights ------------------------------------------------------------------------------------------------------

    def _flight(self) -> Flight:
        return Flight(self._seconds)

    def _talk(self, flight: Flight, *, note: bool = True) -> tuple[Counts, Ints]:
        """Send a flight with a look at counters and registers behind it, and read all answers.

        Returns
        -------
        counts : dict
            What saturated since the counters were read last.
        registers : int64 array
        """
        L = len(self._stages)
        stages = range(1, L + 2)
        sizes = [self._reply_size(stage, Operation.COUNTERS) for stage in stages]
        counters = flight.control([(stage, Operation.COUNTERS, 0) for stage in stages], sizes)
        flight.say(Command.REGISTERS)
        registers = flight.expect(Answer.REGISTERS, REGISTER_BYTES * len(Register))
        self._connection.link.talk(flight.commands, flight)
        counted = np.concatenate([np.frombuffer(entry.data, dtype="<u4").astype(np.int64) for entry in counters])
        read = np.frombuffer(registers.data, dtype="<u4").astype(np.int64)
        added = (counted - self._counters) % _COUNT
        self._counters = counted
        if note:
            errors = (read - self._registers) % _COUNT
            counts = self._wire_counts
            counts.bad_packets += int(errors[Register.BAD_PACKETS])
            counts.unexpected_packets += int(errors[Register.UNEXPECTED_PACKETS])
            counts.foreign_packets += int(errors[Register.FOREIGN_PACKETS])
            counts.overflows += int(errors[Register.OVERFLOWS])
            counts.framing_errors += int(errors[Register.FRAMING_ERRORS])
        self._registers = read
        saturated: Counts = {}
        for index in range(1, L + 1):
            activation, sensitivity, weight = (int(n) for n in added[STAGE_COUNTERS * (index - 1) :][:STAGE_COUNTERS])
            saturated[index, "activation"] = activation
            saturated[index - 1, "sensitivity"] = sensitivity
            saturated[index, "weight"] = weight
        saturated[L, "sensitivity"] = int(added[-1])
        return saturated, read

    def _reply_size(self, stage: int, operation: Operation) -> int:
        count, size = self._sizes.reply(stage, operation)
        return count * size

    def _set_rates(self, flight: Flight, shifts: Sequence[int], scale: int) -> None:
        """Set learning rates; each stage does that when all its samples and steps are done."""
        entries = [(s.index, Operation.RATE, shift) for s, shift in zip(self._stages, shifts, strict=True)]
        entries.append((len(self._stages) + 1, Operation.RATE, scale))
        flight.control(entries, [0] * len(entries))

    def _reads(self, flight: Flight, operation: Operation) -> list[Bodies]:
        return flight.control(
            [(s.index, operation, 0) for s in self._stages],
            [self._reply_size(s.index, operation) for s in self._stages],
        )

    def _outputs(self, flight: Flight, samples: int) -> Bodies:
        return flight.expect(Answer.OUTPUT, self._sizes.outputs, samples)

    def _input_sensitivities(self, flight: Flight, samples: int) -> Bodies | None:
        if not self.net.input_gradient:
            return None
        return flight.expect(Answer.INPUT_SENSITIVITY, self._sizes.input_sensitivity, samples)

    def _output_words(self, outputs: Bodies) -> Ints:
        form = self.net.layer_formats(len(self._stages)).activation
        words = outputs.words(self._sizes.output_word)
        return _within(words, form.width, "OUTPUT").reshape(outputs.count, -1)

    def _stage_words(self, answers: Sequence[Bodies], sizes: Sequence[int], gradients: bool) -> list[RawParameters]:
        params = []
        for s, answer, size in zip(self._stages, answers, sizes, strict=True):
            bits = s.gradient_bits if gradients else s.weight.width
            words = _within(answer.words(size), bits, f"REPLY {answer.what}").reshape(s.outputs, s.columns)
            fraction = s.gradient_fraction if gradients else s.weight.fraction_bits
            params.append(RawParameters(words[:, :-1].copy(), words[:, -1].copy(), fraction))
        return params

    def _gradients_of(self, answers: Sequence[Bodies]) -> list[RawParameters]:
        return self._stage_words(answers, self._sizes.gradient_word, gradients=True)

    # -- parameters and residuals -------------------------------------------------------------------------------------

    def _load_words(self, params: list[RawParameters]) -> None:
        self._attempt(lambda: self._send_weights(params), restore=False)
        self._journal = Journal(params)

    def _send_weights(self, params: Sequence[RawParameters]) -> None:
        with self._packing():
            flight = self._flight()
            sums = []
            for s, entry, size in zip(self._stages, params, self._sizes.weight_word, strict=True):
                words = _rows(entry, size)
                sums.append(zlib.crc32(words))
                flight.say(Command.LOAD, bytes([s.index]) + words)
            flight.say(Command.COMMIT)
            flight.expect(Answer.COMMITTED, 0)
            checks = []
            for s in self._stages:
                flight.say(Command.CHECKSUM, bytes([s.index]))
                checks.append(flight.expect(Answer.CHECKSUM, 5, prefix=bytes([s.index]), what=f"of stage {s.index}"))
        self._talk(flight)
        for s, expected, check in zip(self._stages, sums, checks, strict=True):
            got = int.from_bytes(check.data, "little")
            if got != expected:
                raise ProtocolError(
                    f"weights of stage {s.index} on {self._connection.address} have check sum {got:#010x} after they "
                    f"were loaded; it should be {expected:#010x}"
                )

    def _read_words(self) -> list[RawParameters]:
        return self._attempt(lambda: self._read_stages(Operation.READ_WEIGHT))

    def _read_residuals(self) -> list[RawParameters]:
        return self._attempt(lambda: self._read_stages(Operation.READ_GRADIENT))

    def _read_stages(self, operation: Operation) -> list[RawParameters]:
        flight = self._flight()
        answers = self._reads(flight, operation)
        self._talk(flight)
        with self._unpacking():
            if operation == Operation.READ_GRADIENT:
                return self._gradients_of(answers)
            return self._stage_words(answers, self._sizes.weight_word, gradients=False)

    def _write_residuals(self, residuals: list[RawParameters]) -> None:
        self._attempt(lambda: self._send_residuals(residuals))
        assert self._journal is not None, "Device asks for load() first"
        self._journal.wrote(residuals)

    def _send_residuals(self, residuals: Sequence[RawParameters]) -> None:
        with self._packing():
            flight = self._flight()
            for s, entry, size in zip(self._stages, residuals, self._sizes.gradient_word, strict=True):
                flight.say(Command.WRITE_GRADIENT, bytes([s.index]) + _rows(entry, size))
                flight.expect(Answer.WRITTEN, 1, prefix=bytes([s.index]))
        self._talk(flight)

    # -- samples ------------------------------------------------------------------------------------------------------

    def _forward_words(self, x: Ints) -> Part:
        return self._attempt(lambda: self._run_forward(x))

    def _run_forward(self, x: Ints) -> Part:
        with self._packing():
            flight = self._flight()
            flight.samples(Command.FORWARD, (x, self._sizes.input_word))
            outputs = self._outputs(flight, len(x))
            # A stage does this when it has seen all samples, so that the counters behind it are complete.
            self._set_rates(flight, [0] * len(self._stages), 1 << SCALE_BITS)
        saturated, registers = self._talk(flight)
        with self._unpacking():
            return Part(self._output_words(outputs), None, [], saturated, _cycles(registers, Register.LAST_OUTPUT))

    def _gradient_words(self, x: Ints, targets: Ints, *, seeds: bool) -> Part:
        return self._attempt(lambda: self._run_gradients(x, targets, seeds=seeds))

    def _run_gradients(self, x: Ints, targets: Ints, *, seeds: bool) -> Part:
        sizes = self._sizes
        with self._packing():
            flight = self._flight()
            command = Command.LEARN_SEED if seeds else Command.LEARN
            flight.samples(command, (x, sizes.input_word), (targets, sizes.target_word))
            outputs, inputs = self._outputs(flight, len(x)), self._input_sensitivities(flight, len(x))
            sums = self._reads(flight, Operation.READ_GRADIENT)
            flight.control([(s.index, Operation.CLEAR, 0) for s in self._stages], [0] * len(self._stages))
        saturated, registers = self._talk(flight)
        with self._unpacking():
            sensitivities = None
            if inputs is not None:
                words = _within(
                    inputs.words(sizes.sensitivity_word), self.net.formats.sensitivity.width, "INPUT_SENSITIVITY"
                )
                sensitivities = words.reshape(len(x), -1)
            return Part(
                outputs=self._output_words(outputs),
                inputs=sensitivities,
                gradients=self._gradients_of(sums),
                saturations=saturated,
                cycles=_cycles(registers, Register.FIRST_GRADIENT),
                transfer_cycles=_cycles(registers, Register.NOW, Register.FIRST_GRADIENT),
            )

    def _train_words(self, x: Ints, targets: Ints, *, batch_size: int, exponent: int, scale: int) -> Part:
        with self._packing():
            lesson = self._lesson(x, targets, batch_size, exponent, scale)
        part = self._attempt(lambda: self._run_lesson(lesson))
        assert self._journal is not None, "Device asks for load() first"
        self._journal.learnt(lesson)
        if self._journal.size > SNAPSHOT_AFTER * self._state_size():
            self._journal = self._attempt(self._snapshot)
        return part

    def _lesson(self, x: Ints, targets: Ints, batch_size: int, exponent: int, scale: int) -> Lesson:
        sizes, flight = self._sizes, Flight()
        self._set_rates(flight, [s.step_shift(exponent) for s in self._stages], scale)
        columns = (x, sizes.input_word), (targets, sizes.target_word)
        if batch_size == 1:
            flight.samples(Command.STEP, *columns)
        else:
            rows = np.concatenate([pack_words(words, size) for words, size in columns], axis=1)
            for start in range(0, len(x), batch_size):
                batch = rows[start : start + batch_size]
                if len(batch) > 1:
                    flight.say(Command.LEARN, batch[:-1].tobytes())
                flight.say(Command.STEP, batch[-1].tobytes())
        self._set_rates(flight, [0] * len(self._stages), 1 << SCALE_BITS)
        return Lesson(flight.commands, len(x))

    def _lesson_flight(self, lesson: Lesson) -> tuple[Flight, Bodies]:
        flight = self._flight()
        # The answers to both orders of rates, and those of the samples.
        for _ in range(2):
            self._set_rates(flight, [0] * len(self._stages), 1 << SCALE_BITS)
        flight.commands[:] = lesson.commands
        outputs = self._outputs(flight, lesson.samples)
        self._input_sensitivities(flight, lesson.samples)
        return flight, outputs

    def _run_lesson(self, lesson: Lesson) -> Part:
        flight, outputs = self._lesson_flight(lesson)
        saturated, registers = self._talk(flight)
        with self._unpacking():
            return Part(self._output_words(outputs), None, [], saturated, _cycles(registers, Register.LAST_OUTPUT))

    def _state_size(self) -> int:
        sizes = self._sizes
        return sum(n * (a + b) for n, a, b in zip(sizes.words, sizes.weight_word, sizes.gradient_word, strict=True))

    def _snapshot(self) -> Journal:
        return Journal(self._read_stages(Operation.READ_WEIGHT), self._read_stages(Operation.READ_GRADIENT))


def _rows(entry: RawParameters, size: int) -> bytes:
    """Give a stage's words row by row, each row's bias last."""
    return pack_words(np.hstack([entry.weight, entry.bias[:, None]]), size).tobytes()


def _cycles(registers: Ints, end: Register, start: Register = Register.FIRST_INPUT) -> int:
    return int((registers[end] - registers[start]) % _COUNT)


def _within(words: Ints, bits: int, what: str) -> Ints:
    """Give words back, or raise ProtocolError if they have more bits."""
    limit = 1 << (bits - 1)
    low, high = int(words.min(initial=0)), int(words.max(initial=0))
    if low < -limit or high >= limit:
        raise ProtocolError(f"device sent {what} with words from {low} to {high}; they have {bits} bits")
    return words


def _number(name: str, value: Any, kind: type, low: float, high: float) -> float:
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or not math.isfinite(number) or not low <= number <= high or isinstance(value, bool):
        raise RangeError(
            f"option {name} of device {SerialDevice.kind} is {value!r}; allowed are {kind.__name__} from {low:g} to "
            f"{high:g}"
        )
    return float(number)
