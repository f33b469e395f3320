"""Amaranth platforms of boards that amaranth-boards lacks, or knows without a serial port."""

from typing import Any

from amaranth.build import Attrs, Clock, Pins, PinsN, Resource
from amaranth.vendor import LatticeECP5Platform
from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_25FPlatform, OrangeCrabR0_2_85FPlatform
from amaranth_boards.resources import UARTResource

# Of the Feather header, by the names printed there: 0 is the board's RX, 1 its TX.
_FEATHER_UART: Any = UARTResource(0, rx="0", tx="1", conn=("io", 0), attrs=Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP"))


class OrangeCrab25FPlatform(OrangeCrabR0_2_25FPlatform):
    """OrangeCrab r0.2 with a serial adapter at pins 0 and 1 of its header."""

    resources = (*OrangeCrabR0_2_25FPlatform.resources, _FEATHER_UART)


class OrangeCrab85FPlatform(OrangeCrabR0_2_85FPlatform):
    """The same board with an 85F."""

    resources = (*OrangeCrabR0_2_85FPlatform.resources, _FEATHER_UART)


class ColorlightI5Platform(LatticeECP5Platform):
    """Colorlight i5 v7.0 on its extension board, whose USB carries the serial port."""

    device = "LFE5U-25F"
    package = "BG381"
    speed = "6"
    default_clk = "clk25"
    resources = (
        Resource("clk25", 0, Pins("P3", dir="i"), Clock(25e6), Attrs(IO_TYPE="LVCMOS33")),
        Resource("led", 0, PinsN("U16", dir="o"), Attrs(IO_TYPE="LVCMOS33")),
        UARTResource(0, rx="H18", tx="J17", attrs=Attrs(IO_TYPE="LVCMOS33")),
    )
    connectors = ()
