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
from qkd.core.console import log, progress
from qkd.core.errors import BudgetError, ModelError, ServiceError
from qkd.data.splits import shuffled_by_content
from qkd.models.transformer import Loading
from qkd.results import TeacherCard
from qkd.teachers.api.answers import Answers
from qkd.teachers.api.endpoint import DEFAULT_URL, Endpoint, Unavailable, Usage
from qkd.teachers.api.question import Question
from qkd.teachers.api.sources import Source, Unanswered, Unsuited, Votes, choose
from qkd.teachers.calibration import Calibration, calibrate
from qkd.teachers.heads import mean_cross_entropy
from qkd.teachers.prompt_files import AUTO, BUILT_IN, draw_examples, label_words, read_prompts

if TYPE_CHECKING:
    from qkd.data.dataset import Dataset
    from qkd.data.splits import Splits

T = TypeVar("T")

MAX_CALIBRATION_TEXTS = 1000
CHARACTERS_PER_TOKEN = 3.5  # for the estimate before the first request; English text has about four
MAX_UNANSWERED_SHARE = 0.2  # of all texts; above it the job stops, because the model does not do this task
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
        self.usage = Usage(price=self.api.prices)
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
        self._server = ""
        self._calibration: Calibration | None = None
        self._unseen: dict[bytes, np.ndarray] = {}
        self._own: dict[bytes, int] = {}
        self._facts: dict[str, Any] = {}
        self._unanswered: dict[str, str] = {}
        self._changed: set[str] = set()

    def estimate(self, texts: Sequence[str], classes: Sequence[str]) -> str:
        """Return a sentence with the tokens and the cost of N texts, without asking a server."""
        question = self._ask_about(tuple(classes), ())
        tokens = sum(len(question.plain(text)) for text in texts) / CHARACTERS_PER_TOKEN
        calls = 1 if self.api.api_source in ("next-token", "score") else len(classes)
        written = len(texts) * (self.api.api_votes * 8 if self.api.api_source == "votes" else calls)
        cost = (tokens * calls * self.usage.price[0] + written * self.usage.price[1]) / 1e6
        price = f", ${cost:.2f} at the given price" if any(self.usage.price) else ""
        return (
            f"{self.name}: {len(texts):,} texts, at most about {tokens * calls:,.0f} read and {written:,} written "
            f"tokens{price}"
        )

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Test the server, ask about the training and validation texts, and calibrate the scores.

        Raises:
            QkdError: the server is unreachable, supplies no probabilities, or would cost more than allowed.
        """
        log.info(self.estimate(dataset.texts, dataset.classes))
        self._check_budget(self.estimated_cost(dataset.texts, dataset.classes))
        train = [dataset.texts[row] for row in splits.train]
        self._own = {
            cache.text_hash(text): int(dataset.targets[row]) for text, row in zip(train, splits.train, strict=True)
        }
        examples: tuple[tuple[str, int], ...] = ()
        if self.spec.examples:
            examples, self._spare = draw_examples(dataset, splits, self.spec)
        self._question = self._ask_about(dataset.classes, examples)
        _run(self._connect())
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
        self._unseen = {cache.text_hash(text): row for text, row in zip(kept, self._calibration.unseen, strict=True)}
        self._judge([dataset.texts[row] for row in splits.valid], dataset.targets[splits.valid])

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, out of fold for those that calibrated the scores."""
        out = self._to_logits(texts)
        for row, text in enumerate(texts):
            out[row] = self._unseen.get(cache.text_hash(text), out[row])
        return out

    def predict_logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts; stored answers are used, since a second one costs money."""
        return self._to_logits(texts)

    def describe(self) -> TeacherCard:
        """Return model, source, prompt, tokens and cost."""
        question, calibration = self._fitted()
        card = TeacherCard(
            name=self.name,
            kind="api",
            model=self.model,
            prompt=question.plain("{text}"),
            words={name: list(words) for name, words in zip(question.classes, question.words, strict=True)},
            calibrated=self.spec.calibrate,
            weight=calibration.weight.tolist(),
            bias=tuple(calibration.bias.tolist()),
            classes=question.classes,
        )
        return card.model_copy(
            update={
                **self._facts,
                "server": self._server,
                "endpoints": [endpoint.name for endpoint in self._endpoints],
                "source": self._source.name if self._source else None,
                "rejected_sources": list(self._rejected),
                "unanswered": len(self._unanswered),
                "requests": self.usage.requests,
                "prompt_tokens": self.usage.prompt_tokens,
                "completion_tokens": self.usage.completion_tokens,
                "cost_dollars": round(self.usage.cost, 6),
            }
        )

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Return scores ``(N,C)`` float32 of N texts from stored answers, asking for those that are missing.

        A text that the model did not answer has a row of NaN.
        """
        question, source = self._question, self._source
        if question is None or source is None:
            raise ModelError(f"{self.name} has not been fitted: call fit(dataset, splits) first")
        key = {
            "kind": "api",
            "server": self._server,
            "model": self.model,
            "asked": question.plain("{text}"),
            "words": [list(words) for words in question.words],
            "spare": self._spare,
            **source.key,
        }
        with Answers(key) as answers:
            missing = [text for text in dict.fromkeys(texts) if answers.get(text) is None]
            if missing:
                _run(self._ask_all(missing, answers, source))
            rows = [answers.get(text) or {} for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if "scores" not in row:
                self._unanswered[text] = str(row.get("failed"))
        empty = [float("nan")] * len(question.classes)
        return np.array([row.get("scores", empty) for row in rows], np.float32).reshape(len(texts), -1)

    def estimated_cost(self, texts: Sequence[str], classes: Sequence[str]) -> float:
        """Return US dollars for the read tokens of N texts, by their number of characters."""
        question = self._ask_about(tuple(classes), ())
        characters = sum(len(question.plain(text)) for text in texts)
        return characters / CHARACTERS_PER_TOKEN * self.usage.price[0] / 1e6

    def _ask_about(self, classes: tuple[str, ...], examples: tuple[tuple[str, int], ...]) -> Question:
        return Question(self._prompt, classes, label_words(self._prompt, classes), examples)

    async def _connect(self) -> None:
        """Find the model and a source on the first server that answers.

        Raises:
            QkdError: no server answers, or none supplies probabilities.
        """
        assert self._question is not None
        failed: list[str] = []
        for endpoint in self._endpoints:
            try:
                await endpoint.check_model(self.model)
                found = await choose(endpoint, self.model, self._question, self.api.api_source, self.api.api_votes)
            except Unavailable as error:
                failed.append(str(error))
                continue
            finally:
                await endpoint.close()
            self._source, self._rejected = found
            self._server = endpoint.server
            for reason in self._rejected:
                log.info(f"{self.name}: not used: {reason}")
            log.info(
                f"{self.name}: '{self._source.name}' scores the labels on {endpoint.name} ({self._server or 'unnamed'})"
            )
            return
        raise ServiceError("; ".join(failed))

    async def _ask_all(self, texts: Sequence[str], answers: Answers, source: Source) -> None:
        """Ask about N texts and store every answer when it arrives; all servers share one queue.

        Raises:
            QkdError: no server is left, the budget is spent, or too many texts have no answer.
        """
        queue: asyncio.Queue[str] = asyncio.Queue()
        for text in texts:
            queue.put_nowait(text)
        failures, lost = 0, list[str]()
        stop: list[Exception] = []

        async def work(one: Source) -> None:
            nonlocal failures
            while not stop:
                try:
                    text = queue.get_nowait()
                except asyncio.QueueEmpty:
                    return
                try:
                    self._check_budget(self.usage.cost)
                    row = await self._row(one, text)
                except Unavailable as error:
                    queue.put_nowait(text)
                    lost.append(str(error))
                    return
                except Exception as error:
                    stop.append(error)
                    return
                self._watch(one.endpoint, row)
                answers.add(text, row)
                failures += "failed" in row
                bar.advance(1)
                if failures > max(10, MAX_UNANSWERED_SHARE * len(texts)):
                    stop.append(
                        ModelError(f"{self.name} did not answer {failures} texts; the latest reason: {row['failed']}")
                    )

        with progress(f"asking {self.model}", len(texts), "texts") as bar:
            workers = [work(source.on(endpoint)) for endpoint in self._endpoints for _ in range(endpoint.concurrency)]
            await asyncio.gather(*workers)
        for endpoint in self._endpoints:
            await endpoint.close()
        if stop:
            raise stop[0]
        if not queue.empty():
            raise ServiceError(
                f"no server is left with {queue.qsize():,} of {len(texts):,} texts unanswered ({lost[-1]}); "
                "the same command continues with these"
            )

    async def _row(self, source: Source, text: str) -> dict[str, Any]:
        """Return the line to store about ``text``."""
        question = source.question
        examples = [(self._spare[label] if shown == text else shown, label) for shown, label in question.examples]
        if examples != list(question.examples):  # a prompt never shows the label of its own text
            source = source.on(source.endpoint)
            source.question = question.with_examples(examples)
        try:
            scores = await source.scores(text)
        except (Unanswered, Unsuited) as error:
            return {"failed": str(error)}
        row: dict[str, Any] = {"scores": [round(float(value), 6) for value in scores.values]}
        if scores.unlisted:
            row["unlisted"] = round(scores.unlisted, 6)
        if scores.unreadable:
            row["unreadable"] = scores.unreadable
        return row

    def _watch(self, endpoint: Endpoint, row: dict[str, Any]) -> None:
        """Mark answers of another model than at the start, and warn once; the next job has a new cache key."""
        if endpoint.server and endpoint.server != self._server:
            row["server"] = endpoint.server
            if endpoint.server not in self._changed:
                self._changed.add(endpoint.server)
                log.warning(
                    f"{self.name}: the server changed from '{self._server}' to '{endpoint.server}' during this job"
                )

    def _check_budget(self, cost: float) -> None:
        limit = self.api.max_cost
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

    def _judge(self, texts: Sequence[str], targets: np.ndarray) -> None:
        """Measure the validation texts and warn if the teacher is not better than chance."""
        logits = self._to_logits(texts)
        accuracy = float(np.mean(logits.argmax(axis=1) == targets))
        self._facts = {"valid_loss": mean_cross_entropy(logits, targets), "valid_accuracy": accuracy}
        chance = np.bincount(targets).max() / len(targets)
        if accuracy <= chance + 2 * np.sqrt(chance * (1 - chance) / len(targets)):
            log.warning(
                f"{self.name} has a validation accuracy of {accuracy:.1%}, and the most frequent label alone "
                f"{chance:.1%}; try another --prompt or model"
            )
        if isinstance(self._source, Votes):
            p = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
            count = self.api.api_votes + logits.shape[1] / 2 + 1
            self._facts["standard_error"] = float(np.sqrt(p * (1 - p) / count).mean())

    def _fitted(self) -> tuple[Question, Calibration]:
        if self._question is None or self._calibration is None:
            raise ModelError(f"{self.name} has not been fitted: call fit(dataset, splits) first")
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
    return ApiTeacher(model, config.prompt, config.api)
