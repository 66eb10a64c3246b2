"""The source ``votes``: how often each label is drawn, for servers without log-probabilities."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from qkd.teachers.api.source import PROBE_TEXTS, Scores, Source, Unanswered, Unsuited
from qkd.teachers.api.usage import quotes

# Votes that all labels together have before the first sample, as in the interval of Agresti and Coull (1998).
PRIOR_VOTES = 4.0
MAX_ANSWER_TOKENS = 1024  # a reasoning model thinks before it answers


class Votes(Source):
    """Frequencies of the labels among samples at temperature 1, with Dirichlet smoothing.

    With K readable samples, k of them for a label, and C labels, the label's probability is p = (k + 4/C) / (K + 4).
    Its standard error is sqrt(p (1 - p) / K). With two labels and K = 20, the model's probability is within 1.96
    standard errors in at least 95 % of cases, whatever it is.
    """

    name = "votes"
    repeatable = False
    _constrained = True
    _many = True

    async def prepare(self) -> None:
        """Ask for JSON that can only be a label, and fall back to free text.

        Raises:
            Unsuited: both answers contain no label.
        """
        reasons = []
        for self._constrained in (True, False):
            try:
                answers = await self._samples(PROBE_TEXTS[0], 2)
            except Unanswered as error:
                reasons.append(str(error))
                continue
            self._many = len(answers) > 1
            if any(self.label(answer) is not None for answer in answers):
                return
            reasons.append(f"answers contain no label, for example {_shown(answers[0], PROBE_TEXTS[0])}")
        raise Unsuited("; ".join(dict.fromkeys(reasons)))

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
        classes = len(self.question.classes)
        counts = np.array([votes.count(number) for number in range(classes)]) + PRIOR_VOTES / classes
        readable = len(votes) - votes.count(None)
        if not readable:
            raise Unanswered(f"{len(votes)} answers without a label, for example {_shown(answers[0], text)}")
        p = counts / counts.sum()
        error = float(np.sqrt(p * (1 - p) / readable).mean())
        return Scores(np.log(p), {"standard_error": error, "unreadable": votes.count(None)})

    def label(self, answer: str) -> int | None:
        """Return the number of the only label in an answer; reasoning in ``<think>`` tags is ignored."""
        answer = re.sub(r"<think>.*?(?:</think>|\Z)", "", answer, flags=re.DOTALL).strip()
        try:
            value = json.loads(answer)
            answer = str(value.get("label", "")) if isinstance(value, dict) else answer
        except (ValueError, RecursionError):
            pass
        answer = answer.casefold().strip(" .!'\"*`")
        names = [
            {one.casefold() for one in (name, *words)}
            for name, words in zip(self.question.classes, self.question.words, strict=True)
        ]
        whole = [number for number, known in enumerate(names) if answer in known]
        within = [number for number, known in enumerate(names) if any(_contains(answer, name) for name in known)]
        found = whole or within
        return found[0] if len(found) == 1 else None

    async def _samples(self, text: str, count: int) -> list[str]:
        body: dict[str, Any] = {"n": count} if count > 1 else {}
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
        messages = self.question.messages(text)
        answers = await self._chat(MAX_ANSWER_TOKENS, messages=messages, temperature=1.0, **body)
        contents = [str((answer.get("message") or {}).get("content") or "") for answer in answers]
        if not any(contents) and all(answer.get("finish_reason") == "length" for answer in answers):
            raise Unanswered(f"all {MAX_ANSWER_TOKENS:,} tokens of an answer were spent on reasoning")
        return contents


def _contains(answer: str, name: str) -> bool:
    """Return whether an answer contains a name as a word of its own."""
    return bool(name) and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", answer) is not None


def _shown(answer: str, text: str) -> str:
    """Return the beginning of an answer for a message, which must not contain the text."""
    answer = " ".join(answer.split())[:60]
    return "one that quotes the text" if quotes(answer, text) else repr(answer)
