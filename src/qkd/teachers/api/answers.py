"""A file of answers that were paid for: one JSON line for each text, written when the answer arrives.

A killed job loses at most the requests that were in flight. The next job reads the file and asks about missing texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from filelock import FileLock, Timeout

from qkd.core import cache
from qkd.core.errors import FolderError
from qkd.core.files import append_line, json_lines


class Answers:
    """The stored answers of one model, prompt and source; a context that locks their file.

    Args:
        key: Everything that determines an answer except the text, as JSON values.
    """

    def __init__(self, key: Mapping[str, Any]) -> None:
        folder = cache.root() / "answers"
        folder.mkdir(parents=True, exist_ok=True)
        name = cache.digest(dict(key))
        self.path = folder / f"{name}.jsonl"
        self._lock = FileLock(folder / f"{name}.lock")
        self._known: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Answers:
        """Lock the file and read it.

        Raises:
            FolderError: another process writes it now.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise FolderError(
                f"another process asks the same model the same question ({self.path}); wait for it"
            ) from None
        if self.path.exists():
            rows = (
                row for _, row in json_lines(self.path.read_bytes()) if isinstance(row, dict)
            )  # a torn line is no dict
            self._known = {row["text"]: row for row in rows if isinstance(row.get("text"), str)}
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        self._lock.release()

    def add(self, text: str, row: Mapping[str, Any]) -> None:
        """Store the answer about ``text`` durably."""
        stored = {"text": cache.text_hash(text).hex(), **row}
        append_line(self.path, stored)
        self._known[stored["text"]] = stored

    def get(self, text: str) -> dict[str, Any] | None:
        """Return the stored answer about ``text``, if there is one."""
        return self._known.get(cache.text_hash(text).hex())
