"""The teacher ``api:MODEL``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from qkd.core import cache
from qkd.core.config import Config
from qkd.core.console import log
from qkd.core.errors import ModelError, ServiceError, require_extra
from qkd.core.objects import Named
from qkd.core.teacher_config import ApiSpec, PromptSpec
from qkd.data.dataset import shuffled_by_content
from qkd.models.transformer import Loading
from qkd.results import EndpointUse, TeacherCard
from qkd.teachers.api.choice import candidates, check_context, choose, expected_usage
from qkd.teachers.api.endpoint import DEFAULT_URL, Endpoint, Unavailable
from qkd.teachers.api.job import Answers, Job
from qkd.teachers.api.source import Question, Source
from qkd.teachers.api.usage import Budget, Usage
from qkd.teachers.calibration import Calibration, calibrate, validation_scores
from qkd.teachers.heads import OutOfFold
from qkd.teachers.prompt_files import AUTO, BUILT_IN, draw_examples, label_words, read_prompts
from qkd.teachers.protocol import not_fitted

if TYPE_CHECKING:
    from qkd.data.dataset import Dataset, Splits

T = TypeVar("T")

MAX_CALIBRATION_TEXTS = 1000
OWN_LABEL_PROBABILITY = 0.95  # of a training text that the model did not answer, which is left to its label


class ApiTeacher(Named):
    """An LLM behind an OpenAI-compatible endpoint.

    Args:
        model: The model's name on the server.
        prompt: The settings of the prompt.
        api: The settings of the endpoint.
        transport: As in ``Endpoint``; for tests.

    Attributes:
        budget: The tokens spent, their price and the limit.

    Raises:
        QkdError: the prompt does not exist, several prompts are named, or a URL or price is malformed.
    """

    cross_fitted = True
    num_parameters = 0  # no server reports it

    def __init__(
        self, model: str, prompt: PromptSpec | None = None, api: ApiSpec | None = None, transport: Any = None
    ) -> None:
        self.name, self.model = f"api:{model}", model
        self.spec, self.api = prompt or PromptSpec(), api or ApiSpec()
        prompts = {AUTO: BUILT_IN["continue"]} if self.spec.prompt == (AUTO,) else read_prompts(self.spec.prompt)
        if len(prompts) > 1:
            raise ModelError(f"{self.name}: several prompts would be paid for several times; name one with --prompt")
        (self._prompt,) = prompts.values()
        urls = self.api.api_url or (os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL,)
        self.budget = Budget(self.name, self.api.prices, self.api.max_cost)
        self._endpoints = [Endpoint(url, self.api, transport) for url in urls]
        self._spare: tuple[str, ...] = ()
        self._source: Source | None = None
        self._rejected: list[str] = []
        self._server = ("", "")
        self._calibration: Calibration | None = None
        self._out_of_fold = OutOfFold((), np.empty((0, 0)))
        self._own: dict[bytes, int] = {}
        self._facts: dict[str, float] = {}
        self._quality: dict[str, dict[str, float]] = {}
        self._unanswered: dict[str, str] = {}
        self._counted: set[str] = set()

    def estimate(self, texts: Sequence[str], classes: Sequence[str]) -> str:
        """Return a sentence with the tokens and the cost of N texts for each possible source; no server is asked."""
        parts = [
            f"'{name}' {usage.prompt_tokens:,} read and {usage.completion_tokens:,} written{self.budget.price(usage)}"
            for name, usage in self._expected(texts, classes).items()
        ]
        return f"{self.name}: {len(texts):,} texts, about this many tokens: {'; '.join(parts)}"

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Test the server, ask about the training and validation texts, and calibrate the scores.

        Raises:
            QkdError: the server is unreachable, supplies no probabilities, or would cost more than allowed.
        """
        texts, targets, classes = dataset.texts, dataset.targets, dataset.classes
        expected = self._expected(texts, classes)
        log.info(self.estimate(texts, classes))
        self.budget.check(min(map(self.budget.dollars, expected.values())))
        self._own = {cache.text_hash(texts[row]): int(targets[row]) for row in splits.train}
        examples: tuple[tuple[str, int], ...] = ()
        if self.spec.examples:
            examples, self._spare = draw_examples(dataset, splits, self.spec)
        source = self._source = _run(self._connect(self._question(classes, examples), texts))
        self.budget.check(self.budget.dollars(expected[source.name]))
        rows = splits.train[shuffled_by_content([texts[row] for row in splits.train], 0)[:MAX_CALIBRATION_TEXTS]]
        asked = np.concatenate([rows, splits.valid])  # one job, because the end of a job does not use all connections
        scores, valid = np.split(self.scores([texts[row] for row in asked]), [len(rows)])
        answered = np.isfinite(scores).all(axis=1)
        if answered.sum() < 2 * len(classes):
            raise ModelError(
                f"{self.name} answered {answered.sum()} of {len(rows)} texts, too few to calibrate its scores"
            )
        rows = rows[answered]
        how = "labels" if self.spec.calibrate == "words" else self.spec.calibrate  # a server scores no other words
        self._calibration = calibrate(scores[answered], targets[rows], len(classes), how)
        self._out_of_fold = OutOfFold([texts[row] for row in rows], self._calibration.unseen)
        logits = self._to_logits([texts[row] for row in splits.valid], valid)
        self._facts = validation_scores(self.name, logits, targets[splits.valid])

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, out of fold for those that calibrated the scores."""
        return self._out_of_fold.put_into(self.predict_logits(texts), texts)

    def predict_logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts; stored answers are used, since a second one costs money."""
        return self._to_logits(texts, self.scores(texts))

    def describe(self) -> TeacherCard:
        """Return model, source, prompt, tokens and cost."""
        source, calibration = self._fitted()
        question, spent, quality = source.question, self.budget.spent, list(self._quality.values())
        endpoint = EndpointUse(
            source=source.name,
            rejected=tuple(self._rejected),
            model=self._server[0] or None,
            fingerprint=self._server[1] or None,
            urls=tuple(endpoint.name for endpoint in self._endpoints),
            dollars=round(self.budget.dollars(spent), 6) if any(self.api.prices) else None,
            unanswered=len(self._unanswered),
            **asdict(spent),
        ).model_copy(update={name: float(np.mean([one[name] for one in quality])) for name in quality[0]})
        return TeacherCard(
            name=self.name,
            kind="api",
            model=self.model,
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
        source = self._source
        if source is None:
            raise not_fitted(self.name)
        question = source.question
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
                if text in self._counted:
                    continue
                row = answers.get(text)
                if row is not None and row["usage"][0]:  # paid for by an earlier job
                    self.budget.spent += Usage(*row["usage"])
                    self._counted.add(text)
                else:  # also a text that the server rejected then
                    missing.append(text)
            if missing:
                try:
                    _run(Job(source, self._endpoints, self._spare, self.budget).run(missing, answers))
                finally:
                    self._counted.update(text for text in missing if answers.get(text) is not None)
            rows = [answers.get(text) or {} for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if "scores" in row:
                self._quality[text] = row["quality"]
            else:
                self._unanswered[text] = str(row.get("failed"))
        empty = [float("nan")] * len(question.classes)
        return np.array([row.get("scores", empty) for row in rows], np.float32).reshape(len(texts), -1)

    def _expected(self, texts: Sequence[str], classes: Sequence[str]) -> dict[str, Usage]:
        """Return the tokens that N texts will take from each source that may be used."""
        question = self._question(tuple(classes))
        return {name: expected_usage(name, question, texts, self.api.api_votes) for name in candidates(self.api)}

    def _question(self, classes: tuple[str, ...], examples: tuple[tuple[str, int], ...] = ()) -> Question:
        return Question(self._prompt, classes, label_words(self._prompt, classes), examples)

    async def _connect(self, question: Question, texts: Sequence[str]) -> Source:
        """Return a source on the first server that answers.

        Raises:
            QkdError: no server answers, none supplies probabilities, or the longest of N texts is cut.
        """
        failed: list[str] = []
        for endpoint in self._endpoints:
            endpoint.testing, endpoint.waits = True, False
            try:
                await endpoint.check_model(self.model)
                source, self._rejected = await choose(endpoint, self.model, question, self.budget.spent)
                await check_context(source, texts)
            except Unavailable as error:
                failed.append(str(error))
                continue
            finally:
                endpoint.testing = False
                await endpoint.close()
            self._server = endpoint.server
            for reason in self._rejected:
                log.info(f"{self.name}: not used: {reason}")
            server = " ".join(self._server).strip() or "unnamed"
            log.info(f"{self.name}: '{source.name}' scores the labels on {endpoint.name} ({server})")
            return source
        raise ServiceError(f"{'; '.join(failed)}; start the server, or give the URL of another one as --api-url")

    def _to_logits(self, texts: Sequence[str], scores: np.ndarray) -> np.ndarray:
        """Return calibrated logits; an unanswered text gets its label if it is a training text, else zeros."""
        _, calibration = self._fitted()
        answered = np.isfinite(scores).all(axis=1)
        out = np.zeros((len(texts), scores.shape[1]), np.float32)
        out[answered] = calibration(scores[answered])
        classes = scores.shape[1]
        unanswered = [(row, texts[row]) for row in np.flatnonzero(~answered).tolist()]
        for row, text in unanswered:
            if (own := self._own.get(cache.text_hash(text))) is not None:
                out[row, own] = np.log(OWN_LABEL_PROBABILITY * (classes - 1) / (1 - OWN_LABEL_PROBABILITY))
        if unanswered:
            log.warning(
                f"{self.name} did not answer {len(unanswered):,} of {len(texts):,} texts, for example: "
                f"{self._unanswered[unanswered[0][1]]}"
            )
        return out

    def _fitted(self) -> tuple[Source, Calibration]:
        if self._source is None or self._calibration is None:
            raise not_fitted(self.name)
        return self._source, self._calibration


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
