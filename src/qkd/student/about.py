"""The records of a bundle's ``config.json``: encoder, origin and scores of a student."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue

from qkd.core import records
from qkd.results import Scores
from qkd.results.base import Result
from qkd.results.cascade import Cascade

FORMAT = 1


class EncoderRecord(records.Record):
    """An encoder in ``config.json``.

    Attributes:
        name: The encoder's name, as ``--encoder`` takes it.
        dim: The embedding width D.
        key: Everything that determines its embeddings.
    """

    name: Annotated[str, Field(min_length=1, max_length=4096)]
    dim: Annotated[int, Field(ge=1, le=records.MAX_DIMENSIONS)]
    key: dict[str, JsonValue]


class Validation(Result):
    """The student's answers to the validation texts, from which thresholds for deferral follow.

    Attributes:
        confidences: The largest probability of each text.
        correct: Whether the student is right.
        teacher_accuracy: The teacher's accuracy on the same texts.
    """

    confidences: tuple[float, ...]
    correct: tuple[bool, ...]
    teacher_accuracy: float | None = None


class About(Result):
    """A student's origin.

    Attributes:
        teacher: The teacher's name.
        data: The name of the training data.
        metrics: Scores on the test split.
        finished: Whether training was completed.
        controls: One sentence for each classical student that it was compared with.
        conclusion: The conclusion of that comparison about the circuit.
        validation: The student's answers to the validation texts.
        cascade: The student with its teacher behind it.
    """

    model_config = ConfigDict(extra="allow")

    teacher: str = "unknown"
    data: str = "unknown"
    metrics: Scores | None = None
    finished: bool | None = None
    controls: tuple[str, ...] = ()
    conclusion: str = ""
    validation: Validation | None = None
    cascade: Cascade | None = None


class BundleRecord(records.Record):
    """The content of ``config.json``.

    Attributes:
        format: The number of the bundle format.
        classes: The C class names, in the order of the logits.
        encoder: The encoder.
        angle_map: The map from projections to angles.
        about: The student's origin.
    """

    format: int
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=records.MAX_CLASSES)]
    encoder: EncoderRecord
    angle_map: Literal["tanh", "minmax"]
    about: About = About()
