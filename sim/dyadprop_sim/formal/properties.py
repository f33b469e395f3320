# amaranth: UnusedElaboratable=no
"""What is proved, on which small design, how deep; and which broken design shows that the proof could fail.

Each property is of a design for the model checker (`dyadprop_sim.formal.designs`). The gateware's own claims
(`dyadprop_hw.claims`) are checked on the way wherever a block is inside.
"""

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.hdl import Elaboratable

from dyadprop_hw.clock_crossing import ClockCrossing
from dyadprop_hw.network import make_cost_head
from dyadprop_hw.softmax import Divider
from dyadprop_hw.streams import Queue, Relay
from dyadprop_sim.formal.designs import (
    Alive,
    Deaf,
    Exact,
    Harness,
    Once,
    OneMark,
    Resynchronises,
    Swapping,
    deep_queue,
    no_room,
    smallest_plan,
    softmax_plan,
    stage,
    tiny_plan,
)


@dataclass(frozen=True)
class Property:
    """One proof.

    Attributes
    ----------
    name : str
    says : str
        What is proved.
    make : callable
        Makes the design to be checked.
    broken : callable
        Makes a design in which the property does not hold: the checker must find that out.
    depth : int
        Cycles after reset.
    broken_depth : int
        Cycles in which the broken design must be found out.
    any_state : bool
        Begin in any state at all, not in that after reset.
    """

    name: str
    says: str
    make: Callable[[], Elaboratable]
    broken: Callable[[], Elaboratable]
    depth: int
    broken_depth: int
    any_state: bool = False


PROPERTIES = (
    Property(
        "queue-2",
        "a queue of two loses, repeats and reorders nothing, and has room for two",
        lambda: OneMark(Queue(1, 2), 2),
        lambda: OneMark(Swapping(), 1),
        20,
        10,
    ),
    Property(
        "queue-5",
        "a queue of five loses, repeats and reorders nothing, and has room for five",
        lambda: OneMark(Queue(1, 5), 5),
        lambda: OneMark(Queue(1, 5), 7),
        15,
        15,
    ),
    Property(
        "deep-queue",
        "the same of a queue with two registers behind its memory, and room for three",
        lambda: OneMark(deep_queue(3), 3),
        lambda: OneMark(deep_queue(3), 8),
        15,
        15,
    ),
    Property(
        "relay",
        "a relay loses, repeats and reorders nothing, and has room for one",
        lambda: OneMark(Relay(1), 1),
        lambda: OneMark(Relay(1), 2),
        20,
        10,
    ),
    Property(
        "crossing",
        "a crossing between two equal clocks loses, repeats and reorders nothing",
        lambda: OneMark(ClockCrossing(1, "sync", "sync"), 0),
        lambda: OneMark(Swapping(), 0),
        30,
        30,
    ),
    Property(
        "queue-streams",
        "a queue never takes back or changes what it offers",
        lambda: Harness(Queue(2, 3)),
        lambda: Harness(Queue(2, 3), retracts=True),
        20,
        10,
    ),
    Property(
        "first-stage",
        "stage 1 keeps the stream rules, has room when a pass writes, and never reads and writes one word at once",
        lambda: Harness(stage(0)),
        lambda: no_room(0),
        34,
        34,
    ),
    Property(
        "last-stage",
        "the same of a stage with a sensitivity pass and two lanes",
        lambda: Harness(stage(1)),
        lambda: no_room(1),
        31,
        34,
    ),
    Property(
        "cost-head",
        "the cost head keeps the stream rules, and its queue of seeds is never full",
        lambda: Harness(make_cost_head(tiny_plan())),
        lambda: Harness(make_cost_head(tiny_plan()), retracts=True),
        30,
        30,
    ),
    Property(
        "softmax-head",
        "the same with a softmax",
        lambda: Harness(make_cost_head(softmax_plan())),
        lambda: Harness(make_cost_head(softmax_plan()), retracts=True),
        40,
        30,
    ),
    Property(
        "divider",
        "the divider's quotient is the nearest, and the even one of two",
        Exact,
        lambda: Exact(off_by=1),
        Divider.LATENCY + 2,
        Divider.LATENCY + 2,
    ),
    Property(
        "resynchronises",
        "a packet decoder in any state is as after reset once a delimiter has passed, and never leaves its buffer",
        Resynchronises,
        lambda: Resynchronises(Deaf),
        12,  # behind a delimiter 9 bytes; a solver that has to see through 12 bytes' check sums takes hours
        10,
        any_state=True,
    ),
    Property(
        "once",
        "a receive window takes each number once, in order, and gives no byte that it did not take",
        Once,
        lambda: Once(lax=True),
        16,
        12,
    ),
    Property(
        "no-deadlock",
        "a 1-1 network moves a word at least every 28 cycles, whatever its streams' stalls (none twice in a row)",
        lambda: Alive(smallest_plan(), 28),
        lambda: Alive(smallest_plan(), 9),
        40,
        30,
    ),
)
