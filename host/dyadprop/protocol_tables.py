"""The tables of docs/protocol.md, written from `dyadprop.protocol`: ``python -m dyadprop.protocol_tables PAGE``."""

import ast
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from dyadprop import protocol
from dyadprop.errors import DyadpropError, RangeError
from dyadprop.files import write_atomically

_TABLE = re.compile(r"<!-- (?P<name>\w+) -->\n.*?<!-- end -->", re.DOTALL)


def members(source: str, name: str) -> list[tuple[str, int, str]]:
    """Give name, number and docstring of each member of an enum.

    Parameters
    ----------
    source : str
        Python source.
    name : str
        Of a class in it.

    Raises
    ------
    RangeError
        If there is no such class, or a member has no docstring.
    """
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name]
    if not classes:
        raise RangeError(f"protocol has no enum {name!r}")
    found = []
    for node, behind in zip(classes[0].body, [*classes[0].body[1:], None], strict=True):
        if not isinstance(node, ast.Assign):
            continue
        (target,) = node.targets
        member = ast.unparse(target)
        if not (
            isinstance(behind, ast.Expr)
            and isinstance(behind.value, ast.Constant)
            and isinstance(behind.value.value, str)
        ):
            raise RangeError(f"{name}.{member} of the protocol has no docstring")
        found.append((member, int(ast.literal_eval(node.value)), " ".join(behind.value.value.split())))
    return found


def table(source: str, name: str) -> str:
    """Give the Markdown table of an enum."""
    rows = members(source, name)
    wide = max(number for _, number, _ in rows) > 15
    lines = [f"| {name.lower()} | | |", "|---|---|---|"]
    for member, number, text in rows:
        text = re.sub(r"``?(.+?)``?", r"`\1`", text).replace("|", r"\|")
        lines.append(f"| {f'`{number:#04x}`' if wide else number} | {member} | {text} |")
    return "\n".join(lines)


def fill(page: str, source: str | None = None) -> str:
    """Give a page with the tables between ``<!-- Name -->`` and ``<!-- end -->`` written anew.

    Parameters
    ----------
    page : str
    source : str, optional
        That of `dyadprop.protocol` where not given.
    """
    text = inspect.getsource(protocol) if source is None else source

    def written(found: re.Match[str]) -> str:
        return f"<!-- {found['name']} -->\n{table(text, found['name'])}\n<!-- end -->"

    return _TABLE.sub(written, page)


def main(arguments: Sequence[str]) -> int:
    """Write the tables of pages; give the exit code."""
    if not arguments:
        print("usage: python -m dyadprop.protocol_tables PAGE...", file=sys.stderr)
        return 2
    try:
        for path in arguments:
            page = Path(path).read_text(encoding="utf-8")
            write_atomically("page", path, fill(page))
    except (OSError, UnicodeDecodeError, DyadpropError) as error:
        print(f"page cannot be written: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
