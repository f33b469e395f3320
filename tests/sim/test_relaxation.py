"""The theorem: exact after 2L ticks from any state, in words bit for bit and in floats, and it stays there."""

from __future__ import annotations

import numpy as np
import pytest

from dyadprop.formats import Formats, Q
from dyadprop.network import Dense, Network
from dyadprop.relaxation.chain import Relaxation
from dyadprop.relaxation.reals import Reals
from dyadprop.relaxation.state import State
from dyadprop.widths import target_format
from dyadprop_sim import golden, reference
from dyadprop_sim.random_networks import Case, random_case

SEEDS = range(30)


def held(case: Case, numbers: str):
    """Give a relaxation of the case in one number system, and the textbook pass that it must come to."""
    if numbers == "words":
        model = golden.Model(case.net, case.params)
        return Relaxation(model, case.x, case.targets), model.textbook(case.x, case.targets)
    params = [entry.decode() for entry in case.params]
    x, y = case.net.formats.activation.to_floats(case.x), target_format(case.net).to_floats(case.targets)
    return Relaxation(Reals(case.net, params), x, y), reference.textbook(case.net, params, x, y)


def same(a, b) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def exact_from(states: list[State], group: str, l: int, right) -> int:
    """Give the first tick from which a variable is right for ever."""
    ticks = [same(getattr(state, group)[l], right) for state in states]
    assert ticks[-1], f"{group} {l} is not right at the end"
    return len(ticks) - ticks[::-1].index(False) if False in ticks else 0


@pytest.mark.parametrize("numbers", ["words", "floats"])
@pytest.mark.parametrize("seed", SEEDS)
def test_at_rest_it_is_textbook_backpropagation_bit_for_bit(seed, numbers):
    case = random_case(seed, kind="realistic" if numbers == "floats" else None)
    relaxation, textbook = held(case, numbers)
    L = len(case.net.layers)
    state = relaxation.system.random_state(len(case.x), np.random.default_rng(seed))
    states = relaxation.trajectory(state, 2 * L + 4)
    assert len(states) == 2 * L + 5
    compared = 0
    for rest in states[2 * L :]:
        for l in range(1, L + 1):
            assert same(rest.activations[l], textbook.activations[l])
            assert same(rest.sensitivities[l], textbook.sensitivities[l])
        for got, expected in zip(relaxation.gradients(rest), textbook.gradients, strict=True):
            assert same(got.weight, expected.weight)
            assert same(got.bias, expected.bias)
            compared += got.weight.size + got.bias.size
        if case.net.input_gradient:
            assert same(relaxation.input_sensitivity(rest), textbook.sensitivities[0])
    assert compared == 5 * sum(p.weight.size + p.bias.size for p in case.params)


@pytest.mark.parametrize("numbers", ["words", "floats"])
@pytest.mark.parametrize("seed", SEEDS)
def test_each_variable_is_right_by_its_tick_and_never_changes_again(seed, numbers):
    case = random_case(seed, kind="realistic" if numbers == "floats" else None)
    relaxation, textbook = held(case, numbers)
    L = len(case.net.layers)
    rng = np.random.default_rng(seed)
    compared = 0
    for _ in range(3):
        states = relaxation.trajectory(relaxation.system.random_state(len(case.x), rng), 2 * L + 3)
        for l in range(1, L + 1):
            assert exact_from(states, "activations", l, textbook.activations[l]) <= l
            assert exact_from(states, "sensitivities", l, textbook.sensitivities[l]) <= 2 * L - l + 1
            compared += 2
    assert compared == 6 * L


def tanh_case(seed: int, L: int, *, wide: bool) -> Case:
    """Draw a tanh network whose units all depend on each other: no dead unit and no saturated word cuts a path."""
    rng = np.random.default_rng(seed)
    form = Formats(Q(2, 16), Q(2, 16), Q(2, 16)) if wide else Formats(Q(2, 8), Q(3, 7), Q(3, 9))
    widths = rng.integers(4, 9, L).tolist()
    net = Network(5, [Dense(n, "tanh") for n in widths], formats=form)
    params = net.quantize(net.init(seed)).raw
    x = form.activation.to_ints(rng.uniform(-1, 1, (6, 5))).words
    y = form.activation.to_ints(rng.uniform(-0.9, 0.9, (6, net.outputs))).words
    return Case(net, params, x, y, "realistic")


