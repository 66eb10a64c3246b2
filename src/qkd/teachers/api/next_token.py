"""The sources ``score`` and ``next-token``: log-probabilities of the token that follows the prompt."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qkd.teachers.api.source import PROBE_TEXTS, Scores, Source, Unanswered, Unsuited

# Numbers of listed tokens, tried in order: llama.cpp lists any number, vLLM and chats 20, OpenAI's completions 5.
TOP_LOGPROBS = (1000, 20_000, 20, 5)
# Log-probability below which a token counts as impossible: servers write 0 as -inf, -9999 or the smallest float.
IMPOSSIBLE = -100.0


class TokenScores(Source):
    """Log-probabilities of the labels' tokens as the next token, from endpoints made for this purpose.

    Uses vLLM's ``logprob_token_ids`` or SGLang's ``/v1/score``; the labels must be single tokens.
    """

    name = "score"
    _sglang = False
    _ids: Sequence[int] = ()

    async def prepare(self) -> None:
        """Find the token of each label, and which endpoint the server has."""
        await self._use_template()
        ids = list[int]()
        for name, words in zip(self.question.classes, self.question.words, strict=True):
            tokens = await self._tokens(prompt=self._word(words[0]), add_special_tokens=False)
            if len(tokens) != 1 or len(words) != 1:
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
        prompt = await self._plain(text)
        if self._sglang:
            body = {"query": prompt, "items": [""], "label_token_ids": list(self._ids), "apply_softmax": True}
            rows = (await self._ask("score", body)).get("scores")
            if not isinstance(rows, list) or len(rows) != 1 or len(rows[0]) != len(self._ids):
                raise Unsuited("/v1/score returns no row of scores")
            return Scores(np.log(np.clip(np.array(rows[0], float), 1e-12, None)))
        choices = await self._completions(prompt=prompt, logprobs=1, logprob_token_ids=list(self._ids))
        listed = _next_tokens(choices[0])
        values = [listed.get(self._word(words[0])) for words in self.question.words]
        if None in values:
            raise Unsuited("logprob_token_ids is ignored: a label's token is not returned")
        return Scores(np.array(values, float))


class NextToken(Source):
    """Log-probabilities of the next token among the ``top_logprobs`` that the server lists.

    Labels that are single tokens are scored themselves, in the prompt of ``prompt:``. Otherwise the prompt assigns
    one-character codes to the labels. A label outside the list gets the largest log-probability that the list allows.
    """

    name = "next-token"
    _top, _coded, _as_chat = TOP_LOGPROBS[0], False, False

    async def prepare(self) -> None:
        """Find the first form of the question that has labels among the listed tokens.

        The forms are the prompt of ``prompt:``, the same as a chat (or first so), and a chat with codes.

        Raises:
            Unsuited: no code is listed, or only sampled tokens have a probability.
        """
        chat = self.question.prompt.chat
        forms = [(False, False), (False, True)] if chat is False else [(False, True), (False, False)][: 1 + (not chat)]
        forms = forms if all(len(words) == 1 for words in self.question.words) else []
        reason = ""
        for self._coded, self._as_chat in (*forms, (True, True)):
            for self._top in TOP_LOGPROBS:
                try:
                    listed = await asyncio.gather(*map(self._listed, PROBE_TEXTS))
                except (Unanswered, Unsuited) as error:
                    reason = str(error)
                    continue
                found = np.array([[self._mass(one, answer) > 0 for answer in self._answers] for one in listed])
                # a label of several tokens is listed nowhere
                if found.any() if self._coded else found.any(axis=0).all() and found.any(axis=1).all():
                    return
                reason = "no label's code is among the listed tokens"
        raise Unsuited(reason)

    @property
    def key(self) -> dict[str, Any]:
        """The source, the form of the question and the number of listed tokens."""
        return {"source": self.name, "coded": self._coded, "chat": self._as_chat, "top": self._top}

    async def scores(self, text: str) -> Scores:
        """Return one log-probability for each label, and the probability that no listed token has."""
        listed = await self._listed(text)
        rest = max(1.0 - sum(map(math.exp, listed.values())), 1e-9)
        bound = min(rest, math.exp(min(listed.values())))
        masses = [self._mass(listed, answer) for answer in self._answers]
        if not any(masses):
            raise Unanswered("no label is among the listed tokens")
        return Scores(np.log([mass or bound for mass in masses]), {"unlisted": rest})

    @property
    def _answers(self) -> Sequence[str]:
        blank = "" if self._as_chat else " "
        return self.question.codes if self._coded else [blank + words[0].strip() for words in self.question.words]

    def _mass(self, listed: Mapping[str, float], answer: str) -> float:
        """Return the listed probability of an answer; a code may have blanks around it."""
        if not self._coded:
            return math.exp(listed.get(answer, -math.inf))
        return sum(math.exp(value) for token, value in listed.items() if token.strip() == answer)

    async def _listed(self, text: str) -> dict[str, float]:
        if not self._as_chat:
            return _next_tokens((await self._completions(prompt=self.question.plain(text), logprobs=self._top))[0])
        messages = self.question.messages(text, coded=self._coded)
        return _next_tokens(
            (await self._chat(1, messages=messages, logprobs=True, top_logprobs=self._top, temperature=0))[0]
        )


def _next_tokens(choice: Mapping[str, Any]) -> dict[str, float]:
    """Return the log-probabilities of the tokens listed for the first generated position.

    Raises:
        Unsuited: the server lists none, or only the sampled token has a probability.
    """
    pairs: list[tuple[Any, Any]] = []
    match choice.get("logprobs"):
        case {"content": [{"top_logprobs": [*top]}, *_]}:  # chat, and llama.cpp's completions
            pairs = [(one.get("token"), one.get("logprob")) for one in top if isinstance(one, Mapping)]
        case {"top_logprobs": [Mapping() as first, *_]}:
            pairs = list(first.items())
        case logprobs if not isinstance(logprobs, Mapping):
            raise Unsuited("no log-probabilities although they were requested")
    listed: dict[str, float] = {}
    for token, value in pairs:
        if isinstance(value, int | float) and IMPOSSIBLE < value <= 0:  # NaN is neither
            listed[str(token)] = math.log(math.exp(listed.get(str(token), -math.inf)) + math.exp(value))
    if not listed:
        raise Unsuited("the list of top log-probabilities is empty")
    if len(listed) == 1 < len(pairs):
        raise Unsuited("one token has all probability: the server reports probabilities after sampling")
    return listed
