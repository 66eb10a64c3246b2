"""A run folder: where each file of a run lies, who may write it, and which run a person means."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qkd.core.errors import FolderError
from qkd.core.files import NotWritten, Row, read_lines, remove_parts


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

        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise FolderError(
                f"{self.path}: another qkd process is writing this run; wait for it, or choose another --name"
            ) from None
        except OSError as error:
            raise NotWritten(self.path, error) from None
        remove_parts(self.path.rglob(".*.part"))  # nobody else writes here, so they are what a killed process left
        try:
            yield
        finally:
            lock.release()

    def rows(self, path: Path) -> list[Row]:
        """Return the JSON objects in one of the files that a finished run has.

        Raises:
            QkdError: the run has not come so far, or the file is damaged.
        """
        if not path.exists():
            raise FolderError(f"{path}: not there yet; go on with 'qkd distill --resume --name {self.name}'")
        return read_lines(path)

    def make_latest(self) -> None:
        """Point ``latest`` beside this folder at it; the folder has a student."""
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
            raise FolderError(f"--name '{name}' is no folder name: use letters, digits, '.', '-' and '_'")
        folder = RunFolder(parent / name)
        if folder.config.exists():
            raise FolderError(
                f"{folder.path} exists already; go on with --resume --name {name}, or choose another --name"
            )
        return folder
    stem = re.sub(r"[^\w.+-]+", "-", stem).strip("-") or "run"
    number = 1
    while (parent / f"{stem}-{number}").exists():
        number += 1
    return RunFolder(parent / f"{stem}-{number}")


def newest_run(parent: Path) -> RunFolder:
    """Return the run in ``parent`` that was started or resumed last, whether or not it came to a student.

    Raises:
        QkdError: there is none.
    """
    configs = [path for path in parent.glob("*/config.toml") if not path.parent.is_symlink()]
    if not configs:
        raise FolderError(f"{parent}: no run lies there to go on with; make one with 'qkd distill'")
    return RunFolder(max(configs, key=lambda path: path.stat().st_mtime_ns).parent.resolve())


def existing_run(where: Path) -> RunFolder:
    """Return the run folder at ``where`` (``runs/latest`` and other links are followed).

    Raises:
        QkdError: there is none.
    """
    folder = RunFolder(where.resolve())
    if not folder.config.is_file():
        raise FolderError(f"{where}: no run lies there; make one with 'qkd distill', or name its folder")
    return folder
