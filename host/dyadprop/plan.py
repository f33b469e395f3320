"""How a network becomes hardware: lanes, memories, queues, and the cycles that follow.

Predicted from formulas; tests hold them against the RTL, cycle for cycle.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dyadprop import timing
from dyadprop.errors import CapacityError
from dyadprop.network import Network
from dyadprop.widths import StageNumbers, stage_numbers

DEFAULT_MULTIPLIERS = 90


@dataclass(frozen=True)
class StagePlan:
    """Hardware of one stage, and its cycles.

    Attributes
    ----------
    numbers : StageNumbers
    lanes : int
        ``P``.
    samples : int
        Places of the sample memory: the samples in flight that leave no bubble.
    output_vectors, sensitivity_vectors : int
        Vectors that the output queues hold or expect.
    """

    numbers: StageNumbers
    lanes: int
    samples: int = 1
    output_vectors: int = 1
    sensitivity_vectors: int = 1

    @property
    def groups(self) -> int:
        """Row groups ``R = ceil(n_out / P)``."""
        return -(-self.numbers.outputs // self.lanes)

    @property
    def forward_pitch(self) -> int:
        """Cycles a row group takes forward: its columns, or the last group's ``P`` results, one a cycle."""
        return max(self.numbers.columns, self.lanes)

    @property
    def backward_pitch(self) -> int:
        """Columns a backward pass takes, with those that wait for a tiny layer's gradients to be written."""
        return max(self.numbers.columns, -(-timing.GRADIENT // self.groups))

    @property
    def tick(self) -> int:
        """Cycles between samples in steady state: ``R * max(n_in + 1, P, ceil(GRADIENT / R))``."""
        return self.groups * max(self.forward_pitch, self.backward_pitch)

    @property
    def output_span(self) -> int:
        """Cycles from a vector's first output to its last."""
        return (self.groups - 1) * self.forward_pitch + (self.numbers.outputs - 1) % self.lanes

    @property
    def first_output(self) -> int:
        """Cycles from the last input accepted to the first output offered, in an idle stage."""
        return (
            timing.COUNTED
            + timing.START
            + timing.SHOWN
            + timing.ISSUE
            + self.numbers.columns
            - 1
            + timing.RESULT
            + self.lanes
            - 1
            + timing.activation(self.numbers.activation)
            + timing.ENQUEUE
            + timing.queue(self.output_words)
        )

    @property
    def forward_latency(self) -> int:
        """Cycles from the last input accepted to the last output offered, in an idle stage."""
        return self.first_output + self.output_span

    @property
    def load_latency(self) -> int:
        """Cycles from the last sensitivity accepted to the pass: slope, rows that do not exist, and the decision."""
        missing = self.groups * self.lanes - self.numbers.outputs
        return timing.delta(self.numbers) + missing + timing.LOADED + timing.START

    @property
    def backward_tail(self) -> int:
        """Cycles from the start of a backward pass to its last sensitivity offered."""
        return (
            timing.SHOWN
            + timing.ISSUE
            + self.numbers.inputs * self.groups
            - 1
            + timing.PARTIAL
            + self.lanes
            - 1
            + timing.TOTAL
            + timing.REQUANTIZE
            + timing.ENQUEUE
            + timing.queue(self.sensitivity_words)
        )

    @property
    def backward_latency(self) -> int:
        """Cycles from the last sensitivity accepted to the last sensitivity offered, in an idle stage."""
        return self.load_latency + self.backward_tail

    @property
    def backward_cycles(self) -> int:
        """Cycles of a backward pass."""
        return self.groups * self.backward_pitch

    @property
    def banks(self) -> int:
        """Vectors of deltas that a lane has room for: a vector holds one from its first word to its pass's end."""
        before = self.groups * self.lanes + timing.delta(self.numbers) + timing.START
        held = before + timing.ISSUE - 1 + self.backward_cycles
        return -(-held // self.tick)

    @property
    def gradient_latency(self) -> int:
        """Cycles from the last sensitivity accepted to the last gradient written, in an idle stage."""
        issued = timing.SHOWN + timing.ISSUE + self.groups * self.numbers.columns - 1
        return self.load_latency + issued + self.lanes - 1 + timing.WRITTEN

    @property
    def update_latency(self) -> int:
        """Cycles from the last sensitivity of a batch accepted to the last new weight written, in an idle stage."""
        return self.gradient_latency - timing.WRITTEN + timing.UPDATE

    @property
    def read_latency(self) -> int:
        """Cycles from the decision to read a word to its answer."""
        return timing.DECISION + timing.ENTRY + self.lanes - 1 + timing.PARTIAL + timing.ANSWER

    @property
    def answer_words(self) -> int:
        """Read-outs under way at once: what keeps the way and its queue full."""
        return self.read_latency + 6

    @property
    def output_words(self) -> int:
        """Words that the queue of activations has room for."""
        return self.output_vectors * self.numbers.outputs

    @property
    def sensitivity_words(self) -> int:
        """Words that the queue of sensitivities has room for."""
        return self.sensitivity_vectors * self.numbers.inputs

    @property
    def multipliers(self) -> int:
        """Multipliers: 3 a lane (2 without a sensitivity pass), 2 for a slope."""
        return self.lanes * (3 if self.numbers.has_sensitivity else 2) + (2 if self.numbers.has_slope_product else 0)

    @property
    def words(self) -> int:
        """Weights a lane, and gradient accumulators."""
        return self.groups * self.numbers.columns

    @property
    def memory_bits(self) -> dict[str, int]:
        """Bits of each kind of memory."""
        n = self.numbers
        token = n.input_sensitivity.width + n.input.width
        return {
            "weights": self.lanes * self.words * n.weight.width,
            "gradients": self.lanes * self.words * n.gradient_bits,
            "deltas": self.lanes * self.banks * self.groups * n.sensitivity.width,
            "samples": self.samples * n.inputs * n.input.width,
            "outputs": self.output_words * (n.output.width + 2),
            "sensitivities": self.sensitivity_words * token if n.has_sensitivity else 0,
        }

    @property
    def products(self) -> int:
        """Useful products a sample: weights only, without biases and slopes."""
        n = self.numbers
        return n.inputs * n.outputs * (3 if n.has_sensitivity else 2)


@dataclass(frozen=True)
class Plan:
    """Hardware of a network, and its cycles.

    Attributes
    ----------
    net : Network
    stages : tuple of StagePlan
    """

    net: Network
    stages: tuple[StagePlan, ...]

    @property
    def lanes(self) -> tuple[int, ...]:
        """Lanes of each stage."""
        return tuple(stage.lanes for stage in self.stages)

    @property
    def head_latency(self) -> int:
        """Cycles from the last output accepted by the cost head to the last seed offered."""
        seed = timing.queue(self.net.outputs) + timing.SCALE + timing.REQUANTIZE + timing.QUEUE
        if self.net.cost != "softmax_cross_entropy":
            return seed
        return seed + 2 * self.net.outputs + timing.SOFTMAX_SUM + timing.DIVIDE + timing.queue(self.net.outputs)

    @property
    def head_interval(self) -> int:
        """Cycles a sample in the cost head."""
        if self.net.cost != "softmax_cross_entropy":
            return self.net.outputs
        return 3 * self.net.outputs + timing.SOFTMAX_SUM + timing.DIVIDE

    @property
    def interval(self) -> int:
        """Cycles a sample in steady state: the slowest stage's tick, or the cost head's interval."""
        return max(*(stage.tick for stage in self.stages), self.head_interval)

    @property
    def multipliers(self) -> int:
        """Multipliers of all stages; the cost head has none."""
        return sum(stage.multipliers for stage in self.stages)

    @property
    def products(self) -> int:
        """Useful products a sample (`StagePlan.products`)."""
        return sum(stage.products for stage in self.stages)

    @property
    def output_latency(self) -> int:
        """Cycles from a sample's first input word to its last output, alone in an idle network."""
        return self.net.inputs - 1 + sum(stage.forward_latency for stage in self.stages) + timing.QUEUE

    @property
    def gradient_latency(self) -> int:
        """Cycles from a sample's first input word to the last gradient written, in stage 1 of an idle network."""
        return (
            self.net.inputs
            - 1
            + sum(stage.forward_latency for stage in self.stages)
            + self.head_latency
            + sum(stage.backward_latency for stage in self.stages[1:])
            + self.stages[0].gradient_latency
        )

    @property
    def update_latency(self) -> int:
        """Cycles from the first input word of a batch of one to the last new weight written, in stage 1."""
        return self.gradient_latency - timing.WRITTEN + timing.UPDATE

    @property
    def step_interval(self) -> int:
        """Cycles between samples of a stream of batches of one: each waits for the step of the one before.

        From one forward pass of stage 1 to the next: once up, once down, through its own backward pass, and behind
        the step's wave.
        """
        first = self.stages[0]
        round_trip = (
            sum(stage.forward_latency for stage in self.stages)
            - timing.COUNTED  # the sample is there already
            + self.head_latency
            + sum(stage.backward_latency for stage in self.stages[1:])
        )
        stepped = timing.UPDATE - timing.ADDRESSED - timing.START - timing.SHOWN
        return round_trip + first.load_latency + first.backward_cycles + stepped


def plan_network(net: Network, multipliers: int = DEFAULT_MULTIPLIERS) -> Plan:
    """Share lanes out, then size memories and queues for no bubble.

    Parameters
    ----------
    net : Network
        Layers that name their ``lanes`` keep them.
    multipliers : int
        Budget; of all plans with the shortest interval the one with the fewest multipliers is taken.

    Raises
    ------
    CapacityError
        If one lane a stage is already too much, or the lanes named by the layers are.
    """
    numbers = stage_numbers(net)
    chosen = [layer.lanes for layer in net.layers]
    best = _share_lanes(net, numbers, chosen, multipliers)
    return _size(Plan(net, tuple(StagePlan(n, lanes) for n, lanes in zip(numbers, best, strict=True))))


def _options(numbers: StageNumbers, lanes: int | None) -> list[StagePlan]:
    """Give the stage's sensible lane counts: of those with the same tick only the smallest."""
    counts = [lanes] if lanes is not None else range(1, numbers.outputs + 1)
    best: dict[int, StagePlan] = {}
    for count in counts:
        stage = StagePlan(numbers, count)
        best.setdefault(stage.tick, stage)
    return list(best.values())


def _share_lanes(net: Network, numbers: list[StageNumbers], lanes: list[int | None], budget: int) -> list[int]:
    options = [_options(n, count) for n, count in zip(numbers, lanes, strict=True)]
    floor = Plan(net, tuple(StagePlan(n, n.outputs) for n in numbers)).head_interval

    def fit(limit: int) -> list[StagePlan] | None:
        found = []
        for stage_options in options:
            fast = [stage for stage in stage_options if stage.tick <= limit]
            if not fast:
                return None
            found.append(min(fast, key=lambda stage: (stage.multipliers, stage.tick)))
        return found

    # Exact: for a given interval each stage independently takes its cheapest lanes; intervals are the options' ticks.
    for limit in sorted({max(stage.tick, floor) for stage_options in options for stage in stage_options}):
        stages = fit(limit)
        if stages is not None and sum(stage.multipliers for stage in stages) <= budget:
            return [stage.lanes for stage in stages]
    least = sum(min(stage.multipliers for stage in stage_options) for stage_options in options)
    raise CapacityError(
        f"network {'-'.join(map(str, net.widths))} needs at least {least} multipliers"
        f"{' with the lanes its layers name' if any(lanes) else ''}; the budget is {budget}"
    )


def _size(plan: Plan) -> Plan:
    """Size memories and queues: a stage holds as many samples as fit into the round trip (docs/hardware.md)."""
    interval = plan.interval
    stages: list[StagePlan] = []
    deep = 2  # a queue may turn out to be deep, and that to be two cycles more
    for position, shared in reversed(list(enumerate(plan.stages))):
        stage = replace(
            shared,
            output_vectors=-(-(shared.forward_latency + deep + timing.RELEASE) // interval),
            sensitivity_vectors=-(-(timing.START + shared.backward_tail + deep + timing.RELEASE + 1) // interval),
        )
        before = plan.stages[position - 1] if position else None
        fill = before.output_span if before else plan.net.inputs - 1
        forward = fill + stage.first_output
        backward = stage.load_latency + timing.SHOWN + stage.backward_cycles + timing.RELEASE
        if stages:
            after = stages[-1]
            backward += after.backward_tail - after.backward_cycles
            beyond = after.samples
        else:
            backward += stage.output_span + plan.head_latency
            beyond = 0
        stages.append(replace(stage, samples=beyond + -(-(forward + backward) // interval)))
    return Plan(plan.net, tuple(reversed(stages)))


def stage_rows(plan: Plan) -> Iterator[dict[str, object]]:
    """Give one row of figures a stage, for tables and JSON."""
    for stage in plan.stages:
        n = stage.numbers
        yield {
            "stage": n.index,
            "shape": f"{n.inputs}x{n.outputs}",
            "activation": n.activation,
            "lanes": stage.lanes,
            "row_groups": stage.groups,
            "tick": stage.tick,
            "multipliers": stage.multipliers,
            "samples": stage.samples,
            "forward_latency": stage.forward_latency,
            "backward_latency": stage.backward_latency if n.has_sensitivity else None,
            "memory_bits": sum(stage.memory_bits.values()),
            **{f"{name}_bits": bits for name, bits in stage.memory_bits.items()},
        }
