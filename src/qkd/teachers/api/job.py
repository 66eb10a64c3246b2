"""A job: questions about many texts to several servers, from one queue, each answer stored when it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qkd.core.console import log, progress
from qkd.core.errors import ModelError, ServiceError
from qkd.teachers.api.answers import Answers
from qkd.teachers.api.endpoint import Endpoint, Unavailable
from qkd.teachers.api.source import Source, Unanswered, Unsuited
from qkd.teachers.api.usage import Usage, current_usage

MAX_UNANSWERED_SHARE = 0.2  # of all texts; above it the job stops, because the model does not do this task


class Job:
    """Questions about texts that have no stored answer.

    Args:
        name: The teacher's name, for messages.
        source: How labels are scored.
        endpoints: The servers, which share one queue.
        spare: For each class, a text that replaces an example in the prompt about the example itself.
        check_budget: Raises an error once the limit is reached.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        endpoints: Sequence[Endpoint],
        spare: Sequence[str],
        check_budget: Callable[[], None],
    ) -> None:
        self.name, self._source, self._endpoints, self._spare = name, source, endpoints, spare
        self._check_budget = check_budget
        self._server = source.endpoint.server
        self._changed: set[tuple[str, str]] = set()

    async def run(self, texts: Sequence[str], answers: Answers) -> None:
        """Ask about N texts and store every answer when it arrives.

        Raises:
            QkdError: no server is left, the budget is spent, or too many texts have no answer.
        """
        queue: asyncio.Queue[str] = asyncio.Queue()
        for text in texts:
            queue.put_nowait(text)
        failures, lost, stop = 0, list[str](), list[Exception]()

        async def work(source: Source) -> None:
            nonlocal failures
            while not stop and not queue.empty():
                text = queue.get_nowait()
                try:
                    self._check_budget()
                    row = await self._row(source, text)
                    answers.add(text, row)
                except Unavailable as error:
                    queue.put_nowait(text)
                    lost.append(str(error))
                    return
                except Exception as error:
                    stop.append(error)
                    return
                bar.advance(1)
                failures += "failed" in row
                if failures > max(10, MAX_UNANSWERED_SHARE * len(texts)):
                    stop.append(
                        ModelError(f"{self.name} did not answer {failures} texts; the latest reason: {row['failed']}")
                    )

        with progress(f"asking {self._source.model}", len(texts), "texts") as bar:
            await asyncio.gather(
                *(work(self._source.on(one)) for one in self._endpoints for _ in range(one.concurrency))
            )
        for endpoint in self._endpoints:
            await endpoint.close()
        if stop:
            raise stop[0]
        if not queue.empty():
            raise ServiceError(
                f"no server is left with {queue.qsize():,} of {len(texts):,} texts unanswered ({lost[-1]}); "
                "the same command continues with these"
            )

    async def _row(self, source: Source, text: str) -> Mapping[str, Any]:
        """Return the line to store about ``text``, with the number of requests and of tokens read and written."""
        examples = [(self._spare[n] if shown == text else shown, n) for shown, n in source.question.examples]
        if examples != list(source.question.examples):  # a prompt never shows the label of its own text
            source = source.on(source.endpoint)
            source.question = source.question.with_examples(examples)
        usage = Usage()
        token = current_usage.set(usage)
        row: dict[str, Any] = {}
        try:
            scores = await source.scores(text)
            row["scores"] = [round(float(value), 6) for value in scores.values]
            row |= {"unlisted": round(scores.unlisted, 6)} if scores.unlisted else {}
            row |= {"unreadable": scores.unreadable} if scores.unreadable else {}
        except (Unanswered, Unsuited) as error:
            row["failed"] = str(error)
        finally:
            current_usage.reset(token)
        row["usage"] = [usage.requests, usage.prompt_tokens, usage.completion_tokens, usage.estimated]
        return row | self._other_server(source.endpoint)

    def _other_server(self, endpoint: Endpoint) -> dict[str, Any]:
        """Return the name of another model than at the start, and warn once; the next job has a new cache key."""
        if endpoint.server in (self._server, ("", "")):
            return {}
        if endpoint.server not in self._changed:
            self._changed.add(endpoint.server)
            before, after = (" ".join(one).strip() or "unnamed" for one in (self._server, endpoint.server))
            log.warning(f"{self.name}: the server changed from '{before}' to '{after}' during this job")
        return {"server": list(endpoint.server)}
