"""Several designs side by side in one top module: one build for all of them."""

from collections.abc import Iterable
from typing import Any

import cocotb
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out


class Variants(wiring.Component):
    """Components that share nothing but the clock.

    Parameters
    ----------
    parts : dict of str to Component
        The ports of each are led outside, with its name and two underscores in front.
    """

    def __init__(self, parts: dict[str, Any]) -> None:
        self._parts = parts
        super().__init__({name: Out(part.signature) for name, part in parts.items()})

    def elaborate(self, platform: object) -> Module:
        """Put them side by side."""
        m = Module()
        for name, part in self._parts.items():
            m.submodules[f"{name}_"] = part
            wiring.connect(m, part, wiring.flipped(getattr(self, name)))
        return m


def named(names: Iterable[str]) -> list[Any]:
    """Give variants as parameters of tests, which otherwise count long names instead of showing them."""
    return [cocotb.Param(name, name=name) for name in names]
