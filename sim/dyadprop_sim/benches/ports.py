"""Values of the hardware's shapes on the signals of a simulator."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data

Item = int | dict[str, int]
"""A number, or the numbers of a structure's fields by name."""


class Unknown(AssertionError):
    """A signal is X or Z where it must be known."""


class Codec:
    """Bits of one shape: structures are dictionaries of their fields, everything else is one number.

    Parameters
    ----------
    shape : shape-castable
        Structures do not nest.
    """

    def __init__(self, shape: Any) -> None:
        self.shape = shape
        self.width = Shape.cast(shape).width
        self._signed = Shape.cast(shape).signed
        self._fields: list[tuple[str, int, int, bool]] | None = None
        layout = _layout(shape)
        if layout is not None:
            self._fields = [
                (str(name), field.offset, field.width, Shape.cast(field.shape).signed) for name, field in layout
            ]

    def encode(self, item: Item | Mapping[str, int]) -> int:
        """Give the bits of an item; numbers that do not fit are an error of the bench."""
        if self._fields is None:
            assert isinstance(item, int)
            return _bits(item, self.width, self._signed)
        assert isinstance(item, Mapping)
        assert set(item) == {name for name, *_ in self._fields}, f"fields {sorted(item)} are not those of {self.shape}"
        return sum(_bits(int(item[name]), width, signed) << offset for name, offset, width, signed in self._fields)

    def decode(self, bits: int) -> Item:
        """Give the item of some bits."""
        if self._fields is None:
            return _number(bits, self.width, self._signed)
        return {
            name: _number((bits >> offset) & ((1 << width) - 1), width, signed)
            for name, offset, width, signed in self._fields
        }


class Port:
    """A signal of the design under test, in items of its shape.

    Parameters
    ----------
    handle : cocotb handle
    shape : shape-castable
    """

    def __init__(self, handle: Any, shape: Any) -> None:
        self._handle = handle
        self.codec = Codec(shape)

    def set(self, item: Item) -> None:
        """Drive an item from now on."""
        self._handle.value = self.codec.encode(item)

    def set_bits(self, bits: int) -> None:
        """Drive bits from now on."""
        self._handle.value = bits

    def text(self) -> str:
        """Give the bits as they are, X and Z too."""
        return str(self._handle.value)

    def bits(self) -> int:
        """Give the bits, all of which must be known."""
        text = self.text()
        try:
            return int(text, 2)
        except ValueError:
            raise Unknown(f"{self._handle._path} is {text}") from None

    def get(self) -> Item:
        """Give the item, all bits of which must be known."""
        return self.codec.decode(self.bits())


def _layout(shape: Any) -> data.Layout | None:
    try:
        return data.Layout.cast(shape)
    except TypeError:
        return None


def _bits(value: int, width: int, signed: bool) -> int:
    low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
    assert low <= value <= high, f"{value} does not fit {width} {'signed' if signed else 'unsigned'} bits"
    return value & ((1 << width) - 1)


def _number(bits: int, width: int, signed: bool) -> int:
    return bits - (1 << width) if signed and bits >> (width - 1) else bits
