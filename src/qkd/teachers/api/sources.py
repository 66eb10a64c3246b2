"""Soft labels from an endpoint: four sources, from the most to the least informative, and a test of each.

Servers ignore options that they do not know. llama.cpp ignores ``echo`` (ggml-org/llama.cpp#27174), so that every label
scores 0.0. vLLM has returned log-probabilities of an earlier prompt under prefix caching (vllm-project/vllm#42019).
``choose`` therefore tests each source with two known texts and uses the first one that passes.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qkd.core.errors import ModelError
from qkd.teachers.api.endpoint import Endpoint, Refused
from qkd.teachers.api.question import Question

PROBE_TEXTS = (
    "I loved every minute of this wonderful film and will watch it again.",
    "The parcel arrived two weeks late, the box was crushed and half of the parts were missing.",
)
REPEAT_TOLERANCE = 1e-3  # nats by which a repeated request may differ
DIRICHLET = 0.5  # votes that every label has before the first sample (Jeffreys' prior)
TOP_LOGPROBS = 20
MAX_ANSWER_TOKENS = 1024  # a reasoning model thinks before it answers


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
        first, second, again = [(await self.scores(text)).values for text in (*PROBE_TEXTS, PROBE_TEXTS[0])]
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


class Likelihoods(Source):
    """Mean log-likelihood of all tokens of each label's words after the prompt, as ``prompt:`` computes it.

    Uses completions with ``echo`` and ``logprobs``, or vLLM's ``prompt_logprobs``.
    """

    name = "likelihoods"
    _options: Mapping[str, Any] = {"echo": True, "logprobs": 1}
    _together = True

    async def prepare(self) -> None:
        """Try ``echo`` and ``prompt_logprobs``, all labels in one request and one request for each."""
        reasons = []
        for options in ({"echo": True, "logprobs": 1}, {"prompt_logprobs": 0}):
            for together in (True, False):
                self._options, self._together = options, together
                try:
                    forward = await self._of_words(PROBE_TEXTS[0], self._words())
                    backward = await self._of_words(PROBE_TEXTS[0], self._words()[::-1])
                except (Unanswered, Unsuited) as error:
                    reasons.append(str(error))
                    continue
                if np.abs(np.subtract(forward, backward[::-1])).max() > REPEAT_TOLERANCE:
                    raise Unsuited("scores depend on the order of the labels")
                return
        raise Unsuited("; ".join(dict.fromkeys(reasons)))

    async def scores(self, text: str) -> Scores:
        """Return the logarithm of the mean likelihood over the words of each label."""
        flat = iter(await self._of_words(text, self._words()))
        values = [
            np.logaddexp.reduce([next(flat) for _ in words]) - math.log(len(words)) for words in self.question.words
        ]
        return Scores(np.array(values))

    def _words(self) -> list[str]:
        return [f" {word.strip()}" for words in self.question.words for word in words]

    async def _of_words(self, text: str, words: Sequence[str]) -> list[float]:
        prompt = self.question.plain(text)
        fixed = {"max_tokens": 1, "temperature": 0, **self._options}
        if not self._together:
            answers = [await self._ask("completions", {"prompt": prompt + word, **fixed}) for word in words]
            choices = [choice for answer in answers for choice in _choices(answer)]
        else:
            choices = _choices(await self._ask("completions", {"prompt": [prompt + word for word in words], **fixed}))
            choices = sorted(choices, key=lambda choice: choice.get("index", 0))
        if len(choices) != len(words):
            raise Unsuited(f"{len(choices)} answers to {len(words)} prompts")
        return [_mean_of_word(choice, prompt, word) for choice, word in zip(choices, words, strict=True)]


class TokenScores(Source):
    """Log-probabilities of the labels' tokens as the next token, from endpoints made for this purpose.

    Uses vLLM's ``logprob_token_ids`` or SGLang's ``/v1/score``; the labels must be single tokens.
    """

    name = "score"
    _sglang = False
    _ids: Sequence[int] = ()

    async def prepare(self) -> None:
        """Find the token of each label, and which endpoint the server has."""
        ids = []
        for name, words in zip(self.question.classes, self.question.words, strict=True):
            try:
                answer = await self._ask("/tokenize", {"prompt": f" {words[0].strip()}", "add_special_tokens": False})
            except Unanswered as error:
                raise Unsuited(f"no /tokenize: {error}") from None
            tokens = answer.get("tokens")
            if not isinstance(tokens, list) or len(tokens) != 1 or len(words) != 1:
                raise Unsuited(f"the label '{name}' is not one token")
            ids += tokens
        if len(set(ids)) < len(ids):
            raise Unsuited("two labels share a token")
        self._ids = ids
        for self._sglang in (False, True):
            try:
                await self.scores(PROBE_TEXTS[0])
            except (Unanswered, Unsuited):
                continue
            return
        raise Unsuited("neither logprob_token_ids nor /v1/score")

    async def scores(self, text: str) -> Scores:
        """Return one log-probability for each label."""
        prompt = self.question.plain(text)
        if self._sglang:
            body = {"query": prompt, "items": [""], "label_token_ids": list(self._ids), "apply_softmax": True}
            rows = (await self._ask("score", body)).get("scores")
            if not isinstance(rows, list) or len(rows) != 1 or len(rows[0]) != len(self._ids):
                raise Unsuited("/v1/score returns no row of scores")
            return Scores(np.log(np.clip(np.array(rows[0], float), 1e-12, None)))
        body = {
            "prompt": prompt,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logprob_token_ids": list(self._ids),
        }
        listed = _listed(_choices(await self._ask("completions", body))[0])
        values = [listed.get(f" {words[0].strip()}") for words in self.question.words]
        if None in values:
            raise Unsuited("logprob_token_ids is ignored: a label's token is not returned")
        return Scores(np.array(values, float))


class NextToken(Source):
    """Log-probabilities of the next token among the ``top_logprobs`` that the server lists.

    Labels that are single tokens are scored themselves, in the prompt of ``prompt:``. Otherwise the prompt assigns
    one-character codes to the labels. A label outside the list gets the largest log-probability that the list allows.
    """

    name = "next-token"
    _mode = "words"

    async def prepare(self) -> None:
        """Use the labels' own words where the server lists them as single tokens, codes in a chat otherwise."""
        if all(len(words) == 1 for words in self.question.words):
            try:
                listed = [await self._listed(text) for text in PROBE_TEXTS]
            except (Unanswered, Unsuited):
                listed = []
            if listed and all(any(answer in one for one in listed) for answer in self._answers()):
                return
        self._mode = "codes"
        try:
            listed = [await self._listed(text) for text in PROBE_TEXTS]
        except Unanswered as error:
            raise Unsuited(str(error)) from None
        if not any(self._mass(one, code) for one in listed for code in self.question.codes):
            raise Unsuited("no label's code is among the listed tokens")

    @property
    def key(self) -> dict[str, Any]:
        """The source and whether it scores words or codes."""
        return {"source": self.name, "mode": self._mode}

    async def scores(self, text: str) -> Scores:
        """Return one log-probability for each label, and the probability that no listed token has."""
        listed = await self._listed(text)
        rest = max(1.0 - sum(map(math.exp, listed.values())), 1e-9)
        bound = min(rest, math.exp(min(listed.values())))
        masses = [self._mass(listed, answer) for answer in self._answers()]
        if not any(masses):
            raise Unanswered("no label is among the listed tokens")
        return Scores(np.log([mass or bound for mass in masses]), unlisted=rest)

    def _answers(self) -> Sequence[str]:
        return (
            [f" {words[0].strip()}" for words in self.question.words] if self._mode == "words" else self.question.codes
        )

    def _mass(self, listed: Mapping[str, float], answer: str) -> float:
        """Return the listed probability of an answer; a code may have blanks around it."""
        if self._mode == "words":
            return math.exp(listed[answer]) if answer in listed else 0.0
        return sum(math.exp(value) for token, value in listed.items() if token.strip() == answer)

    async def _listed(self, text: str) -> dict[str, float]:
        fixed = {"max_tokens": 1, "temperature": 0}
        if self._mode == "words":
            body = {"prompt": self.question.plain(text), "logprobs": TOP_LOGPROBS, **fixed}
            return _listed(_choices(await self._ask("completions", body))[0])
        body = {"messages": self.question.coded_messages(text), "logprobs": True, "top_logprobs": TOP_LOGPROBS, **fixed}
        return _listed(_choices(await self._ask("chat/completions", body))[0])


