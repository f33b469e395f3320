"""What the blocks rely on, said where they rely on it: checked in verification builds and proved by `make formal`."""

from typing import Any

from amaranth.hdl import Assert, Module, ResetSignal


def claim(m: Module, condition: Any) -> None:
    """Assert a condition in every cycle outside reset.

    Builds for speed and exported Verilog leave claims out; they cost nothing in hardware.
    """
    m.d.sync += Assert(condition | ResetSignal())
