"""Who reads whom, and which weights."""

import itertools

import numpy as np

from dyadprop.formats import Floats
from dyadprop.network import Dense, Network, Parameters
from dyadprop.plan import plan_network
from dyadprop.relaxation.chain import Relaxation
from dyadprop.relaxation.reals import Reals
from dyadprop.relaxation.state import State
from dyadprop_sim.theorem.claim import Claim, figure
from dyadprop_sim.theorem.samples import chain

_DEPTH = 5
_WHERE = {"flow": "the energy's flow", "output": "stored outputs", "token": "tokens, as in the RTL"}


def locality(seed: int) -> Claim:
    """Change each variable in turn and see which right-hand sides notice."""
    claim = Claim(
        "locality",
        (
            "slopes from",
            "pairs of variables",
            "x_l reads",
            "lambda_l reads (l < L)",
            "other stages read than neighbours",
            "sensitivities read by an activation",
        ),
    )
    sample = chain(_DEPTH, seed)
    for slopes, where in _WHERE.items():
        relaxation = Relaxation(Reals(sample.net, sample.params), sample.x, sample.y, slopes)
        reads = _readers(relaxation, seed)
        far = sum(abs(_layer(a) - _layer(b)) > 1 for a, b in reads)
        upwards = sum(a.startswith("x_") and b.startswith("lambda") for a, b in reads)
        pairs = 2 * _DEPTH * len(_start(relaxation, seed).variables())
        claim.rows.append(
            (where, f"{pairs}", _pattern(reads, "x_3"), _pattern(reads, "lambda_3"), f"{far}", f"{upwards}")
        )
        claim.compared += pairs
        claim.check(far == 0, f"slopes {slopes}: {far} reads of stages that are no neighbours")
        claim.check(upwards == 0, f"slopes {slopes}: {upwards} activations read a sensitivity")
        claim.check(len(reads) >= 3 * (_DEPTH - 1), f"slopes {slopes}: only {len(reads)} reads were seen at all")
    return claim


def _start(relaxation: Relaxation[Parameters], seed: int) -> State:
    state = relaxation.random_state(np.random.default_rng(seed))
    answered = relaxation.random_state(np.random.default_rng(seed + 1)).activations
    return State(state.activations, state.sensitivities, answered if relaxation.slopes == "token" else None)


def _readers(relaxation: Relaxation[Parameters], seed: int) -> set[tuple[str, str]]:
    start = _start(relaxation, seed)
    before = relaxation.step(start).variables()
    found = set()
    for name in start.variables():
        other = start.copy()
        other.variables()[name][:] += 0.37
        after = relaxation.step(other).variables()
        found |= {(key, name) for key in before if key[0] != "a" and not np.array_equal(before[key], after[key])}
    return found


def _layer(name: str) -> int:
    return int(name.rpartition("_")[2])


def _pattern(reads: set[tuple[str, str]], of: str) -> str:
    def relative(name: str) -> str:
        shift = _layer(name) - _layer(of)
        what = name.rpartition("_")[0].replace("answered", "x carried by lambda")
        return f"{what}_{'l' if shift == 0 else f'(l{shift:+d})'}"

    return ", ".join(sorted(relative(b) for a, b in reads if a == of))


def weights(seed: int) -> Claim:
    """Send sensitivities back through other weights than the transposed ones."""
    claim = Claim("weights", ("weights of the way back", "error of the gradient"))
    sample = chain(4, seed)
    rng = np.random.default_rng([seed, 3])
    noise = [rng.standard_normal(p.weight.shape) * np.std(p.weight) for p in sample.params]
    right = Relaxation(Reals(sample.net, sample.params), sample.x, sample.y).rest()
    reals = Reals(sample.net, sample.params)
    truth = Relaxation(reals, sample.x, sample.y).gradients(right)
    errors = []
    for share in (0.0, 0.01, 0.1, 1.0, np.inf):
        back = [n if share == np.inf else p.weight + share * n for p, n in zip(sample.params, noise, strict=True)]
        relaxation = Relaxation(_OtherWayBack(sample.net, sample.params, back), sample.x, sample.y)
        seen = relaxation.gradients(relaxation.rest())
        error = float(
            np.sqrt(
                sum(np.sum((a.weight - b.weight) ** 2) for a, b in zip(seen, truth, strict=True))
                / sum(np.sum(b.weight**2) for b in truth)
            )
        )
        name = (
            "W^T" if share == 0 else "random, as feedback alignment" if share == np.inf else f"W^T + {share:.0%} noise"
        )
        claim.rows.append((name, figure(error)))
        errors.append(error)
    claim.check(errors[0] == 0.0, f"with W^T the error is {errors[0]}")
    for small, large in itertools.pairwise(errors[:4]):
        claim.check(small < large, f"an error of {large} through worse weights, of {small} through better ones")
    claim.check(errors[4] > 0.5, f"through random weights the error is {errors[4]}")
    return claim


class _OtherWayBack(Reals):
    def __init__(self, net: Network, params: list[Parameters], back: list[Floats]) -> None:
        super().__init__(net, params)
        self._back = back

    def backward(self, l: int, delta: Floats) -> Floats:
        return np.asarray(delta @ self._back[l - 1])


def copies(seed: int) -> Claim:
    """Count the words of weight memory that the hardware is built with."""
    claim = Claim(
        "copies", ("network", "weights and biases", "words of weight memory", "rows that do not exist", "a second copy")
    )
    nets = [
        Network(64, [Dense(32, "tanh"), Dense(10)]),
        Network(16, [Dense(64, "tanh"), Dense(32, "tanh"), Dense(32, "tanh"), Dense(5)]),
    ]
    for net in nets:
        plan = plan_network(net)
        needed = sum((n + 1) * m for n, m in zip(net.widths, net.widths[1:], strict=False))
        built = sum(s.memory_bits["weights"] // s.numbers.weight.width for s in plan.stages)
        rows = sum(
            (s.lanes * s.groups - s.numbers.outputs) * s.numbers.columns for s in plan.stages
        )  # lanes that have one row less
        cells = (f"{needed:,}", f"{built:,}", f"{rows}", f"{built - needed - rows}")
        claim.rows.append(("-".join(map(str, net.widths)), *cells))
        claim.check(built == needed + rows, f"{net!r}: {built} words of weight memory for {needed} weights")
    return claim


CLAIMS = (locality, weights, copies)
