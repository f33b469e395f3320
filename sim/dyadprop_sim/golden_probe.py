"""The golden model as something to probe: the hardware's ticks without the hardware."""

from dyadprop.probes import Probe
from dyadprop.relaxation.state import State


class GoldenProbe(Probe):
    """The relaxation in the golden model."""

    kind = "golden"
    OPTIONS: tuple[str, ...] = ()

    def _begin(self, start: State) -> None:
        self._now = start

    def _advance(self, ticks: int) -> list[State]:
        states = self._relaxation().trajectory(self._now, ticks)
        self._now = states[-1]
        return states[1:]
