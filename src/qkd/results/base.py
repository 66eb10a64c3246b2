"""The base class of results, and numbers with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from pydantic import ConfigDict, JsonValue

from qkd.core.records import Record, checked


class Result(Record):
    """A frozen record that qkd stores as JSON. A field without a value is None, and its key is absent in JSON."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=True)

    def to_dict(self) -> dict[str, JsonValue]:
        """Return the fields that have a value, as JSON values."""
        return self.model_dump(mode="json", exclude_none=True)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the result that ``to_dict`` described.

        Raises:
            FolderError: A field is missing or has a wrong type.
        """
        return checked(dict(values), cls, Path(f"the {cls.__name__}"), "correct that field")


class Estimate(Result):
    """A number with its 95 % interval.

    Attributes:
        value: The number.
        low: The lower end of the interval.
        high: The upper end of the interval.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


VerdictName: TypeAlias = Literal["better", "worse", "equivalent", "undecided"]
"""A difference's verdict: significantly above or below 0, inside the margin of equivalence, or none of these."""


class PairedDifference(Estimate):
    """One classifier's accuracy minus another's on the same test texts.

    Attributes:
        p: The p-value of no difference.
        p_holm: The p-value corrected for the number of differences.
        verdict: The verdict of the interval and the margin of equivalence.
        texts_needed: The number of test texts that would decide an undecided difference of this size.
        sentence: The difference and its verdict in words.
    """

    p: float
    p_holm: float
    verdict: VerdictName
    texts_needed: int | None = None
    sentence: str = ""


class Scores(Result):
    """Quality of predictions on labeled texts.

    Attributes:
        accuracy: The share of correct predictions.
        macro_f1: The mean F1 score of the classes.
        calibration_error: The expected calibration error.
        agreement: The share of predictions that equal the teacher's.
    """

    accuracy: Estimate
    macro_f1: Estimate
    calibration_error: Estimate
    agreement: Estimate | None = None

    def items(self) -> Iterator[tuple[str, Estimate]]:
        """Yield name and value of each score."""
        for name in type(self).model_fields:
            if (score := getattr(self, name)) is not None:
                yield name, score


class Parameters(Result):
    """Numbers of parameters.

    Attributes:
        classical: Trained parameters around the circuit.
        quantum: Trained parameters in the circuit.
        encoder: Parameters of the encoder.
    """

    classical: int
    quantum: int
    encoder: int | None = None


class ModelResult(Result):
    """Quality, size and speed of one classifier.

    Attributes:
        numbers: The scores on the test texts.
        parameters: The numbers of parameters.
        ms_per_text: Milliseconds for one text, from text to class.
    """

    numbers: Scores
    parameters: Parameters | None = None
    ms_per_text: float | None = None
