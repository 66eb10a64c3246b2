"""Search path of files that users edit: their own folders first, then the files that ship with qkd."""

from __future__ import annotations

import os
from pathlib import Path

from qkd.core.console import log
from qkd.core.errors import FolderError


def bundled_dir(kind: str) -> Path:
    """Return the folder of the files of ``kind`` (circuits, transpile_profiles) that ship with qkd.

    Raises:
        FolderError: Neither an installed wheel nor a source checkout has the folder.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "bundled" / kind, package.parents[1] / kind):
        if folder.is_dir():
            return folder
    raise FolderError(f"the bundled folder '{kind}' is missing; install qkd again")


def user_dirs(kind: str) -> list[Path]:
    """Return the folders of users' files of ``kind``, in order of precedence.

    ``$QKD_CIRCUITS`` (or ``$QKD_TRANSPILE_PROFILES``), the user's configuration folder, and ``./KIND``.
    """
    import platformdirs

    named = os.environ.get(f"QKD_{kind.upper()}")
    return [*([Path(named)] if named else []), Path(platformdirs.user_config_dir("qkd")) / kind, Path(kind)]


def say_what_is_hidden(kind: str, path: Path) -> None:
    """Log that a user's file hides the bundled file of the same name, if it does."""
    bundled = bundled_dir(kind) / path.name
    if bundled.is_file() and bundled.resolve() != path.resolve():
        log.info(f"{path.resolve()} hides the bundled '{path.stem}'")


def find_files(kind: str, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Return every file of ``kind`` by its name without the suffix; a user's file hides a bundled one."""
    files: dict[str, Path] = {}
    for folder in [*user_dirs(kind), bundled_dir(kind)]:
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.suffix in suffixes:
                    files.setdefault(path.stem, path)
    return files