class Votes(Source):
    """Frequencies of the labels among samples at temperature 1, with Dirichlet smoothing.

    With K readable samples, k of them for a label, and C labels, the label's probability is p = (k + 1/2) / (K + C/2).
    Its standard error is that of the posterior, sqrt(p (1 - p) / (K + C/2 + 1)).
    """

    name = "votes"
    repeatable = False
    _constrained = True
    _many = True

    async def prepare(self) -> None:
        """Ask for JSON that can only be a label, and fall back to free text."""
        for self._constrained in (True, False):
            try:
                answers = await self._samples(PROBE_TEXTS[0], 2)
            except Unanswered as error:
                if not self._constrained:
                    raise Unsuited(str(error)) from None
                continue
            self._many = len(answers) > 1
            if any(self.label(answer) is not None for answer in answers):
                return
        raise Unsuited(f"answers contain no label, for example {answers[0][:60]!r}")

    @property
    def key(self) -> dict[str, Any]:
        """The source, the number of samples and whether answers are constrained."""
        return {"source": self.name, "samples": self.samples, "constrained": self._constrained}

    async def scores(self, text: str) -> Scores:
        """Return the logarithms of the smoothed frequencies."""
        answers: list[str] = []
        while len(answers) < self.samples:
            answers += await self._samples(text, self.samples - len(answers) if self._many else 1)
        votes = [self.label(answer) for answer in answers[: self.samples]]
        counts = np.array([votes.count(number) for number in range(len(self.question.classes))], float)
        if not counts.any():
            raise Unanswered(f"{len(votes)} answers without a label, for example {answers[0][:60]!r}")
        probabilities = (counts + DIRICHLET) / (counts.sum() + DIRICHLET * len(counts))
        return Scores(np.log(probabilities), unreadable=votes.count(None))

    def label(self, answer: str) -> int | None:
        """Return the number of the only label in an answer; reasoning in ``<think>`` tags is ignored."""
        answer = re.sub(r"<think>.*?(?:</think>|\Z)", "", answer, flags=re.DOTALL).strip()
        try:
            value = json.loads(answer)
            answer = str(value.get("label", "")) if isinstance(value, dict) else answer
        except (ValueError, RecursionError):
            pass
        said = answer.casefold()
        names = [[name, *words] for name, words in zip(self.question.classes, self.question.words, strict=True)]
        exact = {
            number for number, known in enumerate(names) if said.strip(" .!'\"*`") in [n.casefold() for n in known]
        }
        if exact:
            return exact.pop() if len(exact) == 1 else None
        found = set()
        for number, known in enumerate(names):
            if any(re.search(rf"(?<!\w){re.escape(name.casefold())}(?!\w)", said) for name in known if name):
                found.add(number)
        return found.pop() if len(found) == 1 else None

    async def _samples(self, text: str, count: int) -> list[str]:
        body: dict[str, Any] = {
            "messages": self.question.messages(text),
            "temperature": 1.0,
            "max_tokens": MAX_ANSWER_TOKENS,
        }
        if count > 1:
            body["n"] = count
        if self._constrained:
            labels = {"type": "string", "enum": [words[0] for words in self.question.words]}
            schema = {
                "type": "object",
                "properties": {"label": labels},
                "required": ["label"],
                "additionalProperties": False,
            }
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "label", "strict": True, "schema": schema},
            }
        choices = _choices(await self._ask("chat/completions", body))
        return [str((choice.get("message") or {}).get("content") or "") for choice in choices]


