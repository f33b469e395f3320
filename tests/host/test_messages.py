"""Words into bytes and back, and answers against what is awaited."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyadprop.errors import ProtocolError
from dyadprop.messages import Flight, message, pack_words, unpack_words
from dyadprop.operations import Operation
from dyadprop.protocol import Answer, Command


@given(st.integers(1, 8), st.data())
def test_words_are_little_endian_and_come_back(size, data):
    limit = 1 << (8 * size - 1)
    table = data.draw(st.lists(st.lists(st.integers(-limit, limit - 1), min_size=3, max_size=3), min_size=1))
    packed = pack_words(np.array(table, dtype=np.int64), size)
    assert packed.shape == (len(table), 3 * size)
    assert packed.tobytes() == b"".join(w.to_bytes(size, "little", signed=True) for row in table for w in row)
    assert unpack_words(packed.tobytes(), size).tolist() == [w for row in table for w in row]


def test_samples_are_cut_into_messages_between_samples():
    flight = Flight()
    x = np.arange(60000, dtype=np.int64).reshape(300, 200)
    flight.samples(Command.LEARN, (x, 4), (x[:, :50], 2))
    assert len(flight.commands) == 2
    bodies = []
    for command in flight.commands:
        assert command[0] == Command.LEARN
        assert int.from_bytes(command[1:4], "little") == len(command) - 4
        assert (len(command) - 4) % 900 == 0
        bodies.append(command[4:])
    whole = np.frombuffer(b"".join(bodies), dtype=np.uint8).reshape(300, 900)
    np.testing.assert_array_equal(whole[:, :800].copy().view("<i4"), x)
    np.testing.assert_array_equal(whole[:, 800:].copy().view("<i2"), x[:, :50].astype(np.int16))


def replies(flight: Flight) -> list:
    return flight.control([(1, Operation.READ_WEIGHT, 0), (2, Operation.CLEAR, -1)], [6, 0])


@given(st.randoms(), st.lists(st.integers(1, 40), min_size=1))
def test_answers_of_different_kinds_may_overtake_one_another(random, sizes):
    flight = Flight()
    outputs = flight.expect(Answer.OUTPUT, 3, 4)
    inputs = flight.expect(Answer.INPUT_SENSITIVITY, 2, 4)
    first, second = replies(flight)
    sent = [[message(Answer.OUTPUT, bytes([i] * 3)) for i in range(4)]]
    sent.append([message(Answer.INPUT_SENSITIVITY, bytes([i] * 2)) for i in range(4)])
    sent.append([message(Answer.REPLY, b"\1\3abcdef"), message(Answer.REPLY, b"\2\2")])
    stream = b""
    while any(sent):
        stream += random.choice([kind for kind in sent if kind]).pop(0)
    while stream:
        assert not flight.done
        size = sizes[random.randrange(len(sizes))]
        flight.feed(stream[:size])
        stream = stream[size:]
    assert flight.done
    assert flight.awaited == "nothing"
    assert outputs.data == bytes([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    assert inputs.words(1).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (first.data, second.data) == (b"abcdef", b"")


@pytest.mark.parametrize(
    ("stream", "sentence"),
    [
        (message(Answer.OUTPUT, bytes(4)), "device sent OUTPUT with 4 bytes; it has 3"),
        (message(Answer.ECHO, bytes(4)), "device sent ECHO with 4 bytes; awaited is OUTPUT 2 of 2"),
        (b"\x99\xff\xff\xff", "device sent answer 0x99 with 16777215 bytes; awaited is OUTPUT 2 of 2"),
        (
            message(Answer.REPLY, b"\1\3a"),
            "device sent REPLY to READ_WEIGHT of stage 1 with 3 bytes; it has 8",
        ),
        (
            message(Answer.REPLY, b"\1\4abcdef"),
            "device sent REPLY that begins with 0104; awaited is OUTPUT 2 of 2, which begins with 0103",
        ),
        (message(Answer.REFUSED, b"\x30\2\4\0\0\0\3\0\0\0"), "device refused FORWARD: LENGTH, expected 4, got 3"),
        (message(Answer.REFUSED, b"\x99\x77\4\0\0\0\3\0\0\0"), "device refused command 0x99: reason 0x77, exp"),
        (message(Answer.REFUSED, b"\x99"), "device sent REFUSED with 1 bytes; it has 10"),
    ],
)
def test_what_is_no_answer(stream, sentence):
    flight = Flight()
    flight.expect(Answer.OUTPUT, 3, 2)
    replies(flight)
    flight.feed(message(Answer.OUTPUT, b"abc"))

    def feed_slowly() -> None:
        for byte in stream:
            flight.feed(bytes([byte]))

    with pytest.raises(ProtocolError, match=f"^{sentence}"):
        feed_slowly()


def test_an_identity_has_any_length_up_to_a_limit():
    flight = Flight()
    body = flight.identity(b"12345678")
    flight.feed(message(Answer.IDENTITY, b"12345678{}"))
    assert flight.done
    assert body.data == b"{}"
    for answer, sentence in (
        (message(Answer.IDENTITY, b"1234567"), "device sent IDENTITY with 7 bytes; it has 65536 at most"),
        (message(Answer.IDENTITY, bytes(70000)), "device sent IDENTITY with 70000 bytes; it has 65536 at most"),
        (message(Answer.IDENTITY, b"12345679{}"), "device sent IDENTITY that begins with 3132333435363739; awaited"),
    ):
        flight = Flight()
        flight.identity(b"12345678")
        with pytest.raises(ProtocolError, match=f"^{sentence}"):
            flight.feed(answer)
