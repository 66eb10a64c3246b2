"""A job: questions about many texts to several servers, from one queue, each answer stored when it arrives.

The stored answers are a file of one JSON line for each text. A killed job loses at most the texts that were in
flight. The next job reads the file and asks about missing texts.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from qkd.core import cache
from qkd.core.console import log, progress
from qkd.core.errors import FolderError, ModelError, ServiceError
from qkd.core.files import PRIVATE, NotWritten, json_lines
from qkd.teachers.api.endpoint import Endpoint, Unavailable
from qkd.teachers.api.source import Source, Unanswered, Unsuited
from qkd.teachers.api.usage import Budget

MAX_UNANSWERED_SHARE = 0.2  # of all texts; above it the job stops, because the model does not do this task
SYNC_SECONDS = 10.0  # between calls of fsync, which take up to 50 ms in which no answer is read


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
        self._file, self._synced, self._written = -1, 0.0, False

    def __enter__(self) -> Answers:
        """Lock the file and read it.

        Raises:
            FolderError: another process writes it now, or it cannot be opened.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise FolderError(
                f"another process asks the same model the same question ({self.path}); wait for it"
            ) from None
        try:
            data = self.path.read_bytes() if self.path.exists() else b""
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE)
        except OSError as error:
            raise NotWritten(self.path, error) from error
        rows = [row for _, row in json_lines(data) if isinstance(row, dict)]  # a torn line is no dict
        self._known = {row["text"]: row for row in rows if isinstance(row.get("text"), str)}
        if not data.endswith(b"\n") and data:
            self._write(b"\n")
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file, with all answers on the disk, and release the lock."""
        try:
            if self._written:
                os.fsync(self._file)
        except OSError as error:
            raise NotWritten(self.path, error) from error
        finally:
            os.close(self._file)
            self._lock.release()

    def add(self, text: str, row: Mapping[str, Any]) -> None:
        """Store the answer about ``text``; it survives a kill from now on, and a power cut ten seconds later.

        Raises:
            NotWritten: the disk is full.
        """
        stored = {"text": cache.text_hash(text).hex(), **row}
        self._write(json.dumps(stored).encode() + b"\n")
        self._known[stored["text"]] = stored

    def get(self, text: str) -> dict[str, Any] | None:
        """Return the stored answer about ``text``, if there is one."""
        return self._known.get(cache.text_hash(text).hex())

    def _write(self, line: bytes) -> None:
        try:
            if os.write(self._file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._written = True
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as error:
            raise NotWritten(self.path, error) from error


class Job:
    """Questions about texts that have no stored answer.

    Args:
        source: How labels are scored.
        endpoints: The servers, which share one queue.
        spare: For each class, a text that replaces an example in the prompt about the example itself.
        budget: The tokens spent, and their limit.
    """

    def __init__(self, source: Source, endpoints: Sequence[Endpoint], spare: Sequence[str], budget: Budget) -> None:
        self._source, self._endpoints, self._spare, self._budget = source, endpoints, spare, budget
        self._server = source.endpoint.server
        self._changed: set[tuple[str, str]] = set()

    async def run(self, texts: Sequence[str], answers: Answers) -> None:
        """Ask about N texts and store every answer when it arrives.

        Raises:
            QkdError: no server is left, the budget is spent, or too many texts have no answer.
        """
        queue, total, failures, in_flight = deque(texts), len(texts), 0, 0
        before, done = self._budget.dollars(self._budget.spent), 0
        lost, reason = Counter[str](), ""
        error: Exception | None = None

        async def work(endpoint: Endpoint) -> None:
            nonlocal failures, error, reason, in_flight, done
            while queue and error is None:
                text = queue.popleft()
                in_flight += 1
                try:
                    dollars = self._budget.dollars(self._budget.spent)
                    self._budget.check(dollars + in_flight * (dollars - before) / max(done, 1))
                    row = await self._row(endpoint, text)
                    answers.add(text, row)
                    failures += "failed" in row
                    if failures > max(10, MAX_UNANSWERED_SHARE * total):
                        raise ModelError(
                            f"{self._budget.name} did not answer {failures} texts; the latest reason: {row['failed']}"
                        )
                except Unavailable as failure:
                    queue.append(text)
                    lost[endpoint.name] += 1
                    reason = str(failure)
                    return
                except Exception as failure:
                    error = error or failure
                    return
                finally:
                    in_flight, done = in_flight - 1, done + 1
                spent = self._budget.spent
                tokens = spent.prompt_tokens + spent.completion_tokens
                bar.advance(1, f"({tokens:,} tokens{self._budget.price(spent)})")

        with progress(f"asking {self._source.model}", total, "texts") as bar:
            for endpoint in self._endpoints:
                endpoint.waits = len(self._endpoints) == 1
                endpoint.on_wait = lambda seconds: bar.advance(0, f"(waiting {seconds:.0f} s)")
            try:
                left = total + 1
                while error is None and 0 < len(queue) < left:  # a server that died leaves its texts to the others
                    left = len(queue)
                    alive = sorted(self._endpoints, key=lambda one: lost[one.name])
                    workers = [one for one in alive for _ in range(one.spec.api_concurrency - lost[one.name])]
                    await asyncio.gather(*map(work, workers))
            finally:
                for endpoint in self._endpoints:
                    await endpoint.close()
        if error is not None:
            raise error
        if queue:
            raise ServiceError(
                f"no server is left with {len(queue):,} of {total:,} texts unanswered ({reason}); "
                "the same command continues with these"
            )

    async def _row(self, endpoint: Endpoint, text: str) -> dict[str, Any]:
        """Return the line to store about ``text``, with the number of requests and of tokens read and written."""
        question = self._source.question  # a prompt never shows the label of its own text
        examples = tuple((self._spare[n] if shown == text else shown, n) for shown, n in question.examples)
        source = self._source.copy(endpoint=endpoint, question=replace(question, examples=examples))
        row: dict[str, Any] = {}
        try:
            scores = await source.scores(text)
            if not np.isfinite(scores.values).all():
                raise Unanswered("scores are missing")
            row["scores"] = [round(float(value), 6) for value in scores.values]
            row["quality"] = {name: round(value, 6) for name, value in scores.quality.items()}
        except (Unanswered, Unsuited) as error:
            row["failed"] = str(error)
        row["usage"] = astuple(source.usage)
        return row | self._other_server(endpoint)

    def _other_server(self, endpoint: Endpoint) -> dict[str, Any]:
        """Return the name of another model than at the start, and warn once; the next job has a new cache key."""
        if endpoint.server in (self._server, ("", "")):
            return {}
        if endpoint.server not in self._changed:
            self._changed.add(endpoint.server)
            before, after = (" ".join(one).strip() or "unnamed" for one in (self._server, endpoint.server))
            log.warning(f"{self._budget.name}: the server changed from '{before}' to '{after}' during this job")
        return {"server": list(endpoint.server)}
