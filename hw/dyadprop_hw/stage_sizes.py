"""How many words a stage has, and how many bytes those are on the wire."""

import itertools

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from dyadprop.operations import STAGE_BITS
from dyadprop.protocol import WireSizes


class StageSizes(wiring.Component):
    """Look up the sizes of one stage.

    Parameters
    ----------
    sizes : WireSizes

    Members
    -------
    stage : In
        From 1; for any other all is zero.
    words : Out
        Weights, biases included; as many gradients.
    base : Out
        Words of all stages before.
    weight_bytes, gradient_bytes : Out
        Of a word.
    all_weights, all_gradients : Out
        Bytes of all words.

    Notes
    -----
    Follows ``stage`` in the same cycle.
    """

    stage: Signal
    words: Signal
    base: Signal
    weight_bytes: Signal
    gradient_bytes: Signal
    all_weights: Signal
    all_gradients: Signal

    def __init__(self, sizes: WireSizes) -> None:
        words, weight, gradient = sizes.words, sizes.weight_word, sizes.gradient_word
        self.columns = {
            "words": words,
            "base": tuple(itertools.accumulate(words[:-1], initial=0)),
            "weight_bytes": weight,
            "gradient_bytes": gradient,
            "all_weights": tuple(w * n for w, n in zip(weight, words, strict=True)),
            "all_gradients": tuple(g * n for g, n in zip(gradient, words, strict=True)),
        }
        super().__init__(
            {
                "stage": In(STAGE_BITS),
                **{name: Out(range(max(column) + 1)) for name, column in self.columns.items()},
            }
        )

    def elaborate(self, platform: object) -> Module:
        """One case a stage."""
        m = Module()
        with m.Switch(self.stage):
            for index in range(len(self.columns["words"])):
                with m.Case(index + 1):
                    m.d.comb += [getattr(self, name).eq(column[index]) for name, column in self.columns.items()]
        return m
