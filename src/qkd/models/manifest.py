"""A model folder in the cache appears whole, with a manifest of its files' hashes that every load is checked against.

The manifest notices damage, mistakes and files that something else put there. Against somebody who may write to the
cache it protects only as far as hashes are pinned in the code: such a person can change file and manifest together.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qkd.core import cache
from qkd.core.console import say
from qkd.core.errors import ModelError, QkdError
from qkd.core.files import NotWritten, read_json, write_json

MARKER = "qkd.json"
"""The manifest: the file in a model folder that lists the others with size and sha256; written last."""

SMALL = 2**20
"""Files below this many bytes are hashed at every load, larger ones when anything about them has changed."""

NOTHING: Mapping[str, str] = MappingProxyType({})


def make_model_folder(
    folder: Path,
    stem: str,
    fill: Callable[[Path], None],
    facts: Mapping[str, Any],
    pinned: Mapping[str, str] = NOTHING,
) -> Path:
    """Return the model folder ``folder``, made now unless it is there, and checked against its manifest.

    Safe against other processes (one makes it, the rest wait) and against being killed: the folder appears by one
    rename, and the next call removes what a killed one left.

    Args:
        folder: where the model lies.
        stem: names the lock and the temporary folders beside ``folder``.
        fill: makes the files in the empty folder it is given; beside that folder it may leave anything.
        facts: what else the manifest says.
        pinned: the sha256 of files by name, known beforehand; these go before what the manifest says.

    Raises:
        ModelError: a file is not the one that was put there, or what ``fill`` raises.
        NotWritten: the disk is full or the cache cannot be written.
    """
    from filelock import FileLock, Timeout

    parent = folder.parent
    lock = FileLock(parent / f".{stem}.lock")
    if is_whole(folder, pinned):
        if _leftovers(parent, stem):
            with suppress(OSError, Timeout), lock.acquire(timeout=0):  # whoever holds it sweeps by itself
                _sweep(parent, stem)
        return folder
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with lock:
            _sweep(parent, stem)
            if not is_whole(folder, pinned):
                _make(folder, stem, fill, facts)
    except OSError as error:
        raise NotWritten(folder, error) from error
    return folder


def _make(folder: Path, stem: str, fill: Callable[[Path], None], facts: Mapping[str, Any]) -> None:
    if folder.exists():
        say(f"{folder}: files are missing or cut short, so it is made anew")
    work = Path(tempfile.mkdtemp(prefix=f".{stem}-", suffix=".part", dir=folder.parent))
    try:
        new = work / "model"
        new.mkdir()
        fill(new)
        files = {path.name: {"size": path.stat().st_size, "sha256": sha256(path)} for path in sorted(new.iterdir())}
        write_json(new / MARKER, {**facts, "files": files})
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _leftovers(parent: Path, stem: str) -> list[Path]:
    return list(parent.glob(f".{stem}-*.part"))


def _sweep(parent: Path, stem: str) -> None:
    """Remove the temporary folders that killed processes left; to be called with the lock held."""
    for leftover in _leftovers(parent, stem):
        shutil.rmtree(leftover, ignore_errors=True)


def is_whole(folder: Path, pinned: Mapping[str, str] = NOTHING) -> bool:
    """Whether ``folder`` holds every file of its manifest at full length, each with the right content.

    Args:
        folder: a model folder.
        pinned: the sha256 of files by name, whatever the manifest says of them.

    Raises:
        ModelError: all files are there, but one has another content or is none of the model's.
    """
    try:
        files = {
            name: (entry["size"], entry["sha256"])
            for name, entry in json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"].items()
        }
        if not pinned.keys() <= files.keys():
            return False
        if any((folder / name).stat().st_size < size for name, (size, _) in files.items()):
            return False
        present = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
        content = {name: file_digest(folder / name) for name in files}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    mend = "remove this folder and run again, and it is fetched or converted anew"
    for name in sorted(present - files.keys() - {MARKER}):  # tokenizers read files beyond those of their model
        raise ModelError(f"{folder}: {name} is none of this model's files; {mend}")
    for name, (_, recorded) in files.items():
        expected, actual = pinned.get(name, recorded), content[name]
        if actual != expected:
            raise ModelError(f"{folder}: {name} was changed (its sha256 is {actual}, expected {expected}); {mend}")
    return True


def file_digest(path: Path) -> str:
    """Return a file's sha256, hexadecimal; that of a large file from a note, while nothing about it has changed."""
    facts = path.stat()
    if facts.st_size < SMALL:
        return sha256(path)
    note = cache.root() / "digests" / f"{cache.digest(str(path))[:24]}.json"
    # the time of the last change of any kind cannot be set back as that of the last writing can
    stamp = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]
    try:
        known = read_json(note)
        if known["stamp"] == stamp:
            return str(known["sha256"])
    except (QkdError, KeyError, TypeError):
        pass  # not hashed yet, or the note is damaged
    value = sha256(path)
    with suppress(NotWritten):  # a cache that can only be read still serves
        write_json(note, {"file": str(path), "stamp": stamp, "sha256": value})
    return value


def sha256(path: Path) -> str:
    """Return a file's sha256, hexadecimal, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
