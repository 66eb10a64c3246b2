"""Atomic writes, and limited reads of regular files."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import platform
import re
import stat
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qkd.core.errors import ConfigError, FolderError

if TYPE_CHECKING:
    import pandas as pd

PRIVATE = 0o600
"""Mode of files with texts or an account's instance: the owner alone reads them. Other files follow the umask."""
STALE_SECONDS = 24 * 3600.0
"""Age at which a temporary file of another machine counts as left by a killed process."""
MIB = 1 << 20
MAX_TOML_BYTES = MIB
MAX_JSON_BYTES = 16 * MIB
MAX_LINES_BYTES = 40 * MIB
MAX_ARRAY_BYTES = 1024 * MIB
"""Limits on files that others may have written, so that reading one takes under 1 GB; see ``limit``."""


class NotWritten(FolderError):
    """A file could not be written."""

    def __init__(
        self, path: Path, error: OSError, advice: str = "free some space and run the same command again"
    ) -> None:
        self.path, self.full = path, error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = f"the disk is full; {advice}" if self.full else f"cannot be written ({error.strerror or error})"
        super().__init__(f"{path}: {why}")


def _host() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _temporary(path: Path) -> Path:
    """Return the temporary file beside ``path`` that this process writes."""
    return path.with_name(f".{path.name[:150]}.{_host()}-{os.getpid()}.part")


@contextmanager
def _whole(path: Path, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it into place once it is written and on the disk.

    Raises:
        NotWritten: The disk is full or the folder cannot be written; an existing file stays as it was.
    """
    part = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent.glob(".*.part"))
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_EXCL, PRIVATE if private else 0o666))
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


def is_temporary(path: Path) -> bool:
    """Return whether a file has the name of a temporary file of qkd."""
    return re.fullmatch(r"\..*\.[0-9a-f]{8}-\d+\.part", path.name, re.DOTALL) is not None


def remove_leftovers(paths: Iterable[Path], mine: bool = False) -> None:
    """Remove temporary files of qkd whose process is gone.

    Args:
        paths: Candidates; files with other names stay.
        mine: Whether no other process can be writing them, as in a locked folder.
    """
    for path in paths:
        if is_temporary(path):
            with contextlib.suppress(OSError):
                if mine or _is_abandoned(path):
                    path.unlink()


def _is_abandoned(path: Path) -> bool:
    host, _, process = path.name.split(".")[-2].partition("-")
    if host != _host():
        return time.time() - path.lstat().st_mtime >= STALE_SECONDS
    if int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


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
        try:
            save(part)
        except Exception as error:
            raise as_os_error(error) from error


def as_os_error(error: Exception) -> Exception:
    """Return the ``OSError`` that a library in Rust, such as safetensors, reports as a text, or the error itself."""
    code = re.search(r"os error (\d+)", str(error))
    return OSError(int(code[1]), os.strerror(int(code[1]))) if code else error


def limit(default: int) -> int:
    """Return a size limit times ``$QKD_LIMITS``, by which a user raises all of them.

    Raises:
        ConfigError: The variable is no positive number.
    """
    factor = os.environ.get("QKD_LIMITS", "1")
    try:
        value = default * float(factor)
        if not 0 < value < math.inf:
            raise ValueError
    except ValueError:
        raise ConfigError(f"QKD_LIMITS={factor!r:.40} is no positive number; write QKD_LIMITS=4") from None
    return int(value)


def refuse_above(path: Path, size: int, default: int, what: str = "bytes") -> None:
    """Refuse a file that is, or declares to be, larger than a limit.

    Raises:
        FolderError: ``size`` is above ``limit(default)``.
    """
    if size > limit(default):
        raise FolderError(
            f"{path}: {size:,} {what} are more than the {limit(default):,} that such a file may have; "
            "QKD_LIMITS=10 multiplies every limit by ten"
        )


def _open_regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FolderError(f"{path}: is not a regular file; copy its content into one")
    return descriptor


def check_regular(path: Path) -> None:
    """Raise a `FolderError` unless ``path`` is a regular file, or a link to one."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise FolderError(f"{path}: is not a regular file; copy its content into one")


def read_bytes(path: Path, most: int = MAX_JSON_BYTES) -> bytes:
    """Return the content of a regular file; devices, pipes and links to them are refused before they are read.

    Raises:
        FolderError: The file is missing, not a regular file or larger than ``limit(most)``.
    """
    try:
        with open(path, "rb", opener=_open_regular) as file:
            size = os.fstat(file.fileno()).st_size
            refuse_above(path, size, most)
            data = file.read(max(size, MIB) + 1)  # files of /proc have no size
    except FileNotFoundError:
        raise FolderError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # a ValueError is a name with a null byte
        raise FolderError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    return data


def read_text(path: Path, most: int = MAX_JSON_BYTES) -> str:
    """Return the UTF-8 text in a regular file.

    Raises:
        FolderError: The file is missing, too large, not regular or not UTF-8.
    """
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FolderError(f"{path}: is not UTF-8 text ({error})") from None


def read_json(path: Path, most: int = MAX_JSON_BYTES) -> Any:
    """Return the JSON value in ``path``.

    Raises:
        FolderError: The file is missing, too large, not regular or damaged.
    """
    try:
        return json.loads(read_bytes(path, most))
    except (ValueError, RecursionError) as error:
        raise FolderError(f"{path}: cannot be read as JSON ({error})") from None


Row = dict[str, Any]
"""A line of a JSON Lines file."""


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


def write_lines(path: Path, rows: Iterable[Row], private: bool = False) -> None:
    """Write ``rows`` to ``path`` atomically, one JSON object a line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), private)


WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".jsonl": lambda table, path: table.to_json(path, orient="records", lines=True, force_ascii=False),
    ".parquet": lambda table, path: table.to_parquet(path, index=False),
}
"""Writers of tables by the ending of a file's name."""


def check_suffix(path: Path | None) -> None:
    """Refuse a file for a table before anything slow, if ``write_table`` does not know the ending of its name.

    Raises:
        ConfigError: The ending is unknown.
    """
    if path is not None and path.suffix.lower() not in WRITERS:
        raise ConfigError(f"--output {path}: its name must end in {', '.join(WRITERS)}")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table of texts atomically as CSV, JSON lines or Parquet, readable by its owner alone."""
    write_with(path, lambda part: WRITERS[path.suffix.lower()](table, part), private=True)


def read_lines(path: Path) -> list[Row]:
    """Return the JSON objects in ``path``, one a line.

    Raises:
        FolderError: the file is missing or damaged; the line is named.
    """
    data = read_bytes(path, MAX_LINES_BYTES)
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
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(path, flags, PRIVATE), "rb+") as file:
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
