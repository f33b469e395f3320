"""The tables of docs/boards.md: each between a mark of its own and an end."""

from pathlib import Path

from dyadprop.errors import RangeError

PAGE = "docs/boards.md"
END = "<!-- end -->"


def read_page(page: Path) -> str:
    """Give a page's text.

    Raises
    ------
    RangeError
        If it cannot be read.
    """
    try:
        return page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RangeError(f"page {page} cannot be read: {error}") from error


def rewritten(text: str, mark: str, table: str) -> str:
    """Give a page with another table between a mark and the next `END`.

    Raises
    ------
    RangeError
        If it has no such marks.
    """
    begin = text.find(mark)
    end = text.find(END, begin)
    if begin < 0 or end < 0 or "<!--" in text[begin + len(mark) : end]:  # the end is another table's
        raise RangeError(f"page has no place for the table: expected {mark.strip()!r} and {END!r}")
    return f"{text[: begin + len(mark)]}{table}\n{text[end:]}"
