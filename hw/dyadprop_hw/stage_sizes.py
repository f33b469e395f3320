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
    weights_in, gradients_in : Out
        Bytes of the body of a command that brings all words: the stage and they.
    weights_out, gradients_out : Out
        Bytes of the body of an answer with all words: stage, operation and they.

    Notes
    -----
    Follows ``stage`` in the same cycle. Sums are columns of their own: a table of few stages is smaller than an adder.
    """

    stage: Signal
    words: Signal
    base: Signal
    weight_bytes: Signal
    gradient_bytes: Signal
    weights_in: Signal
    gradients_in: Signal
    weights_out: Signal
    gradients_out: Signal

    def __init__(self, sizes: WireSizes) -> None:
        words, weight, gradient = sizes.words, sizes.weight_word, sizes.gradient_word
        self.columns = {
            "words": words,
            "base": tuple(itertools.accumulate(words[:-1], initial=0)),
            "weight_bytes": weight,
            "gradient_bytes": gradient,
            "weights_in": tuple(1 + w * n for w, n in zip(weight, words, strict=True)),
            "gradients_in": tuple(1 + g * n for g, n in zip(gradient, words, strict=True)),
            "weights_out": tuple(2 + w * n for w, n in zip(weight, words, strict=True)),
            "gradients_out": tuple(2 + g * n for g, n in zip(gradient, words, strict=True)),
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
