"""The tables of docs/protocol.md are those of the enums."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dyadprop import protocol
from dyadprop.errors import RangeError
from dyadprop.protocol_tables import fill, main, members

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"


def test_the_page_is_up_to_date():
    text = PAGE.read_text(encoding="utf-8")
    assert fill(text) == text, "run python -m dyadprop.protocol_tables docs/protocol.md"
    rows = 0
    for kind in (protocol.Packet, protocol.Command, protocol.Answer, protocol.Reason, protocol.Register):
        assert f"<!-- {kind.__name__} -->\n|" in text
        for member in kind:
            assert f"| {member.name} | " in text
            rows += 1
    assert rows == 9 + 16 + 11 + 8 + 12


def test_a_page_is_written_anew(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- Packet -->\nold\n<!-- end -->\nb\n")
    assert subprocess.run([sys.executable, "-m", "dyadprop.protocol_tables", str(page)], check=True).returncode == 0
    lines = page.read_text().splitlines()
    assert lines[:4] == ["a", "<!-- Packet -->", "| packet | | |", "|---|---|---|"]
    assert lines[4].startswith("| 1 | DATA | Both ways. `sequence` is its number;")
    assert lines[-2:] == ["<!-- end -->", "b"]


SOURCE = '''
class Kind(IntEnum):
    """A kind."""

    ONE = 1
    """First | of
    two: ``a`` and `b`."""
    HIGH = 0x20
    """Second."""
'''


def test_members_and_rows():
    assert members(SOURCE, "Kind") == [("ONE", 1, "First | of two: ``a`` and `b`."), ("HIGH", 32, "Second.")]
    assert fill("<!-- Kind -->\n<!-- end -->", SOURCE).splitlines()[3:5] == [
        "| `0x01` | ONE | First \\| of two: `a` and `b`. |",
        "| `0x20` | HIGH | Second. |",
    ]


def test_what_is_wrong_is_said(tmp_path, capsys):
    with pytest.raises(RangeError, match=r"^protocol has no enum 'Other'$"):
        members(SOURCE, "Other")
    with pytest.raises(RangeError, match=r"^Kind.HIGH of the protocol has no docstring$"):
        members(SOURCE.replace('"""Second."""', ""), "Kind")
    page = tmp_path / "page.md"
    page.write_text("<!-- Nothing -->\n<!-- end -->\n")
    assert main([str(page)]) == 2
    assert capsys.readouterr().err == "page cannot be written: protocol has no enum 'Nothing'\n"
    assert main([]) == 2
