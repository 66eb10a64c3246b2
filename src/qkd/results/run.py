"""The content of ``metrics.json`` and ``predictions.jsonl`` with their readers, and what ``qkd.predict`` returns.

Numbers are fractions, not percentages, unless a unit is named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from qkd.core.files import read_json
from qkd.core.records import checked
from qkd.core.runs import RunFolder
from qkd.results.base import ModelResult, PairedDifference, Result
from qkd.results.cascade import Cascade
from qkd.results.teacher import SelectionTrial, TeacherCard


class EncoderCard(Result):
    """Description of an encoder.

    Attributes:
        name: The encoder with the layers that it reads.
        dim: The embedding width D.
        trials: The layers that were compared before the choice.
    """

    name: str
    dim: int
    trials: tuple[SelectionTrial, ...] = ()


class StudentCard(Result):
    """Description of a student's circuit and training.

    Attributes:
        circuit: The circuit's name.
        qubits: The number of qubits n.
        inputs: The number of angles A.
        weights: The number of circuit weights P.
        observables: The number of observables K.
        engine: The engine of the training.
        measured: The engine of the reported metrics.
        epochs: The number of epochs.
        best_epoch: The epoch whose weights were kept.
        best_valid_loss: The validation loss of that epoch, in nats.
    """

    circuit: str
    qubits: int
    inputs: int
    weights: int
    observables: int
    engine: str
    measured: str
    epochs: int
    best_epoch: int
    best_valid_loss: float


class Diagnosis(Result):
    """Accuracies that locate a student's shortfall, on the test texts unless another part is named.

    Attributes:
        teacher: The teacher's accuracy.
        student: The student's accuracy.
        linear: The accuracy of a linear probe of the embeddings.
        kernel: The accuracy of a kernel probe of the embeddings.
        student_train: The student's accuracy on training texts.
        linear_train: The linear probe's accuracy on training texts.
        teacher_train: The teacher's accuracy on training texts.
        texts: Numbers of training texts of a learning curve.
        curve: The linear probe's accuracy with each of these numbers.
        shortfall: The student's accuracy minus the teacher's.
        seeds: The student's accuracy with each trained seed.
        sentences: The conclusions, the largest cause first.
    """

    teacher: float
    student: float
    linear: float
    kernel: float
    student_train: float
    linear_train: float
    teacher_train: float
    texts: tuple[int, ...]
    curve: tuple[float, ...]
    shortfall: PairedDifference
    seeds: tuple[float, ...] = ()
    sentences: tuple[str, ...] = ()

    @property
    def doubling(self) -> float:
        """Accuracy that the last doubling of the training texts adds to the linear probe."""
        return self.curve[-1] - self.curve[-2]


class EngineCheck(Result):
    """Comparison of an engine's expectation values with AerSimulator's.

    Attributes:
        difference: The largest absolute difference.
        sigmas: The largest difference in standard errors where either side is sampled, else 0.
        method: The simulation method of Aer.
        shots: The shots of Aer, 0 where it is exact.
        points: The number of sets of parameter values.
        observables: The number of compared observables.
        of: The number of all observables.
        sentence: The result in words.
    """

    difference: float
    sigmas: float
    method: str
    shots: int
    points: int
    observables: int
    of: int
    sentence: str = ""


class NoiseCard(Result):
    """The device whose noise was simulated, and the gain of training under it.

    Attributes:
        device: The device's name.
        calibrated: The date of the calibration.
        qubits: The physical qubits of the student.
        checks: The comparisons of the engine with AerSimulator.
        gain: The difference to the same student trained without noise.
        gain_over_refitted: The difference to that student with its head fitted to noisy values.
    """

    device: str
    calibrated: str | None = None
    qubits: tuple[int, ...] = ()
    checks: tuple[EngineCheck, ...] = ()
    gain: PairedDifference | None = None
    gain_over_refitted: PairedDifference | None = None


class Continuation(Result):
    """Comparison of a student with the one that its training continued from.

    Attributes:
        run: The run of the student before.
        gain: The student's accuracy minus the earlier one's on this run's test texts.
        kept: The same difference on the earlier run's test texts, where its folder has them.
        deploy: The student to deploy.
        sentence: The comparison and the advice in words.
    """

    run: str
    gain: PairedDifference
    kept: PairedDifference | None = None
    deploy: Literal["new", "before"]
    sentence: str


class Metrics(Result):
    """The content of ``metrics.json``. Each gain is a paired difference of accuracies on the same test texts.

    Attributes:
        qkd: The version of qkd.
        data: The data set as the user named it.
        classes: The C class names.
        texts: The number of texts of each split: ``train``, ``valid`` and ``test``.
        notes: The number of rows, the dropped rows and other facts about the data.
        given_splits: The splits that the data set defines itself.
        teacher: The teacher.
        encoder: The encoder.
        student: The student.
        lines: The results of teacher, student and controls by name.
        finished: Whether the training reached its end.
        gain: The student's accuracy minus the teacher's.
        controls: The student's accuracy minus each control's.
        teacher_gain: The teacher's accuracy minus that of a logistic regression on the embeddings.
        diagnosis: The causes of the student's shortfall.
        noise: The simulated device.
        tuned_layers: The number of encoder layers that were trained with the student.
        tuned_gain: The gain over the same student with the original encoder.
        unlabeled_texts: The number of unlabeled training texts.
        unlabeled_gain: The gain over the same student without them.
        cascade: The student with the teacher behind it.
        continued: The comparison with the student that training continued from.
        seconds: The wall time of each stage.
    """

    qkd: str
    data: str
    classes: tuple[str, ...]
    texts: dict[str, int]
    notes: tuple[str, ...] = ()
    given_splits: tuple[str, ...] = ()
    teacher: TeacherCard
    encoder: EncoderCard
    student: StudentCard
    lines: dict[str, ModelResult]
    finished: bool = True
    gain: PairedDifference
    controls: dict[str, PairedDifference] = Field(default_factory=dict)
    teacher_gain: PairedDifference | None = None
    diagnosis: Diagnosis | None = None
    noise: NoiseCard | None = None
    tuned_layers: int = 0
    tuned_gain: PairedDifference | None = None
    unlabeled_texts: int = 0
    unlabeled_gain: PairedDifference | None = None
    continued: Continuation | None = None
    cascade: Cascade | None = None
    seconds: dict[str, float]

    @field_validator("lines")
    @classmethod
    def _check_lines(cls, lines: dict[str, ModelResult]) -> dict[str, ModelResult]:
        for name in ("teacher", "student", "majority"):
            if name not in lines:
                raise ValueError(f"there is no line '{name}'")
        return lines

    @field_validator("texts")
    @classmethod
    def _check_texts(cls, texts: dict[str, int]) -> dict[str, int]:
        if set(texts) != {"train", "valid", "test"}:
            raise ValueError("the splits are not train, valid and test")
        return texts


class TestPrediction(Result):
    """A row of ``predictions.jsonl``.

    Attributes:
        text: A test text.
        label: Its label.
        teacher: The teacher's logits (C,).
        student: The student's logits (C,).
        control: The linear control's logits (C,).
    """

    __test__ = False  # pytest must not collect it

    text: str
    label: str
    teacher: tuple[float, ...]
    student: tuple[float, ...]
    control: tuple[float, ...] | None = None


class Prediction(Result):
    """A student's prediction for one text.

    Attributes:
        text: The text.
        label: The most probable label.
        probability: The probability of that label.
        probabilities: The probabilities of all labels.
        deferred: Whether the student is too unsure to answer, where a risk was given.
        answered_by: Who gave the label, where a teacher was asked about deferred texts.
    """

    text: str
    label: str
    probability: float
    probabilities: dict[str, float]
    deferred: bool | None = None
    answered_by: Literal["student", "teacher"] | None = None


def read_metrics(path: Path) -> Metrics:
    """Return the content of a ``metrics.json``.

    Raises:
        FolderError: The file is missing or damaged.
    """
    return checked(read_json(path), Metrics, path, "copy it again, or continue with --resume")


def read_predictions(folder: RunFolder) -> list[TestPrediction]:
    """Return the rows of a finished run's ``predictions.jsonl``.

    Raises:
        FolderError: The file is missing or damaged.
    """
    path = folder.predictions
    return [checked(row, TestPrediction, path, "continue with --resume") for row in folder.rows(path)]
