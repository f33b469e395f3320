"""The suites `wire` and `driver` of `dyadprop bench`: what a serial line carries, and what the driver costs."""

import argparse
import cProfile
import pstats
import time
from dataclasses import astuple
from typing import Any

import numpy as np

from dyadprop.baud import BITS_A_BYTE
from dyadprop.comparison import Comparison, compare_results
from dyadprop.device import open_device
from dyadprop.network import Dense, Network
from dyadprop.plan import plan_network
from dyadprop.protocol import CHECK_BYTES, HEADER, MAX_PAYLOAD, MESSAGE_HEADER, WireSizes
from dyadprop.report import Report
from dyadprop.results import Result
from dyadprop_boards.table import find_board
from dyadprop_sim.chip_device import DEFAULT_BOARD, ChipDevice

NET = Network(64, [Dense(32, "tanh"), Dense(10)])
LINE_NET = Network(64, [Dense(8, "tanh"), Dense(10)])  # the same samples on the line, and sooner simulated
SAMPLES = 64
BAUDS = (1_000_000, 3_000_000, 6_250_000)
LIMIT = 8 / BITS_A_BYTE  # of a line with start and stop bits
GOAL = 0.75  # of that limit
FRAME = HEADER.size + CHECK_BYTES + 2  # a packet's bytes beside its payload: COBS's own, and the zero behind it

BATCHES = (1, 32, 255)
KINDS = ("golden", "verilator")
PROFILED = 12  # functions


def run_wire(args: argparse.Namespace, report: Report) -> int:
    """Stream samples through the chip and its UART; return 1 if words differ or the line is used too little."""
    rng = np.random.default_rng(args.seed)
    params = LINE_NET.init(args.seed)
    x = rng.uniform(-1, 1, (SAMPLES, LINE_NET.inputs))
    y = rng.uniform(0, 1, (SAMPLES, LINE_NET.outputs))
    with open_device("golden", LINE_NET) as golden:
        golden.load(params)
        wanted = golden.gradients(x, y)
    sizes = WireSizes(LINE_NET)
    # The first packet was there, checked, before the network took its first word and the chip began to count.
    down = SAMPLES * (sizes.inputs + sizes.targets) - (MAX_PAYLOAD - MESSAGE_HEADER)
    up = sum(count * size for count, size in zip(sizes.words, sizes.gradient_word, strict=True))
    report.result(
        f"64-8-10, {SAMPLES} samples, UART simulated; share = payload bits / (baud * simulated seconds) / {LIMIT:g}, "
        f"at most {MAX_PAYLOAD / (MAX_PAYLOAD + FRAME):.3f} in full packets"
    )
    cycles = plan_network(LINE_NET).interval
    report.result(
        f"the network takes a sample every {cycles} cycles; at {max(BAUDS):,} baud the line brings one every "
        f"{round((sizes.inputs + sizes.targets) * BITS_A_BYTE * find_board(DEFAULT_BOARD).clock / max(BAUDS)):,}"
    )
    rows: list[dict[str, Any]] = []
    compared = Comparison()
    for baud in BAUDS:
        report.say(f"{baud:,} baud: building the simulation, streaming {down:,} bytes to the chip and {up:,} back")
        row, result = _stream(params, x, y, baud, args.seed, down, up)
        compared += compare_results(LINE_NET, result, wanted)
        rows.append(row)
        report.result(
            f"  {baud:9,} baud  {row['cycles_a_bit']:5.2f} cycles a bit  to the chip: {down:,} bytes in "
            f"{1e3 * row['down_seconds']:.2f} ms, share {row['down_share']:.3f}  from it: {up:,} bytes in "
            f"{1e3 * row['up_seconds']:.2f} ms, share {row['up_share']:.3f}  retries {row['retries']}"
        )
        report.result(
            f"  {'':9}  host: "
            + ", ".join(f"{name} {1e3 * row[name + '_seconds']:.1f} ms" for name in ("pack", "send", "wait", "unpack"))
            + f" of {1e3 * row['seconds']:.0f} ms (the wait is the simulation's)"
        )
    failures = [
        f"{row['baud']:,} baud: share of the line is {row['down_share']:.3f}; at least {GOAL} is needed"
        for row in rows
        if row["down_share"] < GOAL
    ]
    if compared.different:
        failures.append(f"{compared.different} words differ from the golden model's; the first: {compared.first}")
    for failure in failures:
        report.result(f"failed: {failure}")
    report.write({"suite": "wire", "seed": args.seed, "rows": rows, "words": compared.words, "failures": failures})
    return 1 if failures else 0


