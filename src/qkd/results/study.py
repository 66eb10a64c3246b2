"""What several students side by side come to: ``comparison.json``, ``sweep.json`` and the trials that both keep.

Accuracies and their differences are fractions; intervals are over texts and seeds (``comparison.statistics``).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, JsonValue

from qkd.results.base import Estimate, PairedDifference, Parameters, Result, Scores
from qkd.results.run import Sizes


class Finding(Result):
    """A result in whose file None is an answer: what was set is written, null where it is None; what was not is not."""

    def to_dict(self) -> dict[str, JsonValue]:
        """Return the fields that were set as JSON values."""
        return self.model_dump(mode="json", exclude_unset=True)

    def __contains__(self, name: object) -> bool:
        return name in self.model_fields_set


Value: TypeAlias = int | float | str
"""Of a setting that is searched."""


class TrialResult(Finding):
    """One student trained once, and what it answers to the test texts: a file of ``trials/``."""

    logits: tuple[tuple[float, ...], ...]
    """(N,C)."""
    measured: tuple[tuple[float, ...], ...] | None = None
    """Logits (N,C) of a second simulator."""
    curves: dict[str, dict[str, tuple[int, ...]]] = Field(default_factory=dict)
    """``shots`` and ``noise``: the classes (N,) at each point."""
    parameters: Parameters
    seconds: float
    """Of training."""
    epochs: int
    ms_per_text: float


class ValidationResult(Finding):
    """What validation texts say of a student trained once: a file of ``tuning/``, and a trial of a sweep."""

    valid_loss: float | None = None
    """None where it could not be trained, as the next; both are of the epoch that was kept."""
    valid_accuracy: float | None = None
    epochs: int | None = None
    seconds: float | None = None
    parameters: Parameters | None = None
    error: str | None = None
    """Why it could not be trained."""


class Verdict(Finding):
    """What is concluded of one student beside others."""

    reference: str
    """Its name."""
    differences: dict[str, PairedDifference]
    """Its accuracy less that of each other."""
    conclusion: str


class Measured(Finding):
    """Accuracy under a second simulator, and how much less that is than under the first."""

    accuracy: Estimate
    drop: Estimate


class StudentResult(Finding):
    """A student of a comparison, on the most training texts: means over its seeds."""

    numbers: Scores
    measured: Measured | None = None
    reliability: tuple[tuple[float, float, int], ...]
    """Mean confidence, accuracy and number of texts of each bin of confidence, over all seeds."""
    parameters: Parameters
    seconds: float
    """Of training."""
    epochs: float
    ms_per_text: float
    """The encoder's included."""
    trials: int
    encoder: str


class TeacherLine(Finding):
    """The teacher of a comparison."""

    name: str
    accuracy: Estimate


class Point(Estimate):
    """An accuracy on a curve over one of these."""

    texts: int | None = None
    """Training texts."""
    shots: float | None = None
    noise: float | None = None
    """A factor of the device's gate errors."""

    @property
    def at(self) -> float:
        """Where on the curve it is."""
        return next(value for value in (self.texts, self.shots, self.noise) if value is not None)


class Tuning(Finding):
    """How many settings a student tried, and which the validation texts chose."""

    tries: int
    settings: dict[str, float]


class Printed(Finding):
    """Accuracies of repetitions as a loop prints them: mean, standard deviation, best."""

    mean: float
    std: float
    best: float


class Variant(Finding):
    """The recipe as published, or with deviations."""

    name: str
    accuracy: Estimate
    printed: Printed
    gain: Estimate | None = None
    """Over the honest recipe; None for that itself."""


class Adaptation(Finding):
    """A difference between the reproduction and the paper."""

    what: str
    paper: str
    here: str
    why: str


class Reproduction(Finding):
    """Effects of the public code's deviations, and adaptations of the reproduction."""

    deviations: dict[str, str]
    """What each is."""
    variants: tuple[Variant, ...]
    adaptations: tuple[Adaptation, ...]
    beside: Verdict | None = None
    """Of the first student beside the recipe, where that has a circuit."""


class Comparison(Verdict):
    """The content of ``comparison.json``; the reference is the first student."""

    qkd: str
    """The version that made it."""
    data: str
    classes: tuple[str, ...]
    texts: Sizes
    teacher: TeacherLine
    encoder: str
    seeds: int
    students: dict[str, StudentResult]
    curves: dict[str, tuple[Point, ...]]
    """Each student's accuracy over numbers of training texts, ..."""
    shot_curves: dict[str, tuple[Point, ...]]
    """... a circuit's over shots, ..."""
    noise_curves: dict[str, tuple[Point, ...]]
    """... and over strengths of noise."""
    sims: tuple[str, ...]
    """What circuits were trained for and are judged by, and what they were measured with besides."""
    tuned: dict[str, Tuning]
    seconds: dict[str, float]
    """Wall time of each stage."""
    command: str
    """What does it again."""
    reproduction: Reproduction | None = None
    """Of ``qkd reproduce`` alone."""
    report: str | None = None
    """Where its page lies; not in the file."""


class SearchedSetting(Finding):
    """A setting that a sweep searches."""

    name: str
    values: tuple[Value, ...]
    """Nothing of a range."""
    logarithmic: bool
    described: str
    """As it is typed."""
    start: Value | None
    """Its value where the search starts."""


class SweepTrial(ValidationResult):
    """A trial of a sweep; what is known ``about`` it stands beside its own fields as well."""

    number: int
    """In the order in which they were proposed."""
    point: dict[str, Value]
    """Each setting's value."""
    state: Literal["complete", "pruned", "failed"]
    value: float | None
    """What the search looks at: of the epoch kept, of a pruned trial its last; None of a failed one."""
    about: ValidationResult


class Sweep(Finding):
    """The content of ``sweep.json``."""

    goal: Literal["accuracy", "loss"]
    """Of the validation texts."""
    space: tuple[SearchedSetting, ...]
    trials: tuple[SweepTrial, ...]
    best: int
    """The number of the best trial."""
    importances: dict[str, float]
    """The share of the differences between trials that each setting explains; nothing of a few trials."""
    judged: Comparison
    """The best, the start and a linear student on the test texts."""
    command: str
    """What trains the best."""
    again: str
    """What searches again."""
    report: str | None = None
    """Where its page lies; not in the file."""
