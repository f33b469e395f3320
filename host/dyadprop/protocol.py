"""What crosses the wire: packets, commands, answers and registers. Gateware, driver and docs/protocol.md share it."""

import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from dyadprop.network import Network
from dyadprop.operations import HEAD_COUNTERS, STAGE_COUNTERS, Operation
from dyadprop.widths import stage_numbers, target_format

VERSION = 1
"""Of this protocol; `OPEN` carries it and a device of another version says which it speaks."""

# -- packets ---------------------------------------------------------------------------------------------------------

MAX_PAYLOAD = 128
"""Bytes of a packet's payload: with header and check sum it stays one COBS block (254 bytes)."""

RECEIVE_SLOTS = 16
SEND_SLOTS = 16
"""Packets that the device has room for, each way: those in flight."""

HEADER = struct.Struct("<BBHHB")
"""Kind, session, sequence, acknowledge, credit: little-endian."""

CHECK_BYTES = 4
"""CRC-32 (that of zlib and Ethernet) of header and payload, little-endian, behind them."""

MAX_PACKET = HEADER.size + MAX_PAYLOAD + CHECK_BYTES

DELIMITER = 0
"""Ends each packet on the wire; COBS keeps zeros out of the packet itself. A receiver drops empty packets silently."""


class Packet(IntEnum):
    """Kind of a packet."""

    DATA = 1
    """Both ways. ``sequence`` is its number; payload 1 to 128 bytes of the stream of messages."""
    ACK = 2
    """Host to device, no payload: only says what arrived. Not answered."""
    POLL = 3
    """Host to device, no payload: answered by STATUS."""
    RESEND = 4
    """Host to device, no payload: send again from ``acknowledge`` on. Answered by STATUS before the packets."""
    OPEN = 5
    """Host to device: begin a session; payload: the protocol's version, one byte. See "Sessions"."""
    STATUS = 6
    """Device to host, no payload: what arrived, what was sent, how much more it takes."""
    GAP = 7
    """Device to host, no payload: a STATUS, and a DATA packet was dropped because one before it is missing."""
    OPENED = 8
    """Device to host: answer to OPEN; payload: the device's protocol version, one byte."""
    CLOSED = 9
    """Device to host, no payload: a packet of a session came that is not open; ``session`` is that packet's."""


# -- messages --------------------------------------------------------------------------------------------------------

MESSAGE_HEADER = 4
"""Bytes in front of a message: kind (1), length of the body (3, little-endian)."""

NONCE_BYTES = 8


class Command(IntEnum):
    """Kind of a message from host to device; carried out in order, each to its end."""

    IDENTIFY = 0x01
    """Body: a nonce of 8 bytes. Answer: IDENTITY."""
    ECHO = 0x02
    """Body: any bytes, at least one. Answer: ECHO."""
    REGISTERS = 0x03
    """No body. Answer: REGISTERS; the next sample's first word sets FIRST_INPUT."""
    LOAD = 0x10
    """Body: stage (1), all its weights. They are kept aside; no answer."""
    COMMIT = 0x11
    """No body. All stages' weights that were kept aside become the network's. Answer: COMMITTED."""
    CHECKSUM = 0x12
    """Body: stage (1). Answer: CHECKSUM."""
    CONTROL = 0x20
    """Body: one or more of stage (1), operation (1), data (4, signed). Answer: REPLY, one each."""
    WRITE_GRADIENT = 0x21
    """Body: stage (1), all its gradient accumulators. Answer: WRITTEN."""
    FORWARD = 0x30
    """Body: one or more samples' inputs. Answer: OUTPUT, one a sample."""
    LEARN = 0x31
    """Body: one or more samples, inputs then targets. Answer: OUTPUT (and INPUT_SENSITIVITY), one a sample."""
    LEARN_SEED = 0x32
    """The same with ``lambda_L`` in place of targets."""
    STEP = 0x33
    """The same as LEARN, and each sample is the last of its batch: a step follows it."""
    HOLD = 0x34
    """Body: one sample's inputs. Answer: OUTPUT; the sample waits for its RELEASE."""
    RELEASE = 0x35
    """Body: ``lambda_L`` of the held sample. No answer but INPUT_SENSITIVITY, where the network has it."""
    BAUD = 0x40
    """Body: bit period in sixteenths of a clock cycle (2). Answer: BAUD, still at the old rate. See "Baud rate"."""
    KEEP_BAUD = 0x41
    """No body. The rate on trial stays. Answer: BAUD."""


