"""The question about one text, and the interface of a source: a way to get scores of the labels from a server."""

from __future__ import annotations

import asyncio
import string
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from qkd.core.errors import ModelError
from qkd.teachers.api.endpoint import Endpoint, Refused
from qkd.teachers.api.usage import Usage, reported_usage
from qkd.teachers.prompt_files import PromptFile

CODES = string.ascii_uppercase + string.digits
PROBE_TEXTS = (
    "I loved every minute of this wonderful film and will watch it again.",
    "The parcel arrived two weeks late, the box was crushed and half of the parts were missing.",
)
REPEAT_TOLERANCE = 1e-3  # nats by which a repeated request may differ


@dataclass(frozen=True)
class Question:
    """A prompt for certain labels, in the forms that servers accept.

    Attributes:
        prompt: The template.
        classes: The C labels.
        words: The words that stand for each label.
        examples: Texts and class numbers that are shown first.
    """

    prompt: PromptFile
    classes: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    examples: tuple[tuple[str, int], ...] = ()

    @property
    def codes(self) -> tuple[str, ...]:
        """One character for each label.

        Raises:
            ModelError: there are more labels than characters.
        """
        if len(self.classes) > len(CODES):
            raise ModelError(
                f"{len(self.classes)} labels exceed the {len(CODES)} one-character codes; use --api-source votes"
            )
        return tuple(CODES[: len(self.classes)])

    def plain(self, text: str) -> str:
        """Return the prompt as one text; a word with a space before it is the answer."""
        shown = [f"{self._about(example)} {self.words[number][0]}\n\n" for example, number in self.examples]
        return "".join(shown) + self._about(text)

    def messages(self, text: str, coded: bool = False) -> list[dict[str, str]]:
        """Return the prompt as chat messages.

        Args:
            text: The text.
            coded: Whether the answer is the one-character code of a label; else it is the label's first word.
        """
        answers, suffix = [words[0] for words in self.words], ""
        if coded:
            listed = "\n".join(f"{code}) {word}" for code, word in zip(self.codes, answers, strict=True))
            answers, suffix = list(self.codes), f"\n\n{listed}\nAnswer with the letter of the label alone."
        turns = [{"role": "system", "content": self.prompt.system}] if self.prompt.system else []
        for example, number in self.examples:
            turns.append({"role": "user", "content": self._about(example) + suffix})
            turns.append({"role": "assistant", "content": answers[number]})
        return [*turns, {"role": "user", "content": self._about(text) + suffix}]

    def _about(self, text: str) -> str:
        listed = ", ".join(words[0] for words in self.words)
        return self.prompt.template.replace("{labels}", listed).replace("{text}", text)


class Unsuited(Exception):
    """A source that this server cannot supply, and why."""


class Unanswered(Exception):
    """A text whose answer contains no label, or that the server rejects."""


@dataclass(frozen=True)
class Scores:
    """The answer about one text.

    Attributes:
        values: Scores (C,) of the labels, log-probabilities up to a constant.
        quality: Figures about the answer, whose means over all texts are fields of ``EndpointUse``.
    """

    values: np.ndarray
    quality: Mapping[str, float] = field(default_factory=dict)


class Source(ABC):
    """Base of all sources.

    Args:
        endpoint: The server.
        model: The model's name on it.
        question: The prompt.
        spent: The tokens of all requests, shared by all copies.

    Attributes:
        samples: The number of samples of a text, for votes.
        usage: The tokens of this copy's requests.
    """

    name: ClassVar[str]
    repeatable: ClassVar[bool] = True
    _limits: tuple[str, ...] = ("max_tokens", "max_completion_tokens")

    def __init__(self, endpoint: Endpoint, model: str, question: Question, spent: Usage) -> None:
        self.endpoint, self.model, self.question = endpoint, model, question
        self.samples, self.spent, self.usage = endpoint.spec.api_votes, spent, Usage()

    @property
    def key(self) -> dict[str, Any]:
        """Everything about the source that determines an answer, as JSON values."""
        return {"source": self.name}

    def copy(self, **changes: Any) -> Source:
        """Return the same source with other attributes, and with no tokens used."""
        other = object.__new__(type(self))
        other.__dict__.update({**self.__dict__, "usage": Usage(), **changes})
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
        await self.prepare()  # asked about the first text already, so that a cache contains it
        texts = [*PROBE_TEXTS, PROBE_TEXTS[0]]
        first, second, again = [one.values for one in await asyncio.gather(*map(self.scores, texts))]
        if not np.isfinite([first, second, again]).all():
            raise Unsuited("scores are missing")
        if not self.repeatable:  # equal numbers of votes are no fault
            return
        if min(np.ptp(first), np.ptp(second)) < 1e-6:
            raise Unsuited("all labels have the same score")
        if np.abs(first - again).max() > REPEAT_TOLERANCE:
            raise Unsuited(f"a repeated request differs by {np.abs(first - again).max():.2g} nats")
        if np.array_equal(first, second):
            raise Unsuited("two different texts have identical scores, as from a stale cache")

    async def _ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer = await self.endpoint.post(path, {"model": self.model, **body})
        except Refused as error:
            raise Unanswered(str(error)) from None
        usage = reported_usage(body, answer)
        self.usage += usage
        self.spent += usage
        return answer

    async def _completions(self, **body: Any) -> list[dict[str, Any]]:
        """Return the choices of a completion of one token, the most probable one."""
        return _choices(await self._ask("completions", {"max_tokens": 1, "temperature": 0, **body}))

    async def _chat(self, max_tokens: int, **body: Any) -> list[dict[str, Any]]:
        """Return the choices of a chat.

        Old servers ignore ``max_completion_tokens`` and write without end; new models refuse ``max_tokens``. The first
        request that is answered decides.
        """
        for number, limit in enumerate(self._limits):
            try:
                answer = _choices(await self._ask("chat/completions", {**body, limit: max_tokens}))
            except Unanswered:
                if number + 1 == len(self._limits):
                    raise
                continue
            self._limits = (limit,)
            return answer
        raise AssertionError


def _choices(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the choices of an answer.

    Raises:
        Unanswered: there are none.
    """
    found = answer.get("choices")
    if not isinstance(found, list) or not found or not all(isinstance(choice, dict) for choice in found):
        raise Unanswered("the answer has no choices")
    return found
