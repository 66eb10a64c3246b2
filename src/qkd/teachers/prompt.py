"""The ``prompt:`` teacher: a causal LM is asked, and the likelihood of each label's words is its answer.

A word's score is the log-likelihood of all its tokens after the prompt, divided by their number; a label with several
words gets the logarithm of their mean exponential. Tokens near those words are scored in the same pass, and a linear
map, fitted on training texts, makes all scores logits (see ``calibration``). Which prompt suits an LM cannot be known
beforehand (Sclar et al., arXiv 2310.11324): several are compared on a few labelled texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qkd.core import cache
from qkd.core.config import PromptSpec
from qkd.core.console import say, warn
from qkd.core.errors import ModelError
from qkd.data.splits import shuffled_by_content
from qkd.models.transformer import Loading
from qkd.results import SelectionTrial, TeacherCard
from qkd.teachers import prompt_files
from qkd.teachers.calibration import Calibration, calibrate
from qkd.teachers.heads import mean_cross_entropy
from qkd.teachers.judge import CausalLM

if TYPE_CHECKING:
    from qkd.data.loading import Dataset
    from qkd.data.splits import Splits

CALIBRATED_ON = 1000
"""The most training texts that a calibration is fitted on."""

COMPARED_ON = 192
"""Training and validation texts that prompts are compared on."""

NEAR, MOST_NEAR = 128, 512
"""Tokens near each label's words that are scored too, and how many they may be for all labels together."""

LEAST_ROOM = 16
"""Tokens that a prompt must leave for the text."""