SOURCES: dict[str, type[Source]] = {one.name: one for one in (TokenScores, Likelihoods, NextToken, Votes)}


async def choose(
    endpoint: Endpoint, model: str, question: Question, wanted: str, samples: int
) -> tuple[Source, list[str]]:
    """Return the first source that passes its test, and one line about every source before it.

    Args:
        endpoint: The server.
        model: The model's name on it.
        question: The prompt.
        wanted: A key of ``SOURCES``, or ``auto`` for all of them in order.
        samples: Samples of a text for ``votes``.

    Raises:
        ModelError: no source passes.
        ServiceError: the server does not answer.
    """
    reasons = []
    for name in SOURCES if wanted == "auto" else [wanted]:
        source = SOURCES[name](endpoint, model, question, samples)
        try:
            await source.test()
        except (Unsuited, Unanswered, ModelError) as error:
            reasons.append(f"{name}: {error}")
            continue
        return source, reasons
    raise ModelError(
        f"{endpoint.name} supplies no usable probabilities of labels with model '{model}': " + "; ".join(reasons)
    )


def _choices(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise Unanswered("the answer has no choices")
    return choices


def _listed(choice: Mapping[str, Any]) -> dict[str, float]:
    """Return the log-probabilities of the tokens listed for the first generated position."""
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, Mapping):
        raise Unsuited("no log-probabilities although they were requested")
    if isinstance(content := logprobs.get("content"), list) and content:  # chat, and llama.cpp's completions
        pairs = [(one.get("token"), one.get("logprob")) for one in content[0].get("top_logprobs") or []]
    elif isinstance(top := logprobs.get("top_logprobs"), list) and top and isinstance(top[0], Mapping):
        pairs = list(top[0].items())
    else:
        pairs = []
    listed = {
        str(token): float(value) for token, value in pairs if isinstance(value, int | float) and math.isfinite(value)
    }
    if not listed:
        raise Unsuited("the list of top log-probabilities is empty")
    return listed


