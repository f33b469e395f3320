"""The golden model, relaxation dynamics and simulated devices of dyadprop.

`arithmetic` and `golden` are an independent reading of docs/arithmetic.md: they know NumPy and ``dyadprop``,
and nothing of the gateware.
"""
