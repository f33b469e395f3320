"""The errors of dyadprop, each one a sentence: what, where, got, allowed."""


class DyadpropError(Exception):
    """Base of every error that dyadprop raises on purpose."""


class FormatError(DyadpropError, ValueError):
    """A number format that cannot be, or that a layer cannot use."""


class ShapeError(DyadpropError, ValueError):
    """An array whose shape is not exactly the one asked for; nothing broadcasts."""


class RangeError(DyadpropError, ValueError):
    """A value outside what is allowed: NaN, infinity, an unknown name, a batch of nothing."""


class Refused(RangeError):
    """A call that a device turned down without having done any of it; the device is as it was before."""


class CapacityError(DyadpropError):
    """A network that does not fit into the budget or the board it is meant for."""


class PackageMissing(DyadpropError):
    """An optional package that is not installed; the message says how to get it."""


class NetworkMismatch(DyadpropError):
    """A device, file or parameter set that belongs to another network."""


class DeviceTimeout(DyadpropError, TimeoutError):
    """A device that made no progress within its deadline."""


class DeviceLost(DyadpropError, ConnectionError):
    """A device that went away, or that a failed call has left unusable."""


class ProtocolError(DyadpropError):
    """A device that speaks another version of the protocol, or says what it must not."""


class BuildError(DyadpropError):
    """A tool that is missing, too old, or failed; the message names its log."""
