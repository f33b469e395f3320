"""Exactness, 2L ticks, any start, rest, healing, depth."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dyadprop.formats import Floats
from dyadprop.network import Dense, Network
from dyadprop.probes import open_probe
from dyadprop.relaxation.chain import Relaxation
from dyadprop.relaxation.reals import Reals
from dyadprop.relaxation.run import relax
from dyadprop.relaxation.state import State
from dyadprop.relaxation.trajectory import Trajectory
from dyadprop.widths import target_format
from dyadprop_sim import golden, reference
from dyadprop_sim.random_networks import Case, random_case
from dyadprop_sim.theorem.claim import Claim, span
from dyadprop_sim.theorem.samples import FINE, chain, orthogonal_chain, seeds

NETWORKS = 200
STALLS = 0.2
# One lane a stage: what is shown does not depend on lanes, and few of them build fast. The network of the pictures.
SHOWN = Network(6, [Dense(6, "tanh", lanes=1) for _ in range(8)])


def shown_start(seed: int) -> tuple[Floats, Floats, State]:
    """Give the sample that is held in the shown network, and random words between its stages."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-1, 1, SHOWN.inputs), rng.uniform(0, 1, SHOWN.outputs)
    start = relax(SHOWN, SHOWN.init(seed), x[None], y[None], ticks=0, formats=SHOWN.formats, seed=seed).states[0]
    return x, y, start


def shown_trajectory(device: str, seed: int, ticks: int, start: State | None = None) -> Trajectory:
    """Watch the shown network relax on a device."""
    x, y, random_words = shown_start(seed)
    with open_probe(device, SHOWN, SHOWN.init(seed)) as probe:
        probe.hold(x, y)
        probe.put(random_words if start is None else start)
        probe.tick(ticks)
        return probe.trajectory


def exactness(seed: int) -> Claim:
    """Compare the state after 2L ticks from random words with textbook backpropagation, bit for bit."""
    claim = Claim("exactness", ("what relaxes", "compared with", "networks", "numbers compared", "different"))
    for what, right, hold, kind in (
        ("words, golden model", "textbook pass in words", _held_words, None),
        ("float64", "textbook pass in float64", _held_reals, "realistic"),
    ):
        numbers = different = 0
        for s in seeds(seed, NETWORKS):
            case = random_case(s, kind=kind)
            relaxation, textbook = hold(case)
            start = relaxation.system.random_state(len(case.x), np.random.default_rng(s))
            rest = relaxation.trajectory(start, 2 * relaxation.system.depth)[-1]
            pairs = [(rest.activations[l], textbook.activations[l]) for l in relaxation.keys]
            pairs += [(rest.sensitivities[l], textbook.sensitivities[l]) for l in relaxation.keys]
            for got, expected in zip(relaxation.gradients(rest), textbook.gradients, strict=True):
                pairs += [(got.weight, expected.weight), (got.bias, expected.bias)]
            numbers += sum(mine.size for mine, _ in pairs)
            different += sum(int(np.count_nonzero(mine != theirs)) for mine, theirs in pairs)
        claim.rows.append((what, right, f"{NETWORKS}", f"{numbers:,}", f"{different:,}"))
        claim.check(different == 0, f"{different} numbers of {what} differ from the {right}")
    ticks = 2 * len(SHOWN.layers) + 3
    hardware = shown_trajectory(f"verilator?stalls={STALLS}&seed={seed}", seed, ticks)
    model = shown_trajectory("golden", seed, ticks)
    words = sum(array.size for state in hardware.states for array in state.variables().values())
    wrong = sum(
        int(np.count_nonzero(array != other.variables()[name]))
        for state, other in zip(hardware.states, model.states, strict=True)
        for name, array in state.variables().items()
    )
    claim.rows.append(("RTL under stalls, each tick", "golden model, each tick", "1", f"{words:,}", f"{wrong:,}"))
    claim.check(not hardware.differences(model), f"the RTL's trajectory differs: {hardware.differences(model)[:3]}")
    claim.check(hardware.exact_from() == 2 * len(SHOWN.layers), f"the RTL rests from tick {hardware.exact_from()} on")
    return claim


