"""The self-test's program: what it sends, and which verdict wrong answers bring."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

import dyadprop as dp
from dyadprop.device import open_device
from dyadprop.protocol import Answer, SelfTest
from dyadprop.self_test import Answers, count_rows, self_test_program
from dyadprop.self_test_program import SEED, Program, Signature, Step, run

SMALL = dp.Formats(dp.Q(3, 5), dp.Q(3, 5), dp.Q(2, 6))
NET = dp.Network(2, [dp.Dense(2, "relu"), dp.Dense(1)], formats=SMALL, input_gradient=True)


@pytest.fixture(scope="module")
def program() -> Program:
    return self_test_program(NET)


def test_the_generator_has_the_longest_period() -> None:
    signature, steps = Signature(), 1
    signature.take(0)
    while signature.value != SEED:
        signature.take(0)
        steps += 1
    assert steps == 65535


def test_right_answers_pass_and_give_the_same_signatures(program: Program) -> None:
    with open_device("golden", NET) as device:
        again, verdict = run(program, Answers(NET, device))
    assert verdict == SelfTest.PASSED
    assert again == program
    assert len(program.rows) == count_rows(NET)
    assert len({value for step, value in program.rows if step == Step.CHECK}) == 3


@pytest.mark.parametrize(
    ("kind", "operation", "skipped", "verdict"),
    [
        (Answer.COMMITTED, None, 0, SelfTest.WEIGHTS),
        (Answer.REPLY, 3, 0, SelfTest.WEIGHTS),
        (Answer.REPLY, 3, 5, SelfTest.WEIGHTS),
        (Answer.WRITTEN, None, 0, SelfTest.GRADIENTS),
        (Answer.REPLY, 4, 0, SelfTest.GRADIENTS),
        (Answer.OUTPUT, None, 0, SelfTest.PRODUCTS),
        (Answer.INPUT_SENSITIVITY, None, 3, SelfTest.PRODUCTS),
        (Answer.REPLY, 4, 6, SelfTest.PRODUCTS),
    ],
)
def test_one_wrong_bit_is_found(
    kind: Answer, operation: int | None, skipped: int, verdict: SelfTest, program: Program
) -> None:
    with open_device("golden", NET) as device:
        assert run(program, _wrong(Answers(NET, device), kind, operation, skipped))[1] == verdict


def _wrong(
    right: Callable[[bytes], bytes], kind: Answer, operation: int | None, skipped: int
) -> Callable[[bytes], bytes]:
    left = skipped

    def answer(data: bytes) -> bytes:
        nonlocal left
        given, place = bytearray(right(data)), 0
        while place < len(given):
            end = place + 4 + int.from_bytes(given[place + 1 : place + 4], "little")
            if given[place] == kind and (operation is None or given[place + 5] == operation):
                left -= 1
                if left == -1:
                    given[end - 1 if end > place + 4 else place] ^= 1
            place = end
        return bytes(given)

    return answer


def test_corner_values_are_among_the_words() -> None:
    net = dp.Network(3, [dp.Dense(2)])  # Q4.12 and Q2.14
    seen: set[bytes] = set()
    with open_device("golden", net) as device:
        right = Answers(net, device)

        def answer(data: bytes) -> bytes:
            if data[:1] == b"\x31":  # LEARN
                assert len(data) == 4 + 2 * (3 + 2)
                seen.add(data[4:6])
            return right(data)

        run(Program(self_test_program(net, device).rows), answer)
    corners = {-(2**15), 2**15 - 1, -(2**12), 2**12 - 1, -1, 0}
    assert {word.to_bytes(2, "little", signed=True) for word in corners} <= seen
    random = [int.from_bytes(word, "little", signed=True) for word in seen]
    assert len(random) > 60
    assert sum(abs(word) < 2**12 for word in random) > 50


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_two_layers_fit_a_block_ram_of_an_ice40(layers: int) -> None:
    net = dp.Network(64, [*(dp.Dense(32, "tanh") for _ in range(layers - 1)), dp.Dense(10)], input_gradient=True)
    assert math.ceil(count_rows(net) / 256) == (1 if layers < 3 else 2)


def test_a_long_body_is_sent_in_parts() -> None:
    long, short = (count_rows(dp.Network(inputs, [dp.Dense(100), dp.Dense(10)])) for inputs in (784, 7))
    assert long > short


def test_what_is_no_part_of_a_self_test_is_not_answered() -> None:
    with (
        open_device("golden", NET) as device,
        pytest.raises(dp.RangeError, match=r"^command ECHO is no part of a self-test$"),
    ):
        Answers(NET, device)(b"\x02\x01\x00\x00x")
