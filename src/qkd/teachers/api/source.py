"""The interface of a source: a way to get scores of the labels from a server, and its test on two known texts."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qkd.teachers.api.endpoint import Endpoint, Refused
from qkd.teachers.api.question import Question

PROBE_TEXTS = (
    "I loved every minute of this wonderful film and will watch it again.",
    "The parcel arrived two weeks late, the box was crushed and half of the parts were missing.",
)
REPEAT_TOLERANCE = 1e-3  # nats by which a repeated request may differ


class Unsuited(Exception):
    """A source that this server cannot supply, and why."""


class Unanswered(Exception):
    """A text whose answer contains no label, or that the server rejects."""


@dataclass(frozen=True)
class Scores:
    """The answer about one text.

    Attributes:
        values: Scores (C,) of the labels, log-probabilities up to a constant.
        unlisted: Probability that the server did not list; 0 where it lists everything.
        unreadable: Samples without a label.
    """

    values: np.ndarray
    unlisted: float = 0.0
    unreadable: int = 0


class Source(ABC):
    """Base of all sources.

    Args:
        endpoint: The server.
        model: The model's name on it.
        question: The prompt.
    """

    name: ClassVar[str]
    repeatable: ClassVar[bool] = True
    _limits: tuple[str, ...] = ("max_tokens", "max_completion_tokens")

    def __init__(self, endpoint: Endpoint, model: str, question: Question, samples: int = 20) -> None:
        self.endpoint, self.model, self.question, self.samples = endpoint, model, question, samples

    @property
    def key(self) -> dict[str, Any]:
        """Everything about the source that determines an answer, as JSON values."""
        return {"source": self.name}

    def on(self, endpoint: Endpoint) -> Source:
        """Return the same source on another server."""
        other = object.__new__(type(self))
        other.__dict__.update({**self.__dict__, "endpoint": endpoint})
        return other

    @abstractmethod
    async def prepare(self) -> None:
        """Find out which requests the server understands.

        Raises:
            Unsuited: the server cannot supply this source.
        """

    @abstractmethod
    async def scores(self, text: str) -> Scores:
        """Return the scores of one text.

        Raises:
            Unanswered: the server gives no usable answer about this text.
        """

    async def test(self) -> None:
        """Ask about two known texts.

        Raises:
            Unsuited: the answers show that the server ignores an option or repeats itself.
        """
        await self.prepare()
        first, second = [one.values for one in await asyncio.gather(*map(self.scores, PROBE_TEXTS))]
        again = (await self.scores(PROBE_TEXTS[0])).values
        if not np.isfinite([first, second]).all():
            raise Unsuited("scores are missing")
        if self.repeatable:  # equal numbers of votes are no fault
            if min(np.ptp(first), np.ptp(second)) < 1e-6:
                raise Unsuited("all labels have the same score")
            if np.abs(first - again).max() > REPEAT_TOLERANCE:
                raise Unsuited(f"a repeated request differs by {np.abs(first - again).max():.2g} nats")
            if np.array_equal(first, second):
                raise Unsuited("two different texts have identical scores, as from a stale cache")

    async def _ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self.endpoint.post(path, {"model": self.model, **body})
        except Refused as error:
            raise Unanswered(str(error)) from None

    async def _chat(self, body: Mapping[str, Any], max_tokens: int) -> list[dict[str, Any]]:
        """Return the choices of a chat.

        Old servers ignore ``max_completion_tokens`` and write without end; new models refuse ``max_tokens``. The first
        request that is answered decides.
        """
        for number, limit in enumerate(self._limits):
            try:
                answer = choices(await self._ask("chat/completions", {**body, limit: max_tokens}))
            except Unanswered:
                if number + 1 == len(self._limits):
                    raise
                continue
            self._limits = (limit,)
            return answer
        raise AssertionError


def choices(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the choices of an answer.

    Raises:
        Unanswered: there are none.
    """
    found = answer.get("choices")
    if not isinstance(found, list) or not found or not all(isinstance(choice, dict) for choice in found):
        raise Unanswered("the answer has no choices")
    return found
