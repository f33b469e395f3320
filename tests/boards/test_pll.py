"""Settings of the PLLs, against the limits of the makers' data sheets and their formulas for the output."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

import dyadprop as dp
from dyadprop_boards.board_link import DIVISOR
from dyadprop_boards.fpgas import Family
from dyadprop_boards.pll import TOLERANCE, Pll, filter_range, find_pll
from dyadprop_boards.table import BOARDS, Board

MHZ = 1_000_000


def output(board: Board, pll: Pll) -> Fraction:
    """The output as the maker's guide has it, from the numbers that the primitive gets."""
    reference = Fraction(board.clock)
    match board.fpga.family:
        case (
            "ecp5"
        ):  # TN1263: CLKOP is fed back, so it runs at CLKI / CLKI_DIV * CLKFB_DIV; CLKOS is the VCO's clock divided
            return reference / pll.input * pll.feedback * pll.inner / pll.output
        case "ice40":  # TN1251: FREF * (DIVF + 1) / (2^DIVQ * (DIVR + 1))
            divr, divf, divq = pll.input - 1, pll.feedback - 1, pll.output.bit_length() - 1
            return reference * (divf + 1) / (2**divq * (divr + 1))
        case "gowin":  # UG286: FCLKIN * (FBDIV_SEL + 1) / (IDIV_SEL + 1)
            return reference * pll.feedback / pll.input


def check_limits(board: Board, pll: Pll) -> None:
    reference, detector, vco, made = board.clock, pll.detector, pll.vco, pll.frequency
    match board.fpga.family:
        case "ecp5":
            assert 8 * MHZ <= reference <= 400 * MHZ
            assert 10 * MHZ <= detector <= 400 * MHZ
            assert 400 * MHZ <= vco <= 800 * MHZ
            assert 3_125_000 <= made <= 400 * MHZ
            assert 3_125_000 <= vco / pll.inner <= 400 * MHZ, "CLKOP"
            divisors = (pll.input, pll.feedback, pll.inner, pll.output, pll.output * DIVISOR)
            assert all(1 <= divisor <= 128 for divisor in divisors)
        case "ice40":
            assert 10 * MHZ <= reference <= 133 * MHZ
            assert 10 * MHZ <= detector <= 133 * MHZ
            assert 533 * MHZ <= vco <= 1066 * MHZ
            assert 16 * MHZ <= made <= 275 * MHZ
            assert 1 <= pll.input <= 16
            assert 1 <= pll.feedback <= 128
            assert pll.inner == 1
            assert pll.output in (2, 4, 8, 16, 32, 64)
        case "gowin":
            fast = board.speed == "C8/I7"
            assert 3 * MHZ <= detector <= (500 if fast else 400) * MHZ
            assert (500 if fast else 400) * MHZ <= vco <= (1250 if fast else 1200) * MHZ
            assert (3_906_250 if fast else 3_125_000) <= made <= (625 if fast else 600) * MHZ
            assert 1 <= pll.input <= 64
            assert 1 <= pll.feedback <= 64
            assert pll.inner == pll.output
            assert pll.output in (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_clocks_of_boards_are_exact(board: Board) -> None:
    pll = find_pll(board.fpga.family, board.speed, board.clock, board.design_clock)
    if pll is None:
        assert board.design_clock == board.clock
        return
    assert pll.frequency == board.design_clock == output(board, pll)
    check_limits(board, pll)


def test_any_clock_is_within_limits_and_tolerance() -> None:
    rng = random.Random(6)
    families = {board.fpga.family + board.speed: board for board in BOARDS}.values()
    found = 0
    for board in families:
        for _ in range(25):
            wanted = rng.randrange(20, 200) * MHZ + rng.choice([0, 500_000, 333_333])
            try:
                pll = find_pll(board.fpga.family, board.speed, board.clock, wanted)
            except dp.RangeError:
                assert board.fpga.family == "gowin", "the others come close to any clock"
                continue
            if pll is None:
                continue
            found += 1
            check_limits(board, pll)
            assert output(board, pll) == pll.frequency
            assert abs(pll.frequency - wanted) <= TOLERANCE * wanted
    assert found > 100


@pytest.mark.parametrize("board", [board for board in BOARDS if board.fpga.family == "ecp5"], ids=lambda b: b.name)
def test_the_links_clock_can_be_divided_off_a_slow_one(board: Board) -> None:
    for wanted in range(8, 20):
        pll = find_pll("ecp5", board.speed, board.clock, wanted * MHZ)
        assert pll is not None
        check_limits(board, pll)


def test_settings_that_are_known() -> None:
    assert find_pll("ecp5", "6", 25 * MHZ, 100 * MHZ) == Pll(25 * MHZ, 1, 4, 8, 8)
    # icepll -i 12 -o 48 gives DIVR 0, DIVF 63, DIVQ 4, FILTER_RANGE 1.
    assert find_pll("ice40", "", 12 * MHZ, 48 * MHZ) == Pll(12 * MHZ, 1, 64, 1, 16)
    assert filter_range(Fraction(12 * MHZ)) == 1
    assert [filter_range(Fraction(mhz * MHZ)) for mhz in (16, 17, 26, 44, 66, 101)] == [1, 2, 3, 4, 5, 6]
    # gowin_pll -i 27 -o 108 divides by IDIV_SEL 0, FBDIV_SEL 3, ODIV_SEL 8.
    assert find_pll("gowin", "C6/I5", 27 * MHZ, 108 * MHZ) == Pll(27 * MHZ, 1, 4, 8, 8)


def test_no_pll_where_the_oscillator_is_the_clock() -> None:
    assert find_pll("ecp5", "8", 100 * MHZ, 100 * MHZ) is None


@pytest.mark.parametrize(
    ("family", "speed", "reference", "wanted", "message"),
    [
        (
            "ice40",
            "",
            12 * MHZ,
            14 * MHZ,
            r"no PLL of ice40 makes 14 MHz of 12 MHz within 2 %; its outputs are 16 to 275",
        ),
        (
            "gowin",
            "C8/I7",
            27 * MHZ,
            29_333_333,
            r"29\.3333 MHz of 27 MHz within 2 %; the nearest is 30 MHz; its outputs",
        ),
        ("ecp5", "6", 25 * MHZ, 700 * MHZ, r"no PLL of ecp5 makes 700 MHz of 25 MHz within 2 %.*3\.125 to 400 MHz"),
        (
            "ice40",
            "",
            200 * MHZ,
            48 * MHZ,
            r"no PLL of ice40 makes 48 MHz of 200 MHz within 2 %; its outputs are 16 to 275",
        ),
        ("gowin", "C5/I4", 27 * MHZ, 54 * MHZ, r"speed grade is 'C5/I4'; limits .* known of C6/I5, C8/I7"),
    ],
)
def test_refused(family: Family, speed: str, reference: int, wanted: int, message: str) -> None:
    with pytest.raises(dp.RangeError, match=message):
        find_pll(family, speed, reference, wanted)
