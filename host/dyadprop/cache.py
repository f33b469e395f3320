"""Where things are kept that take long to make: simulations, netlists, placements."""

import os
from pathlib import Path

CACHE_VARIABLE = "DYADPROP_CACHE"


def cache_folder() -> Path:
    """Give the folder: ``$DYADPROP_CACHE``, else ``~/.cache/dyadprop``."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dyadprop"
