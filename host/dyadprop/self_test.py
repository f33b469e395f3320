"""The power-on self-test of a network: what it does, and what a healthy chip answers (docs/boards.md)."""

import math

import numpy as np

from dyadprop.device import Device, open_device
from dyadprop.errors import RangeError
from dyadprop.formats import Ints, Q
from dyadprop.messages import message, pack_words, unpack_words
from dyadprop.network import Network, RawParameters
from dyadprop.operations import Operation
from dyadprop.protocol import CONTROL_BYTES, MESSAGE_HEADER, Answer, Command, SelfTest, WireSizes
from dyadprop.self_test_program import COUNT_BITS, ONES, TOP_BITS, VALUE_BITS, Program, Row, Step, run
from dyadprop.tables import TABLE_ACTIVATIONS, Table, exp_table, phi_table
from dyadprop.widths import StageNumbers, stage_numbers, target_format

CORNER_ROUNDS = TOP_BITS + 2
"""Rounds of corner values, and of random ones in front of and behind them."""
CORNER_SAMPLES = 4
"""Samples of each such round: inputs and targets, each once as they are and once inverted."""
FEWEST_SAMPLES = 64
"""Random samples where no activation has a table."""
READS_AN_ENTRY = 16
"""Of a table, on the average over entries and units, by random samples; at the end of its range it is half of that."""
LONGEST_ROUND = 64
"""Random samples between two sets of weights."""
MOST_ROUNDS = 1 << VALUE_BITS
"""Networks with a small ``max_batch`` and few units have less random samples than they should."""
REFERENCE = "golden"
"""Device that says what a healthy chip answers."""


def self_test_program(net: Network, device: Device | None = None) -> Program:
    """Make the self-test of a chip, with the answers of a healthy one in it.

    Parameters
    ----------
    net : Network
    device : Device, optional
        Of that network, exact to the bit: gives the answers. The golden model where not given.

    Raises
    ------
    RangeError
        If there is no golden model to ask.
    """
    if device is None:
        with open_device(REFERENCE, net) as reference:
            return self_test_program(net, reference)
    program, _ = run(Program(tuple(_Writer(net).rows)), Answers(net, device))
    return program


def count_rows(net: Network) -> int:
    """Say how many rows the program of a network's self-test has; nothing is computed for that."""
    return len(_Writer(net).rows)


