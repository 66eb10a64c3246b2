"""The content of ``metrics.json``, whose keys are the fields of ``Metrics``, and what ``api`` returns.

Whoever computes a part makes it; reports read it. Numbers are fractions, not per cent, unless a unit is named.
"""

from __future__ import annotations

from pydantic import ConfigDict, Field, field_validator

from qkd.results.base import PairedDifference, Parameters, Result, Scores


class Line(Result):
    """One line of the final table: teacher, student, a control, ..."""

    numbers: Scores
    parameters: Parameters | None = None
    ms_per_text: float | None = None


class Sizes(Result):
    """Texts of each split."""

    train: int
    valid: int
    test: int


class SelectionTrial(Result):
    """How one of several prompts did on a few labelled texts."""

    prompt: str
    loss: float
    """Mean cross-entropy, nats."""
    accuracy: float


class TeacherCard(Result):
    """What the teacher is. Each kind has fields of its own, and beside them how it was fitted (losses, ...)."""

    model_config = ConfigDict(extra="allow")

    name: str
    kind: str = ""
    classes: tuple[str, ...] | None = None
    model: str | None = None
    fingerprint: str | None = None
    """A hash of configuration, tokenizer and weights."""
    file: str | None = None
    """``logits:``, the file."""
    read: tuple[int, ...] | None = None
    """``probe:``, the layers read, ..."""
    likelihoods: bool | None = None
    """... whether the LM's likelihoods of the text are read too, ..."""
    layers: int | list[int] | None = None
    """... and of how many layers; ``lora:``, the adapted layers."""
    prompt: str | None = None
    """``prompt:``, what is asked, ..."""
    prompts: tuple[SelectionTrial, ...] | None = None
    """... how each of several prompts did, ..."""
    words: dict[str, list[str]] | None = None
    """... the words that stand for each class, ..."""
    shots: int | None = None
    """... examples shown, ..."""
    calibrated: str | None = None
    near: tuple[str, ...] | None = None
    """... the W tokens near those words that are scored too, ..."""
    weight: list[list[float]] | None = None
    """... what makes scores (N,C+W) logits, ..."""
    bias: tuple[float, ...] | None = None
    """... and what is added to them for each class."""
    labels: dict[str, list[str]] | None = None
    """``classifier:``, which of the model's labels count for each class."""
    space: str | None = None
    """Several teachers: what is averaged, ..."""
    weights: tuple[float, ...] | None = None
    members: tuple[TeacherCard, ...] | None = None


class Tried(Result):
    """Layers of an encoder that were looked at, and what a ridge regression on the other texts says of each text.

    error: mean squared, with 1 for a text's class and 0 for the others.
    accuracy: how often the largest is right.
    """

    encoder: str
    layers: tuple[int, ...]
    error: float
    accuracy: float


class EncoderCard(Result):
    """The encoder, its width D, and what was looked at before its layers were chosen."""

    name: str
    dim: int
    tried: tuple[Tried, ...] = ()


class StudentCard(Result):
    """The student's circuit with its sizes n, A, P and K, and what it was trained and measured on."""

    circuit: str
    qubits: int
    inputs: int
    weights: int
    observables: int
    engine: str
    measured: str


class Training(Result):
    """How far training came, and which epoch's weights were kept."""

    epochs: int
    best_epoch: int
    best_valid_loss: float


class Diagnosis(Result):
    """Why a student falls short: accuracies on the test texts, unless said otherwise (``diagnosis.py``)."""

    teacher: float
    student: float
    linear: float
    """Of a linear probe of the student's embeddings."""
    kernel: float
    """Of a kernel probe of them."""
    student_train: float
    """On the training texts, as the next two."""
    linear_train: float
    teacher_train: float
    texts: tuple[int, ...]
    """Numbers of training texts, with which"""
    curve: tuple[float, ...]
    """the linear probe has these accuracies."""
    shortfall: PairedDifference
    """The student's accuracy less the teacher's, paired."""
    seeds: tuple[float, ...] = ()
    """The student's accuracy with each seed that was trained."""
    sentences: tuple[str, ...] = ()
    """What the numbers say, the largest cause first."""

    @property
    def doubling(self) -> float:
        """What the last doubling of the training texts brought the linear probe."""
        return self.curve[-1] - self.curve[-2]


class Compared(Result):
    """How near an engine was to AerSimulator.

    difference: the largest between an engine's expectation value and Aer's.
    sigmas: the largest in standard errors, where either is sampled, else 0.
    method: Aer's.
    shots: Aer's, 0 where it is exact.
    points: sets of parameter values.
    observables: how many were compared.
    of: how many there are.
    """

    difference: float
    sigmas: float
    method: str
    shots: int
    points: int
    observables: int
    of: int


class Check(Compared):
    """The same, and what was said of it."""

    said: str


class NoiseCard(Result):
    """The device whose noise was simulated, and what training under it bought."""

    device: str
    calibrated: str | None = None
    qubits: tuple[int, ...] = ()
    checked: tuple[Check, ...] = ()
    gain: PairedDifference | None = None
    """Over the same student trained without noise, on that device."""
    gain_over_refitted: PairedDifference | None = None
    """Over that one with its head fitted anew to noisy values."""


class Tuned(Result):
    """How many layers of the encoder were trained with the student, and what that bought."""

    layers: int
    gain: PairedDifference


class Unlabeled(Result):
    """How many unlabelled texts there were, and what they bought."""

    texts: int
    gain: PairedDifference


class Metrics(Result):
    """The content of ``metrics.json``. Gains are differences in accuracy on the same test texts, paired."""

    qkd: str
    """The version that made it."""
    data: str
    classes: tuple[str, ...]
    texts: Sizes
    notes: tuple[str, ...] = ()
    """How many rows the data had, which were dropped, and why."""
    given_splits: tuple[str, ...] = ()
    """Which of ``valid`` and ``test`` are the data's own, and were not drawn."""
    teacher: TeacherCard
    encoder: EncoderCard
    student: StudentCard
    training: Training
    lines: dict[str, Line]
    finished: bool = True
    gain: PairedDifference
    """The student's over the teacher."""
    controls: dict[str, PairedDifference] = Field(default_factory=dict)
    """The student's over each control."""
    teacher_gain: PairedDifference | None = None
    """The teacher's over a logistic regression on the embeddings."""
    diagnosis: Diagnosis | None = None
    noise: NoiseCard | None = None
    tuned: Tuned | None = None
    unlabeled: Unlabeled | None = None
    seconds: dict[str, float]
    """Wall time of each stage."""

    @field_validator("lines")
    @classmethod
    def _whole(cls, lines: dict[str, Line]) -> dict[str, Line]:
        for name in ("teacher", "student", "majority"):
            if name not in lines:
                raise ValueError(f"there is no line '{name}'")
        return lines


class Answer(Result):
    """A row of ``predictions.jsonl``: a test text, its label, and the logits (C,) of teacher and student."""

    text: str
    label: str
    teacher: tuple[float, ...]
    student: tuple[float, ...]


class Evaluation(Result):
    """What a student is worth on some texts."""

    data: str
    texts: int
    numbers: Scores


class Prediction(Result):
    """What a student says of a text: the likeliest label, its probability, and those of all labels."""

    text: str
    label: str
    probability: float
    probabilities: dict[str, float]


class Labeling(Result):
    """What a teacher did with a corpus."""

    file: str
    texts: int
    classes: tuple[str, ...]
    seconds: float
    valid_accuracy: float
    valid_chance: float
    """The share of the most frequent label among the validation texts."""
    predicted: dict[str, int]
    """How many of all texts were given each label."""
    teacher: TeacherCard