class Answer(IntEnum):
    """Kind of a message from device to host."""

    IDENTITY = 0x81
    """Body: the nonce, then the identity as JSON in UTF-8."""
    ECHO = 0x82
    """Body: that of the command."""
    REGISTERS = 0x83
    """Body: all registers (`Register`), 4 bytes each, unsigned."""
    COMMITTED = 0x91
    """No body."""
    CHECKSUM = 0x92
    """Body: stage (1), CRC-32 (4) of the bytes that a READ_WEIGHT of it would send as words."""
    REPLY = 0xA0
    """Body: stage (1), operation (1), and the words that were read; none for CLEAR and RATE, which are done then."""
    WRITTEN = 0xA1
    """Body: stage (1)."""
    OUTPUT = 0xB0
    """Body: a sample's outputs."""
    INPUT_SENSITIVITY = 0xB1
    """Body: a sample's ``lambda_0``."""
    BAUD = 0xC0
    """Body: bit period (2)."""
    REFUSED = 0xFF
    """Body: kind of the command (1), reason (1), what was expected (4), what came (4). The command had no effect."""


class Reason(IntEnum):
    """Why a command was refused; ``expected`` and ``got`` of the answer."""

    KIND = 1
    """No such command. expected: 0; got: the kind."""
    LENGTH = 2
    """The body has another length. expected: the length, or the one that it must be a multiple of; got: the length."""
    STAGE = 3
    """No such stage. expected: the highest that the command takes; got: the stage."""
    OPERATION = 4
    """No operation of CONTROL, or not of that stage. expected: 0; got: the operation."""
    INCOMPLETE = 5
    """COMMIT without all stages' weights. expected: stages; got: stages kept aside, which are dropped."""
    HELD = 6
    """A sample is held: only IDENTIFY, ECHO, REGISTERS and RELEASE are taken. expected: RELEASE; got: the kind."""
    NOT_HELD = 7
    """RELEASE without a held sample. expected: HOLD; got: the kind."""
    PERIOD = 8
    """Bit period too short. expected: the shortest; got: the period."""


class Register(IntEnum):
    """What REGISTERS reads, in this order; counters count modulo ``2**32`` and only power-on resets them."""

    NOW = 0
    """Clock cycles since power-on, modulo 2**32; so are the next three."""
    FIRST_INPUT = 1
    """Cycle in which the network took the first input word since the registers were read last."""
    LAST_OUTPUT = 2
    """Cycle in which the network gave its latest output word."""
    FIRST_GRADIENT = 3
    """Cycle in which the first word of the latest READ_GRADIENT of stage 1 came."""
    BAD_PACKETS = 4
    """Packets dropped: check sum, length or COBS was wrong."""
    UNEXPECTED_PACKETS = 5
    """Good DATA packets dropped: a repeated one, one behind a gap, or one without room for it."""
    FOREIGN_PACKETS = 6
    """Good packets dropped: of a session that is not open, or of no known kind."""
    OVERFLOWS = 7
    """Bytes lost in front of the packet decoder."""
    FRAMING_ERRORS = 8
    """Bytes without a stop bit."""
    REFUSALS = 9
    """Commands refused."""
    SESSIONS = 10
    """Sessions opened."""
    SELF_TEST = 11
    """Verdict of the power-on self-test, a `SelfTest`."""


