"""The memories of a chip by formula: those of `dyadprop_hw`, under the same names."""

from functools import reduce
from operator import and_, or_

from dyadprop.operations import COUNTER_BITS, OPERATION_BITS, STAGE_BITS
from dyadprop.plan import Plan, StagePlan
from dyadprop.protocol import MAX_PACKET, MAX_PAYLOAD, REGISTER_BYTES, Register, WireSizes
from dyadprop.self_test import count_rows
from dyadprop.self_test_program import STEP_BITS, VALUE_BITS
from dyadprop.tables import SOFTMAX_FRACTION, TABLE_ACTIVATIONS, Table, exp_table, phi_table
from dyadprop.widths import StageNumbers, target_format
from dyadprop_boards.memory_mapping import Memory
from dyadprop_hw.chip import RECEIVE_BYTES
from dyadprop_hw.cost_head import CostHead
from dyadprop_hw.network import control_data_bits
from dyadprop_hw.softmax import Divider

_FLAGS = 2  # of an activation: learn, update
_CONTROL_HEAD = 1 + 1 + STAGE_BITS + OPERATION_BITS  # of a word on the control chain: own, kind, stage, operation


def _unused_data_bits(plan: Plan) -> int:
    """Give the bits of such a word that no answer takes: a counter's sign, where gradients are no longer than it."""
    return control_data_bits(plan) - max(COUNTER_BITS, *(stage.numbers.gradient_bits for stage in plan.stages))


def lane_memories(stage: StagePlan) -> list[Memory]:
    """Give the memories of one lane."""
    n = stage.numbers
    return [
        Memory("weights", n.weight.width, stage.words, reads=2, shared=True, proved=True),
        Memory("gradients", n.gradient_bits, stage.words, proved=True),
        Memory("deltas", n.sensitivity.width, stage.banks * stage.groups, proved=True),
    ]


def edge_memories(plan: Plan, stage: StagePlan) -> list[Memory]:
    """Give the memories of a stage around its lanes."""
    n = stage.numbers
    data_bits, unused = control_data_bits(plan), _unused_data_bits(plan)
    memories = [
        Memory("memory", n.input.width, stage.samples * n.inputs, reads=2, proved=True),
        Memory("activations", n.output.width + _FLAGS, stage.output_words, proved=True),
        Memory("control.answers", data_bits, stage.answer_words, proved=True, unused_high=unused),
        Memory("port.queue", _CONTROL_HEAD + data_bits, 2, proved=True, unused_high=unused),
    ]
    if n.activation in TABLE_ACTIVATIONS:
        memories.append(_table("activation.lookup", phi_table(n.activation, n.output.fraction_bits)))
    if n.has_sensitivity:
        below = plan.stages[n.index - 2].numbers if n.index > 1 else None
        memories.append(
            Memory(
                "sensitivities",
                n.input_sensitivity.width + n.input.width,
                stage.sensitivity_words,
                unused_high=0 if below is not None and _needs_activation(below) else n.input.width,
                proved=True,
            )
        )
    return memories


def head_memories(plan: Plan) -> list[Memory]:
    """Give the memories of the cost head."""
    net = plan.net
    last = net.layer_formats(len(net.layers))
    outputs, activation = net.outputs, last.activation.width
    memories = [
        Memory("outputs", activation + _FLAGS, 2, unused_high=_FLAGS, proved=True),
        Memory("held", activation, max(2, outputs), proved=True),
        Memory(
            "seeds",
            last.sensitivity.width + activation,
            CostHead.SEED_QUEUE,
            unused_high=0 if _needs_activation(plan.stages[-1].numbers) else activation,
            proved=True,
        ),
        Memory(
            "port.queue",
            _CONTROL_HEAD + control_data_bits(plan),
            2,
            unused_low=_CONTROL_HEAD,
            unused_high=_unused_data_bits(plan),
            proved=True,
        ),
    ]
    if net.cost == "softmax_cross_entropy":
        memories += [
            Memory("softmax.logits", activation, outputs),
            Memory("softmax.exponentials", SOFTMAX_FRACTION + 1, outputs),
            _table("softmax.lookup", exp_table(last.activation.fraction_bits)),
            Memory("softmax.queue", Divider.QUOTIENT_BITS + activation, outputs, proved=True),
        ]
    return memories


def link_memories(plan: Plan, identity: int, slots: int) -> list[Memory]:
    """Give the memories of the link.

    Parameters
    ----------
    plan : Plan
    identity : int
        Bytes of its answer to IDENTIFY.
    slots : int
        Packets that it has room for (`link_slots`).
    """
    net = plan.net
    last = net.layer_formats(len(net.layers))
    target = max(target_format(net).width, last.sensitivity.width) + 1
    weight = max(stage.numbers.weight.width for stage in plan.stages)
    memories = [
        Memory("core.bridge.commands.aside", weight, sum(WireSizes(net).words), proved=True),
        Memory("core.bridge.targets", target, (plan.stages[0].samples + 1) * net.outputs, proved=True),
        Memory("core.bridge.answers.outputs", last.activation.width, net.outputs, proved=True),
        Memory("core.bridge.answers.identity", 7, identity, written=False, constant=1),  # ASCII
    ]
    for window in ("inbox", "outbox"):
        memories += [
            Memory(f"core.session.{window}.slots", 8, slots * MAX_PAYLOAD, proved=True),
            Memory(f"core.session.{window}.lengths", MAX_PAYLOAD.bit_length(), slots, proved=True),
        ]
    memories += [
        Memory("core.session.encoder.buffer", 8, MAX_PACKET + 2, proved=True, block=True),
        Memory("core.registers.words", 8 * REGISTER_BYTES, 1 << (len(Register) - 1).bit_length(), proved=True),
        Memory("queue", 8, RECEIVE_BYTES, proved=True),
    ]
    if net.input_gradient:
        memories.append(
            Memory("core.bridge.answers.sensitivities", net.formats.sensitivity.width, net.inputs, proved=True)
        )
    return memories


def self_test_memory(plan: Plan) -> Memory:
    """Give the ROM of the self-test's program."""
    return Memory("core.self_test.rom", STEP_BITS + VALUE_BITS, count_rows(plan.net), written=False, block=True)


def _table(name: str, table: Table) -> Memory:
    value_bits = table.value_bits
    entries = [value | step << value_bits for value, step in zip(table.value, table.step, strict=True)]
    # A sigmoid's entries are a half or more.
    differ = (reduce(or_, entries) ^ reduce(and_, entries)).bit_count()
    width = value_bits + table.slope_bits
    return Memory(name, differ, 1 << table.index_bits, written=False, constant=width - differ)


def _needs_activation(n: StageNumbers) -> bool:
    """Say whether a stage takes its slope from the activation that a sensitivity brings along."""
    return n.activation != "identity" and not n.matched
