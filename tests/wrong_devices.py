"""Devices that tests put in place of real ones: one that is right, three with a single wrong bit, one that fails."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any

import numpy as np
import pytest

from dyadprop import DeviceLost, Network
from dyadprop.formats import Ints
from dyadprop.words import Part
from dyadprop_sim.devices import GoldenDevice


class TwinDevice(GoldenDevice):
    """The golden model under another name."""

    kind = "twin"


class BrokenDevice(GoldenDevice):
    """Goes away at its first gradient."""

    kind = "broken"

    def _gradient_words(self, x: Ints, targets: Ints, *, seeds: bool) -> Part:
        raise DeviceLost("the cable of device 'broken' is out")


class CrookedDevice(GoldenDevice):
    """Golden, but one bit of one gradient word is wrong in each batch that holds a certain sample.

    That sample is the one at ``sample`` in the first batch; it is known again by its inputs.
    """

    kind = "crooked"
    OPTIONS = ("stage", "signal", "sample", "bit")

    def __init__(
        self,
        net: Network,
        *,
        stage: str = "1",
        signal: str = "weight",
        sample: str = "0",
        bit: str = "0",
        **options: Any,
    ) -> None:
        super().__init__(net, **options)
        self._stage, self._signal, self._sample, self._bit = int(stage), signal, int(sample), int(bit)
        self._victim: Ints | None = None

    def _gradient_words(self, x: Ints, targets: Ints, *, seeds: bool) -> Part:
        part = super()._gradient_words(x, targets, seeds=seeds)
        if self._victim is None:
            self._victim = x[self._sample].copy()
        if np.any(np.all(x == self._victim, axis=1)):
            gradient = part.gradients[self._stage - 1]
            words = getattr(gradient, self._signal).copy()
            words.flat[-1] ^= 1 << self._bit
            part.gradients[self._stage - 1] = gradient._replace(**{self._signal: words})
        return part


class ForgetfulDevice(GoldenDevice):
    """Golden, but one bit of the last output of one sample is wrong when only outputs are asked for."""

    kind = "forgetful"
    OPTIONS = ("sample",)

    def __init__(self, net: Network, *, sample: str = "0", **options: Any) -> None:
        super().__init__(net, **options)
        self._sample = int(sample)

    def _forward_words(self, x: Ints) -> Part:
        part = super()._forward_words(x)
        part.outputs[self._sample, -1] ^= 1
        return part


class DriftingDevice(GoldenDevice):
    """Golden, but one bit of what its first training leaves behind is wrong: of a residual, or of a weight."""

    kind = "drifting"
    OPTIONS = ("signal",)

    def __init__(self, net: Network, *, signal: str = "residual", **options: Any) -> None:
        super().__init__(net, **options)
        self._signal = signal
        self._right = False

    def _train_words(self, x: Ints, targets: Ints, *, batch_size: int, exponent: int, scale: int) -> Part:
        part = super()._train_words(x, targets, batch_size=batch_size, exponent=exponent, scale=scale)
        if self._right:
            return part
        self._right = True
        held = self._held.residuals if self._signal == "residual" else self._held.params
        words = held[0].weight.copy()
        words.flat[-1] ^= 1
        held[0] = held[0]._replace(weight=words)
        return part


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `dyadprop.open` find the devices of this module."""

    def with_ours(*, group: str) -> EntryPoints:
        ours = [
            EntryPoint(kind.kind, f"{__name__}:{kind.__name__}", group)
            for kind in (TwinDevice, BrokenDevice, CrookedDevice, DriftingDevice, ForgetfulDevice)
        ]
        return EntryPoints([*entry_points(group=group), *ours])

    monkeypatch.setattr("dyadprop.device.entry_points", with_ours)
