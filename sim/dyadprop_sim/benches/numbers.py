"""Stages for benches: formats, activations and widths that between them take every path of the arithmetic."""

from dyadprop.formats import Q
from dyadprop.widths import StageNumbers

OUTPUT, SENSITIVITY, WEIGHT = Q(4, 8), Q(2, 8), Q(3, 6)


def make_numbers(
    activation: str,
    *,
    inputs: int = 3,
    outputs: int = 4,
    output: Q = OUTPUT,
    sensitivity: Q = SENSITIVITY,
    weight: Q = WEIGHT,
    index: int = 1,
    leak_bits: int = 3,
    has_sensitivity: bool = True,
    matched: bool = False,
    max_batch: int = 9,
) -> StageNumbers:
    """Make the numbers of a stage; formats of its two sides differ, so that none can stand for the other."""
    return StageNumbers(
        index=index,
        inputs=inputs,
        outputs=outputs,
        activation=activation,
        leak_bits=leak_bits,
        input=Q(2, 7),
        output=output,
        weight=weight,
        sensitivity=sensitivity,
        input_sensitivity=Q(3, 7),
        has_sensitivity=has_sensitivity,
        matched=matched,
        max_batch=max_batch,
    )


KINDS = {
    "identity": make_numbers("identity"),
    "identity_wide": make_numbers("identity", output=Q(1, 17), sensitivity=Q(0, 18), weight=Q(0, 18)),
    "identity_coarse": make_numbers("identity", output=Q(6, 1), weight=Q(8, 0), sensitivity=Q(5, 1)),
    "relu": make_numbers("relu"),
    "leaky_relu": make_numbers("leaky_relu"),
    "leaky_relu_15": make_numbers("leaky_relu", leak_bits=15, output=Q(2, 10)),
    "tanh": make_numbers("tanh", output=Q(2, 6)),
    "tanh_fine": make_numbers("tanh", output=Q(1, 17), sensitivity=Q(2, 14), weight=Q(2, 16)),
    "tanh_coarse": make_numbers("tanh", output=Q(4, 1), weight=Q(6, 0), sensitivity=Q(2, 2)),
    "sigmoid": make_numbers("sigmoid", output=Q(2, 6)),
    "sigmoid_fine": make_numbers("sigmoid", output=Q(3, 12), sensitivity=Q(-2, 18)),
    "sigmoid_matched": make_numbers("sigmoid", output=Q(3, 5), matched=True),
    "leaky_relu_matched": make_numbers("leaky_relu", matched=True),
}
