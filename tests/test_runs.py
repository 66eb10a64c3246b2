"""A run folder: whole files, one writer, names that do not clash."""

import errno
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from qkd.core import files, runs
from qkd.core.arrays import read_arrays, read_npz, read_shapes, read_tensors
from qkd.core.errors import QkdError
from qkd.core.specs import read_toml


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
def test_a_disk_that_is_really_full(tmp_path):
    with pytest.raises(QkdError, match="disk is full"):
        files.write_with(tmp_path / "x", lambda part: files.Path("/dev/full").write_bytes(b"text"))
    assert list(tmp_path.iterdir()) == []


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
    with (
        runs.new_run(tmp_path, None, "my data-hardware") as first,
        runs.new_run(tmp_path, None, "my data-hardware") as b,
    ):
        files.write_text(first.config, "")
    assert (first.name, b.name) == ("my-data-hardware-1", "my-data-hardware-2")
    with pytest.raises(QkdError, match="exists already"), runs.new_run(tmp_path, first.name, "x"):
        pass
    for bad in ("../x", "latest", "a/b", "", "..", ".x", "x\n", "a" * 200, "/tmp/x"):
        for kind in ("distill", "sweep"):
            with pytest.raises(QkdError, match="no name for a run"), opened(kind, tmp_path, bad):
                pass
        with pytest.raises(QkdError, match="no name for a run"):
            runs.named_run(tmp_path, bad)


def opened(kind, parent, name):
    if kind == "distill":
        return runs.new_run(parent, name, "x")
    return runs.study_run(parent, name, kind, "x", lambda path: path.read_text() == "mine")


@pytest.mark.parametrize("kind", ["distill", "compare", "reproduce", "sweep"])
def test_a_folder_with_something_else_in_it_is_refused_and_stays_as_it_is(tmp_path, kind):
    for other in ("distill", "compare", "sweep"):
        with opened(other, tmp_path, other) as folder:
            files.write_text(folder.config, "results")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / ".mine.part").write_text("keep me")
    (tmp_path / "file").write_text("keep me")
    (tmp_path / "link").symlink_to(tmp_path / "notes")
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    for name in ("distill", "compare", "sweep", "notes", "file", "link"):
        with pytest.raises(QkdError, match="choose another name"), opened(kind, tmp_path, name):
            pass
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before


def test_a_study_continues_in_its_folder_and_another_one_gets_the_next(tmp_path):
    for settings, name in (("mine", "compare-x"), ("mine", "compare-x"), ("others", "compare-x-2")):
        same = lambda path, settings=settings: path.read_text() == settings  # noqa: E731
        with runs.study_run(tmp_path, None, "compare", "x", same) as folder:
            files.write_text(folder.config, settings)
        assert folder.name == name


def test_runs_that_start_together_get_a_folder_each(tmp_path):
    script = (
        "import sys; from pathlib import Path; from qkd.core.runs import new_run\n"
        "with new_run(Path(sys.argv[1]), None, 'x') as folder: folder.config.write_text(str(folder.name)); input()"
    )
    many = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(6)
    ]
    assert [process.communicate(b"\n")[1] for process in many] == [b""] * 6
    assert {path.read_text() for path in tmp_path.glob("*/config.toml")} == {f"x-{number}" for number in range(1, 7)}


@pytest.mark.parametrize("inside", ["student", "hardware/ledger.jsonl", "config.toml"])
def test_a_link_inside_a_run_folder_is_refused_before_anything_is_written(tmp_path, inside):
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = runs.RunFolder(tmp_path / "run")
    (folder.path / inside).parent.mkdir(parents=True)
    (folder.path / inside).symlink_to(outside)
    with pytest.raises(QkdError, match="symbolic link"), folder.lock():
        pass
    assert list(outside.iterdir()) == []
    with pytest.raises(QkdError, match="cannot be written"):
        files.append_line(folder.path / inside, {"a": 1})


@pytest.mark.parametrize("name", ["pipe", "device", "folder", "missing"])
@pytest.mark.parametrize(
    "read", [files.read_json, files.read_lines, files.read_text, read_toml, read_arrays, read_npz, read_shapes]
)
def test_what_is_no_regular_file_is_refused(tmp_path, name, read):
    path = tmp_path / name
    if name == "pipe":
        os.mkfifo(path)
    elif name == "device":
        path.symlink_to("/dev/zero")
    elif name == "folder":
        path.mkdir()
    with pytest.raises(QkdError, match=r"regular file|no such file"):
        read(path)


def test_a_size_that_a_file_declares_is_checked_before_it_is_read_and_the_limit_can_be_raised(tmp_path, monkeypatch):
    path = tmp_path / "zeros.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("logits.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (1 << 28, 1)})
    with pytest.raises(QkdError, match=r"2,147,483,648 bytes of arrays .* QKD_LIMITS=10"):
        read_npz(path)
    text = tmp_path / "long.json"
    text.write_text(f'"{"x" * files.MAX_JSON_BYTES}"')
    with pytest.raises(QkdError, match="QKD_LIMITS"):
        files.read_json(text)
    monkeypatch.setenv("QKD_LIMITS", "2")
    assert len(files.read_json(text)) == files.MAX_JSON_BYTES
    monkeypatch.setenv("QKD_LIMITS", "many")
    with pytest.raises(QkdError, match="positive number"):
        files.read_json(text)


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}},
        {"a": {"dtype": "F32", "shape": [10**30], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 10**4000]}},
        {"a": {"dtype": [], "shape": [2], "data_offsets": [0, 8]}},
        {"a": 3},
        [],
    ],
    ids=str,
)
def test_arrays_that_cannot_be_are_refused(tmp_path, header):
    path, text = tmp_path / "x.safetensors", json.dumps(header).encode() if header else b"[]"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 8)
    for read in (read_arrays, read_shapes, read_tensors):
        with pytest.raises(QkdError, match="cannot be read as safetensors"):
            read(path)


def test_latest_points_at_the_newest(tmp_path):
    for name in ("a", "b"):
        with runs.new_run(tmp_path, name, "x") as folder:
            files.write_text(folder.config, "")
            folder.make_latest()
    assert runs.existing_run(tmp_path / "latest").name == "b"
    with pytest.raises(QkdError, match="no run in this folder"):
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
    with pytest.raises(QkdError, match="resume"):
        folder.rows(folder.predictions)


def test_temporary_files_of_processes_that_are_gone_are_removed_and_no_others(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    [mine] = written_parts(tmp_path)
    gone, other = mine.replace(str(os.getpid()), ended.stdout.strip()), mine.replace(mine.split(".")[-2][:8], "0" * 8)
    for name in (gone, mine, other, ".notes.part", f"old-{other}"):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / ".notes.part", (0, 0))
    files.write_text(tmp_path / "c", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([mine, other, ".notes.part", f"old-{other}", "c"])
    os.utime(tmp_path / other, (0, 0))
    files.write_text(tmp_path / "c", "text")
    assert not (tmp_path / other).exists()


def written_parts(folder):
    """The names of temporary files beside a file that is being written."""
    names = []
    files.write_with(folder / "z", lambda part: (part.write_text(""), names.append(part.name)))
    (folder / "z").unlink()
    return names
