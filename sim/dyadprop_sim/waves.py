"""Watch the streams of a network's RTL, cycle by cycle, in Amaranth's own simulator."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.hdl import Module
from amaranth.sim import Simulator

from dyadprop.formats import Ints
from dyadprop.network import RawParameters
from dyadprop.operations import Operation
from dyadprop.plan import Plan
from dyadprop_hw.layouts import ControlKind
from dyadprop_hw.streams import connect_stream
from dyadprop_sim.open_network import OpenNetwork

PATIENCE = 20_000  # cycles


@dataclass
class Wave:
    """What one row of a wave shows.

    Attributes
    ----------
    name : str
    words : list of (int, int)
        Cycle and sample of each word that was transferred, or in which a pass ran.
    waits : list of int
        Cycles in which a word was offered and not taken.
    """

    name: str
    words: list[tuple[int, int]] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)


def watch(plan: Plan, params: Sequence[RawParameters], x: Ints, targets: Ints) -> list[Wave]:
    """Run a batch through a network and write down what its streams and passes do.

    Parameters
    ----------
    plan : Plan
    params : sequence of RawParameters
    x : int64 array (batch, n_0), format A_0
    targets : int64 array (batch, n_L), target format of the cost

    Returns
    -------
    list of Wave
        From the input up to the outputs and, from the targets, down again; cycle 0 is that of the first input word.
    """
    m = Module()
    m.submodules.network = network = OpenNetwork(plan)
    stages = range(1, len(plan.stages) + 1)
    for l in stages:
        for name in ("activation", "sensitivity"):
            connect_stream(m, getattr(network, f"{name}_{l}_out"), getattr(network, f"{name}_{l}_in"))
    open_network: Any = network
    widths = plan.net.widths
    streams = [(Wave("$x_0$ in"), open_network.input, widths[0])]
    passes = {}
    rows = [streams[0][0]]
    for l in stages:
        passes[l, "forward"] = Wave(f"stage {l} forward")
        streams.append((Wave(f"$x_{l}$"), getattr(network, f"activation_{l}_out"), widths[l]))
        rows += [passes[l, "forward"], streams[-1][0]]
    streams.append((Wave("targets in"), open_network.target, widths[-1]))
    rows.append(streams[-1][0])
    for l in reversed(stages):
        passes[l, "backward"] = Wave(f"stage {l} backward")
        streams.append((Wave(rf"$\lambda_{l}$"), getattr(network, f"sensitivity_{l}_out"), widths[l]))
        rows += [streams[-1][0], passes[l, "backward"]]
    lengths = {
        (l, which): stage.groups * (stage.forward_pitch if which == "forward" else stage.backward_pitch)
        for l, stage in enumerate(plan.stages, start=1)
        for which in ("forward", "backward")
    }

    async def bench(ctx: Any) -> None:
        ctx.set(open_network.output.ready, 1)
        ctx.set(open_network.control_out.ready, 1)
        if plan.net.input_gradient:
            ctx.set(open_network.input_sensitivity.ready, 1)
        await _load(ctx, open_network, params)
        left_x = [{"value": int(v), "learn": 1, "update": 0} for v in x.ravel()]
        left_targets = [{"value": int(v), "seed": 0} for v in targets.ravel()]
        moved = [0] * len(streams)
        ran = dict.fromkeys(passes, 0)
        for cycle in range(PATIENCE):
            for stream, words in ((open_network.input, left_x), (open_network.target, left_targets)):
                ctx.set(stream.valid, bool(words))
                if words:
                    ctx.set(stream.payload, words[0])
            for k, (wave, stream, width) in enumerate(streams):
                if ctx.get(stream.valid):
                    if ctx.get(stream.ready):
                        wave.words.append((cycle, moved[k] // width))
                        moved[k] += 1
                    else:
                        wave.waits.append(cycle)
            for (l, which), wave in passes.items():
                if ctx.get(getattr(network.status[l - 1], which)):
                    wave.words.append((cycle, ran[l, which] // lengths[l, which]))
                    ran[l, which] += 1
            for stream, words in ((open_network.input, left_x), (open_network.target, left_targets)):
                if words and ctx.get(stream.ready):
                    words.pop(0)
            if ran[1, "backward"] == len(x) * lengths[1, "backward"]:
                return
            await ctx.tick()
        raise AssertionError(f"the batch did not come back within {PATIENCE} cycles")

    simulator = Simulator(m)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return rows


async def _load(ctx: Any, network: Any, params: Sequence[RawParameters]) -> None:
    """Load parameters, and let the last of them arrive."""
    stream = network.control_in
    for index, entry in enumerate(params, start=1):
        words = np.hstack([entry.weight, entry.bias[:, None]]).ravel().tolist()
        for operation, word in [(Operation.BEGIN, 0), *((Operation.WORD, word) for word in words)]:
            ctx.set(stream.payload, {"kind": ControlKind.COMMAND, "stage": index, "operation": operation, "data": word})
            ctx.set(stream.valid, 1)
            await ctx.tick().until(stream.ready)
    ctx.set(stream.valid, 0)
    await ctx.tick().repeat(20)
