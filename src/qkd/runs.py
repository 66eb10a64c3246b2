"""A run folder: where each file of a run lies, who may write it, and how a file is written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qkd.errors import QkdError


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it into place once it is written.

    Raises:
        QkdError: the disk is full or the folder cannot be written; what existed is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise QkdError(disk_sentence(path, error)) from error
    finally:
        part.unlink(missing_ok=True)


def disk_sentence(path: Path, error: OSError) -> str:
    """Say in one sentence why ``path`` could not be written and what to do."""
    if error.errno == errno.ENOSPC:
        return f"{path}: the disk is full; free some space and run the same command again"
    return f"{path}: cannot be written ({error.strerror or error})"


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with _whole(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` to ``path`` atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` atomically as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_with(path: Path, save: Callable[[Path], None]) -> None:
    """Let ``save`` write a file at the path it is given, then rename it to ``path``."""
    with _whole(path) as part:
        save(part)


def read_json(path: Path) -> Any:
    """Return the JSON value in ``path``.

    Raises:
        QkdError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise QkdError(f"{path}: no such file; is {path.parent} a qkd folder?") from None
    except (OSError, ValueError) as error:
        raise QkdError(f"{path}: cannot be read as JSON ({error})") from None


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write ``rows`` to ``path`` atomically, one JSON object a line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects in ``path``, one a line.

    Raises:
        QkdError: the file is missing or damaged.
    """
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise QkdError(f"{path}: not there yet; go on with 'qkd distill --resume --name {path.parent.name}'") from None
    except (OSError, ValueError) as error:
        raise QkdError(f"{path}: cannot be read as JSON lines ({error})") from None


class RunFolder:
    """The paths of one run; ``with folder.lock():`` for whoever writes."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def config(self) -> Path:
        """Everything needed to do the run again."""
        return self.path / "config.toml"

    @property
    def data(self) -> Path:
        """A fingerprint of the texts, so that a resumed run has the same ones."""
        return self.path / "data.json"

    @property
    def metrics(self) -> Path:
        """The final numbers."""
        return self.path / "metrics.json"

    @property
    def history(self) -> Path:
        """One line per epoch."""
        return self.path / "history.jsonl"

    @property
    def checkpoint(self) -> Path:
        """What training resumes from."""
        return self.path / "checkpoint"

    @property
    def student(self) -> Path:
        """The bundle that ``Student.load`` reads."""
        return self.path / "student"

    @property
    def device(self) -> Path:
        """The folder of what the student was trained for: snapshot and compiled circuit."""
        return self.path / "device"

    @property
    def teacher(self) -> Path:
        """What a fine-tuned teacher learned."""
        return self.path / "teacher"

    @property
    def hardware(self) -> Path:
        """The folder of the ledger and of every device run."""
        return self.path / "hardware"

    @property
    def predictions(self) -> Path:
        """The test texts' rows: index, label, teacher's and student's logits."""
        return self.path / "predictions.jsonl"

    @property
    def report(self) -> Path:
        """The one-page report."""
        return self.path / "report.html"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for writing.

        Raises:
            QkdError: another process holds it.
        """
        from filelock import FileLock, Timeout

        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise QkdError(
                f"{self.path}: another qkd process is writing this run; wait for it, or choose another --name"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def make_latest(self) -> None:
        """Point ``latest`` beside this folder at it."""
        link = self.path.parent / f".latest.{os.getpid()}"
        link.unlink(missing_ok=True)
        link.symlink_to(self.path.name)
        link.replace(self.path.parent / "latest")


def new_run(parent: Path, name: str | None, stem: str) -> RunFolder:
    """Return a folder that does not exist yet: ``parent/name``, or ``parent/STEM-1``, ``-2``, ...

    Raises:
        QkdError: ``name`` is taken already, or is no plain folder name.
    """
    if name is not None:
        if not re.fullmatch(r"[\w][\w.+-]*", name) or name == "latest":
            raise QkdError(f"--name '{name}' is no folder name: use letters, digits, '.', '-' and '_'")
        folder = RunFolder(parent / name)
        if folder.config.exists():
            raise QkdError(f"{folder.path} exists already; go on with --resume --name {name}, or choose another --name")
        return folder
    stem = re.sub(r"[^\w.+-]+", "-", stem).strip("-") or "run"
    number = 1
    while (parent / f"{stem}-{number}").exists():
        number += 1
    return RunFolder(parent / f"{stem}-{number}")


def existing_run(where: Path) -> RunFolder:
    """Return the run folder at ``where`` (``runs/latest`` and other links are followed).

    Raises:
        QkdError: there is none.
    """
    folder = RunFolder(where.resolve())
    if not folder.config.is_file():
        raise QkdError(f"{where}: no run lies there; make one with 'qkd distill', or name its folder")
    return folder