def _held_words(case: Case) -> tuple[Relaxation[Any], Any]:
    model = golden.Model(case.net, case.params)
    return Relaxation(model, case.x, case.targets, "token"), model.textbook(case.x, case.targets)


def _held_reals(case: Case) -> tuple[Relaxation[Any], Any]:
    params = [entry.decode() for entry in case.params]
    x, y = case.net.formats.activation.to_floats(case.x), target_format(case.net).to_floats(case.targets)
    return Relaxation(Reals(case.net, params), x, y, "flow"), reference.textbook(case.net, params, x, y)


def ticks(seed: int) -> Claim:
    """Measure the tick from which on everything is exact, against 2L."""
    claim = Claim(
        "ticks",
        ("L", "bound 2L", "tanh, float64", "tanh, words", "relu, one sample, 3 wide", "cost head on the new x_L"),
    )
    for depth in (1, 2, 3, 5, 8):
        found: dict[str, list[int]] = {"tanh": [], "words": [], "relu": [], "head": []}
        for s in seeds(seed, 20):
            tanh, relu = chain(depth, s, formats=FINE), chain(depth, s, activation="relu", width=3, batch=1)
            runs = {
                "tanh": relax(tanh.net, tanh.params, tanh.x, tanh.y, seed=s),
                "words": relax(tanh.net, tanh.params, tanh.x, tanh.y, seed=s, formats=FINE),
                "relu": relax(relu.net, relu.params, relu.x, relu.y, seed=s),
            }
            runs["head"] = _head_last(runs["tanh"])
            for name, seen in runs.items():
                k = seen.exact_from()
                found[name].append(k if k is not None else seen.ticks + 1)
        claim.rows.append((f"{depth}", f"{2 * depth}", *(span(found[n]) for n in ("tanh", "words", "relu", "head"))))
        claim.check(max(max(v) for v in found.values()) <= 2 * depth, f"L = {depth}: later than 2L")
        claim.check(set(found["tanh"]) == set(found["words"]) == {2 * depth}, f"L = {depth}: tanh not at 2L")
        claim.check(set(found["head"]) == {2 * depth - 1}, f"L = {depth}: with the new x_L not at 2L - 1")
        claim.data[f"{depth}"] = found
    return claim


def _head_last(seen: Trajectory) -> Trajectory:
    """Relax again from the same start, the cost head reading the x_L of its own tick."""
    flow = seen.dynamics
    last = flow.keys[-1]
    states = [seen.states[0]]
    for _ in range(seen.ticks):
        new = flow.step(states[-1])
        head = flow.sensitivity(last, State(new.activations, states[-1].sensitivities))
        states.append(State(new.activations, {**new.sensitivities, last: head}))
    return Trajectory(flow, states, seen.rest)


def starts(seed: int) -> Claim:
    """Start from states that nobody would choose."""
    claim = Claim("starts", ("start", "numbers", "exact from tick", "bound"))
    depth = 5
    sample = chain(depth, seed, formats=FINE)
    net, params, x, y = sample.net, sample.params, sample.x, sample.y
    plain = relax(net, params, x, y, ticks=0, seed=seed).states[0]
    other = relax(net, params, x[::-1], y[::-1], ticks=0, init="rest").states[0]
    low, high = FINE.activation.min_int, FINE.activation.max_int
    words = relax(net, params, x, y, ticks=0, seed=seed, formats=FINE).states[0]
    table: list[tuple[str, str, State]] = [
        ("zeros", "float64", plain.map(np.zeros_like)),
        ("standard normal", "float64", plain),
        ("standard normal times 1e100", "float64", plain.map(lambda v: 1e100 * v)),
        ("infinity and NaN", "float64", plain.map(lambda v: np.where(v > 0, np.inf, np.nan))),
        ("the rest of another sample", "float64", other),
        ("random words", "18 bits", words),
        ("all smallest words", "18 bits", words.map(lambda v: np.full_like(v, low))),
        ("all largest words", "18 bits", words.map(lambda v: np.full_like(v, high))),
    ]
    for name, numbers, start in table:
        formats = None if numbers == "float64" else FINE
        with np.errstate(all="ignore"):  # NaN and infinity are the point
            seen = relax(net, params, x, y, init=start, formats=formats)
            k = seen.exact_from()
        claim.rows.append((name, numbers, f"{k}", f"{2 * depth}"))
        claim.check(k is not None and k <= 2 * depth, f"from {name} exact from tick {k}")
    return claim


