"""The tables of docs/theorem.md: between two marks each, written by the command, compared by a test."""

import re
from collections.abc import Mapping
from pathlib import Path

from dyadprop.errors import RangeError
from dyadprop.files import write_atomically
from dyadprop_sim.theorem.claim import Claim

_BLOCK = re.compile(r"^<!-- relax: (\w+) -->\n(.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL)


def tables(text: str) -> dict[str, str]:
    """Give the tables of a page by the name of their claim."""
    return {match[1]: match[2].strip() for match in _BLOCK.finditer(text)}


def rewritten(text: str, claims: Mapping[str, Claim]) -> str:
    """Give a page with the tables of these claims; the rest stays.

    Raises
    ------
    RangeError
        If the page has a table of another claim, or lacks one.
    """
    there = tables(text)
    if set(there) != set(claims):
        odd = sorted(set(there) ^ set(claims))[0]
        raise RangeError(f"page has tables of {', '.join(there) or 'nothing'}; claim {odd!r} is not in both")
    return _BLOCK.sub(lambda m: f"<!-- relax: {m[1]} -->\n{claims[m[1]].markdown()}\n<!-- end -->", text)


def rewrite(path: str | Path, claims: Mapping[str, Claim]) -> None:
    """Write the tables of these claims into a page.

    Raises
    ------
    RangeError
        If it cannot be read or written, or has other tables.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RangeError(f"page {path} cannot be read: {error}") from error
    try:
        write_atomically("page", path, rewritten(text, claims))
    except RangeError as error:
        raise RangeError(f"{path}: {error}") from error
