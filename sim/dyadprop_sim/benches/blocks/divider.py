"""Bench of softmax's divider against whole numbers: every quotient of small divisors, ties, and both ends."""

import random
from fractions import Fraction
from typing import Any

import cocotb
from amaranth.hdl import unsigned

from dyadprop_hw.softmax import Divider
from dyadprop_sim.benches.pipes import compare
from dyadprop_sim.benches.ports import Item
from dyadprop_sim.benches.testbench import Testbench
from dyadprop_sim.benches.variants import Variants, named

BITS = {"small": 5, "softmax": 20}


def make_top() -> Variants:
    """Make a divider for each width."""
    return Variants({name: Divider(bits) for name, bits in BITS.items()})


def quotient(numerator: int, divisor: int) -> int:
    """Give the quotient in 14 fraction bits; ``round`` of a fraction takes ties to even."""
    return round(Fraction(numerator << 14, divisor))


def divisors(rng: random.Random, bits: int) -> list[int]:
    """Give every divisor of a small width; of a large one powers of two (which have ties) and random ones."""
    if bits <= 5:
        return list(range(1, 1 << bits))
    return [1, 2, 3, 1 << 15, 1 << 16, 1 << 17, (1 << bits) - 1, *(rng.randint(1, (1 << bits) - 1) for _ in range(8))]


def numerators(rng: random.Random, divisor: int) -> list[int]:
    """Give numerators up to the divisor, many of them with quotients halfway between two words where there are such."""
    step = max(1, divisor >> 15)
    chosen = [0, 1, divisor // 2, divisor - 1, divisor, *(rng.randint(0, divisor) for _ in range(15))]
    return chosen + [min(divisor, (2 * rng.randrange(1 << 14) + 1) * step) for _ in range(15)]


@cocotb.test()
@cocotb.parametrize(variant=named(BITS), seed=[1])
async def quotients(dut: Any, variant: str, seed: int) -> None:
    """One numerator a cycle, each quotient to the last bit, after exactly ``LATENCY``."""
    bits = BITS[variant]
    bench = Testbench(dut, variant, seed)
    driver, monitor = bench.pipe(
        {"numerator": unsigned(bits), "divisor": unsigned(bits)}, {"quotient": unsigned(Divider.QUOTIENT_BITS)}
    )
    await bench.start()
    ties = 0
    for divisor in divisors(bench.rng, bits):
        chosen = numerators(bench.rng, divisor)
        ties += sum(Fraction(n << 15, divisor).denominator == 1 and (n << 15) // divisor % 2 for n in chosen)
        inputs: list[dict[str, Item]] = [{"numerator": numerator, "divisor": divisor} for numerator in chosen]
        # The divisor holds still until the last quotient has left.
        still: list[dict[str, Item]] = [{"numerator": 0, "divisor": divisor}] * Divider.LATENCY
        expected: list[dict[str, Item]] = [{"quotient": quotient(numerator, divisor)} for numerator in chosen]
        await compare(driver, monitor, inputs + still, expected, Divider.LATENCY)
    assert variant != "softmax" or ties > 20, f"only {ties} ties were among the quotients"
