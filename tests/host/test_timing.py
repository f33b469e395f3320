"""The cycles that docs/hardware.md tells are those that plans count with."""

import re
from pathlib import Path

from dyadprop import timing
from dyadprop.network import Dense, Network
from dyadprop.widths import stage_numbers

PAGE = Path(__file__).parents[2] / "docs" / "hardware.md"


def test_the_page_tells_the_cycles_of_each_block() -> None:
    told = {
        name: {int(number) for number in re.findall(r"\d+", cycles)}
        for name, cycles in re.findall(r"(?m)^\| `(\w+)` \| ([\d, or]+) \|", PAGE.read_text())
    }
    layers = [Dense(2, name) for name in ("relu", "leaky_relu", "tanh", "sigmoid")]
    counted = {
        "QUEUE": {timing.queue(depth) for depth in (1, timing.SHALLOW, timing.SHALLOW + 1, 1000)},
        "phi": {timing.activation(layer.activation) for layer in layers},
        "delta": {timing.delta(numbers) for numbers in stage_numbers(Network(2, [*layers, Dense(2)]))},
    }
    constants = {name for name in told if name.isupper()} - counted.keys()
    assert constants >= {"ISSUE", "RESULT", "PARTIAL", "UPDATE", "GRADIENT"}
    assert told == {**{name: {getattr(timing, name)} for name in constants}, **counted}
