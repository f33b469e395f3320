"""What every device must do, as tests that run against any: ``pytest --pyargs dyadprop.conformance --device NAME``.

A device with words (``result.raw``) is held against the device ``golden``, bit for bit, where that is installed; where
it is not, against bounds on the distance to float64 that follow from the formats. A device without words is held
against float64. ``--network NET.TOML`` names the one network that a device on a board is built for.
"""
