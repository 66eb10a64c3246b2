"""Tokens and requests, as servers report them or estimated from characters."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

CHARACTERS_PER_TOKEN = 3.5


@dataclass
class Usage:
    """Tokens and requests.

    Attributes:
        requests: Answered requests.
        prompt_tokens: Tokens that the server read.
        completion_tokens: Tokens that the server wrote.
        estimated: Requests whose tokens the server did not report, so that they are estimated from characters.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0

    def __iadd__(self, other: Usage) -> Usage:
        """Add the tokens and requests of ``other``."""
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.estimated += other.estimated
        return self

    def cost(self, price: tuple[float, float]) -> float:
        """Return US dollars at a price for one million read and one million written tokens."""
        return (self.prompt_tokens * price[0] + self.completion_tokens * price[1]) / 1e6


# The usage of the text that a task asks about, or of the test of a server.
current_usage: ContextVar[Usage | None] = ContextVar("current_usage", default=None)


def reported_usage(body: Mapping[str, Any], answer: Mapping[str, Any]) -> Usage:
    """Return the tokens of one answered request, estimated where the server reports none."""
    reported = answer.get("usage")
    counts = [reported.get(f"{kind}_tokens") for kind in ("prompt", "completion")] if isinstance(reported, dict) else []
    if counts and isinstance(counts[0], int) and counts[0] > 0:
        return Usage(1, counts[0], counts[1] if isinstance(counts[1], int) and counts[1] > 0 else 0)
    read, written = (sum(map(len, texts_of(part))) for part in (body, answer))
    return Usage(1, estimated_tokens(read), estimated_tokens(written), estimated=1)


def texts_of(value: Any) -> list[str]:
    """Return the texts of a request or of an answer."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = [value.get(key) for key in ("messages", "prompt", "query", "choices", "message", "content", "text")]
    return [text for part in value for text in texts_of(part)] if isinstance(value, list) else []


def estimated_tokens(characters: int) -> int:
    """Return a number of tokens; English text has about four characters for each."""
    return round(characters / CHARACTERS_PER_TOKEN)
