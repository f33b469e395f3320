"""The networks whose hardware is mutated: small, and each with something that the others lack."""

from dyadprop.formats import Formats, Q
from dyadprop.network import Dense, Network
from dyadprop.plan import Plan, plan_network

SMALL = Formats(Q(3, 5), Q(3, 5), Q(2, 6))
# Logits that reach beyond the table of exp(-d), and between its entries; seeds that show each bit of a probability.
SPREAD = Formats(Q(5, 7), Q(3, 5), Q(2, 14))
ODD = Formats(Q(2, 5), Q(4, 3), Q(1, 7))
FINE = Formats(Q(3, 11), Q(2, 6), Q(2, 10))


def mutated_plans() -> dict[str, Plan]:
    """Give the networks by name; lanes, row groups that are not full, costs, activations and formats differ."""
    networks = {
        # Five rows on two lanes: the last row group has one that does not exist.
        "tanh": Network(3, [Dense(5, "tanh", lanes=2), Dense(2)], input_gradient=True, formats=SMALL, max_batch=40),
        "relu": Network(2, [Dense(4, "relu", lanes=3), Dense(3, "leaky_relu", slope=0.25)], formats=ODD, max_batch=40),
        "cross-entropy": Network(
            3, [Dense(2, "leaky_relu"), Dense(2, "sigmoid")], "sigmoid_cross_entropy", formats=SMALL, max_batch=40
        ),
        "softmax": Network(
            2,
            [Dense(3, lanes=3, formats=SPREAD)],
            "softmax_cross_entropy",
            input_gradient=True,
            formats=SMALL,
            max_batch=40,
        ),
        # More lanes than columns: row groups wait for the results of the one before.
        "sigmoid": Network(
            1, [Dense(7, "sigmoid", lanes=4), Dense(1, lanes=1)], input_gradient=True, formats=SMALL, max_batch=40
        ),
        # Interpolated tables, and formats that differ from layer to layer.
        "formats": Network(
            2, [Dense(2, "tanh", formats=FINE), Dense(2, "relu", formats=ODD)], formats=SMALL, max_batch=40
        ),
        "deep": Network(
            2, [Dense(2, "relu"), Dense(2, "tanh"), Dense(1)], input_gradient=True, formats=SMALL, max_batch=40
        ),
        # The least that there can be.
        "one": Network(1, [Dense(1)], input_gradient=True, formats=SMALL, max_batch=40),
    }
    return {name: plan_network(net) for name, net in networks.items()}
