"""Files are written whole or not at all, and what cannot be written is told before the work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import dyadprop as dp
from dyadprop.cli import main
from dyadprop.files import check_writable, write_atomically
from dyadprop.report import write_json

NET = dp.Network(2, [dp.Dense(3, "tanh"), dp.Dense(1)])


def checkpoint() -> dp.Checkpoint:
    with dp.open("golden", NET) as device:
        device.load(NET.init())
        return device.checkpoint()


WRITERS = {
    "parameter file": lambda path: dp.save_parameters(path, NET, NET.init()),
    "network file": NET.save,
    "checkpoint": lambda path: dp.save_checkpoint(path, checkpoint()),
    "JSON file": lambda path: write_json(path, {"a": 1}),
}
every_writer = pytest.mark.parametrize("what", WRITERS)


@every_writer
def test_a_failure_leaves_the_old_file_and_nothing_else(what, tmp_path, monkeypatch):
    path = tmp_path / "file.npz"
    path.write_bytes(b"old")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(dp.RangeError, match=rf"^{what} {path} cannot be written: No space left on device$"):
        WRITERS[what](path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@every_writer
def test_a_place_that_is_not_there_is_a_sentence(what, tmp_path):
    for path, reason in ((tmp_path / "no" / "f.npz", "No such file or directory"), (tmp_path / "d.npz", "Is a direct")):
        if reason.startswith("Is"):
            path.mkdir()
        with pytest.raises(dp.RangeError, match=f"^{what} {path} cannot be written: {reason}"):
            WRITERS[what](path)
        with pytest.raises(dp.RangeError, match=f"^{what} {path} cannot be written: {reason}"):
            check_writable(what, path)


@every_writer
def test_an_old_file_is_replaced(what, tmp_path):
    path = tmp_path / "file.npz"
    path.write_bytes(b"old")
    path.chmod(0o640)
    WRITERS[what](path)
    assert path.read_bytes() != b"old"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_links_are_followed_and_what_is_no_file_stays(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_atomically("text", link, "new µ")
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8") == "new µ"
    check_writable("text", os.devnull)
    write_atomically("text", os.devnull, "new")
    assert not Path(os.devnull).is_file()
    check_writable("text", target)
    assert target.read_text(encoding="utf-8") == "new µ"
    check_writable("text", tmp_path / "other")
    assert sorted(tmp_path.iterdir()) == [link, target]


@pytest.mark.parametrize("name", ["no/p.npz", "p.txt", "loss.png/p.npz"])
def test_training_does_not_begin_when_its_parameters_could_not_be_saved(name, tmp_path, capsys):
    (tmp_path / "loss.png").write_text("")
    code = main(["train", "--device", "golden", "--out", str(tmp_path / "out"), "--save", str(tmp_path / name)])
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.startswith(f"dyadprop: parameter file {tmp_path / name} ")


def test_training_does_not_begin_when_its_results_could_not_be_written(tmp_path, capsys):
    (tmp_path / "net.toml").mkdir()
    assert main(["train", "--device", "golden", "--out", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"dyadprop: file {tmp_path / 'net.toml'} cannot be written: Is a directory\n"
