"""What is expected, in order, and what came."""

from collections import deque
from collections.abc import Iterable
from typing import Any


class Checker:
    """Compare what comes with what is expected, in order.

    Parameters
    ----------
    name : str

    Attributes
    ----------
    compared : int
        Items that came and were right.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.compared = 0
        self._expected: deque[Any] = deque()

    def expect(self, items: Iterable[Any]) -> None:
        """Expect items behind those already expected."""
        self._expected.extend(items)

    def check(self, item: Any) -> None:
        """Compare one that came."""
        where = f"{self.name}, item {self.compared}"
        assert self._expected, f"{where}: got {item}, expected nothing more"
        expected = self._expected.popleft()
        assert item == expected, f"{where}: got {item}, expected {expected}"
        self.compared += 1

    @property
    def open(self) -> int:
        """Items that have yet to come."""
        return len(self._expected)
