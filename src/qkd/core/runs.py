"""The run folder: its files, its lock, and the rules for its name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, get_args

from qkd.core.console import log
from qkd.core.errors import FolderError
from qkd.core.files import NotWritten, Row, is_temporary, read_json, read_lines, remove_leftovers, write_json

Kind = Literal["distill", "compare", "reproduce", "sweep"]
LATEST = "latest"
MAX_NAME_CHARACTERS = 120


class RunFolder:
    """The paths of one run; a writer holds ``lock()``.

    Attributes:
        path: The folder.
        name: The run's name.
        config: Settings that repeat the run.
        data: A fingerprint of the texts, which a resumed run must match.
        metrics: The final numbers.
        history: One line per epoch.
        checkpoint: The state from which training resumes.
        student: The bundle that ``Student.load`` reads.
        device: Snapshot and compiled circuit of noise-aware training.
        teacher: The weights of a fine-tuned teacher.
        hardware: The ledger and every device run.
        predictions: One line per test text: text, label, logits of teacher and student.
        report: The one-page report.
    """

    def __init__(self, path: Path) -> None:
        self.path = path = Path(path)
        self.name = path.name
        self.config = path / "config.toml"
        self.data = path / "data.json"
        self.metrics = path / "metrics.json"
        self.history = path / "history.jsonl"
        self.checkpoint = path / "checkpoint"
        self.student = path / "student"
        self.device = path / "device"
        self.teacher = path / "teacher"
        self.hardware = path / "hardware"
        self.predictions = path / "predictions.jsonl"
        self.report = path / "report.html"

    @property
    def kind(self) -> Kind:
        """The command that made the folder."""
        path = self.path / "kind.json"
        value = read_json(path) if path.exists() else "distill"
        for kind in get_args(Kind):
            if value == kind:
                return kind
        raise FolderError(f"{path}: the kind of this folder is unknown; restore the file or choose another --name")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for writing, and remove temporary files that a killed process left.

        Raises:
            FolderError: Another process holds it, it contains a symbolic link, or it cannot be written.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            refuse_links(self.path)
            lock.acquire()
        except Timeout:
            raise FolderError(
                f"{self.path}: another qkd process is writing this run; wait for it, or choose another --name"
            ) from None
        except OSError as error:
            raise NotWritten(self.path, error) from None
        try:
            remove_leftovers(self.path.rglob(".*.part"), mine=True)  # only the lock's holder writes here
            yield
        finally:
            lock.release()

    def rows(self, path: Path) -> list[Row]:
        """Return the JSON objects in one of the files of a finished run.

        Raises:
            FolderError: The run is not finished, or the file is damaged.
        """
        if not path.exists():
            raise FolderError(f"{path}: no such file yet; continue with 'qkd distill --resume --name {self.name}'")
        return read_lines(path)

    def make_latest(self) -> None:
        """Point ``latest`` beside this folder at it; the folder has a student."""
        for left in self.path.parent.glob(f".{LATEST}.*"):
            if left.is_symlink():
                left.unlink(missing_ok=True)
        link, latest = self.path.parent / f".{LATEST}.{os.getpid()}", self.path.parent / LATEST
        if os.path.lexists(latest) and not latest.is_symlink():
            log.warning(f"{latest}: is no link, so it does not name this run; move it to another place")
            return
        try:
            with suppress(FileExistsError):
                link.symlink_to(self.path.name)
            link.replace(latest)
        except FileNotFoundError:  # another run that ended at the same time removed it, and is the latest
            return
        except OSError as error:  # not every file system has links
            log.warning(f"{latest}: cannot name this run ({error.strerror}); use the run's own name")


def refuse_links(folder: Path) -> None:
    """Refuse a run folder with symbolic links, which would redirect writes out of it.

    Raises:
        FolderError: There is a link.
    """
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if (path := Path(root, name)).is_symlink():
                raise FolderError(f"{path}: is a symbolic link, and qkd writes into run folders alone; replace it")


def check_name(name: str) -> str:
    """Return the name of a run.

    Raises:
        FolderError: It is a path, reserved or too long.
    """
    if name.casefold() == LATEST or not re.fullmatch(r"\w[\w.+-]*", name) or len(name) > MAX_NAME_CHARACTERS:
        raise FolderError(
            f"--name '{name}' is no name for a run: use letters, digits, '.', '-' and '_', at most "
            f"{MAX_NAME_CHARACTERS} characters, and not '{LATEST}'"
        )
    return name


@contextmanager
def new_run(parent: Path, name: str | None, stem: str) -> Iterator[RunFolder]:
    """Create a run folder, ``parent/NAME`` or the first free of ``parent/STEM-1``, ``-2``, and hold its lock.

    The folder is created before anything slow happens, so runs that start together get different ones.

    Raises:
        FolderError: The name is taken or is no name.
    """
    if name is not None:
        folder = RunFolder(parent / check_name(name))
        _make(folder.path)
    else:
        folder = RunFolder(_first_free(parent, stem))
    _refuse_content(folder)
    with folder.lock():
        _refuse_content(folder)  # another process may have finished a run between the two
        yield folder


@contextmanager
def study_run(
    parent: Path, name: str | None, kind: Kind, stem: str, same: Callable[[Path], bool]
) -> Iterator[RunFolder]:
    """Create or continue the folder of a comparison or a search, and hold its lock.

    Args:
        parent: The folder of the run folders.
        name: The name that the user gave; None takes ``KIND-STEM``, with a number if that is another study.
        kind: The command.
        stem: A short name of the data.
        same: Whether the ``config.toml`` of an existing folder is that of this study.

    Raises:
        FolderError: The name is no name, or belongs to something else.
    """
    number = 1
    while True:
        default = _clean(f"{kind}-{stem}") + (f"-{number}" if number > 1 else "")
        folder = RunFolder(parent / check_name(default if name is None else name))
        _make(folder.path)
        if not _content(folder) or folder.kind == kind:
            with folder.lock():
                if not _content(folder):
                    write_json(folder.path / "kind.json", kind)
                if folder.kind == kind and (not folder.config.exists() or same(folder.config)):
                    yield folder
                    return
        if name is not None:
            raise FolderError(f"{folder.path}: holds something else, or has other settings; choose another --name")
        number += 1


def _content(folder: RunFolder) -> list[Path]:
    """Return what a folder holds beside the lock and temporary files of qkd."""
    return [path for path in folder.path.iterdir() if path.name != ".lock" and not is_temporary(path)]


def _refuse_content(folder: RunFolder) -> None:
    if folder.config.exists() and folder.kind == "distill":
        raise FolderError(
            f"{folder.path} exists already; continue it with --resume --name {folder.name}, or choose another --name"
        )
    if _content(folder):
        raise FolderError(f"{folder.path}: the folder holds something else; choose another --name")


def _make(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(exist_ok=True)
    except FileExistsError:
        raise FolderError(f"{path}: is no folder; choose another --name") from None
    except OSError as error:
        raise NotWritten(path, error) from None
    if path.is_symlink():
        raise FolderError(f"{path}: is a symbolic link; choose another --name")


def _first_free(parent: Path, stem: str) -> Path:
    number = 1
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            path = parent / f"{_clean(stem)}-{number}"
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
            else:
                return path
    except OSError as error:
        raise NotWritten(parent, error) from None


def _clean(stem: str) -> str:
    """Return a stem without the characters that a name may not have."""
    return re.sub(r"[^\w.+-]+", "-", stem).strip("-.+")[: MAX_NAME_CHARACTERS - 20] or "run"


def newest_run(parent: Path) -> RunFolder:
    """Return the run in ``parent`` that was started or resumed last, with or without a student.

    Raises:
        FolderError: There is none.
    """
    configs = [path for path in parent.glob("*/config.toml") if not path.parent.is_symlink()]
    configs = [path for path in configs if RunFolder(path.parent).kind == "distill"]
    if not configs:
        raise FolderError(f"{parent}: there is no run to continue; make one with 'qkd distill'")
    return RunFolder(max(configs, key=lambda path: path.stat().st_mtime_ns).parent.resolve())


def named_run(parent: Path, name: str) -> RunFolder:
    """Return the run called ``name``.

    Raises:
        FolderError: There is none.
    """
    folder = RunFolder(parent / check_name(name))
    if not folder.config.is_file() or folder.kind != "distill":
        raise FolderError(
            f"{folder.path}: there is no run to continue (no config.toml of 'qkd distill'); run it without --resume"
        )
    return folder


def find_folder(where: Path) -> Path:
    """Return ``where``, or ``runs/where`` if that exists and ``where`` is a name without a folder of its own."""
    named = Path("runs", where)
    return named if len(where.parts) == 1 and not where.is_dir() and named.is_dir() else where


def existing_run(where: Path) -> RunFolder:
    """Return the run folder at ``where`` or called ``where``; links such as ``runs/latest`` are followed.

    Raises:
        FolderError: There is none.
    """
    try:
        folder = RunFolder(find_folder(where).resolve())
    except (OSError, RuntimeError, ValueError):  # a circle of links, or a name with a null byte
        raise FolderError(f"{where!s:.200}: cannot be a run folder; name its path") from None
    if not folder.config.is_file():
        raise FolderError(f"{where}: no run in this folder; make one with 'qkd distill', or name its folder")
    return folder
