"""Files: written whole or not at all, and JSON read back from them."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qkd.core.errors import FolderError

PRIVATE = 0o600
"""The mode of files that hold texts, and of ledgers and plans: their owner reads them, nobody else."""
STALE = 24 * 3600.0
"""Seconds after which a temporary file outside a run folder is taken for one that a killed process left."""


class NotWritten(FolderError):
    """A file could not be written.

    Args:
        path: of the file.
        error: what the system said.
        advice: what to do when the disk is full.
    """

    def __init__(
        self, path: Path, error: OSError, advice: str = "free some space and run the same command again"
    ) -> None:
        self.path, self.full = path, error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = f"the disk is full; {advice}" if self.full else f"cannot be written ({error.strerror or error})"
        super().__init__(f"{path}: {why}")


@contextmanager
def _whole(path: Path, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it into place once it is written and on the disk.

    Raises:
        NotWritten: the disk is full or the folder cannot be written; what existed is left as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_parts(path.parent.glob(".*.part"), STALE)
        if private:
            os.close(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, PRIVATE))
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        if private:
            part.chmod(PRIVATE)
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise NotWritten(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def remove_parts(parts: Iterable[Path], age: float = 0.0) -> None:
    """Remove temporary files that killed processes left, those that are older than ``age`` seconds."""
    for part in parts:
        with contextlib.suppress(OSError):
            if part.is_file() and time.time() - part.stat().st_mtime >= age:
                part.unlink()


def sync_folder(folder: Path) -> None:
    """Let a folder's list of files reach the disk, where the system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_bytes(path: Path, data: bytes, private: bool = False) -> None:
    """Write ``data`` to ``path`` atomically; ``private`` files are readable by their owner alone."""
    with _whole(path, private) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str, private: bool = False) -> None:
    """Write UTF-8 ``text`` to ``path`` atomically."""
    write_bytes(path, text.encode("utf-8"), private)


def write_json(path: Path, value: Any, private: bool = False) -> None:
    """Write ``value`` to ``path`` atomically as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", private)


def finite(value: Any) -> Any:
    """Return a JSON value with None in the place of floats that JSON does not have: NaN and infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def write_with(path: Path, save: Callable[[Path], None], private: bool = False) -> None:
    """Let ``save`` write a file at the path it is given, then rename it to ``path``."""
    with _whole(path, private) as part:
        save(part)


def read_json(path: Path) -> Any:
    """Return the JSON value in ``path``.

    Raises:
        FolderError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FolderError(f"{path}: no such file; is {path.parent} a qkd folder?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FolderError(f"{path}: cannot be read as JSON ({error})") from None


Row = dict[str, Any]
"""A JSON object of a file that has one a line; who writes the file says what is in it."""


def json_lines(text: str | bytes) -> Iterator[tuple[int, Row | ValueError]]:
    """Yield the number and the object of each line that is not empty, or what is wrong with that line.

    A line ends at a line feed alone: JSON strings may hold U+2028, U+2029 and U+0085, which ``str.splitlines`` splits
    at, and which ``write_lines`` leaves as they are.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            yield number, ValueError(f"is not JSON ({error})")
        except RecursionError:
            yield number, ValueError("is nested too deeply")
        else:
            yield number, value if isinstance(value, dict) else ValueError("is not a JSON object")


def write_lines(path: Path, rows: Iterable[Row]) -> None:
    """Write ``rows`` to ``path`` atomically, one JSON object a line, readable by their owner alone."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), private=True)


def read_lines(path: Path) -> list[Row]:
    """Return the JSON objects in ``path``, one a line.

    Raises:
        FolderError: the file is missing or damaged; the line is named.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FolderError(f"{path}: no such file; is {path.parent} a whole qkd folder?") from None
    except OSError as error:
        raise FolderError(f"{path}: cannot be read ({error.strerror or error})") from None
    rows = []
    for number, row in json_lines(data):
        if isinstance(row, ValueError):
            raise FolderError(f"{path}: line {number} {row}; restore the file from a backup")
        rows.append(row)
    return rows


def append_line(path: Path, row: Row) -> None:
    """Add a JSON object to a file that only grows, and return when it is on the disk.

    A line that a crash cut short keeps its place, and this one does not become its end.

    Raises:
        NotWritten: the disk is full or the file cannot be written.
    """
    line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not path.exists()
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE), "rb+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            sync_folder(path.parent)
    except OSError as error:
        raise NotWritten(path, error) from error