class SelfTest(IntEnum):
    """What the power-on self-test says. Until it is over, messages of the host wait, so only the LED shows RUNNING."""

    NOT_BUILT_IN = 0
    """The chip has none."""
    PASSED = 1
    """Every answer was the right one."""
    RUNNING = 2
    """It is not over."""
    HUNG = 3
    """An answer did not come: a stream stands still."""
    WEIGHTS = 4
    """Weights did not come back as they were written: their memories, those where they are kept aside, or the way."""
    GRADIENTS = 5
    """Gradients did not come back as they were written: their memories, or the way."""
    PRODUCTS = 6
    """Outputs, sensitivities or gradients of corner values were wrong: multipliers, sums, rounding, costs."""
    TABLES = 7
    """The same of many random samples, behind right ones of corner values: tables of activations, rare sums."""


CONTROL_OPERATIONS = (
    Operation.CLEAR,
    Operation.READ_WEIGHT,
    Operation.READ_GRADIENT,
    Operation.COUNTERS,
    Operation.RATE,
)
"""What CONTROL takes; the cost head, stage ``L + 1``, takes only COUNTERS and RATE."""

CONTROL_BYTES = 6
COUNTER_BYTES = 4
REGISTER_BYTES = 4

# -- baud rate -------------------------------------------------------------------------------------------------------

PERIOD_FRACTION_BITS = 4
MIN_PERIOD = 4 << PERIOD_FRACTION_BITS
MAX_PERIOD = (1 << 16) - 1
"""Bit period of the UART, in sixteenths of a clock cycle."""

TRIAL_SECONDS = 0.25
"""Time after the switch in which KEEP_BAUD must come, or the old rate returns."""


def word_bytes(bits: int) -> int:
    """Bytes of a word on the wire: whole bytes, little-endian, sign-extended."""
    return -(-bits // 8)


@dataclass(frozen=True)
class WireSizes:
    """Sizes in bytes of one network's messages.

    Parameters
    ----------
    net : Network
    """

    net: Network

    @cached_property
    def input_word(self) -> int:
        """An input, format ``A_0``."""
        return word_bytes(self.net.formats.activation.width)

    @cached_property
    def target_word(self) -> int:
        """A target or a seed: the wider of the target's format and ``S_L``."""
        last = self.net.layer_formats(len(self.net.layers))
        return word_bytes(max(target_format(self.net).width, last.sensitivity.width))

    @cached_property
    def output_word(self) -> int:
        """An output, format ``A_L``."""
        return word_bytes(self.net.layer_formats(len(self.net.layers)).activation.width)

    @cached_property
    def sensitivity_word(self) -> int:
        """A ``lambda_0``, format ``S_0``."""
        return word_bytes(self.net.formats.sensitivity.width)

    @cached_property
    def words(self) -> tuple[int, ...]:
        """Weights of each stage, biases included: row by row, each row's bias last."""
        return tuple(s.outputs * s.columns for s in stage_numbers(self.net))

    @cached_property
    def weight_word(self) -> tuple[int, ...]:
        """A weight of each stage, format ``W_l``."""
        return tuple(word_bytes(s.weight.width) for s in stage_numbers(self.net))

    @cached_property
    def gradient_word(self) -> tuple[int, ...]:
        """A gradient accumulator of each stage."""
        return tuple(word_bytes(s.gradient_bits) for s in stage_numbers(self.net))

    @property
    def inputs(self) -> int:
        """A sample's inputs."""
        return self.net.inputs * self.input_word

    @property
    def targets(self) -> int:
        """A sample's targets or seeds."""
        return self.net.outputs * self.target_word

    @property
    def outputs(self) -> int:
        """A sample's outputs."""
        return self.net.outputs * self.output_word

    @property
    def input_sensitivity(self) -> int:
        """A sample's ``lambda_0``."""
        return self.net.inputs * self.sensitivity_word

    def reply(self, stage: int, operation: Operation) -> tuple[int, int]:
        """Give the number of words of a REPLY, and the bytes of each."""
        head = stage > len(self.words)
        match operation:
            case Operation.COUNTERS:
                return HEAD_COUNTERS if head else STAGE_COUNTERS, COUNTER_BYTES
            case Operation.READ_WEIGHT:
                return self.words[stage - 1], self.weight_word[stage - 1]
            case Operation.READ_GRADIENT:
                return self.words[stage - 1], self.gradient_word[stage - 1]
            case _:
                return 0, 0
