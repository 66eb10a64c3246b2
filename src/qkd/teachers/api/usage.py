"""Tokens and requests, as servers report them or estimated from characters, and the money that they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qkd.core.errors import BudgetError
from qkd.results.teacher import money

CHARACTERS_PER_TOKEN = 3.5
# Length of a part of a server's text that is looked for in the request, whose texts no message may contain.
QUOTE_CHARACTERS = 20


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
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


@dataclass
class Budget:
    """Tokens spent, their price and the limit.

    Attributes:
        name: The teacher's name, for messages.
        prices: US dollars for a million read and a million written tokens.
        limit: US dollars at which labeling stops; None means no limit.
        spent: The tokens so far, those of stored answers included.
    """

    name: str
    prices: tuple[float, float]
    limit: float | None
    spent: Usage = field(default_factory=Usage)

    def dollars(self, usage: Usage) -> float:
        """Return the cost of ``usage``."""
        return (usage.prompt_tokens * self.prices[0] + usage.completion_tokens * self.prices[1]) / 1e6

    def price(self, usage: Usage) -> str:
        """Return the cost of ``usage`` for messages; nothing without a price."""
        return f", {money(self.dollars(usage))}" if any(self.prices) else ""

    def check(self, dollars: float) -> None:
        """Raise a BudgetError if ``dollars`` are above the limit."""
        if self.limit is not None and dollars > self.limit:
            raise BudgetError(
                f"{self.name}: {money(dollars)} is above --max-cost {self.limit:g}; all answers so far are stored, "
                "the same command with a higher limit continues"
            )


def reported_usage(body: Mapping[str, Any], answer: Mapping[str, Any]) -> Usage:
    """Return the tokens of one answered request, estimated where the server reports none."""
    match answer.get("usage"):
        case {"prompt_tokens": int(read), **rest} if read > 0:
            written = rest.get("completion_tokens")
            return Usage(1, read, max(written, 0) if isinstance(written, int) else 0)
    read, written = (sum(map(len, texts_of(part))) for part in (body, answer))
    return Usage(1, estimated_tokens(read), estimated_tokens(written), estimated=1)


def texts_of(value: Any) -> list[str]:
    """Return the texts of a request or of an answer."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = [value.get(key) for key in ("messages", "prompt", "query", "choices", "message", "content", "text")]
    return [text for part in value for text in texts_of(part)] if isinstance(value, list) else []


def quotes(text: str, body: Any) -> bool:
    """Return whether a server's text quotes the texts of a request."""
    sent = " ".join(" ".join(texts_of(body)).split())
    return any(text[start : start + QUOTE_CHARACTERS] in sent for start in range(len(text) - QUOTE_CHARACTERS + 1))


def estimated_tokens(characters: int) -> int:
    """Return a number of tokens; English text has about four characters for each."""
    return round(characters / CHARACTERS_PER_TOKEN)