def _mean_of_word(choice: Mapping[str, Any], prompt: str, word: str) -> float:
    """Return the mean log-probability of the tokens of ``word`` behind ``prompt``.

    Raises:
        Unsuited: the choice does not contain exactly these tokens, or not their log-probabilities.
    """
    start, end = len(prompt), len(prompt) + len(word)
    tokens = _prompt_tokens(choice, end)
    lengths = np.cumsum([0, *(len(token) for token, _, _ in tokens)]).tolist()
    # some servers count offsets in bytes or skip a first token, so both ways to locate a token are tried
    for places in ([offset for _, _, offset in tokens], lengths[:-1]):
        inside = [
            (token, value)
            for (token, value, _), place in zip(tokens, places, strict=True)
            if place is not None and start <= place and place + len(token) <= end and token
        ]
        if "".join(token for token, _ in inside) == word:
            break
    else:
        raise Unsuited("the tokens of a label are not returned (echo is ignored, or a token spans its beginning)")
    values = [value for _, value in inside if isinstance(value, int | float)]
    if len(values) != len(inside):
        raise Unsuited("a token of a label has no log-probability")
    return float(np.mean(values))


def _prompt_tokens(choice: Mapping[str, Any], length: int) -> list[tuple[str, float | None, int | None]]:
    """Return text, log-probability and, if known, offset of every token of a prompt of ``length`` characters."""
    if isinstance(rows := choice.get("prompt_logprobs"), list):
        # the first token has no entry, so its text is unknown and offsets are counted from the end
        entries = [next(iter(row.values())) if row else {} for row in rows]
        tokens, place = list[tuple[str, float | None, int | None]](), length
        for entry in reversed(entries):
            token = str(entry.get("decoded_token") or "")
            place -= len(token)
            tokens.append((token, entry.get("logprob"), place))
        return tokens[::-1]
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, Mapping) or not isinstance(logprobs.get("tokens"), list):
        raise Unsuited("no log-probabilities of the prompt (echo is ignored)")
    tokens, values = logprobs["tokens"], logprobs.get("token_logprobs") or []
    offsets = logprobs.get("text_offset") or [None] * len(tokens)
    if not len(tokens) == len(values) == len(offsets):
        raise Unsuited("lists of tokens and log-probabilities differ in length")
    return list(zip(map(str, tokens), values, offsets, strict=True))


__all__ = ["SOURCES", "Scores", "Source", "Unanswered", "Unsuited", "choose"]
