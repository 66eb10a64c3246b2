"""The ``prompt:`` teacher: likelihoods of each label's words after a prompt to a causal LM.

A word's score is the mean log-likelihood of its tokens after the prompt. A label with several words has the logarithm
of the mean of their likelihoods. Tokens near those words are scored in the same pass, and a linear map, fitted on
training texts, turns all scores into logits (see ``calibration``). No rule predicts which prompt suits an LM (Sclar et
al., arXiv 2310.11324), so several are compared on a few labeled texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qkd.core import cache
from qkd.core.config import Config
from qkd.core.console import log
from qkd.core.errors import ModelError
from qkd.core.objects import Named
from qkd.core.teacher_config import PromptSpec
from qkd.data.dataset import shuffled_by_content
from qkd.models.transformer import Loading
from qkd.results import TeacherCard
from qkd.results.teacher import SelectionTrial
from qkd.teachers import prompt_files
from qkd.teachers.calibration import Calibration, calibrate, validation_scores
from qkd.teachers.causal_lm import CausalLM
from qkd.teachers.heads import OutOfFold
from qkd.teachers.protocol import not_fitted

if TYPE_CHECKING:
    from qkd.data.dataset import Splits
    from qkd.data.loading import Dataset

# Maximum number of training texts for the calibration, and of labeled texts on which prompts are compared.
CALIBRATION_TEXTS, COMPARISON_TEXTS = 1000, 192
# Number of tokens near each of the labels' words that are scored too, and its maximum for all words together.
NEAR, MAX_NEAR = 128, 512
# Minimum number of tokens that a prompt leaves for the text.
MIN_TEXT_TOKENS = 16


class PromptTeacher(Named):
    """A prompted causal LM.

    Args:
        model: a short name, folder, GGUF file or hub id.
    """

    cross_fitted = True

    def __init__(self, model: str, loading: Loading | None = None, spec: PromptSpec | None = None) -> None:
        self.spec, self._model = spec or PromptSpec(), CausalLM(model, loading)
        self.name, self._prompts = f"prompt:{self._model.model}", prompt_files.read_prompts(self.spec.prompt)
        self._prompt = next(iter(self._prompts.values()))
        self._trials: tuple[SelectionTrial, ...] = ()
        self._classes: tuple[str, ...] = ()
        self._examples: tuple[tuple[str, int], ...] = ()
        self._spare: tuple[str, ...] = ()
        self._calibration: Calibration | None = None
        self._out_of_fold = OutOfFold((), np.empty((0, 0)))
        self._room = 0
        self._validation: dict[str, float] = {}

    @property
    def num_parameters(self) -> int:
        """Number of weights of the LM."""
        return self._model.num_parameters

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Draw the examples from the training split, choose the best prompt, and calibrate the scores."""
        self._classes = dataset.classes
        self._examples, self._spare = (
            prompt_files.draw_examples(dataset, splits, self.spec) if self.spec.examples else ((), ())
        )
        if len(self._prompts) > 1:
            self._compare(dataset, np.concatenate([splits.train, splits.valid]))
        self._check_room()
        rows = splits.train[shuffled_by_content([dataset.texts[row] for row in splits.train], 0)[:CALIBRATION_TEXTS]]
        train = [dataset.texts[row] for row in rows]
        self._calibration = self._calibrated(train, dataset.targets[rows])
        self._out_of_fold = OutOfFold(train, self._calibration.unseen)
        logits = self._calibration(self.scores([dataset.texts[row] for row in splits.valid]))
        self._validation = validation_scores(self.name, logits, dataset.targets[splits.valid])

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, those of calibration texts out of fold; scores are cached."""
        out = self._fitted(self.scores(texts))
        self._model.report(len(texts), self._max_tokens)
        return self._out_of_fold.put_into(out, texts)

    def predict_logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, computed now."""
        return self._fitted(self._scores(texts))

    def describe(self) -> TeacherCard:
        """Return model, prompt, words and validation scores."""
        return TeacherCard(
            name=self.name,
            kind="prompt",
            model=self._model.model,
            fingerprint=self._model.fingerprint,
            prompt=self._label_prompt.rendered("{text}"),
            prompts=self._trials,
            words={name: list(words) for name, words in zip(self._classes, self._label_prompt.words, strict=True)},
            shots=len(self._examples),
            calibrated=self.spec.calibrate,
            near=tuple(self._model.tokenizer.convert_ids_to_tokens(self._near)),
            weight=self._fitted.weight.tolist(),
            bias=tuple(self._fitted.bias.tolist()),
            classes=tuple(self._classes),
        ).model_copy(update=self._validation)

    def _compare(self, dataset: Dataset, rows: np.ndarray) -> None:
        """Choose the prompt with the smallest cross-entropy on a few of the labeled texts with numbers ``rows``."""
        rows = rows[shuffled_by_content([dataset.texts[row] for row in rows], 0)[:COMPARISON_TEXTS]]
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
            tried[name] = SelectionTrial(name=name, error=calibration.loss, accuracy=calibration.accuracy)
            log.info(
                f"{self.name}: prompt '{name}', cross-entropy {calibration.loss:.3f}, "
                f"accuracy {calibration.accuracy:.3f} on {len(y)} texts"
            )
        if failed is not None and not tried:
            raise failed
        best = min(tried, key=lambda name: tried[name].error)
        self._prompt, self._trials = self._prompts[best], tuple(tried.values())
        log.info(f"{self.name}: prompt '{best}' has the smallest cross-entropy and is used")

    @property
    def _fitted(self) -> Calibration:
        if self._calibration is None:
            raise not_fitted(self.name)
        return self._calibration

    @property
    def _label_prompt(self) -> prompt_files.LabelPrompt:
        if not self._classes:
            raise not_fitted(self.name)
        return prompt_files.label_prompt(self._prompt, self._classes, self._model.tokenizer).with_examples(
            self._examples
        )

    def _about(self, text: str) -> prompt_files.LabelPrompt:
        """Return the prompt about ``text``, which never contains the text's own label."""
        examples = [(self._spare[label] if shown == text else shown, label) for shown, label in self._examples]
        return self._label_prompt.with_examples(examples)

    def _check_room(self) -> None:
        prompt = self._label_prompt
        longest = max(len(ids) for words in prompt.answers(self._classes) for ids in words)
        taken = len(prompt.ids(prompt.rendered(""))) + longest
        self._room = self._model.context - taken
        if self._room < MIN_TEXT_TOKENS:
            raise ModelError(
                f"{self.name}: the prompt alone takes {taken:,} tokens with {len(self._classes)} labels and "
                f"{len(self._examples)} examples, and the model holds {self._model.context:,}; use fewer --examples, "
                "a --prompt file without {labels}, or a model that holds more"
            )

    def _scores(self, texts: Sequence[str]) -> np.ndarray:
        """Return scores ``(N,C+W)`` float32 of the labels and of the W tokens near them, computed now."""
        from scipy.special import logsumexp

        words = self._label_prompt.answers(self._classes)
        answers = [ids for label in words for ids in label] + [[token] for token in self._near]
        shown = {text for text, _ in self._examples}
        flat = np.empty((len(texts), len(answers)), np.float32)
        own_ids = self._model.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        self._model.check_known(own_ids)
        usual = [row for row, text in enumerate(texts) if text not in shown]
        for rows in (
            usual,
            *([row] for row, text in enumerate(texts) if text in shown),
        ):  # each group has one beginning
            if rows:
                prompt = self._about(texts[rows[0]])
                token_ids = [prompt.ids(prompt.rendered(self._cut(texts[row], own_ids[row]))) for row in rows]
                flat[rows] = self._model.likelihoods(token_ids, answers)
        *parts, near = np.split(flat, np.cumsum([len(label) for label in words]), axis=1)
        labels = [logsumexp(part, axis=1) - np.log(part.shape[1]) for part in parts]
        return np.column_stack([*labels, near]).astype(np.float32)

    @property
    def _near(self) -> list[int]:
        """Ids of the W tokens near the labels' words."""
        answers = [ids for label in self._label_prompt.answers(self._classes) for ids in label]
        count = self._count_near(len(answers))
        if not count:
            return []
        key = {"kind": "near", **self._model.key, "answers": answers, "count": count}
        return [int(n) for n in cache.arrays(key, lambda: {"tokens": self._model.near(answers, count)})["tokens"]]

    def _count_near(self, words: int) -> int:
        """Return the number of tokens to score near each of this many ``words``."""
        return min(NEAR, MAX_NEAR // words) if self.spec.calibrate == "words" else 0

    @property
    def _max_tokens(self) -> int:
        """Number of tokens read of a text."""
        return min(self._room, self._model.max_tokens)

    def _cut(self, text: str, ids: Sequence[int]) -> str:
        """Return the beginning of ``text``, whose token ids are given, that fits into the prompt."""
        if len(ids) <= self._max_tokens:
            return text
        self._model.truncated += 1
        return str(self._model.tokenizer.decode(ids[: self._max_tokens]))

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Return mean log-likelihoods (N,C+W), float32, of the labels' words and of W near ones; cached."""
        prompt = self._label_prompt
        answers = prompt.answers(self._classes)
        key = {
            "kind": "prompt",
            **self._model.key,
            "asked": prompt.rendered("{text}"),
            "answers": answers,
            "spare": self._spare,
            "room": self._room,
        }
        if count := self._count_near(sum(map(len, answers))):
            key["near"] = count
        return cache.cached_rows(key, texts, self._scores, f"prompting {self._model.model}")

    def _calibrated(self, texts: Sequence[str], targets: np.ndarray) -> Calibration:
        """Return the calibration fitted on N texts of classes ``targets`` (N,)."""
        return calibrate(self.scores(texts), targets, len(self._classes), self.spec.calibrate)


def make(model: str, loading: Loading, config: Config) -> PromptTeacher:
    """Return the teacher ``prompt:MODEL``."""
    return PromptTeacher(model, loading, config.prompt)
