"""The suite `latency` of `dyadprop bench`: one step of online learning, in cycles and beside software."""

import argparse
from typing import Any

from dyadprop.network import Dense, Network
from dyadprop.plan import plan_network
from dyadprop.report import Report
from dyadprop_sim.steps import measure_steps, software_seconds

CASES = (((64, 32, 10), 90), ((16, 64, 32, 32, 5), 110))
CLOCKS = (100e6, 150e6)  # Hz, examples: no board has been built yet


def run_latency(args: argparse.Namespace, report: Report) -> int:
    """Measure, compare with the prediction and print; return 1 if a count of cycles is not the predicted one."""
    rows: list[dict[str, Any]] = []
    failures = []
    for widths, budget in CASES:
        name = "-".join(map(str, widths))
        net = Network(widths[0], [*(Dense(n, "tanh") for n in widths[1:-1]), Dense(widths[-1])])
        plan = plan_network(net, budget)
        report.say(f"{name}: measuring steps at batch 1 in the RTL, {plan.multipliers} multipliers")
        cycles = measure_steps(plan, seed=args.seed)
        seconds = software_seconds(net, args.seed)
        rows.append(
            {
                "network": name,
                "lanes": plan.lanes,
                "update_latency": cycles.update_latency,
                "update_latency_predicted": plan.update_latency,
                "step_interval": cycles.interval,
                "step_interval_predicted": plan.step_interval,
                "microseconds": {f"{clock / 1e6:.0f} MHz": cycles.update_latency / clock * 1e6 for clock in CLOCKS},
                "software_microseconds": {kind: 1e6 * value for kind, value in seconds.items()},
            }
        )
        row = rows[-1]
        at = ", ".join(f"{us:.2f} us at {clock}" for clock, us in row["microseconds"].items())
        report.result(
            f"{name}: {cycles.update_latency} cycles from the first input word to the last new weight "
            f"(predicted {plan.update_latency}): {at}; a step every {cycles.interval:g} cycles "
            f"(predicted {plan.step_interval})"
        )
        software = ", ".join(f"{kind} {1e6 * value:.2f} us" for kind, value in seconds.items())
        report.result(f"{'':{len(name)}}  the same step in software on this machine: {software}")
        if (cycles.update_latency, cycles.interval) != (plan.update_latency, plan.step_interval):
            failures.append(f"{name}: cycles differ from their prediction")
    for failure in failures:
        report.result(f"failed: {failure}")
    report.write({"suite": "latency", "seed": args.seed, "cases": rows, "failures": failures})
    return 1 if failures else 0