@pytest.mark.parametrize("numbers", ["words", "short words", "floats"])
@pytest.mark.parametrize("L", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_with_tanh_and_generic_data_no_variable_is_right_earlier(seed, L, numbers):
    case = tanh_case(seed, L, wide=numbers != "short words")
    relaxation, textbook = held(case, "floats" if numbers == "floats" else "words")
    states = relaxation.trajectory(relaxation.system.random_state(6, np.random.default_rng(seed)), 2 * L + 2)
    ticks = [exact_from(states, "activations", l, textbook.activations[l]) for l in range(1, L + 1)]
    ticks += [exact_from(states, "sensitivities", l, textbook.sensitivities[l]) for l in range(L, 0, -1)]
    assert ticks == [*range(1, L + 1), *range(L + 1, 2 * L + 1)]


@pytest.mark.parametrize("seed", range(8))
def test_relu_may_rest_earlier(seed):
    # Weights of zero behind the first layer: nothing flows back, and lambda_1 is right after one tick of any delta_2.
    net = Network(3, [Dense(4, "relu"), Dense(3, "relu"), Dense(2)])
    params = net.quantize(net.init(seed)).raw
    params[1] = params[1]._replace(weight=np.zeros_like(params[1].weight))
    words = np.random.default_rng(seed).integers(-4096, 4096, (2, 3))
    relaxation, textbook = held(Case(net, params, words, words[:, :2], "realistic"), "words")
    states = relaxation.trajectory(relaxation.system.random_state(2, np.random.default_rng(seed)), 8)
    assert exact_from(states, "sensitivities", 1, textbook.sensitivities[1]) == 1 < 2 * 3


@pytest.mark.parametrize("signal", ["activations", "sensitivities"])
@pytest.mark.parametrize("L", [1, 2, 4])
def test_a_flipped_bit_heals_in_the_ticks_that_the_theory_gives(signal, L):
    case = tanh_case(7, L, wide=True)
    relaxation, _ = held(case, "words")
    rest = relaxation.trajectory(relaxation.system.random_state(6, np.random.default_rng(0)), 2 * L)[-1]
    for l in range(1, L + 1):
        hit = State(dict(rest.activations), dict(rest.sensitivities))
        flipped = getattr(hit, signal)[l].copy()
        flipped[0, 0] ^= 1 << 12
        getattr(hit, signal)[l] = flipped
        states = relaxation.trajectory(hit, 2 * L + 2)
        healed = max(
            exact_from(states, group, k, getattr(rest, group)[k])
            for group in ("activations", "sensitivities")
            for k in range(1, L + 1)
        )
        assert healed == (2 * L - l + 1 if signal == "activations" else l)


@pytest.mark.parametrize("numbers", ["words", "floats"])
def test_a_tick_reads_the_old_state_only_and_leaves_it(numbers):
    case = random_case(21, kind="realistic", layers=4, batch=3)
    relaxation, _ = held(case, numbers)
    state = relaxation.system.random_state(3, np.random.default_rng(1))
    before = [v.copy() for group in (state.activations, state.sensitivities) for v in group.values()]
    after = relaxation.step(state)
    for kept, v in zip(before, [*state.activations.values(), *state.sensitivities.values()], strict=True):
        assert same(kept, v)
    # Each unit by itself, in the reverse order, from the same old state.
    for l in range(4, 0, -1):
        assert same(after.sensitivities[l], relaxation.sensitivity(l, state))
        assert same(after.activations[l], relaxation.activation(l, state))
    assert len(before) == 8


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_updates_rests_within_as_many_rounds_as_variables(seed):
    case = random_case(seed, layers=3, batch=2)
    relaxation, textbook = held(case, "words")
    rng = np.random.default_rng(seed)
    state = relaxation.system.random_state(2, rng)
    units = [(signal, l) for signal in ("activation", "sensitivity") for l in (1, 2, 3)]
    for _ in range(6):
        for k in rng.permutation(6):
            signal, l = units[k]
            groups = {"activation": state.activations, "sensitivity": state.sensitivities}
            groups[signal][l] = getattr(relaxation, signal)(l, state)
    for l in (1, 2, 3):
        assert same(state.activations[l], textbook.activations[l])
        assert same(state.sensitivities[l], textbook.sensitivities[l])


@pytest.mark.parametrize("seed", range(8))
def test_random_states_hold_any_words_of_their_formats(seed):
    case = random_case(seed, batch=64, max_width=13)
    state = golden.Model(case.net, case.params).random_state(64, np.random.default_rng(seed))
    for l in range(1, len(case.net.layers) + 1):
        for words, form in (
            (state.activations[l], case.net.layer_formats(l).activation),
            (state.sensitivities[l], case.net.layer_formats(l).sensitivity),
        ):
            assert words.shape == (64, case.net.widths[l])
            assert form.min_int <= words.min() < form.min_int // 2
            assert form.max_int // 2 < words.max() <= form.max_int
