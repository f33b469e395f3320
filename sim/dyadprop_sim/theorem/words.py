"""What fixed point changes, and what happens at kinks."""

import numpy as np

from dyadprop.formats import Formats, Ints, Q
from dyadprop.network import Dense, Network, Parameters
from dyadprop.relaxation.chain import Relaxation
from dyadprop.relaxation.reals import Reals
from dyadprop.relaxation.run import relax
from dyadprop.relaxation.state import State
from dyadprop.relaxation.trajectory import Trajectory
from dyadprop_sim.arithmetic import round_half_even
from dyadprop_sim.golden import Model
from dyadprop_sim.theorem.claim import Claim, figure
from dyadprop_sim.theorem.samples import chain, seeds

_FORMATS = {
    16: Formats(Q(2, 14), Q(2, 14), Q(2, 14)),
    12: Formats(Q(2, 10), Q(2, 10), Q(2, 10)),
    8: Formats(Q(2, 6), Q(2, 6), Q(2, 6)),
    6: Formats(Q(2, 4), Q(2, 4), Q(2, 4)),
}
_NETWORKS = 10


def quantisation(seed: int) -> Claim:
    """Relax in short words, by whole steps and by smaller ones."""
    claim = Claim(
        "quantisation",
        (
            "bits",
            "entries off the quantised textbook pass, dt = tau",
            "dt = tau/2",
            "dt = tau/8",
            "gradient's distance from float64",
        ),
    )
    for bits, formats in _FORMATS.items():
        off: dict[int, list[float]] = {0: [], 1: [], 3: []}
        distances = []
        for s in seeds(seed, _NETWORKS):
            sample = chain(4, s, formats=formats)
            seen = relax(sample.net, sample.params, sample.x, sample.y, seed=s, formats=formats)
            real = relax(sample.net, sample.params, sample.x, sample.y, ticks=0)
            for shift in off:
                off[shift].append(_entries_off(seen, shift))
            right = np.concatenate([g.weight.ravel() for g in real.dynamics.gradients(real.rest)])
            got = np.concatenate([g.decode().weight.ravel() for g in seen.gradients])
            distances.append(float(np.linalg.norm(got - right) / np.linalg.norm(right)))
        shares = {shift: float(np.mean(values)) for shift, values in off.items()}
        claim.rows.append(
            (f"{bits}", f"{shares[0]:.0%}", f"{shares[1]:.0%}", f"{shares[3]:.0%}", figure(float(np.mean(distances))))
        )
        claim.check(shares[0] == 0.0, f"{bits} bits: {shares[0]:.2%} of the entries are off with whole steps")
        claim.check(shares[1] > 0.2 and shares[3] > 0.2, f"{bits} bits: smaller steps come to the right bits")
        claim.check(distances[0] > 0, f"{bits} bits: equal to float64")
        claim.data[f"{bits}"] = {"off": shares, "distance": float(np.mean(distances))}
    return claim


def _entries_off(seen: Trajectory, shift: int) -> float:
    """Relax by ``v + round((F - v) / 2^shift)`` until nothing changes, and give the share of wrong words."""
    state = seen.states[0]

    def move(v: Ints, target: Ints) -> Ints:
        return v + round_half_even(target - v, shift)

    for _ in range(500):
        target = seen.dynamics.step(State(state.activations, state.sensitivities))
        new = state.map(move, target)
        if not State(new.activations, new.sensitivities).differences(State(state.activations, state.sensitivities)):
            break
        state = new
    groups = ((state.activations, seen.rest.activations), (state.sensitivities, seen.rest.sensitivities))
    return float(np.mean([np.mean(mine[l] != right[l]) for mine, right in groups for l in mine]))


def kinks(seed: int) -> Claim:
    """Put units exactly on a kink."""
    claim = Claim(
        "kinks",
        (
            "activation",
            "units on the kink",
            "slope taken there",
            "left and right derivative",
            "the textbook pass's bits",
        ),
    )
    for activation, slope in (("relu", 0.0), ("leaky_relu", 0.25)):
        on_kink = 0
        equal = True
        for s in seeds(seed, _NETWORKS):
            net = Network(4, [Dense(8, activation, slope=0.25), Dense(8, activation, slope=0.25), Dense(3)])
            rng = np.random.default_rng([s, 5])
            # Small whole numbers: many pre-activations are exactly zero.
            params = [Parameters(np.float64(0.5) * rng.integers(-1, 2, p.weight.shape), p.bias) for p in net.init(s)]
            x, y = rng.integers(-1, 2, (4, 4)) * 0.5, rng.uniform(-1, 1, (4, 3))
            seen = relax(net, params, x, y, seed=s, formats=net.formats)
            model = Model(net, net.quantize(params).raw)
            textbook = model.textbook(net.formats.activation.to_ints(x).words, net.formats.activation.to_ints(y).words)
            on_kink += sum(int(np.count_nonzero(seen.rest.activations[l] == 0)) for l in (1, 2))
            equal &= all(
                np.array_equal(a.weight, b.weight) for a, b in zip(seen.gradients, textbook.gradients, strict=True)
            )
        taken = _slope_at_kink(activation)
        claim.rows.append((activation, f"{on_kink:,}", f"{taken:g}", f"{slope:g}, 1", "yes" if equal else "no"))
        claim.check(on_kink > 0, f"{activation}: no unit is on the kink")
        claim.check(taken == slope, f"{activation}: the slope at the kink is {taken}")
        claim.check(equal, f"{activation}: the bits are not textbook backpropagation's")
    return claim


def _slope_at_kink(activation: str) -> float:
    net = Network(1, [Dense(1, activation, slope=0.25)])
    relaxation = Relaxation(Reals(net, [Parameters(np.ones((1, 1)), np.zeros(1))]), np.zeros((1, 1)), -np.ones((1, 1)))
    return float(relaxation.gradients(relaxation.rest())[0].bias[0])


CLAIMS = (quantisation, kinks)
