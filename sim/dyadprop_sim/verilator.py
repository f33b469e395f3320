"""The hardware description itself as a device: its RTL in a compiled simulation, a whole batch a call."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from amaranth.lib import data

from dyadprop.device import DeviceInfo
from dyadprop.errors import RangeError
from dyadprop.formats import Ints
from dyadprop.network import Network, RawParameters
from dyadprop.operations import COUNTER_BITS, HEAD_COUNTERS, SCALE_BITS, STAGE_COUNTERS, Operation
from dyadprop.plan import DEFAULT_MULTIPLIERS, Plan, plan_network
from dyadprop.widths import target_format
from dyadprop.words import Counts, Part, WordDevice
from dyadprop_hw.layouts import (
    ControlKind,
    StageStatus,
    activation_token,
    control_token,
    sensitivity_token,
    target_token,
)
from dyadprop_hw.network import DyadNetwork, control_data_bits
from dyadprop_sim.library import BuildOptions, build_library, source_hash
from dyadprop_sim.open_network import OpenNetwork, network_streams
from dyadprop_sim.simulation import Simulation
from dyadprop_sim.transactions import DEFAULT_PATIENCE, Words

# Many designs that run briefly: compiled fast, checked hard.
VERIFICATION = BuildOptions(optimize="-O0", assertions=True, random_start=True)


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


class NetworkSimulation:
    """A network's RTL in simulation, addressed in words of its streams.

    Parameters
    ----------
    plan : Plan
    open_links : bool
        Lead the links between stages through the harness, where they can stall, be preloaded, flipped and watched.
    options : BuildOptions, optional
    seed : int
        Of random contents before reset (``options.random_start``) and of stalls.
    stalls : float
        Chance that a stream stalls in a cycle, on every stream.
    patience : int, optional
        Cycles without progress that count as stuck; where not given, several times what a sample takes to come back.
    verilog : str
        A module ``top`` with the network's ports, to be simulated instead of the RTL: exported, or made by synthesis.
    selector : str
        Its selector port (`Ports.selector`).
    """

    def __init__(
        self,
        plan: Plan,
        *,
        open_links: bool = False,
        options: BuildOptions | None = None,
        seed: int = 0,
        stalls: float = 0.0,
        patience: int | None = None,
        verilog: str = "",
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
        self._path = build_library(
            f"{'-'.join(map(str, net.widths))}, lanes {'/'.join(map(str, plan.lanes))}",
            f"{'open' if open_links else 'closed'} {net.hash} {plan.stages!r} {verilog}",
            lambda: verilog or (OpenNetwork(plan) if open_links else DyadNetwork(plan)),
            self.ports,
            options,
        )
        self._random_start = options is not None and options.random_start
        self.stalls = stalls
        # Every stall costs a cycle at both ends of a word's way.
        longest = 4 * plan.gradient_latency / (1.0 - stalls) ** 2
        self.patience = max(DEFAULT_PATIENCE, round(longest)) if patience is None else patience
        self.simulation = self._start(seed, seed, 0)

    def restart(self, *, seed: int = 0, contents: int | None = None, select: int = 0) -> None:
        """Begin again from reset: other stalls, other random contents (if not given, of the same seed), selector."""
        self.simulation.close()
        self.simulation = self._start(seed, seed if contents is None else contents, select)

    def _start(self, seed: int, contents: int, select: int) -> Simulation:
        self._seed = seed
        return Simulation(
            self._path,
            self.ports,
            seed=contents,
            randomize=self._random_start,
            select=select,
            spell=describe_status,
        )

    def link_tokens(self, layer: int) -> tuple[data.StructLayout, data.StructLayout]:
        """Give the layouts of the tokens between stage ``layer`` and its upper neighbour: activation, sensitivity."""
        numbers = self.plan.stages[layer - 1].numbers
        return activation_token(numbers.output), sensitivity_token(numbers.sensitivity, numbers.output)

    def run(self, inputs: dict[str, Words], outputs: dict[str, int], **options: Any) -> dict[str, Words]:
        """Run one transaction with fresh stalls (`Simulation.run`)."""
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
            As in `Simulation.run`.

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


class VerilatorDevice(WordDevice):
    """The RTL itself, simulated: built once with Verilator, then one call a batch.

    Parameters
    ----------
    net : Network
    on_saturation : {"count", "warn", "raise"}
    multipliers : int
        Budget under which lanes are shared out where the layers name none.
    stalls : float
        Chance that a stream stalls in a cycle. Above 0 the design is built for verification instead of speed: links
        between stages are
        open and stall too, assertions are kept, registers and memories hold random contents before reset.
    seed : int
        Of stalls and random contents.
    """

    kind = "verilator"
    OPTIONS = ("multipliers", "stalls", "seed")

    def __init__(
        self,
        net: Network,
        *,
        on_saturation: str = "count",
        multipliers: int | str = DEFAULT_MULTIPLIERS,
        stalls: float | str = 0.0,
        seed: int | str = 0,
    ) -> None:
        super().__init__(net, on_saturation=on_saturation)
        budget = _number("multipliers", multipliers, int, 1, 10**6)
        share = _number("stalls", stalls, float, 0.0, 0.99)
        self.plan = plan_network(net, int(budget))
        self._rtl = NetworkSimulation(
            self.plan,
            open_links=share > 0,
            options=VERIFICATION if share > 0 else None,
            stalls=share,
            seed=int(_number("seed", seed, int, 0, 2**31)),
        )
        try:
            self._counters = np.array(self._rtl.counters(), dtype=np.int64)
        except BaseException:
            self._rtl.close()
            raise

    @property
    def info(self) -> DeviceInfo:
        """Who answers."""
        net = self.net
        return DeviceInfo(
            kind=self.kind,
            network=net.hash,
            gateware=source_hash()[:12],
            board="",
            clock=0.0,
            formats=tuple(net.layer_formats(index) for index in range(len(net.layers) + 1)),
            lanes=self.plan.lanes,
            max_batch=net.max_batch,
        )

    def _close(self) -> None:
        self._rtl.close()

    def _load_words(self, params: list[RawParameters]) -> None:
        self._rtl.load(params)

    def _train_words(self, x: Ints, targets: Ints, *, batch_size: int, exponent: int, scale: int) -> Part:
        rtl, net = self._rtl, self.net
        last = len(self.plan.stages)
        rates = [rtl.command(s.numbers.index, Operation.RATE, s.numbers.step_shift(exponent)) for s in self.plan.stages]
        rtl.counters([*rates, rtl.command(last + 1, Operation.RATE, scale)])
        ends = np.zeros(len(x), dtype=np.int64)
        ends[batch_size - 1 :: batch_size] = 1
        ends[-1] = 1
        expected = {"output": len(x) * net.outputs}
        if net.input_gradient:
            expected["input_sensitivity"] = len(x) * net.inputs
        start = rtl.simulation.cycle
        answer = rtl.run(
            {
                "input": pack(rtl.input_token, value=x.ravel(), learn=1, update=np.repeat(ends, net.inputs)),
                "target": pack(rtl.target_token, value=targets.ravel(), seed=0),
            },
            expected,
        )
        cycles = rtl.simulation.cycle - start
        # A stage carries this out when its last step is done, so the counters behind it are complete.
        done = [rtl.command(s.numbers.index, Operation.RATE, 0) for s in self.plan.stages]
        counters, _ = rtl.control([], [*done, rtl.command(last + 1, Operation.RATE, 1 << SCALE_BITS)])
        outputs = unpack(rtl.output_token, "value", answer["output"]).reshape(len(x), -1)
        return Part(outputs, None, [], self._saturations(counters), cycles)

    def _read_residuals(self) -> list[RawParameters]:
        _, answers = self._rtl.control(self._reads(Operation.READ_GRADIENT), [])
        return self._stage_gradients(answers)

    def _write_residuals(self, residuals: list[RawParameters]) -> None:
        self._rtl.load(residuals, Operation.WRITE_GRADIENT)

    def _stage_gradients(self, answers: list[Ints]) -> list[RawParameters]:
        return [
            self._rtl.stage_words(stage.numbers.index, values, stage.numbers.gradient_fraction)
            for stage, values in zip(self.plan.stages, answers, strict=True)
        ]

    def _read_words(self) -> list[RawParameters]:
        _, answers = self._rtl.control(self._reads(Operation.READ_WEIGHT), [])
        return [
            self._rtl.stage_words(index, values, self.net.layer_formats(index).weight.fraction_bits)
            for index, values in enumerate(answers, start=1)
        ]

    def _reads(self, operation: Operation) -> list[tuple[int, Operation, int]]:
        return [(s.numbers.index, operation, s.numbers.outputs * s.numbers.columns) for s in self.plan.stages]

    def _saturations(self, counters: Ints) -> Counts:
        """Turn counters, three a stage and one of the head, into what was added since the last time."""
        added = (counters - self._counters) % (1 << COUNTER_BITS)
        self._counters = counters
        last = len(self.plan.stages)
        counts: Counts = {}
        for index in range(1, last + 1):
            activation, sensitivity, weight = (int(n) for n in added[STAGE_COUNTERS * (index - 1) :][:STAGE_COUNTERS])
            counts[index, "activation"] = activation
            counts[index - 1, "sensitivity"] = sensitivity
            counts[index, "weight"] = weight
        counts[last, "sensitivity"] = int(added[-1])
        return counts

    def _inputs(self, x: Ints, *, learn: bool) -> Words:
        return pack(self._rtl.input_token, value=x.ravel(), learn=int(learn))

    def _forward_words(self, x: Ints) -> Part:
        rtl = self._rtl
        start = rtl.simulation.cycle
        answer = rtl.run({"input": self._inputs(x, learn=False)}, {"output": len(x) * self.net.outputs})
        cycles = rtl.simulation.cycle - start
        counters, _ = rtl.control([], [])
        outputs = unpack(rtl.output_token, "value", answer["output"]).reshape(len(x), -1)
        return Part(outputs, None, [], self._saturations(counters), cycles)

    def _gradient_words(self, x: Ints, targets: Ints, *, seeds: bool) -> Part:
        rtl, net = self._rtl, self.net
        expected = {"output": len(x) * net.outputs}
        if net.input_gradient:
            expected["input_sensitivity"] = len(x) * net.inputs
        start = rtl.simulation.cycle
        answer = rtl.run(
            {
                "input": self._inputs(x, learn=True),
                "target": pack(rtl.target_token, value=targets.ravel(), seed=int(seeds)),
            },
            expected,
        )
        # The first gradient word leaves when the last sample's gradients are written; accumulators are cleared behind
        # the read-out.
        times: dict[str, Words] = {}
        clear = [rtl.command(stage.numbers.index, Operation.CLEAR) for stage in self.plan.stages]
        counters, sums = rtl.control(self._reads(Operation.READ_GRADIENT), clear, cycles=times)
        first_word = int(times["control_out"][0])
        inputs = None
        if net.input_gradient:
            inputs = unpack(rtl.input_sensitivity_token, "value", answer["input_sensitivity"]).reshape(len(x), -1)
        return Part(
            outputs=unpack(rtl.output_token, "value", answer["output"]).reshape(len(x), -1),
            inputs=inputs,
            gradients=self._stage_gradients(sums),
            saturations=self._saturations(counters),
            cycles=first_word - start,
            transfer_cycles=rtl.simulation.cycle - first_word,
        )


def _number(name: str, value: Any, kind: Any, low: float, high: float) -> Any:
    try:
        number = kind(value)
    except (TypeError, ValueError):
        number = None
    if number is None or (isinstance(value, float) and number != value) or not low <= number <= high:
        raise RangeError(
            f"option {name} of device verilator is {value!r}; allowed are {kind.__name__} from {low} to {high}"
        )
    return number