class _Writer:
    """Write the rows, with signatures left open.

    In front of each CHECK, a part of the test::

        weights      3 times:  all bits 1, all bits 0, random:  LOAD, COMMIT, READ_WEIGHT
        gradients    the same: WRITE_GRADIENT, READ_GRADIENT
        products     rounds of LOAD, COMMIT, CLEAR, LEARN once a sample, READ_GRADIENT, with corner values
        tables       the same, with many random samples and the corner values behind them
    """

    def __init__(self, net: Network) -> None:
        self.rows: list[Row] = []
        self._net = net
        self._stages = stage_numbers(net)
        self._sizes = WireSizes(net)
        spreads = _spreads(net)
        # Of the words that a stage is given: inputs are uniform in [-1, 1], tables end at 1.
        below = [1 / math.sqrt(3)] + [
            0.7 if s.activation in TABLE_ACTIVATIONS else spread
            for s, spread in zip(self._stages, spreads, strict=True)
        ]
        self._weight_masks = [
            _mask(s.weight, math.sqrt(3 / s.columns) * spread / deviation)
            for s, spread, deviation in zip(self._stages, spreads, below, strict=False)
        ]
        self._memory(SelfTest.WEIGHTS)
        self._memory(SelfTest.GRADIENTS)
        self._rounds(CORNER_ROUNDS, min(CORNER_SAMPLES, net.max_batch), SelfTest.PRODUCTS)
        tables = _tables(net)
        reads = [math.ceil(READS_AN_ENTRY * len(table.value) / units) for table, units in tables]
        batch = min(LONGEST_ROUND, net.max_batch)
        rounds = math.ceil(max([FEWEST_SAMPLES, *reads]) / batch) + TOP_BITS
        self._rounds(min(rounds, MOST_ROUNDS), batch, SelfTest.TABLES if tables else SelfTest.PRODUCTS)
        self._row(Step.RECEIVE, 0)

    def _row(self, step: int, value: int) -> None:
        self.rows.append((step, value))

    def _send(self, data: bytes) -> None:
        for byte in data:
            self._row(Step.SEND, byte)

    def _argue(self, number: int, size: int) -> None:
        for byte in number.to_bytes(size, "little"):
            self._row(Step.ARGUMENT, byte)

    def _fill(self, words: int, size: int, mask: int, top: int, inverting: int = 0) -> None:
        """Send words; a long word goes as several whose mask is that of whole bytes."""
        if size > 4:
            words, size, mask, top = words * size, 1, 0xFF, 0
        for start in range(0, words, (1 << COUNT_BITS) - 1):
            self._row(Step.ARGUMENT, top)
            self._argue(min(words - start, (1 << COUNT_BITS) - 1), 2)
            self._row(Step.FILL | inverting << 2 | size - 1, mask)

    def _staged(self, command: Command, stage: int, words: int, size: int, mask: int, top: int) -> None:
        length = (1 + words * size).to_bytes(MESSAGE_HEADER - 1, "little")
        self._send(bytes([command]) + length + bytes([stage]))
        self._fill(words, size, mask, top)

    def _load(self, *, whole: bool) -> None:
        for s, words, size, mask in zip(
            self._stages, self._sizes.words, self._sizes.weight_word, self._weight_masks, strict=True
        ):
            self._staged(Command.LOAD, s.index, words, size, 0xFF if whole else mask, _top(s.weight.width))
        self._send(message(Command.COMMIT))
        self._row(Step.RECEIVE, 1)

    def _control(self, operation: Operation) -> None:
        length = (CONTROL_BYTES * len(self._stages)).to_bytes(MESSAGE_HEADER - 1, "little")
        self._send(bytes([Command.CONTROL]) + length)
        # The bridge takes an entry when the one before has been answered.
        for s in self._stages:
            self._send(bytes([s.index, operation]) + bytes(CONTROL_BYTES - 2))
            self._row(Step.RECEIVE, 1)

    def _check(self, verdict: SelfTest) -> None:
        self._argue(0, 2)
        self._row(Step.CHECK, verdict)

    def _memory(self, verdict: SelfTest) -> None:
        self._row(Step.OUTER, ONES)  # then what NEGATIVE gives, zeros here, then random words
        if verdict == SelfTest.WEIGHTS:
            self._load(whole=True)
            self._control(Operation.READ_WEIGHT)
        else:
            for s, words, size in zip(self._stages, self._sizes.words, self._sizes.gradient_word, strict=True):
                self._staged(Command.WRITE_GRADIENT, s.index, words * size, 1, 0xFF, 0)
                self._row(Step.RECEIVE, 1)
            self._control(Operation.READ_GRADIENT)
        self._row(Step.REPEAT_OUTER, 0)
        self._check(verdict)

    def _rounds(self, rounds: int, samples: int, verdict: SelfTest) -> None:
        net, sizes = self._net, self._sizes
        inputs, targets = net.formats.activation, target_format(net)
        self._row(Step.OUTER, rounds - 1)
        self._load(whole=False)
        self._control(Operation.CLEAR)
        self._row(Step.INNER, samples - 1)
        length = (sizes.inputs + sizes.targets).to_bytes(MESSAGE_HEADER - 1, "little")
        self._send(bytes([Command.LEARN]) + length)
        self._fill(net.inputs, sizes.input_word, _mask(inputs, 1.0), _top(inputs.width), 0)
        # Where seeds have longer words, a target's highest byte is not the word's.
        mask = _mask(targets, 1.0, sizes.target_word)
        self._fill(net.outputs, sizes.target_word, mask, _top(targets.width, sizes.target_word), 1)
        self._row(Step.RECEIVE, 1 + net.input_gradient)
        self._row(Step.REPEAT_INNER, 0)
        self._control(Operation.READ_GRADIENT)
        self._row(Step.REPEAT_OUTER, 0)
        self._check(verdict)


