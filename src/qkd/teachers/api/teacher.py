"""The teacher ``api:MODEL``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from qkd.core import cache
from qkd.core.config import ApiSpec, Config, PromptSpec
from qkd.core.console import log
from qkd.core.errors import BudgetError, ModelError, ServiceError, require_extra
from qkd.data.dataset import shuffled_by_content
from qkd.models.transformer import Loading
from qkd.results import EndpointUse, TeacherCard
from qkd.teachers.api.answers import Answers
from qkd.teachers.api.choice import SOURCES, check_context, choose, expected_usage
from qkd.teachers.api.endpoint import DEFAULT_URL, Endpoint, Unavailable
from qkd.teachers.api.job import Job
from qkd.teachers.api.question import Question
from qkd.teachers.api.source import Source
from qkd.teachers.api.usage import Usage
from qkd.teachers.api.votes import Votes
from qkd.teachers.calibration import Calibration, calibrate, validation_scores
from qkd.teachers.heads import OutOfFold
from qkd.teachers.prompt_files import AUTO, BUILT_IN, draw_examples, label_words, read_prompts
from qkd.teachers.protocol import not_fitted

if TYPE_CHECKING:
    from qkd.data.dataset import Dataset, Splits

T = TypeVar("T")

MAX_CALIBRATION_TEXTS = 1000
OWN_LABEL_PROBABILITY = 0.95  # of a training text that the model did not answer, which is left to its label


class ApiTeacher:
    """An LLM behind an OpenAI-compatible endpoint.

    Args:
        model: The model's name on the server.
        prompt: The settings of the prompt.
        api: The settings of the endpoint.
        sleep, clock, transport: As in ``Endpoint``; for tests.

    Raises:
        QkdError: the prompt does not exist, several prompts are named, or a URL or price is malformed.
    """

    cross_fitted = True
    num_parameters = 0  # no server tells

    def __init__(
        self,
        model: str,
        prompt: PromptSpec | None = None,
        api: ApiSpec | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        transport: Any = None,
    ) -> None:
        self.name, self.model = f"api:{model}", model
        self.spec, self.api = prompt or PromptSpec(), api or ApiSpec()
        prompts = {AUTO: BUILT_IN["continue"]} if self.spec.prompt == (AUTO,) else read_prompts(self.spec.prompt)
        if len(prompts) > 1:
            raise ModelError(f"{self.name}: several prompts would be paid for several times; name one with --prompt")
        (self._prompt,) = prompts.values()
        urls = self.api.api_url or (os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL,)
        self.usage = Usage()
        self._endpoints = [
            Endpoint(
                url=url,
                key_env=self.api.api_key_env,
                concurrency=self.api.api_concurrency,
                timeout=self.api.api_timeout,
                sleep=sleep,
                transport=transport,
                usage=self.usage,
            )
            for url in urls
        ]
        self._question: Question | None = None
        self._spare: tuple[str, ...] = ()
        self._source: Source | None = None
        self._rejected: list[str] = []
        self._server = ("", "")
        self._calibration: Calibration | None = None
        self._out_of_fold = OutOfFold((), np.empty((0, 0)))
        self._own: dict[bytes, int] = {}
        self._facts: dict[str, float] = {}
        self._standard_error: float | None = None
        self._unanswered: dict[str, str] = {}
        self._counted: set[str] = set()

    def estimate(self, texts: Sequence[str], classes: Sequence[str]) -> str:
        """Return a sentence with the tokens and the cost of N texts for each possible source; no server is asked."""
        parts = []
        for name, usage in self._expected(texts, classes).items():
            cost = f", ${usage.cost(self.api.prices):.2f}" if any(self.api.prices) else ""
            parts.append(f"'{name}' {usage.prompt_tokens:,} read and {usage.completion_tokens:,} written{cost}")
        return f"{self.name}: {len(texts):,} texts, about this many tokens: {'; '.join(parts)}"

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Test the server, ask about the training and validation texts, and calibrate the scores.

        Raises:
            QkdError: the server is unreachable, supplies no probabilities, or would cost more than allowed.
        """
        expected = self._expected(dataset.texts, dataset.classes)
        log.info(self.estimate(dataset.texts, dataset.classes))
        self._check_budget(min(usage.cost(self.api.prices) for usage in expected.values()))
        train = [dataset.texts[row] for row in splits.train]
        self._own = {
            cache.text_hash(text): int(dataset.targets[row]) for text, row in zip(train, splits.train, strict=True)
        }
        examples: tuple[tuple[str, int], ...] = ()
        if self.spec.examples:
            examples, self._spare = draw_examples(dataset, splits, self.spec)
        self._question = self._ask_about(dataset.classes, examples)
        _run(self._connect(dataset.texts))
        assert self._source is not None
        self._check_budget(expected[self._source.name].cost(self.api.prices))
        rows = splits.train[shuffled_by_content(train, 0)[:MAX_CALIBRATION_TEXTS]]
        texts = [dataset.texts[row] for row in rows]
        how = "labels" if self.spec.calibrate == "words" else self.spec.calibrate  # a server scores no other words
        scores = self.scores(texts)
        answered = np.isfinite(scores).all(axis=1)
        if answered.sum() < 2 * len(dataset.classes):
            raise ModelError(
                f"{self.name} answered {answered.sum()} of {len(texts)} texts, too few to calibrate its scores"
            )
        self._calibration = calibrate(scores[answered], dataset.targets[rows][answered], len(dataset.classes), how)
        kept = [text for text, one in zip(texts, answered, strict=True) if one]
        self._out_of_fold = OutOfFold(kept, self._calibration.unseen)
        targets = dataset.targets[splits.valid]
        logits = self._to_logits([dataset.texts[row] for row in splits.valid])
        self._facts = validation_scores(self.name, logits, targets)
        if isinstance(self._source, Votes):
            self._standard_error = self._source.standard_error(logits)

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, out of fold for those that calibrated the scores."""
        return self._out_of_fold.put_into(self._to_logits(texts), texts)

    def predict_logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts; stored answers are used, since a second one costs money."""
        return self._to_logits(texts)

    def describe(self) -> TeacherCard:
        """Return model, source, prompt, tokens and cost."""
        question, calibration = self._fitted()
        assert self._source is not None
        endpoint = EndpointUse(
            source=self._source.name,
            rejected=tuple(self._rejected),
            model=self._server[0] or None,
            fingerprint=self._server[1] or None,
            urls=tuple(endpoint.name for endpoint in self._endpoints),
            requests=self.usage.requests,
            prompt_tokens=self.usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens,
            estimated=self.usage.estimated,
            dollars=round(self.usage.cost(self.api.prices), 6) if any(self.api.prices) else None,
            unanswered=len(self._unanswered),
            standard_error=self._standard_error,
        )
        return TeacherCard(
            name=self.name,
            kind="api",
            model=self.model,
            prompt=question.plain("{text}"),
            words={name: list(words) for name, words in zip(question.classes, question.words, strict=True)},
            shots=len(question.examples),
            calibrated=self.spec.calibrate,
            weight=calibration.weight.tolist(),
            bias=tuple(calibration.bias.tolist()),
            classes=question.classes,
            endpoint=endpoint,
        ).model_copy(update=self._facts)

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Return scores ``(N,C)`` float32 of N texts from stored answers, asking for those that are missing.

        A text that the model did not answer has a row of NaN.
        """
        question, source = self._question, self._source
        if question is None or source is None:
            raise not_fitted(self.name)
        key = {
            "kind": "api",
            "server": self._server,
            "model": self.model,
            "asked": [question.plain("{text}"), question.messages("{text}")],
            "words": [list(words) for words in question.words],
            "spare": self._spare,
            **source.key,
        }
        with Answers(key) as answers:
            missing = []
            for text in dict.fromkeys(texts):
                row = answers.get(text)
                if row is None:
                    missing.append(text)
                elif text not in self._counted:  # paid for by an earlier job
                    self.usage += Usage(*row["usage"])
                self._counted.add(text)
            if missing:
                job = Job(self.name, source, self._endpoints, self._spare, self._check_budget)
                _run(job.run(missing, answers))
            rows = [answers.get(text) or {} for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if "scores" not in row:
                self._unanswered[text] = str(row.get("failed"))
        empty = [float("nan")] * len(question.classes)
        return np.array([row.get("scores", empty) for row in rows], np.float32).reshape(len(texts), -1)

    def _expected(self, texts: Sequence[str], classes: Sequence[str]) -> dict[str, Usage]:
        """Return the tokens that N texts will take from each source that may be used."""
        question = self._ask_about(tuple(classes), ())
        names = SOURCES if self.api.api_source == "auto" else [self.api.api_source]
        return {name: expected_usage(name, question, texts, self.api.api_votes) for name in names}

    def _ask_about(self, classes: tuple[str, ...], examples: tuple[tuple[str, int], ...]) -> Question:
        return Question(self._prompt, classes, label_words(self._prompt, classes), examples)

    async def _connect(self, texts: Sequence[str]) -> None:
        """Find the model and a source on the first server that answers.

        Raises:
            QkdError: no server answers, none supplies probabilities, or the longest of N texts is cut.
        """
        assert self._question is not None
        failed: list[str] = []
        for endpoint in self._endpoints:
            try:
                await endpoint.check_model(self.model)
                found = await choose(endpoint, self.model, self._question, self.api.api_source, self.api.api_votes)
                await check_context(found[0], texts)
            except Unavailable as error:
                failed.append(str(error))
                continue
            finally:
                await endpoint.close()
            self._source, self._rejected = found
            self._server = endpoint.server
            for reason in self._rejected:
                log.info(f"{self.name}: not used: {reason}")
            server = " ".join(self._server).strip() or "unnamed"
            log.info(f"{self.name}: '{self._source.name}' scores the labels on {endpoint.name} ({server})")
            return
        raise ServiceError("; ".join(failed))

    def _check_budget(self, cost: float | None = None) -> None:
        """Raise a BudgetError if an expected cost, or else what was spent, is above the limit."""
        limit = self.api.max_cost
        cost = self.usage.cost(self.api.prices) if cost is None else cost
        if limit is not None and cost > limit:
            raise BudgetError(
                f"{self.name}: ${cost:.2f} is above --max-cost {limit:g}; all answers so far are stored, "
                "the same command with a higher limit continues"
            )

    def _to_logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return calibrated logits; an unanswered text gets its label if it is a training text, else zeros."""
        _, calibration = self._fitted()
        scores = self.scores(texts)
        answered = np.isfinite(scores).all(axis=1)
        out = np.zeros((len(texts), scores.shape[1]), np.float32)
        out[answered] = calibration(scores[answered])
        classes = scores.shape[1]
        for row in np.flatnonzero(~answered).tolist():
            if (own := self._own.get(cache.text_hash(texts[row]))) is not None:
                out[row, own] = np.log(OWN_LABEL_PROBABILITY * (classes - 1) / (1 - OWN_LABEL_PROBABILITY))
        if not answered.all():
            count = int((~answered).sum())
            log.warning(
                f"{self.name} did not answer {count:,} of {len(texts):,} texts, for example: {self._reason(texts)}"
            )
        return out

    def _reason(self, texts: Sequence[str]) -> str:
        return next((self._unanswered[text] for text in texts if text in self._unanswered), "no reason")

    def _fitted(self) -> tuple[Question, Calibration]:
        if self._question is None or self._calibration is None:
            raise not_fitted(self.name)
        return self._question, self._calibration


def _run(task: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in another thread where an event loop already runs (notebooks)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(task)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, task).result()


def make(model: str, loading: Loading, config: Config) -> ApiTeacher:
    """Return the teacher ``api:MODEL``."""
    require_extra(f"the teacher api:{model}", "api", "httpx")
    return ApiTeacher(model, config.prompt, config.api)
