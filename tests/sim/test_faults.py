"""A bad cable between driver and chip: what it does to bytes, and that no batch comes through it wrong."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest

import dyadprop as dp
from dyadprop.cli import main
from dyadprop_sim.fault_proxy import KINDS, Event, FaultProxy, Mangler
from dyadprop_sim.fault_trials import MIXED, Trials
from dyadprop_sim.ports import PairPort

DATA = np.random.default_rng(2).bytes(20_000)


def mangled(rates: dict[str, float], data: bytes = DATA, seed: int = 0, chunk: int = 777) -> tuple[bytes, list, int]:
    """Send bytes through one direction; give what came out, what else happened, and the number of faults."""
    mangler = Mangler(rates, np.random.default_rng(seed))
    out, others = b"", []
    for i in range(0, len(data), chunk):
        for event in mangler.feed(data[i : i + chunk]):
            if event.what == "bytes":
                out += event.data
            else:
                others.append(event)
    out += b"".join(event.data for event in mangler.release())
    return out, others, mangler.count


def test_no_fault_is_no_change():
    assert mangled({}) == (DATA, [], 0)
    assert mangled(dict.fromkeys(KINDS, 0.0)) == (DATA, [], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_faults_come_at_their_rate(kind):
    counts = [mangled({kind: 0.005}, seed=seed)[2] for seed in range(20)]
    expected = 0.005 * len(DATA)
    if kind in ("truncate", "reorder"):  # what is lost or held has no faults of its own
        assert 0.1 * expected < np.mean(counts) < expected
    else:
        assert np.mean(counts) == pytest.approx(expected, rel=0.15)


def test_what_each_kind_does():
    out, _, count = mangled({"drop": 0.001})
    assert len(out) == len(DATA) - count < len(DATA)
    out, _, count = mangled({"flip": 0.001})
    wrong = [(a ^ b).bit_count() for a, b in zip(out, DATA, strict=True) if a != b]
    assert wrong == [1] * count
    out, _, count = mangled({"duplicate": 0.001})
    assert len(DATA) < len(out) <= len(DATA) + 40 * count
    out, _, count = mangled({"noise": 0.001})
    assert len(DATA) < len(out) <= len(DATA) + 32 * count
    out, _, count = mangled({"truncate": 0.001})
    assert len(DATA) - 777 * count <= len(out) < len(DATA)
    out, _, count = mangled({"reorder": 0.001})
    assert count > 0
    assert out != DATA
    assert sorted(out) == sorted(DATA)
    out, others, count = mangled({"delay": 0.001})
    assert out == DATA
    assert len(others) == count
    assert all(event.what == "delay" and 0 < event.seconds <= 0.2 for event in others)
    for kind in ("close", "reset"):
        out, others, count = mangled({kind: 0.001})
        assert (out, others) == (DATA, [Event(kind)] * count)


def test_a_seed_repeats_faults_however_the_bytes_come():
    rates = {"drop": 0.01, "flip": 0.01, "noise": 0.01, "duplicate": 0.01}
    whole = mangled(rates, chunk=len(DATA))
    assert whole != mangled(rates, seed=1, chunk=len(DATA))
    for rates in ({"drop": 0.01}, {"flip": 0.01}, {"noise": 0.01}):
        assert mangled(rates, chunk=100) == mangled(rates, chunk=len(DATA))


def test_what_is_no_fault():
    with pytest.raises(dp.RangeError, match=r"^fault 'rust' has rate 0.1; known are drop, flip, .*, rates up to 1$"):
        mangled({"rust": 0.1})
    one, two = PairPort.pair()
    with pytest.raises(dp.RangeError, match=r"^fault 'reset' needs a chip whose power can be taken away"):
        FaultProxy(one, two, {"reset": 0.1})
    one.close()
    two.close()


def test_a_proxy_carries_both_ways_and_holds_nothing_back():
    (driver, front), (back, chip) = PairPort.pair(), PairPort.pair()
    with FaultProxy(front, back, {"reorder": 0.05}, seed=4) as proxy:
        for one, other in ((driver, chip), (chip, driver)):
            one.write(DATA[:5000])
            got, limit = b"", time.monotonic() + 10
            while len(got) < 5000 and time.monotonic() < limit:
                got += other.read()
            assert sorted(got) == sorted(DATA[:5000])
        assert proxy.faults > 0
        assert proxy.failure is None
    driver.close()
    chip.close()


# More than 1,000 batches in all: each kind alone at two rates, and all together.
ALONE = [(kind, 1e-4, 60) for kind in KINDS]
ALONE += [(kind, 1e-3, 40) for kind in KINDS if kind not in ("close", "reset")]
ALONE += [(kind, 1e-3, 15) for kind in ("close", "reset")]


@pytest.mark.parametrize(("kind", "rate", "batches"), ALONE)
def test_each_kind_alone(kind, rate, batches):
    with Trials(seed=7) as trials:
        row = trials.run(kind, {kind: rate}, batches)
    assert row.bad == 0, row
    assert row.batches == batches == row.exact + sum(row.errors.values()), row
    assert set(row.errors) <= {"DeviceLost", "DeviceTimeout"}, row
    if kind not in ("close", "reset"):
        assert row.faults > 0
        assert not row.errors, row  # at these rates everything comes through
    assert row.longest < 60, row


@pytest.mark.parametrize("name", [name for name in MIXED if name != "mixed, many"])
def test_all_kinds_together(name):
    with Trials(seed=8) as trials:
        row = trials.run(name, MIXED[name], 150)
    assert row.bad == 0, row
    assert row.batches == 150 == row.exact + sum(row.errors.values()), row
    assert set(row.errors) <= {"DeviceLost", "DeviceTimeout"}, row
    assert row.exact >= 140


def test_a_wrong_answer_is_found_and_told_apart():
    """The judge itself: a device that forgets a sample, or takes one twice, is neither exact nor just wrong."""
    with Trials(seed=9) as trials:
        row = trials.run("none", {}, 4)
        assert (row.exact, row.bad) == (4, 0)
        device = trials._device
        assert device is not None
        spoiled: list[tuple[str, Any]] = [
            ("lost", lambda x, y: (x[:-1], y[:-1])),
            ("double", lambda x, y: (np.concatenate([x, x[:1]]), np.concatenate([y, y[:1]]))),
            ("wrong", lambda x, y: (0.5 * x, y)),
        ]
        for what, spoil in spoiled:
            honest = device.gradients

            def gradients(x, y, spoil=spoil, honest=honest):
                result = honest(x, y)
                other = honest(*spoil(x, y))
                assert result.raw is not None
                assert other.raw is not None
                result.raw = result.raw._replace(gradients=other.raw.gradients)
                return result

            device.gradients = gradients  # type: ignore[method-assign]
            row = trials.run("none", {}, 2)
            device.gradients = honest  # type: ignore[method-assign]
            assert getattr(row, what) == row.bad >= 1, row


def test_the_command_prints_a_row_a_rate(tmp_path, capsys):
    path = tmp_path / "faults.json"
    assert main(["bench", "faults", "--fault", "flip", "--batches", "3", "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert sum(line.startswith("flip") for line in out.splitlines()) == 4
    assert "wrong 0, lost 0, taken twice 0, hangs 0" in out
    document = json.loads(path.read_text())
    assert document["passed"] is True
    assert [row["batches"] for row in document["rows"]] == [3, 3, 3, 1]
    assert main(["bench", "faults", "--fault", "rust"]) == 2
    assert main(["bench", "faults", "--batches", "0"]) == 2