def _top(width: int, size: int | None = None) -> int:
    """Give the highest byte of the smallest word, as far as the word has it."""
    size = -(-width // 8) if size is None else size
    return (-1 << max(0, width - 1 - 8 * (size - 1))) & 0xFF


def _mask(form: Q, bound: float, size: int | None = None) -> int:
    """Mask the highest byte of a word so that random ones stay below a bound, about, and within the format."""
    size = -(-form.width // 8) if size is None else size
    below = 8 * (size - 1)
    bits = round(math.log2(bound)) + form.fraction_bits
    return (1 << max(0, min(bits, form.width - 1) - below)) - 1


def _tables(net: Network) -> list[tuple[Table, int]]:
    """List the tables of a network, each with the units that look it up."""
    found = [
        (phi_table(s.activation, s.output.fraction_bits), s.outputs)
        for s in stage_numbers(net)
        if s.activation in TABLE_ACTIVATIONS
    ]
    if net.cost == "softmax_cross_entropy":
        found.append((exp_table(stage_numbers(net)[-1].output.fraction_bits), net.outputs))
    return found


def _spreads(net: Network) -> list[float]:
    """Say how far random pre-activations of each stage shall spread: over its table, or within its format."""
    spreads = []
    for s in stage_numbers(net):
        largest = 2.0 ** (s.output.integer_bits - 1)
        if s.activation in TABLE_ACTIVATIONS:
            spreads.append(2.0 ** phi_table(s.activation, s.output.fraction_bits).range_bits)
        elif s.index == len(net.layers) and net.cost == "softmax_cross_entropy":
            spreads.append(min(largest / 2, 6.0))
        else:
            spreads.append(min(largest / 3, 1.5))
    return spreads


class Answers:
    """What a device would answer to messages, had it a wire.

    Parameters
    ----------
    net : Network
    device : Device
        Of that network.
    """

    def __init__(self, net: Network, device: Device) -> None:
        self._net = net
        self._device = device
        self._sizes = WireSizes(net)
        self._stages = stage_numbers(net)
        self._said = bytearray()
        self._entries = 0  # of a CONTROL that are still to come
        self._aside: dict[int, Ints] = {}
        self._weights: list[Ints] = []
        self._gradients = [np.zeros(words, dtype=np.int64) for words in self._sizes.words]

    def __call__(self, data: bytes) -> bytes:
        """Take bytes of messages, and give the answers to those that are whole.

        Raises
        ------
        RangeError
            If one is no part of a self-test.
        """
        self._said += data
        answers = b""
        while True:
            # Entries of a CONTROL are answered one by one.
            head, taken = (CONTROL_BYTES, 0) if self._entries else (MESSAGE_HEADER, self._body())
            if len(self._said) < head + taken:
                return answers
            piece = bytes(self._said[: head + taken])
            del self._said[: head + taken]
            if self._entries:
                self._entries -= 1
                answers += self._reply(piece[0], Operation(piece[1]))
            elif piece[0] == Command.CONTROL:
                self._entries = int.from_bytes(piece[1:MESSAGE_HEADER], "little") // CONTROL_BYTES
            else:
                answers += self._answer(Command(piece[0]), piece[MESSAGE_HEADER:])

    def _body(self) -> int:
        """Count the bytes behind the header of the message that begins, as far as they are wanted at once."""
        if not self._said or self._said[0] == Command.CONTROL:
            return 0
        return int.from_bytes(self._said[1:MESSAGE_HEADER], "little")

    def _answer(self, command: Command, body: bytes) -> bytes:
        sizes = self._sizes
        match command:
            case Command.LOAD:
                s = self._stages[body[0] - 1]
                self._aside[s.index] = _cut(unpack_words(body[1:], sizes.weight_word[s.index - 1]), s.weight.width)
                return b""
            case Command.COMMIT:
                self._weights = [self._aside.pop(s.index) for s in self._stages]
                self._device.load(
                    [_parameters(s, words).decode() for s, words in zip(self._stages, self._weights, strict=True)]
                )
                return message(Answer.COMMITTED)
            case Command.WRITE_GRADIENT:
                s = self._stages[body[0] - 1]
                words = unpack_words(body[1:], sizes.gradient_word[s.index - 1])
                self._gradients[s.index - 1] = _cut(words, s.gradient_bits)
                return message(Answer.WRITTEN, body[:1])
            case Command.LEARN:
                return self._learn(body)
            case _:
                raise RangeError(f"command {command.name} is no part of a self-test")

    def _reply(self, stage: int, operation: Operation) -> bytes:
        head = bytes([stage, operation])
        _, size = self._sizes.reply(stage, operation)
        match operation:
            case Operation.CLEAR:
                self._gradients[stage - 1] = np.zeros_like(self._gradients[stage - 1])
                return message(Answer.REPLY, head)
            case Operation.READ_WEIGHT:
                return message(Answer.REPLY, head + pack_words(self._weights[stage - 1], size).tobytes())
            case Operation.READ_GRADIENT:
                return message(Answer.REPLY, head + pack_words(self._gradients[stage - 1], size).tobytes())
            case _:
                raise RangeError(f"operation {operation.name} is no part of a self-test")

    def _learn(self, body: bytes) -> bytes:
        sizes, net = self._sizes, self._net
        inputs, targets = net.formats.activation, target_format(net)
        x = _cut(unpack_words(body[: sizes.inputs], sizes.input_word), inputs.width)
        y = _cut(unpack_words(body[sizes.inputs :], sizes.target_word), targets.width)
        raw = self._device.gradients(inputs.to_floats(x[None]), targets.to_floats(y[None])).raw
        assert raw is not None, "a self-test needs a device of words"
        for sums, new in zip(self._gradients, raw.gradients, strict=True):
            sums += np.hstack([new.weight, new.bias[:, None]]).ravel()
        answers = message(Answer.OUTPUT, pack_words(raw.outputs[0], sizes.output_word).tobytes())
        if raw.inputs is not None:
            answers += message(Answer.INPUT_SENSITIVITY, pack_words(raw.inputs[0], sizes.sensitivity_word).tobytes())
        return answers


def _parameters(s: StageNumbers, words: Ints) -> RawParameters:
    rows = words.reshape(s.outputs, s.columns)
    return RawParameters(rows[:, :-1], rows[:, -1], s.weight.fraction_bits)


def _cut(words: Ints, bits: int) -> Ints:
    """Keep the lower bits, as hardware does."""
    shift = np.int64(64 - bits)
    return (words << shift) >> shift
