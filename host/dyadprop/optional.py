"""Packages that only some commands need."""

from collections.abc import Iterator
from contextlib import contextmanager

from dyadprop.errors import PackageMissing


@contextmanager
def optional_packages(purpose: str, extra: str = "demo") -> Iterator[None]:
    """Turn a missing package into a sentence.

    Parameters
    ----------
    purpose : str
        What it is needed for, the start of the sentence: "the digits data set".
    extra : str
        Which extra of dyadprop brings it.

    Raises
    ------
    PackageMissing
        For each `ImportError` in the block.

    Examples
    --------
    >>> with optional_packages("a picture"):
    ...     import math
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise PackageMissing(
            f"{purpose} needs the package {package}, which is not installed; try pip install 'dyadprop[{extra}]'"
        ) from error
