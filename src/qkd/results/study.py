"""Results with several students: ``comparison.json``, ``sweep.json`` and the trials of both.

Accuracies and their differences are fractions. Intervals cover texts and seeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from pydantic import Field

from qkd.results.base import Estimate, ModelResult, PairedDifference, Parameters, Result, Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Value: TypeAlias = int | float | str
"""The value of a searched setting."""


class TrialResult(Result):
    """One student trained once: a file of ``trials/``.

    Attributes:
        logits: The logits (N,C) on the test texts.
        measured: The logits (N,C) under a second simulator.
        curves: The predicted classes (N,) by number of ``shots`` and by strength of ``noise``.
        parameters: The numbers of parameters.
        seconds: The training time.
        epochs: The number of epochs.
        ms_per_text: Milliseconds for one text, without the encoder.
    """

    logits: tuple[tuple[float, ...], ...]
    measured: tuple[tuple[float, ...], ...] | None = None
    curves: dict[str, dict[str, tuple[int, ...]]] = Field(default_factory=dict)
    parameters: Parameters
    seconds: float
    epochs: int
    ms_per_text: float


class ValidationResult(Result):
    """Validation scores of a student trained once: a file of ``tuning/``, and a trial of a sweep.

    Attributes:
        valid_loss: The validation loss of the kept epoch, or None where training failed.
        valid_accuracy: The validation accuracy of that epoch.
        epochs: The number of epochs.
        seconds: The training time.
        parameters: The numbers of parameters.
        error: The reason why training failed.
    """

    valid_loss: float | None = None
    valid_accuracy: float | None = None
    epochs: int | None = None
    seconds: float | None = None
    parameters: Parameters | None = None
    error: str | None = None


class Verdict(Result):
    """Conclusion about one student beside others.

    Attributes:
        reference: The student's name.
        differences: Its accuracy minus that of each other student.
        conclusion: The conclusion in words.
    """

    reference: str
    differences: dict[str, PairedDifference]
    conclusion: str


class StudentResult(ModelResult):
    """A student of a comparison with the most training texts. Numbers are means over its seeds.

    Attributes:
        measured_accuracy: The accuracy under a second simulator.
        measured_drop: The accuracy minus that under the second simulator.
        reliability: Mean confidence, accuracy and number of texts of each bin of confidence, over all seeds.
        seconds: The training time.
        epochs: The number of epochs.
        trials: The number of seeds.
        encoder: The encoder.
    """

    parameters: Parameters
    ms_per_text: float
    measured_accuracy: Estimate | None = None
    measured_drop: Estimate | None = None
    reliability: tuple[tuple[float, float, int], ...]
    seconds: float
    epochs: float
    trials: int
    encoder: str


class CurvePoint(Estimate):
    """An accuracy on a curve over training texts, shots or noise.

    Attributes:
        texts: The number of training texts.
        shots: The number of shots.
        noise: The factor of the device's gate errors.
    """

    texts: int | None = None
    shots: float | None = None
    noise: float | None = None

    @property
    def at(self) -> float:
        """Position on the curve."""
        return next(value for value in (self.texts, self.shots, self.noise) if value is not None)


class TuningResult(Result):
    """The settings that the validation texts chose for a student.

    Attributes:
        trials: The number of compared settings.
        settings: The chosen values by setting.
    """

    trials: int
    settings: dict[str, float]


class RecipeResult(Result):
    """The paper's recipe, as published or with deviations of the public code.

    Attributes:
        name: The recipe's name.
        accuracy: The accuracy on the test texts.
        printed_mean: The mean accuracy that a loop over repetitions prints.
        printed_std: The standard deviation that it prints.
        printed_best: The best accuracy of the loop.
        gain: The accuracy minus that of the recipe as published, or None for that recipe.
    """

    name: str
    accuracy: Estimate
    printed_mean: float
    printed_std: float
    printed_best: float
    gain: Estimate | None = None


class Adaptation(Result):
    """An adaptation of qkd's reproduction: a difference from the paper and its public code.

    Attributes:
        what: The part that differs.
        paper: The paper's or its code's choice.
        here: The choice of qkd.
        why: The reason.
    """

    what: str
    paper: str
    here: str
    why: str


class Reproduction(Result):
    """Effects of the public code's deviations from the paper, and qkd's adaptations.

    Attributes:
        deviations: The public code's deviations by name, in words.
        variants: The recipes.
        adaptations: The adaptations of qkd.
        beside: The verdict on the first student beside the recipe, where that student has a circuit.
    """

    deviations: dict[str, str]
    variants: tuple[RecipeResult, ...]
    adaptations: tuple[Adaptation, ...]
    beside: Verdict | None = None


class Comparison(Shown, Verdict):
    """The content of ``comparison.json``. The reference is the first student.

    ``to_frame`` has the tables ``students``, ``differences`` and ``curves``.

    Attributes:
        qkd: The version of qkd.
        data: The data set as the user named it.
        classes: The C class names.
        texts: The number of texts of each split: ``train``, ``valid`` and ``test``.
        teacher: The teacher's name.
        teacher_accuracy: The teacher's accuracy.
        encoder: The default encoder.
        seeds: The largest number of seeds of a student.
        students: The results by student.
        curves: The accuracy of each student over numbers of training texts.
        shot_curves: The accuracy of each circuit over numbers of shots.
        noise_curves: The accuracy of each circuit over strengths of noise.
        sims: The simulator of the reported accuracy, and a second one.
        tuned: The settings that the validation texts chose, by student.
        seconds: The wall time of each stage.
        command: The command that repeats the comparison.
        reproduction: The results of ``qkd reproduce``.
        report: The path of the page. The file does not contain it.
    """

    _view: ClassVar[str] = "qkd.reports.comparison"

    qkd: str
    data: str
    classes: tuple[str, ...]
    texts: dict[str, int]
    teacher: str
    teacher_accuracy: Estimate
    encoder: str
    seeds: int
    students: dict[str, StudentResult]
    curves: dict[str, tuple[CurvePoint, ...]]
    shot_curves: dict[str, tuple[CurvePoint, ...]]
    noise_curves: dict[str, tuple[CurvePoint, ...]]
    sims: tuple[str, ...]
    tuned: dict[str, TuningResult]
    seconds: dict[str, float]
    command: str
    reproduction: Reproduction | None = None
    report: str | None = None

    def plot_accuracies(self, ax: Axes | None = None) -> Axes:
        """Draw the accuracy of each student with its 95 % interval."""
        return self._plot("qkd.reports.plots:accuracies", self.students, ax=ax)

    def plot_differences(self, ax: Axes | None = None) -> Axes:
        """Draw the accuracy of the first student minus that of each other one with 95 % intervals."""
        return self._plot("qkd.reports.comparison:forest", self, ax=ax)

    def plot_reliability(self, ax: Axes | None = None) -> Axes:
        """Draw accuracy against confidence for each student."""
        return self._plot("qkd.reports.comparison:reliability_of_students", self, ax=ax)

    def plot_curves(
        self, kind: Literal["curves", "shot_curves", "noise_curves"] = "curves", ax: Axes | None = None
    ) -> Axes:
        """Draw the accuracy of each student against training texts, shots or strength of noise."""
        return self._plot("qkd.reports.comparison:curves", self, kind, ax=ax)


class SearchedSetting(Result):
    """A setting that a sweep searches.

    Attributes:
        name: The option's name.
        values: The choices, or nothing for a range.
        logarithmic: Whether the range is logarithmic.
        described: The setting as the user types it.
        start: The value of the configuration, where the search starts.
    """

    name: str
    values: tuple[Value, ...]
    logarithmic: bool
    described: str
    start: Value | None = None


class SweepTrial(ValidationResult):
    """A trial of a sweep.

    Attributes:
        number: The trial's number in the order of the proposals.
        point: The value of each setting.
        state: The trial's end.
        value: The search's goal in the kept epoch, in the last epoch of a pruned trial, or None after a failure.
    """

    number: int
    point: dict[str, Value]
    state: Literal["complete", "pruned", "failed"]
    value: float | None = None


class Sweep(Shown, Result):
    """The content of ``sweep.json``. ``to_frame`` has the tables ``trials`` and ``students``.

    Attributes:
        goal: The validation score that the search optimizes.
        space: The searched settings.
        trials: The trials in order.
        best: The number of the best trial.
        importances: The share of the variance between trials that each setting explains.
        judged: The best, the start and a linear student on the test texts.
        command: The command that trains the best student.
        again: The command that repeats the search.
        report: The path of the page. The file does not contain it.
    """

    _view: ClassVar[str] = "qkd.reports.sweep"

    goal: Literal["accuracy", "loss"]
    space: tuple[SearchedSetting, ...]
    trials: tuple[SweepTrial, ...]
    best: int
    importances: dict[str, float]
    judged: Comparison
    command: str
    again: str
    report: str | None = None

    def plot_trials(self, ax: Axes | None = None) -> Axes:
        """Draw the goal of each trial in order, and the best until then."""
        return self._plot("qkd.reports.sweep:history", self, ax=ax)

    def plot_setting(self, name: str, ax: Axes | None = None) -> Axes:
        """Draw the goal of each trial against one searched setting."""
        return self._plot("qkd.reports.sweep:one_setting", self, name, ax=ax)
