"""A claim that has been measured."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_ROUND_OFF = 1e-12  # relative: differences below it say something about the order of additions only


@dataclass
class Claim:
    """One claim and what was found.

    Attributes
    ----------
    name : str
        Of its table in docs/theorem.md.
    columns : sequence of str
    rows : list of sequence of str
        The table.
    failures : list of str
        What is not as claimed; empty: it holds.
    compared : int
        Numbers that were compared, or cases measured: a claim about nothing does not hold.
    data : dict
        Numbers for pictures and for JSON.
    """

    name: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    compared: int = 0
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether something was compared and nothing failed."""
        return self.compared > 0 and not self.failures

    def check(self, right: bool, failure: str) -> None:
        """Note a comparison, and what is wrong if it is."""
        self.compared += 1
        if not right:
            self.failures.append(failure)

    def markdown(self) -> str:
        """Give the table."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(value: float) -> str:
    """Write a number for a table: two digits; rounding errors are named, since they differ between machines."""
    if value == 0.0:
        return "0"
    if abs(value) < _ROUND_OFF:
        return "round-off"
    if 1e-3 <= abs(value) < 1e4:
        return f"{value:.2g}" if abs(value) < 100 else f"{value:,.0f}"
    digits, _, exponent = f"{value:.1e}".partition("e")
    return f"{digits}e{int(exponent)}"


def span(values: Sequence[int]) -> str:
    """Write the range of some counts."""
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"