class PromptTeacher:
    """A causal LM that is asked.

    Args:
        model: a short name, folder, GGUF file or hub id.
        loading: how the LM is loaded.
        spec: what it is asked.

    Raises:
        QkdError: the model or the prompt cannot be had.
    """

    cross_fitted = True

    def __init__(self, model: str, loading: Loading | None = None, spec: PromptSpec | None = None) -> None:
        self.spec, self._model = spec or PromptSpec(), CausalLM(model, loading)
        self.name, self._prompts = f"prompt:{self._model.model}", prompt_files.read_prompts(self.spec.prompt)
        self._prompt = next(iter(self._prompts.values()))
        self._tried: tuple[SelectionTrial, ...] = ()
        self._classes: tuple[str, ...] = ()
        self._examples: tuple[tuple[str, int], ...] = ()
        self._spare: tuple[str, ...] = ()
        self._calibration: Calibration | None = None
        self._unseen: dict[bytes, np.ndarray] = {}
        self._room = 0
        self._facts: dict[str, float] = {}

    @property
    def num_parameters(self) -> int:
        """How many weights the LM has."""
        return self._model.num_parameters

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Draw the examples from the training split, take the best prompt, and calibrate the scores.

        Raises:
            QkdError: labels have no words, or the same ones, the prompt leaves no room for a text, or a label has fewer
                training texts than examples are asked for.
        """
        self._classes = dataset.classes
        self._examples, self._spare = (
            prompt_files.draw_examples(dataset, splits, self.spec) if self.spec.examples else ((), ())
        )
        if len(self._prompts) > 1:
            self._compare(dataset, np.concatenate([splits.train, splits.valid]))
        self._check_room()
        rows = splits.train[shuffled_by_content([dataset.texts[row] for row in splits.train], 0)[:CALIBRATED_ON]]
        train = [dataset.texts[row] for row in rows]
        self._calibration = self._calibrated(train, dataset.targets[rows])
        self._unseen = {cache.text_hash(text): row for text, row in zip(train, self._calibration.unseen, strict=True)}
        y = dataset.targets[splits.valid]
        logits = self._calibration(self.scores([dataset.texts[row] for row in splits.valid]))
        accuracy = float(np.mean(logits.argmax(axis=1) == y))
        self._facts = {
            "valid_loss": mean_cross_entropy(logits, y),
            "valid_accuracy": accuracy,
        }
        chance = np.bincount(y).max() / len(y)
        if accuracy <= chance + 2 * np.sqrt(chance * (1 - chance) / len(y)):
            warn(
                f"{self.name} is right on {accuracy:.1%} of the validation texts, and always saying the most frequent "
                f"label on {chance:.1%}: it knows nothing that can be told from chance; try another --prompt or model"
            )

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, of those it was calibrated on out of fold; answers are cached."""
        out = self._done(self.scores(texts))
        self._model.report(len(texts), self._most)
        for row, text in enumerate(texts):
            out[row] = self._unseen.get(cache.text_hash(text), out[row])
        return out

    def answer(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, asked now."""
        return self._done(self._scores(texts))

    def describe(self) -> TeacherCard:
        """Return model, prompt, words and validation numbers."""
        return TeacherCard(
            name=self.name,
            kind="prompt",
            model=self._model.model,
            fingerprint=self._model.fingerprint,
            prompt=self._question.rendered("{text}"),
            prompts=self._tried,
            words={name: list(words) for name, words in zip(self._classes, self._question.words, strict=True)},
            shots=len(self._examples),
            calibrated=self.spec.calibrate,
            near=tuple(self._model.tokenizer.convert_ids_to_tokens(self._near)),
            weight=self._done.weight.tolist(),
            bias=tuple(self._done.bias.tolist()),
            classes=tuple(self._classes),
        ).model_copy(update=self._facts)

    def _compare(self, dataset: Dataset, rows: np.ndarray) -> None:
        """Take the prompt with the least cross-entropy on a few of the labelled texts numbered ``rows``.

        Raises:
            QkdError: none of the prompts leaves room for a text.
        """
        rows = rows[shuffled_by_content([dataset.texts[row] for row in rows], 0)[:COMPARED_ON]]
        texts, y = [dataset.texts[row] for row in rows], dataset.targets[rows]
        tried, failed = dict[str, SelectionTrial](), None
        for name, prompt in self._prompts.items():
            self._prompt = prompt
            try:
                self._check_room()
            except ModelError as error:
                failed = error
                continue
            calibration = self._calibrated(texts, y)
            tried[name] = SelectionTrial(prompt=name, loss=calibration.loss, accuracy=calibration.accuracy)
            say(
                f"{self.name}: prompt '{name}', cross-entropy {calibration.loss:.3f}, "
                f"accuracy {calibration.accuracy:.3f} on {len(y)} texts"
            )
        if failed is not None and not tried:
            raise failed
        best = min(tried, key=lambda name: tried[name].loss)
        self._prompt, self._tried = self._prompts[best], tuple(tried.values())
        say(f"{self.name} is asked with '{best}', which has the least cross-entropy")

    @property
    def _done(self) -> Calibration:
        if self._calibration is None:
            raise ModelError(f"{self.name} has not been fitted: call fit(dataset, splits) first")
        return self._calibration

    @property
    def _question(self) -> prompt_files.LabelPrompt:
        if not self._classes:
            raise ModelError(f"{self.name} has not been fitted: call fit(dataset, splits) first")
        return prompt_files.label_prompt(self._prompt, self._classes, self._model.tokenizer).with_examples(
            self._examples
        )

    def _about(self, text: str) -> prompt_files.LabelPrompt:
        """Return the question about ``text``: never with its own label in it."""
        examples = [(self._spare[label] if shown == text else shown, label) for shown, label in self._examples]
        return self._question.with_examples(examples)

    def _check_room(self) -> None:
        question = self._question
        longest = max(len(ids) for words in question.answers(self._classes) for ids in words)
        taken = len(question.ids(question.rendered(""))) + longest
        self._room = self._model.context - taken
        if self._room < LEAST_ROOM:
            raise ModelError(
                f"{self.name}: the prompt alone takes {taken:,} tokens with {len(self._classes)} labels and "
                f"{len(self._examples)} examples, and the model holds {self._model.context:,}; use fewer --examples, "
                "a --prompt file without {labels}, or a model that holds more"
            )

    def _scores(self, texts: Sequence[str]) -> np.ndarray:
        """Return ``(N,C+W)`` float32: the scores of the labels and of the W tokens near them, asked now."""
        from scipy.special import logsumexp

        words = self._question.answers(self._classes)
        answers = [ids for label in words for ids in label] + [[token] for token in self._near]
        shown = {text for text, _ in self._examples}
        flat = np.empty((len(texts), len(answers)), np.float32)
        own_ids = self._model.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        self._model.check_known(own_ids)
        usual = [row for row, text in enumerate(texts) if text not in shown]
        for rows in (usual, *([row] for row, text in enumerate(texts) if text in shown)):  # one beginning each
            if rows:
                question = self._about(texts[rows[0]])
                token_ids = [question.ids(question.rendered(self._fitting(texts[row], own_ids[row]))) for row in rows]
                flat[rows] = self._model.likelihoods(token_ids, answers)
        *parts, near = np.split(flat, np.cumsum([len(label) for label in words]), axis=1)
        labels = [logsumexp(part, axis=1) - np.log(part.shape[1]) for part in parts]
        return np.column_stack([*labels, near]).astype(np.float32)

    @property
    def _near(self) -> list[int]:
        """The W tokens near the labels' words whose scores are read too."""
        answers = [ids for label in self._question.answers(self._classes) for ids in label]
        count = self._count_near(len(answers))
        if not count:
            return []
        key = {"kind": "near", **self._model.key, "answers": answers, "count": count}
        return [int(n) for n in cache.arrays(key, lambda: {"tokens": self._model.near(answers, count)})["tokens"]]

    def _count_near(self, words: int) -> int:
        """Return how many tokens near each of the labels' ``words`` are scored too."""
        return min(NEAR, MOST_NEAR // words) if self.spec.calibrate == "words" else 0

    @property
    def _most(self) -> int:
        """How many tokens of a text are read."""
        return min(self._room, self._model.max_tokens)

    def _fitting(self, text: str, ids: Sequence[int]) -> str:
        """Return as much of ``text``, whose token ids are given, as there is room for."""
        if len(ids) <= self._most:
            return text
        self._model.truncated += 1
        return str(self._model.tokenizer.decode(ids[: self._most]))

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Return mean log-likelihoods (N,C+W), float32, of the labels' words and of W near ones; cached."""
        question = self._question
        answers = question.answers(self._classes)
        key = {
            "kind": "prompt",
            **self._model.key,
            "asked": question.rendered("{text}"),
            "answers": answers,
            "spare": self._spare,
            "room": self._room,
        }
        if count := self._count_near(sum(map(len, answers))):  # without it the key is what it was
            key["near"] = count
        return cache.cached_rows(key, texts, self._scores, f"asking {self._model.model}")

    def _calibrated(self, texts: Sequence[str], targets: np.ndarray) -> Calibration:
        """Return what makes the scores of N texts, of classes ``targets`` (N,), logits."""
        return calibrate(self.scores(texts), targets, len(self._classes), self.spec.calibrate)
