"""The hardware description itself as a device, whatever simulates it: a whole batch a call."""

from abc import abstractmethod
from typing import Any

import numpy as np

from dyadprop.device import DeviceInfo
from dyadprop.errors import RangeError
from dyadprop.formats import Ints
from dyadprop.network import Network, RawParameters
from dyadprop.operations import COUNTER_BITS, SCALE_BITS, STAGE_COUNTERS, Operation
from dyadprop.plan import DEFAULT_MULTIPLIERS, plan_network
from dyadprop.words import Counts, Part, WordDevice
from dyadprop_sim.library import source_hash
from dyadprop_sim.rtl_network import RtlNetwork, pack, unpack
from dyadprop_sim.transactions import Words


class RtlDevice(WordDevice):
    """What the RTL is as a device in all simulators; a subclass names one.

    Parameters
    ----------
    net : Network
    on_saturation : {"count", "warn", "raise"}
    multipliers : int
        Budget under which lanes are shared out where the layers name none.
    stalls : float
        Chance that a stream stalls in a cycle.
    seed : int
        Of stalls, and of random contents before reset where there are any.
    """

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
        budget = self._number("multipliers", multipliers, int, 1, 10**6)
        share = self._number("stalls", stalls, float, 0.0, 0.99)
        self.plan = plan_network(net, int(budget))
        self._rtl = self._simulate(stalls=share, seed=int(self._number("seed", seed, int, 0, 2**31)))
        try:
            self._counters = np.array(self._rtl.counters(), dtype=np.int64)
        except BaseException:
            self._rtl.close()
            raise

    @abstractmethod
    def _simulate(self, *, stalls: float, seed: int) -> RtlNetwork:
        """Build and start the network of the plan."""

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

    def _number(self, name: str, value: Any, kind: Any, low: float, high: float) -> Any:
        try:
            number = kind(value)
        except (TypeError, ValueError):
            number = None
        if number is None or (isinstance(value, float) and number != value) or not low <= number <= high:
            raise RangeError(
                f"option {name} of device {self.kind} is {value!r}; allowed are {kind.__name__} from {low} to {high}"
            )
        return number
