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
    # What the model's chat template puts before and after a text, for each set of examples; None without a template.
    _templates: dict[tuple[tuple[str, int], ...], list[str]] | None = None

    def __init__(self, endpoint: Endpoint, model: str, question: Question, spent: Usage) -> None:
        self.endpoint, self.model, self.question = endpoint, model, question
        self.samples, self.spent, self.usage = endpoint.spec.api_votes, spent, Usage()

    @property
    def key(self) -> dict[str, Any]:
        """Everything about the source that determines an answer, as JSON values."""
        return {"source": self.name, "template": self._templates and self._templates[self.question.examples]}

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

    async def _use_template(self) -> None:
        """Make the prompt that of a chat where ``prompt:`` would, unless the prompt file says ``chat = false``.

        Raises:
            Unsuited: the server uses a chat template and does not disclose it.
        """
        chat = self.question.prompt.chat
        if chat is False:
            return
        try:
            self._templates = {self.question.examples: await self._around_text()}
        except Unanswered:
            try:
                await self._chat(1, messages=self.question.messages(PROBE_TEXTS[0]))
            except Unanswered:
                if chat is None:
                    return  # the model has no template, and ``prompt:`` continues plain text
            raise Unsuited(
                "the server does not disclose its chat template (no /tokenize of messages), and this source needs it "
                "unless the prompt file says chat = false"
            ) from None

    async def _around_text(self) -> list[str]:
        """Return what vLLM's chat template puts before and after a text."""
        text, other = PROBE_TEXTS
        tokens = await self._tokens(messages=self.question.messages(text), add_generation_prompt=True)
        shown = (await self._post("/detokenize", {"tokens": tokens})).get("prompt")
        parts = str(shown).split(text)
        if len(parts) != 2:
            raise Unanswered("the server ignores messages")  # llama.cpp's /tokenize reads other fields
        plain = await self._tokens(prompt=other.join(parts), add_special_tokens=False)
        chat = await self._tokens(messages=self.question.messages(other), add_generation_prompt=True)
        if plain != chat:
            raise Unsuited("the chat template depends on the text")
        return parts

    async def _plain(self, text: str) -> str:
        """Return the prompt as one text, which a word continues."""
        if self._templates is None:
            return self.question.plain(text)
        if self.question.examples not in self._templates:
            self._templates[self.question.examples] = await self._around_text()
        return text.join(self._templates[self.question.examples])

    def _word(self, word: str) -> str:
        """Return a label's word as it continues the prompt."""
        return word.strip() if self._templates else f" {word.strip()}"

    async def _tokens(self, **body: Any) -> list[int]:
        """Return the token ids of a prompt or of messages."""
        tokens = (await self._post("/tokenize", body)).get("tokens")
        if not isinstance(tokens, list):
            raise Unanswered("/tokenize returns no tokens")
        return tokens

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self.endpoint.post(path, {"model": self.model, **body})
        except Refused as error:
            raise Unanswered(str(error)) from None

    async def _ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = await self._post(path, body)
        usage = reported_usage(body, answer)
        self.usage += usage
        self.spent += usage
        return answer

    async def _completions(self, **body: Any) -> list[dict[str, Any]]:
        """Return the choices of a completion of one token, the most probable one."""
        special = {} if self._templates is None else {"add_special_tokens": False}  # the template contains them
        return _choices(await self._ask("completions", {"max_tokens": 1, "temperature": 0, **special, **body}))

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
    match answer.get("choices"):
        case [_, *_] as found if all(isinstance(choice, dict) for choice in found):
            return found
    raise Unanswered("the answer has no choices")
