"""A network's RTL in a simulator, addressed in words of its streams: loads, commands, read-outs, transactions."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from amaranth.lib import data, wiring

from dyadprop.formats import Ints
from dyadprop.network import RawParameters
from dyadprop.operations import HEAD_COUNTERS, STAGE_COUNTERS, Operation
from dyadprop.plan import Plan
from dyadprop.widths import target_format
from dyadprop_hw.layouts import (
    ControlKind,
    StageStatus,
    activation_token,
    control_token,
    sensitivity_token,
    target_token,
)
from dyadprop_hw.network import DyadNetwork, control_data_bits
from dyadprop_sim.open_network import OpenNetwork, network_streams
from dyadprop_sim.transactions import DEFAULT_PATIENCE, TransactionSimulation, Words


def pack(layout: data.StructLayout, **fields: Any) -> Words:
    """Put fields into words as the hardware's structure lays them out; negative values become two's complement."""
    total: Any = np.uint64(0)
    for name, values in fields.items():
        field = layout[name]
        mask = np.uint64((1 << field.width) - 1)
        bits = np.asarray(values, dtype=np.int64).astype(np.uint64) & mask
        total = total | (bits << np.uint64(field.offset))
    return np.atleast_1d(total)


def unpack(layout: data.StructLayout, name: str, words: Words) -> Ints:
    """Take one signed field out of words."""
    field = layout[name]
    shift = np.int64(64 - field.width)
    bits = (words >> np.uint64(field.offset)).astype(np.int64) << shift
    return bits >> shift


class RtlNetwork:
    """What a network's RTL has in common in all simulators; a subclass builds and starts it.

    Parameters
    ----------
    plan : Plan
    open_links : bool
        Lead the links between stages through the harness.
    seed : int
        Of stalls.
    stalls : float
        Chance that a stream stalls in a cycle, on every stream.
    patience : int, optional
        Cycles without progress that count as stuck; where not given, several times what a sample takes to come back.
    selector : str
        Name of a selector port (`Ports.selector`).

    Attributes
    ----------
    simulation : TransactionSimulation
    """

    simulation: TransactionSimulation

    def __init__(
        self,
        plan: Plan,
        *,
        open_links: bool,
        seed: int,
        stalls: float,
        patience: int | None,
        selector: str = "",
    ) -> None:
        net = plan.net
        last = net.layer_formats(len(net.layers))
        self.plan = plan
        self.net = net
        self.input_token = activation_token(net.formats.activation)
        self.target_token = target_token(target_format(net), last.sensitivity)
        self.output_token = activation_token(last.activation)
        self.control_token = control_token(control_data_bits(plan))
        self.input_sensitivity_token = sensitivity_token(net.formats.sensitivity, net.formats.activation)
        self.ports = replace(network_streams(plan, open_links=open_links), selector=selector)
        self.stalls = stalls
        # Every stall costs a cycle at both ends of a word's way.
        longest = 4 * plan.gradient_latency / (1.0 - stalls) ** 2
        self.patience = max(DEFAULT_PATIENCE, round(longest)) if patience is None else patience
        self._seed = seed
        # What a build needs: how messages call it, what decides it, and the design itself.
        self._title = f"{'-'.join(map(str, net.widths))}, lanes {'/'.join(map(str, plan.lanes))}"
        self._key = f"{'open' if open_links else 'closed'} {net.hash} {plan.stages!r}"
        self._open_links = open_links

    def _make_top(self) -> wiring.Component:
        return OpenNetwork(self.plan) if self._open_links else DyadNetwork(self.plan)

    def link_tokens(self, layer: int) -> tuple[data.StructLayout, data.StructLayout]:
        """Give the layouts of the tokens between stage ``layer`` and its upper neighbour: activation, sensitivity."""
        numbers = self.plan.stages[layer - 1].numbers
        return activation_token(numbers.output), sensitivity_token(numbers.sensitivity, numbers.output)

    def run(self, inputs: dict[str, Words], outputs: dict[str, int], **options: Any) -> dict[str, Words]:
        """Run one transaction with fresh stalls (`TransactionSimulation.run`)."""
        self._seed += 1
        return self.simulation.run(
            inputs, outputs, stalls=self.stalls, seed=self._seed, patience=self.patience, **options
        )

    def command(self, stage: Any, operation: Operation, words: Any = 0) -> Words:
        """Make control words."""
        return pack(self.control_token, kind=ControlKind.COMMAND, stage=stage, operation=operation, data=words)

    def load(self, params: Sequence[RawParameters], operation: Operation = Operation.WORD) -> None:
        """Load weights and biases, or with WRITE_GRADIENT their accumulators; returns when every stage has them."""
        words = []
        for index, entry in enumerate(params, start=1):
            rows = np.hstack([entry.weight, entry.bias[:, None]])
            words += [self.command(index, Operation.BEGIN), self.command(index, operation, rows.ravel())]
        self.counters(words)

    def counters(self, before: list[Words] | None = None) -> list[int]:
        """Send commands that give no answer, then read all counters: their answer proves that the commands are done."""
        return [int(v) for v in self.control([], before or [])[0]]

    def control(
        self, reads: list[tuple[int, Operation, int]], after: list[Words], cycles: Any = None
    ) -> tuple[Ints, list[Ints]]:
        """Read out, then send commands, then read all counters.

        Parameters
        ----------
        reads : list of (stage, operation, words)
        after : list of control words that give no answer
        cycles : dict, optional
            As in `TransactionSimulation.run`.

        Returns
        -------
        counters : int64 array, three a stage and one of the cost head
        answers : list of int64 arrays, one a read-out
        """
        last = len(self.plan.stages)
        stages = np.arange(1, last + 2)
        commands = [self.command(stage, operation) for stage, operation, _ in reads]
        counts = [words for _, _, words in reads]
        answer = self.run(
            {"control_in": np.concatenate([*commands, *after, self.command(stages, Operation.COUNTERS)])},
            {"control_out": sum(counts) + STAGE_COUNTERS * last + HEAD_COUNTERS},
            cycles=cycles,
        )["control_out"]
        values = unpack(self.control_token, "data", answer)
        bounds = np.cumsum([0, *counts])
        answers = [values[a:b] for a, b in itertools.pairwise(bounds)]
        return values[bounds[-1] :], answers

    def stage_words(self, index: int, values: Ints, fraction_bits: int) -> RawParameters:
        """Shape a read-out of stage ``index`` into weights and biases."""
        numbers = self.plan.stages[index - 1].numbers
        table = values.reshape(numbers.outputs, numbers.columns)
        return RawParameters(table[:, :-1].copy(), table[:, -1].copy(), fraction_bits)

    def describe(self) -> str:
        """Say what each stage is doing."""
        return self.simulation.describe()

    def close(self) -> None:
        """Free the simulation."""
        self.simulation.close()


def describe_status(words: Sequence[int]) -> str:
    """Spell out the stages' status words."""
    text = []
    for index, word in enumerate(words, start=1):
        fields = {
            name: (word >> field.offset) & ((1 << field.width) - 1) for name, field in data.Layout.cast(StageStatus)
        }
        running = " and ".join(name for name in ("forward", "backward") if fields[name]) or "nothing"
        text.append(f"stage {index} runs {running}, holds {fields['stored']} samples, {fields['waiting']} of them wait")
    return "; ".join(text)
