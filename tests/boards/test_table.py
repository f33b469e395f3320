"""The table of boards agrees with their platforms, and a board of one's own is a file."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.vendor import LatticeECP5Platform

import dyadprop as dp
from dyadprop_boards import fpgas
from dyadprop_boards.fpgas import Fpga
from dyadprop_boards.platform_check import check_platform
from dyadprop_boards.project import make_platform
from dyadprop_boards.table import BOARDS, Board, check_board, find_board

DOCS = Path(__file__).parents[2] / "docs" / "boards.md"
FPGAS = [value for value in vars(fpgas).values() if isinstance(value, Fpga)]


def test_names_are_unique_and_found() -> None:
    names = [board.name for board in BOARDS]
    assert len(set(names)) == len(names) >= 15
    assert [find_board(name) for name in names] == list(BOARDS)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_row_agrees_with_its_platform(board: Board) -> None:
    check_board(board)
    check_platform(board, make_platform(board))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fpga": fpgas.LFE5U_45F}, "names the FPGA 'LFE5U-45F'; its platform has 'LFE5U-25F'"),
        ({"package": "BG256"}, "names the package 'BG256'; its platform has 'MG285'"),
        ({"speed": "6"}, "names the speed grade '6'; its platform has '8'"),
        ({"clock_pin": "clk25"}, "names the clock pin 'clk25'; its platform has 'clk'"),
        (
            {"clock": 50_000_000},
            "has a clock of 50000000 Hz; its platform's, at 'clk', has 48000000 Hz",
        ),
        ({"uart": "serial"}, "names the serial port 'serial' 0, which its platform does not have"),
        ({"uart": "rgb_led"}, ": serial port 'rgb_led' of its platform has no rx"),
        ({"led": ("led", 3)}, "names the LED 'led' 3, which its platform does not have; without an LED: led=None"),
        ({"led": ("rgb_led", 0, "w")}, ": LED 'rgb_led' 0 of its platform has no part 'w'; it has r, g, b"),
        ({"led": ("uart", 0, "w")}, ": LED 'uart' 0 of its platform has no part 'w'; it has rx, tx"),
        ({"led": ("rgb_led", 0)}, ": LED 'rgb_led' 0 of its platform has parts, of which one is lit: r, g, b"),
        ({"led": ("uart", 0, "rx")}, ": LED 'uart' 0 of its platform has the direction 'i'; expected 'o'"),
    ],
)
def test_a_row_that_does_not_agree(change: dict[str, object], message: str) -> None:
    board = find_board("orangecrab-25f")
    platform = make_platform(board)
    changed = Board(**{**vars(board), **change})
    with pytest.raises(dp.RangeError, match=rf"^board orangecrab-25f ?{re.escape(message)}$"):
        check_platform(changed, platform)


def test_a_clock_without_a_frequency() -> None:
    board = find_board("orangecrab-25f")
    platform = make_platform(board)
    platform.lookup(board.clock_pin).clock = None
    message = "clock 'clk' of its platform has no frequency; Clock(48000000) in its resource gives it one"
    with pytest.raises(dp.RangeError, match=rf"^board orangecrab-25f: {re.escape(message)}$"):
        check_platform(board, platform)


def test_a_platform_that_cannot_be_made() -> None:
    class Unfinished(LatticeECP5Platform):
        device = "LFE5U-12F"

    board = replace(BOARDS[0], platform=Unfinished)
    check_board(board)
    with pytest.raises(dp.RangeError, match=r"^platform of board ulx3s-12f cannot be made: TypeError: .* abstract"):
        make_platform(board)


def test_a_platform_whose_module_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raising_platform.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    board = replace(BOARDS[0], platform="raising_platform:Mine")
    message = r"^platform raising_platform:Mine of board ulx3s-12f: ZeroDivisionError: division by zero$"
    with pytest.raises(dp.RangeError, match=message):
        make_platform(board)


def test_fpgas_are_told_apart() -> None:
    codes = [fpga.idcode for fpga in FPGAS if fpga.idcode is not None]
    assert len(set(codes)) == len(codes) == 8
    for fpga in FPGAS:
        assert (fpga.idcode is None) == (fpga.family == "ice40")
        assert fpga.has("luts") == fpga.luts > 0
    for board in BOARDS:
        assert board.jtag is False or board.fpga.idcode is not None


def test_no_such_board() -> None:
    with pytest.raises(dp.RangeError, match=r"^board is 'ulx4s'; known are ulx3s-12f, .*, tang-primer-20k$"):
        find_board("ulx4s")


def test_the_example_of_the_documentation_is_a_board(tmp_path: Path) -> None:
    (example,) = re.findall(r"(?s)```python\n(.*?)```", DOCS.read_text())
    assert len(example.splitlines()) <= 40
    path = tmp_path / "my_board.py"
    path.write_text(example)
    board = find_board(str(path))
    check_platform(board, make_platform(board))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"^board file .*/mine\.py is not there$"),
        ("import sys; sys.exit(3)", r"^board file .*/mine\.py cannot be run: SystemExit: 3$"),
        (
            "from dyadprop_boards.table import BOARDS; BOARD = BOARDS[0]",
            r"^board file .*/mine\.py calls its board 'ulx3s-12f', as one of the table is called$",
        ),
        ("import no_such_module", r"^board file .*/mine\.py cannot be run: ModuleNotFoundError: No module named"),
        ("board = 1", r"^board file .*/mine\.py sets BOARD to None; expected a dyadprop_boards\.table\.Board$"),
        ("BOARD = 'ulx3s'", r"^board file .*/mine\.py sets BOARD to 'ulx3s'; expected"),
    ],
)
def test_a_file_that_gives_no_board(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(dp.RangeError, match=message):
        find_board(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "my/board"}, r"^board name is 'my/board'; allowed are letters, digits and - _ \., first a letter or"),
        ({"name": ".."}, r"^board name is '\.\.'; allowed are letters"),
        ({"name": 7}, r"^board name is 7; allowed are letters"),
        ({"fpga": "LFE5U-12F"}, r"^FPGA of board ulx3s-12f is 'LFE5U-12F'; expected a dyadprop_boards\.fpgas\.Fpga$"),
        (
            {"fpga": Fpga(**{**vars(fpgas.LFE5U_12F), "family": "ECP5"})},
            r"^family of FPGA LFE5U-12F of board ulx3s-12f is 'ECP5'; known are ecp5, ice40, gowin$",
        ),
        (
            {"platform": "MyPlatform"},
            r"^platform of board ulx3s-12f is 'MyPlatform'; expected a class, or 'module:Class'$",
        ),
        ({"platform": object()}, r"^platform of board ulx3s-12f is <object object at .*>; expected a class, or"),
        (
            {"cable": "-b ulx3s"},
            r"^cable of board ulx3s-12f is '-b ulx3s'; expected a tuple of str, as \('-b', 'ulx3s'\)$",
        ),
        (
            {"led": "led"},
            r"^LED of board ulx3s-12f is 'led'; expected \(resource, number\), a part's name behind, or None$",
        ),
        ({"led": ("led",)}, r"^LED of board ulx3s-12f is \('led',\); expected"),
        ({"platform": ":X"}, r"^platform of board ulx3s-12f is ':X'; expected a class, or"),
        ({"platform": ".m:X"}, r"^platform of board ulx3s-12f is '\.m:X'; expected a class, or"),
        ({"jtag": "no"}, r"^jtag of board ulx3s-12f is 'no'; expected a bool$"),
        (
            {"baud": "115200"},
            r"^baud rate of board ulx3s-12f is '115200'; allowed are whole numbers from 1 to 80000000$",
        ),
        (
            {"fpga": replace(fpgas.LFE5U_12F, multiplier_bits=1)},
            r"^multiplier_bits of FPGA LFE5U-12F of board .* is 1",
        ),
        ({"fpga": replace(fpgas.LFE5U_12F, luts=0)}, r"^luts of FPGA LFE5U-12F of board ulx3s-12f is 0; allowed are"),
        ({"fpga": replace(fpgas.LFE5U_12F, idcode=-1)}, r"^idcode of FPGA LFE5U-12F of board ulx3s-12f is -1; allowed"),
        ({"speed": 6}, r"^speed grade of board ulx3s-12f is 6; expected a str$"),
        ({"clock": 0}, r"^clock of board ulx3s-12f is 0; allowed are whole numbers from 1000000 to 400000000$"),
        ({"design_clock": 2_000_000}, r"^baud rate 1e\+06 takes 2 cycles a bit of a clock of 2e\+06 Hz"),
    ],
)
def test_a_board_that_cannot_be(change: dict[str, object], message: str) -> None:
    board = BOARDS[0]
    with pytest.raises(dp.RangeError, match=message):
        check_board(Board(**{**vars(board), **change}))
