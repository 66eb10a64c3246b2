"""A run folder: whole files, one writer, names that do not clash."""

import errno
import json
import os
import subprocess
import sys

import pytest

from qkd.core import files, runs
from qkd.core.errors import QkdError


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "metrics.json"
    files.write_json(path, {"a": 1})

    def half(part):
        part.write_text("{")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(QkdError, match="disk is full"):
        files.write_with(path, half)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
def test_a_disk_that_is_really_full(tmp_path, monkeypatch):
    monkeypatch.setattr(files.Path, "with_name", lambda self, name: files.Path("/dev/full"))
    monkeypatch.setattr(files.Path, "unlink", lambda self, missing_ok=False: None)
    with pytest.raises(QkdError, match="disk is full"):
        files.write_text(tmp_path / "x.txt", "text")


def test_two_processes_in_one_folder_are_refused(tmp_path):
    folder = runs.RunFolder(tmp_path / "one")
    script = (
        "import sys; from pathlib import Path; from qkd.core.runs import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).lock(): pass"
    )
    with folder.lock():
        other = subprocess.run([sys.executable, "-c", script, str(folder.path)], capture_output=True, text=True)
    assert other.returncode != 0 and "another qkd process" in other.stderr
    again = subprocess.run([sys.executable, "-c", script, str(folder.path)], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr


def test_names(tmp_path):
    first = runs.new_run(tmp_path, None, "my data-hardware")
    files.write_text(first.config, "")
    assert first.name == "my-data-hardware-1"
    assert runs.new_run(tmp_path, None, "my data-hardware").name == "my-data-hardware-2"
    with pytest.raises(QkdError, match="exists already"):
        runs.new_run(tmp_path, first.name, "x")
    for bad in ("../x", "latest", "a/b", ""):
        with pytest.raises(QkdError, match="folder name"):
            runs.new_run(tmp_path, bad, "x")


def test_latest_points_at_the_newest(tmp_path):
    for name in ("a", "b"):
        folder = runs.new_run(tmp_path, name, "x")
        files.write_text(folder.config, "")
        folder.make_latest()
    assert runs.existing_run(tmp_path / "latest").name == "b"
    with pytest.raises(QkdError, match="no run lies there"):
        runs.existing_run(tmp_path / "c")


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(QkdError, match=r"x\.json"):
        files.read_json(tmp_path / "x.json")
    with pytest.raises(QkdError, match=r"y\.json.*no such file"):
        files.read_json(tmp_path / "y.json")


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\r", "\x0b", "\x1c"])
def test_json_lines_end_at_line_feeds_alone(tmp_path, mark):
    rows = [{"text": f"one{mark}two"}, {"text": "three"}]
    files.write_lines(tmp_path / "x.jsonl", rows)
    assert files.read_lines(tmp_path / "x.jsonl") == rows
    files.append_line(tmp_path / "x.jsonl", rows[0])
    assert files.read_lines(tmp_path / "x.jsonl") == [*rows, rows[0]]


@pytest.mark.parametrize("line", ["{", "[1]", "3", "[" * 100_000, '{"a": "\udcff"}'])
def test_a_damaged_line_is_named(tmp_path, line):
    (tmp_path / "x.jsonl").write_bytes(b'{"a": 1}\n' + line.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(QkdError, match=r"x\.jsonl: line 2 "):
        files.read_lines(tmp_path / "x.jsonl")


def test_a_missing_file_gives_no_advice_that_does_not_fit(tmp_path):
    with pytest.raises(QkdError, match="no such file") as told:
        files.read_lines(tmp_path / "hw-1" / "texts.jsonl")
    assert "resume" not in str(told.value)
    folder = runs.RunFolder(tmp_path / "one")
    with pytest.raises(QkdError, match="--resume --name one"):
        folder.rows(folder.predictions)


def test_old_temporary_files_are_swept_and_new_ones_are_not(tmp_path):
    old, new = tmp_path / ".a.1.part", tmp_path / ".b.2.part"
    for path in (old, new):
        path.write_text("")
    os.utime(old, (0, 0))
    files.write_text(tmp_path / "c", "text")
    assert not old.exists() and new.exists()
