"""The relaxation in words: the golden model's number system, found where the simulation package is installed."""

from importlib.metadata import entry_points
from typing import Any

import numpy.typing as npt

from dyadprop.errors import DyadpropError
from dyadprop.formats import Formats
from dyadprop.network import Network, Parameters
from dyadprop.relaxation.chain import Relaxation
from dyadprop.widths import target_format

ENTRY_POINT_GROUP = "dyadprop.numbers"


def hold_words(net: Network, params: list[Parameters], x: npt.ArrayLike, y: npt.ArrayLike, slopes: str) -> Any:
    """Hold a batch of real numbers as the device would: rounded half to even, saturated.

    Raises
    ------
    DyadpropError
        If the golden model is not installed.
    """
    found = entry_points(group=ENTRY_POINT_GROUP, name="words")
    if not found:
        raise DyadpropError("relaxing in words needs the golden model; install the package dyadprop as a whole")
    (entry,) = found
    return Relaxation(
        entry.load()(net, net.quantize(params).raw),
        net.formats.activation.to_ints(x).words,
        target_format(net).to_ints(y).words,
        slopes,
    )


def with_formats(net: Network, formats: Formats) -> Network:
    """Give the network with other default formats; layers that name their own keep them."""
    return Network(
        net.inputs,
        net.layers,
        net.cost,
        formats=formats,
        input_gradient=net.input_gradient,
        max_batch=net.max_batch,
    )