def _stream(params: Any, x: Any, y: Any, baud: int, seed: int, down: int, up: int) -> tuple[dict[str, Any], Result]:
    with ChipDevice(LINE_NET, bits=1, baud=baud, seed=seed % 2**31) as device:
        device.load(params)
        chip, clock = device.server.chip, device.info.clock
        start = chip.seconds
        result = device.gradients(x, y)
        seconds = chip.seconds - start
    stats, wire = result.stats, result.stats.wire
    # The chip's own count, from the first word that the network took to the first gradient; the rest is the read-out,
    # for which the chip's registers would not do: it counts words that wait in its send slots as read.
    down_seconds = stats.cycles / clock
    up_seconds = seconds - down_seconds
    row = {
        "baud": baud,
        "clock": clock,
        "cycles_a_bit": clock / baud,
        "down_bytes": down,
        "down_seconds": down_seconds,
        "down_share": 8 * down / (baud * down_seconds) / LIMIT,
        "up_bytes": up,
        "up_seconds": up_seconds,
        "chip_seconds": seconds,
        "up_share": 8 * up / (baud * up_seconds) / LIMIT,
        "retries": stats.retries,
        "bytes": stats.bytes,
        "seconds": stats.seconds,
        "pack_seconds": wire.pack_seconds,
        "send_seconds": wire.send_seconds,
        "wait_seconds": wire.wait_seconds,
        "unpack_seconds": wire.unpack_seconds,
        "errors": sum(astuple(wire)[:7]),
    }
    return row, result


def run_driver(args: argparse.Namespace, report: Report) -> int:
    """Measure what the driver adds to a call, and say where that goes."""
    rng = np.random.default_rng(args.seed)
    x = rng.uniform(-1, 1, (max(BATCHES), NET.inputs))
    y = rng.uniform(0, 1, (max(BATCHES), NET.outputs))
    document: dict[str, Any] = {"suite": "driver", "seed": args.seed, "devices": []}
    for kind in KINDS:
        report.say(f"{kind}: measuring calls of gradients() on 64-32-10")
        with open_device(kind, NET) as device:
            device.load(NET.init(args.seed))
            outside = {n: _outside(device, x[:n], y[:n], args.rounds) for n in BATCHES}
            least, most = min(BATCHES), max(BATCHES)
            a_sample = (outside[most] - outside[least]) / (most - least)
            a_call = outside[least] - least * a_sample
            report.result(
                f"{kind}: {1e6 * a_call:.0f} us a call and {1e6 * a_sample:.2f} us a sample outside of the device ("
                + ", ".join(f"batch {n}: {1e6 * seconds:.0f} us" for n, seconds in outside.items())
                + ")"
            )
            lines = _profile(device, x[:32], y[:32], args.rounds)
        for line in lines:
            report.result(f"    {line}")
        document["devices"].append(
            {
                "device": kind,
                "microseconds_a_call": 1e6 * a_call,
                "microseconds_a_sample": 1e6 * a_sample,
                "microseconds": {str(n): 1e6 * seconds for n, seconds in outside.items()},
                "profile": lines,
            }
        )
    report.write(document)
    return 0


def _outside(device: Any, x: Any, y: Any, rounds: int) -> float:
    """Give the median seconds of a call that are not the device's."""
    found = []
    for _ in range(20 * rounds):
        start = time.perf_counter()
        stats = device.gradients(x, y).stats
        found.append(time.perf_counter() - start - stats.device_seconds)
    return float(np.median(found))


def _profile(device: Any, x: Any, y: Any, rounds: int) -> list[str]:
    """Say in which functions a call spends its time, the device's own part in one line."""
    profile = cProfile.Profile()
    calls = 20 * rounds
    profile.enable()
    for _ in range(calls):
        device.gradients(x, y)
    profile.disable()
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]  # no stub has it
    own = next((entry for (_, _, name), entry in stats.items() if name == "_gradient_words"), None)
    lines = [] if own is None else [f"{1e6 * own[3] / calls:8.1f} us a call in the device itself, batch of {len(x)}"]
    mine = [
        (entry[3], entry[2], name, path)
        for (path, _, name), entry in stats.items()
        if "/host/dyadprop/" in path.replace("\\", "/") or "/dyadprop/" in path.replace("\\", "/")
    ]
    inside = 0.0 if own is None else own[3]
    for cumulated, self_time, name, path in sorted(mine, reverse=True):
        if cumulated >= inside or name.startswith("<"):  # around the device's own part, or nothing to look for
            continue
        module = path.replace("\\", "/").rpartition("/")[2].removesuffix(".py")
        lines.append(
            f"{1e6 * cumulated / calls:8.1f} us a call in {module}.{name}, {1e6 * self_time / calls:.1f} of its own"
        )
    return lines[: PROFILED + 1]
