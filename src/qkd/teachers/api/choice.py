"""The choice of a source: the most informative one that a server supplies, and the length of prompts that it reads.

Servers ignore options that they do not know. Every label scores 0.0 where ``echo`` is ignored
(ggml-org/llama.cpp#27174). Log-probabilities can be those of an earlier prompt, under prefix caching
(vllm-project/vllm#42019). ``choose`` therefore tests each source with two known texts and uses the first that passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from qkd.core.errors import ModelError
from qkd.core.teacher_config import ApiSpec
from qkd.teachers.api.endpoint import Endpoint
from qkd.teachers.api.likelihoods import Likelihoods
from qkd.teachers.api.next_token import NextToken, TokenScores
from qkd.teachers.api.source import Question, Source, Unanswered, Unsuited
from qkd.teachers.api.usage import Usage, estimated_tokens
from qkd.teachers.api.votes import Votes

# Length from which the context is tested, and the most characters that a token of a real text has.
MIN_CONTEXT_TEST_CHARACTERS, MAX_CHARACTERS_PER_TOKEN = 1000, 40
# Written tokens of one sample, for the estimate.
VOTE_TOKENS = 8

SOURCES: dict[str, type[Source]] = {one.name: one for one in (TokenScores, Likelihoods, NextToken, Votes)}


def candidates(spec: ApiSpec) -> Sequence[str]:
    """Return the names of the sources that may be used, in order of preference."""
    return list(SOURCES) if spec.api_source == "auto" else [spec.api_source]


async def choose(endpoint: Endpoint, model: str, question: Question, spent: Usage) -> tuple[Source, list[str]]:
    """Return the first source that passes its test, and the reasons against the sources before it.

    Args:
        endpoint: The server.
        model: The model's name on it.
        question: The prompt.
        spent: The usage to which all requests are added.

    Raises:
        ModelError: no source passes.
        ServiceError: the server does not answer.
    """
    failed = dict[str, list[str]]()
    for name in candidates(endpoint.spec):
        source = SOURCES[name](endpoint, model, question, spent)
        try:
            await source.test()
            break
        except (Unsuited, Unanswered, ModelError) as error:
            failed.setdefault(str(error), []).append(name)
    reasons = [f"{', '.join(names)}: {reason}" for reason, names in failed.items()]
    if sum(map(len, failed.values())) == len(candidates(endpoint.spec)):
        raise ModelError(
            f"{endpoint.name} supplies no usable probabilities of labels with model '{model}': {'; '.join(reasons)}"
            + ("" if endpoint.spec.api_source == "auto" else "; --api-source auto tries the other sources")
            + ("" if urlsplit(endpoint.name).path.strip("/") else "; the URLs of most servers end in /v1")
        )
    return source, reasons


async def check_context(source: Source, texts: Sequence[str]) -> None:
    """Compare the tokens read of the longest text with those of its first nine tenths.

    Servers such as Ollama cut a long prompt and answer all the same (ollama/ollama#8099, #17889).

    Raises:
        ModelError: the server reads no more tokens of the whole text.
    """
    text = max(texts, key=lambda text: len(text.encode()))
    start = len(text) * 9 // 10
    if len(text) < MIN_CONTEXT_TEST_CHARACTERS:
        return
    read = list[int]()
    for part in (text[:start], text):
        single = source.copy(samples=1)
        try:
            await single.scores(part)
        except (Unanswered, Unsuited):
            return  # a server that refuses a long prompt is no silent one
        if single.usage.estimated or not single.usage.requests:
            return
        read.append(single.usage.prompt_tokens // single.usage.requests)
    if read[1] - read[0] < (len(text) - start) / MAX_CHARACTERS_PER_TOKEN:
        raise ModelError(
            f"{source.endpoint.name} reads only {read[1]:,} tokens of a prompt and cuts the rest without an error; the "
            f"longest text has {len(text):,} characters. Start the server with a longer context (num_ctx of Ollama), "
            "or shorten the texts"
        )


def expected_usage(name: str, question: Question, texts: Sequence[str], samples: int) -> Usage:
    """Return the tokens that N texts will take from a source, by their number of characters."""
    read = estimated_tokens(sum(len(question.plain(text)) for text in texts))
    calls = sum(map(len, question.words)) if name == Likelihoods.name else 1
    written = samples * VOTE_TOKENS if name == Votes.name else calls
    return Usage(len(texts) * calls, read * calls, len(texts) * written)
