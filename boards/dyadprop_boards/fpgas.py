"""The FPGAs on the boards: what each has, as the open tools count it."""

from dataclasses import dataclass
from typing import Literal

Family = Literal["ecp5", "ice40", "gowin"]
Resource = Literal["luts", "flip_flops", "multipliers", "block_rams"]

RESOURCES: tuple[Resource, ...] = ("luts", "flip_flops", "multipliers", "block_rams")
RESOURCE_NAMES: dict[Resource, str] = {
    "luts": "LUTs",
    "flip_flops": "flip-flops",
    "multipliers": "multipliers",
    "block_rams": "block RAMs",
}


@dataclass(frozen=True)
class Fpga:
    """An FPGA.

    Attributes
    ----------
    name : str
        As its maker, and its Amaranth platform, call it.
    family : {"ecp5", "ice40", "gowin"}
    luts, flip_flops : int
        Tables of four inputs, and registers, that place and route may use.
    multipliers, multiplier_bits : int
        Hard multipliers, and the widest signed operand of one.
    block_rams, block_ram_bits : int
        Blocks of memory, and the bits of one.
    idcode : int or None
        What it answers over JTAG; None where it cannot be asked.
    grid : tuple of int
        Columns and rows of place and route, for the picture of a floorplan; where not known it shows what is used.
    """

    name: str
    family: Family
    luts: int
    flip_flops: int
    multipliers: int
    multiplier_bits: int
    block_rams: int
    block_ram_bits: int
    idcode: int | None
    grid: tuple[int, int] = (0, 0)

    def has(self, resource: Resource) -> int:
        """Give how many of a resource there are."""
        return int(getattr(self, resource))


_ECP5_GRIDS = {24_288: (73, 51), 43_848: (91, 72), 83_640: (127, 96)}


def _ecp5(name: str, luts: int, multipliers: int, block_rams: int, idcode: int) -> Fpga:
    return Fpga(name, "ecp5", luts, luts, multipliers, 18, block_rams, 18_432, idcode, _ECP5_GRIDS[luts])


# The open tools let a 12F use all of the 25F that it is made as.
LFE5U_12F = _ecp5("LFE5U-12F", 24_288, 28, 56, 0x21111043)
LFE5U_25F = _ecp5("LFE5U-25F", 24_288, 28, 56, 0x41111043)
LFE5U_45F = _ecp5("LFE5U-45F", 43_848, 72, 108, 0x41112043)
LFE5U_85F = _ecp5("LFE5U-85F", 83_640, 156, 208, 0x41113043)
LFE5UM5G_45F = _ecp5("LFE5UM5G-45F", 43_848, 72, 108, 0x81112043)
LFE5UM5G_85F = _ecp5("LFE5UM5G-85F", 83_640, 156, 208, 0x81113043)

# An iCE40 is loaded over SPI and has no JTAG: it cannot be asked what it is.
ICE40UP5K = Fpga("iCE40UP5K", "ice40", 5_280, 5_280, 8, 16, 30, 4_096, None, (26, 32))
ICE40HX8K = Fpga("iCE40HX8K", "ice40", 7_680, 7_680, 0, 0, 32, 4_096, None, (34, 34))

GW1NR_9C = Fpga("GW1NR-9C", "gowin", 8_640, 6_480, 20, 18, 26, 18_432, 0x1100481B, (47, 29))
GW2A_18C = Fpga("GW2A-18C", "gowin", 20_736, 15_552, 48, 18, 46, 18_432, 0x0000081B, (56, 55))
