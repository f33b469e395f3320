"""Settings of the PLLs: which divisors make a clock out of the board's oscillator, within the makers' limits."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from dyadprop.errors import RangeError
from dyadprop_boards.board_link import DIVISOR
from dyadprop_boards.fpgas import Family

TOLERANCE = Fraction(1, 50)
"""A clock that comes no closer than this to the one asked for is refused."""


@dataclass(frozen=True)
class Limits:
    """What a PLL's parts can do, in Hz, ends included.

    Attributes
    ----------
    reference, detector, vco, output : (int or Fraction, int or Fraction)
        Of the clock that comes in; of the phase detector (behind the reference's divisor); of the oscillator inside;
        of the clock that leaves.
    """

    reference: tuple[int | Fraction, int | Fraction]
    detector: tuple[int | Fraction, int | Fraction]
    vco: tuple[int | Fraction, int | Fraction]
    output: tuple[int | Fraction, int | Fraction]


MEGA = 1_000_000
ECP5_LIMITS = Limits((8 * MEGA, 400 * MEGA), (10 * MEGA, 400 * MEGA), (400 * MEGA, 800 * MEGA), (3_125_000, 400 * MEGA))
"""Lattice FPGA-DS-02012, table "sysCLOCK PLL Timing"."""
ECP5_DIVISORS = 128
"""Each of an EHXPLLL's divisors is at most so large: Lattice FPGA-TN-02200."""
ICE40_LIMITS = Limits(
    (10 * MEGA, 133 * MEGA), (10 * MEGA, 133 * MEGA), (533 * MEGA, 1066 * MEGA), (16 * MEGA, 275 * MEGA)
)
"""Lattice FPGA-DS-02008 (UltraPlus) and FPGA-DS-02029 (LP/HX), table "sysCLOCK PLL Timing"."""
GOWIN_LIMITS = {
    "C6/I5": Limits((3 * MEGA, 400 * MEGA), (3 * MEGA, 400 * MEGA), (400 * MEGA, 1200 * MEGA), (3_125_000, 600 * MEGA)),
    "C8/I7": Limits((3 * MEGA, 500 * MEGA), (3 * MEGA, 500 * MEGA), (500 * MEGA, 1250 * MEGA), (3_906_250, 625 * MEGA)),
}
"""By speed grade: Gowin DS117 (GW1NR-9) and DS226 (GW2A), table "PLL Switching Characteristic"."""


@dataclass(frozen=True)
class Pll:
    """A PLL's divisors.

    Attributes
    ----------
    reference : int
        Hz of the clock that comes in.
    input : int
        Divides the reference, in front of the phase detector.
    feedback : int
        Divides the clock that is fed back.
    inner : int
        Divides the oscillator's clock before it is fed back and divided by ``feedback``; 1 where nothing does.
    output : int
        Divides the oscillator's clock for the output.
    """

    reference: int
    input: int
    feedback: int
    inner: int
    output: int

    @property
    def detector(self) -> Fraction:
        """Hz at the phase detector."""
        return Fraction(self.reference, self.input)

    @property
    def vco(self) -> Fraction:
        """Hz of the oscillator inside."""
        return self.detector * self.feedback * self.inner

    @property
    def frequency(self) -> Fraction:
        """Hz of the output."""
        return self.vco / self.output

    def within(self, limits: Limits) -> bool:
        """Say whether each part is within its limits."""
        pairs = (
            (self.reference, limits.reference),
            (self.detector, limits.detector),
            (self.vco, limits.vco),
            (self.frequency, limits.output),
        )
        return all(low <= value <= high for value, (low, high) in pairs)


def find_pll(family: Family, speed: str, reference: int, frequency: int) -> Pll | None:
    """Give the settings whose output comes closest to a frequency.

    Parameters
    ----------
    family : {"ecp5", "ice40", "gowin"}
    speed : str
        Speed grade; matters to Gowin.
    reference, frequency : int
        Hz of the board's oscillator, and of the clock asked for.

    Returns
    -------
    Pll or None
        None where the oscillator is the clock asked for: no PLL is needed. Of settings with the same output one that
        feeds the output back, then the one with the fastest phase detector, which means less jitter.

    Raises
    ------
    RangeError
        If no setting comes within 2 %.
    """
    if frequency == reference:
        return None
    candidates, limits = _candidates(family, speed, reference, frequency)
    possible = [pll for pll in candidates if pll.within(limits)]
    if possible:
        best = min(possible, key=lambda pll: (abs(pll.frequency - frequency), *_preference(pll)))
        if abs(best.frequency - frequency) <= TOLERANCE * frequency:
            return best
        nearest = f"; the nearest is {float(best.frequency) / MEGA:g} MHz"
    else:
        nearest = ""
    low, high = limits.output
    raise RangeError(
        f"no PLL of {family} makes {frequency / MEGA:g} MHz of {reference / MEGA:g} MHz within 2 %{nearest}; "
        f"its outputs are {float(low) / MEGA:g} to {float(high) / MEGA:g} MHz, and without it {reference / MEGA:g} MHz"
    )


def _preference(pll: Pll) -> tuple[bool, Fraction, Fraction]:
    """Order settings with the same output; the least is the best."""
    return pll.inner != pll.output, -pll.detector, -pll.vco


def _candidates(family: Family, speed: str, reference: int, frequency: int) -> tuple[Iterator[Pll], Limits]:
    match family:
        case "ecp5":
            return _ecp5(reference, frequency), ECP5_LIMITS
        case "ice40":
            return _ice40(reference, frequency), ICE40_LIMITS
        case "gowin":
            if speed not in GOWIN_LIMITS:
                raise RangeError(
                    f"speed grade is {speed!r}; limits of a Gowin PLL are known of {', '.join(GOWIN_LIMITS)}"
                )
            return _gowin(reference, frequency), GOWIN_LIMITS[speed]


def _near(value: Fraction) -> set[int]:
    """Give the whole numbers next to a value, from 1 on."""
    return {max(1, int(value)), int(value) + 1}


def _ecp5(reference: int, frequency: int) -> Iterator[Pll]:
    """EHXPLLL: what is fed back is CLKOP, the output or, where that is no multiple, a clock as the detector's."""
    slowest = int(ECP5_LIMITS.detector[0])  # so the reference is divided by 40 at most
    for input_divisor in range(1, reference // slowest + 1):
        detector = Fraction(reference, input_divisor)
        for output in range(1, ECP5_DIVISORS // DIVISOR + 1):  # the link's clock is divided by so much more
            for total in _near(frequency * output / detector):
                if total % output == 0 and total // output <= ECP5_DIVISORS:
                    yield Pll(reference, input_divisor, total // output, output, output)
                if total <= ECP5_DIVISORS:
                    yield Pll(reference, input_divisor, 1, total, output)


def _ice40(reference: int, frequency: int) -> Iterator[Pll]:
    """SB_PLL40 with simple feedback: the oscillator itself is fed back."""
    for input_divisor in range(1, 17):
        for output in (2, 4, 8, 16, 32, 64):
            for feedback in _near(Fraction(frequency * output * input_divisor, reference)):
                if feedback <= 128:
                    yield Pll(reference, input_divisor, feedback, 1, output)


def _gowin(reference: int, frequency: int) -> Iterator[Pll]:
    """RPLL: what is fed back is the output, so its divisor is inside of the loop."""
    for input_divisor in range(1, 65):
        for feedback in _near(Fraction(frequency * input_divisor, reference)):
            if feedback <= 64:
                for output in (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128):
                    yield Pll(reference, input_divisor, feedback, output, output)


def filter_range(detector: Fraction) -> int:
    """Give FILTER_RANGE of an iCE40's PLL, which follows from the clock at its phase detector."""
    limits = (17, 26, 44, 66, 101)
    return 1 + sum(detector >= limit * MEGA for limit in limits)
