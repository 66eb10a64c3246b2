"""The source ``likelihoods``: the log-likelihood of all tokens of every label, from log-probabilities of the prompt."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qkd.teachers.api.source import PROBE_TEXTS, REPEAT_TOLERANCE, Scores, Source, Unanswered, Unsuited

# Nats by which a token's log-probability may differ between generation and prompt; servers compute them in 16 bits.
GENERATED_TOLERANCE = 0.5


class Likelihoods(Source):
    """Mean log-likelihood of all tokens of each label's words after the prompt, as ``prompt:`` computes it.

    Uses completions with ``echo`` and ``logprobs``, or vLLM's ``prompt_logprobs``.
    """

    name = "likelihoods"
    _options: Mapping[str, Any] = {"echo": True, "logprobs": 1}
    _together = True

    async def prepare(self) -> None:
        """Try ``echo`` and ``prompt_logprobs``, all labels in one request and one request for each."""
        await self._use_template()
        reasons = []
        for options in ({"echo": True, "logprobs": 1}, {"prompt_logprobs": 0}):
            for together in (True, False):
                self._options, self._together = options, together
                try:
                    forward = _means(await self._of_words(PROBE_TEXTS[0], self._words()))
                    backward = _means(await self._of_words(PROBE_TEXTS[0], self._words()[::-1]))
                except (Unanswered, Unsuited) as error:
                    reasons.append(str(error))
                    continue
                if np.abs(np.subtract(forward, backward[::-1])).max() > REPEAT_TOLERANCE:
                    raise Unsuited("scores depend on the order of the labels")
                await self._compare_with_generated()
                return
        raise Unsuited("; ".join(dict.fromkeys(reasons)))

    async def _compare_with_generated(self) -> None:
        """Compare the log-probability of a generated token with that of the same token in a prompt.

        llama-cpp-python 0.3.36 returns wrong ones of a prompt and right ones of generated tokens.

        Raises:
            Unsuited: they differ.
        """
        match (await self._completions(prompt=await self._plain(PROBE_TEXTS[0]), logprobs=1))[0]:
            case {"text": str(word), "logprobs": {"token_logprobs": [int() | float() as value]}} if word:
                try:
                    (read,) = await self._of_words(PROBE_TEXTS[0], [word])
                except (Unanswered, Unsuited):  # the token does not stand alone behind the prompt
                    return
                whole = len(read) == 1 and "\ufffd" not in word  # part of a character is no token of a prompt
                if whole and abs(read[0] - value) > GENERATED_TOLERANCE:
                    raise Unsuited(
                        f"a token has log-probability {value:.2f} if generated and {read[0]:.2f} in a prompt"
                    )

    async def scores(self, text: str) -> Scores:
        """Return the logarithm of the mean likelihood over the words of each label."""
        flat = iter(_means(await self._of_words(text, self._words())))
        values = [
            np.logaddexp.reduce([next(flat) for _ in words]) - math.log(len(words)) for words in self.question.words
        ]
        return Scores(np.array(values))

    def _words(self) -> list[str]:
        return [self._word(word) for words in self.question.words for word in words]

    async def _of_words(self, text: str, words: Sequence[str]) -> list[list[float]]:
        """Return the log-probabilities of the tokens of each word behind the prompt."""
        prompt = await self._plain(text)
        if self._together:
            listed = await self._completions(prompt=[prompt + word for word in words], **self._options)
            listed = sorted(listed, key=lambda choice: choice.get("index", 0))
        else:
            each = (self._completions(prompt=prompt + word, **self._options) for word in words)
            listed = [choice for choices in await asyncio.gather(*each) for choice in choices]
        if len(listed) != len(words):
            raise Unsuited(f"{len(listed)} answers to {len(words)} prompts")
        return [_of_word(choice, prompt, word) for choice, word in zip(listed, words, strict=True)]


def _means(words: Sequence[Sequence[float]]) -> list[float]:
    return [float(np.mean(values)) for values in words]


def _of_word(choice: Mapping[str, Any], prompt: str, word: str) -> list[float]:
    """Return the log-probabilities of the tokens of ``word`` behind ``prompt``.

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
    return values


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
