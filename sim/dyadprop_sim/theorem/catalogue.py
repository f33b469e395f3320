"""All claims, in the order of the page."""

from collections.abc import Callable

from dyadprop_sim.theorem import exact, local, orders, rivals, shapes, steps, words
from dyadprop_sim.theorem.claim import Claim

_MODULES = (exact, orders, local, steps, words, shapes, rivals)
CLAIMS: dict[str, Callable[[int], Claim]] = {
    measure.__name__: measure for module in _MODULES for measure in module.CLAIMS
}