def stays(seed: int) -> Claim:
    """Count bits that change after rest."""
    claim = Claim("stays", ("numbers", "ticks beyond 2L", "numbers looked at", "changed"))
    beyond = 1000
    sample = chain(6, seed, formats=FINE)
    for name, formats in (("float64", None), ("18-bit words", FINE)):
        seen = relax(sample.net, sample.params, sample.x, sample.y, ticks=12 + beyond, seed=seed, formats=formats)
        rest = seen.rest.variables()
        looked = changed = 0
        for state in seen.states[13:]:
            for key, array in state.variables().items():
                looked += array.size
                changed += int(np.count_nonzero(array != rest[key]))
        claim.rows.append((name, f"{beyond:,}", f"{looked:,}", f"{changed}"))
        claim.check(looked > 0 and changed == 0, f"{changed} numbers of {name} changed after rest")
    return claim


def healing(seed: int) -> Claim:
    """Flip a bit of each link of the hardware at rest, and count the ticks until it is healed."""
    depth = len(SHOWN.layers)
    claim = Claim("healing", ("layer l", *(f"{l}" for l in range(1, depth + 1))))
    _, _, start = shown_start(seed)
    rest = shown_trajectory("golden", seed, 2 * depth, start).states[-1]
    found: dict[str, list[int]] = {}
    for name, group in (("x_l", "activations"), ("lambda_l", "sensitivities")):
        measured = []
        for l in range(1, depth + 1):
            hit = rest.copy()
            getattr(hit, group)[l][0, l % 6] ^= 1 << 9
            seen = shown_trajectory(f"verilator?seed={seed}", seed, 2 * depth + 1, hit)
            measured.append(_healed(seen, rest))
        bounds = [2 * depth - l + 1 if name == "x_l" else l for l in range(1, depth + 1)]
        claim.rows.append((f"a bit of {name}: ticks, RTL", *map(str, measured)))
        claim.rows.append((f"bound {'2L - l + 1' if name == 'x_l' else 'l'}", *map(str, bounds)))
        found[name] = measured
        for l, (k, bound) in enumerate(zip(measured, bounds, strict=True), start=1):
            claim.check(0 < k <= bound, f"a bit of {name[:-1]}{l} healed after {k} ticks, not {bound}")
    claim.data.update(found)
    return claim


def _healed(seen: Trajectory, rest: State) -> int:
    right = [not state.differences(rest) for state in seen.states]
    return len(right) if not right[-1] else len(right) - right[::-1].index(False)


def depth(seed: int) -> Claim:
    """Relax fifty layers."""
    claim = Claim(
        "depth", ("L = 50, orthogonal weights", "exact from tick", "bound", "size of lambda_1, relative to lambda_L")
    )
    for name, formats in (("float64", None), ("18-bit words", FINE)):
        sample = orthogonal_chain(50, seed, formats=FINE)
        seen = relax(sample.net, sample.params, sample.x, sample.y, seed=seed, formats=formats)
        k = seen.exact_from()
        rest = seen.dynamics.reals(seen.rest).sensitivities
        ratio = float(np.linalg.norm(rest[1]) / np.linalg.norm(rest[50]))
        claim.rows.append((name, f"{k}", "100", f"{ratio:.2f}"))
        claim.check(k == 100, f"{name}: exact from tick {k}")
        claim.check(ratio > 0.1, f"{name}: sensitivities vanish ({ratio:.2e}), so the case says nothing")
    return claim


CLAIMS: Sequence[Callable[[int], Claim]] = (exactness, ticks, starts, stays, healing, depth)
