"""What results are made of: records that are written as they are read, and numbers with their intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

from pydantic import ConfigDict, JsonValue

from qkd.core.records import Record


class Result(Record):
    """A record that is written as it is read; a field is an attribute, and also an item, as in version 0.1."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=True)

    def to_dict(self) -> dict[str, JsonValue]:
        """Return its fields as JSON values; those that there are none of are left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def __getitem__(self, name: str) -> Any:
        if name in self:
            return getattr(self, name)
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        known = name in type(self).model_fields or name in (self.model_extra or {})
        return known and getattr(self, str(name)) is not None


class Estimate(Result):
    """A number with its 95 % interval."""

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
    """How good predictions are; ``agreement`` is that with the teacher's."""

    accuracy: Estimate
    macro_f1: Estimate
    calibration_error: Estimate
    agreement: Estimate | None = None

    def items(self) -> Iterator[tuple[str, Estimate]]:
        """Yield the name and the number of each that there is."""
        yield from ((name, self[name]) for name in type(self).model_fields if name in self)

    def values(self) -> Iterator[Estimate]:
        """Yield the numbers."""
        yield from (number for _, number in self.items())


class Parameters(Result):
    """How many numbers training changed: in the circuit (``quantum``) and around it; the encoder's own beside them."""

    classical: int
    quantum: int
    encoder: int | None = None
