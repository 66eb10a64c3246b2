"""Model folders in the cache appear whole, with a manifest of hashes that every load compares.

The manifest reveals damage, mistakes and files of other origin. It does not protect against a person who can write to
the cache and change file and manifest together; only hashes pinned in the code do.
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
from qkd.core.console import log
from qkd.core.errors import ModelError, QkdError
from qkd.core.files import NotWritten, read_json, write_json

# The manifest: the file in a model folder that lists the others with size and sha256; written last.
MARKER = "qkd.json"
# Files below this size are hashed at every load, larger ones when their size or times have changed.
SMALL_BYTES = 2**20

NOTHING: Mapping[str, str] = MappingProxyType({})


def make_model_folder(
    folder: Path, stem: str, fill: Callable[[Path], None], facts: Mapping[str, Any], pinned: Mapping[str, str] = NOTHING
) -> Path:
    """Return ``folder`` after comparing it with its manifest; it is created if it does not exist.

    One process creates it and others wait. The folder appears by one rename, and the next call removes temporary
    folders of killed processes.

    Args:
        stem: name of the lock and the temporary folders beside ``folder``.
        fill: creates the files in an empty folder; it may leave anything beside that folder.
        pinned: sha256 of files by name, which take precedence over the manifest.
    """
    from filelock import FileLock, Timeout

    parent = folder.parent
    lock = FileLock(parent / f".{stem}.lock")
    if is_whole(folder, pinned):
        if _leftovers(parent, stem):
            with suppress(OSError, Timeout), lock.acquire(timeout=0):  # its holder removes them
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
        log.info(f"{folder}: files are missing or incomplete, so it is created again")
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
    """Remove the temporary folders of killed processes; the caller holds the lock."""
    for leftover in _leftovers(parent, stem):
        shutil.rmtree(leftover, ignore_errors=True)


def is_whole(folder: Path, pinned: Mapping[str, str] = NOTHING) -> bool:
    """Return whether ``folder`` contains every file of its manifest, complete and unchanged.

    Args:
        pinned: sha256 of files by name, which take precedence over the manifest.
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
    advice = "remove this folder and run again, and qkd fetches or converts it again"
    for name in sorted(present - files.keys() - {MARKER}):  # tokenizers read any file that they know
        raise ModelError(f"{folder}: {name} is not one of this model's files; {advice}")
    for name, (_, recorded) in files.items():
        expected, actual = pinned.get(name, recorded), content[name]
        if actual != expected:
            raise ModelError(f"{folder}: {name} was changed (its sha256 is {actual}, expected {expected}); {advice}")
    return True


def file_digest(path: Path) -> str:
    """Return a file's sha256, hexadecimal. For a large file it is cached while size and times stay the same."""
    facts = path.stat()
    if facts.st_size < SMALL_BYTES:
        return sha256(path)
    note = cache.root() / "digests" / f"{cache.digest(str(path))[:24]}.json"
    # st_ctime cannot be set back as st_mtime can
    stamp = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]
    try:
        known = read_json(note)
        if known["stamp"] == stamp:
            return str(known["sha256"])
    except (QkdError, KeyError, TypeError):
        pass  # not hashed yet, or the cached hash is damaged
    value = sha256(path)
    with suppress(NotWritten):  # a read-only cache still works
        write_json(note, {"file": str(path), "stamp": stamp, "sha256": value})
    return value


def sha256(path: Path) -> str:
    """Return a file's sha256, hexadecimal, without the cache."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
