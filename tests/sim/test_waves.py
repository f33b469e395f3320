from itertools import pairwise

import numpy as np
import pytest

from dyadprop import Dense, Network
from dyadprop.cli import main
from dyadprop.plan import plan_network
from dyadprop_sim.waves import watch

SAMPLES = 6


@pytest.fixture(scope="module")
def seen():
    net = Network(3, [Dense(4, "tanh", lanes=2), Dense(2, lanes=1)], input_gradient=True)
    plan = plan_network(net)
    x, targets = np.ones((SAMPLES, 3), np.int64), np.ones((SAMPLES, 2), np.int64)
    return plan, {row.name: row for row in watch(plan, net.quantize(net.init(0)).raw, x, targets)}


def test_every_word_is_seen_with_its_sample(seen):
    _, rows = seen
    counts = {"$x_0$ in": 3, "$x_1$": 4, "$x_2$": 2, "targets in": 2, r"$\lambda_2$": 2, r"$\lambda_1$": 4}
    for name, words in counts.items():
        assert [sample for _, sample in rows[name].words] == list(np.repeat(range(SAMPLES), words)), name
    assert rows["targets in"].waits  # they are offered at once


def test_passes_run_as_long_as_the_plan_says(seen):
    plan, rows = seen
    for l, stage in enumerate(plan.stages, start=1):
        for which, pitch in (("forward", stage.forward_pitch), ("backward", stage.backward_pitch)):
            samples = [sample for _, sample in rows[f"stage {l} {which}"].words]
            assert samples == list(np.repeat(range(SAMPLES), stage.groups * pitch))
    last = [cycle for cycle, _ in rows[r"$\lambda_1$"].words[::4]]
    assert [b - a for a, b in pairwise(last)][-2:] == [plan.interval] * 2


def test_the_verb_draws(tmp_path, capsys):
    assert main(["wave", "--samples", "2", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "wave.png").read_bytes().startswith(b"\x89PNG")
    assert "2 samples of 3-4-2" in capsys.readouterr().out


def test_the_verb_refuses_more_than_can_be_seen(tmp_path, capsys):
    assert main(["wave", "--samples", "21", "--out", str(tmp_path)]) == 2
    assert "number of samples is 21; allowed are 1 to 20" in capsys.readouterr().err
