"""The base classes of results, and numbers with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import ConfigDict, JsonValue

from qkd.core.arguments import public
from qkd.core.errors import ConfigError, nearest
from qkd.core.records import Record, checked

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


class Shown:
    """An object that prompts and notebooks show as a table with its conclusion, and that pandas can take over.

    The module ``_view``, which is loaded on first use, has two functions of the object. ``parts`` returns the parts of
    its report: the table, the conclusion, and for notebooks a picture. ``records`` returns the rows of each pandas
    table by its name. The first field of a row names it, unless the row has a text.
    """

    _view: ClassVar[str]

    def _parts(self) -> Sequence[Any]:
        parts: Sequence[Any] = import_module(self._view).parts(self)
        return parts

    def _records(self) -> dict[str, list[dict[str, Any]]]:
        records: dict[str, list[dict[str, Any]]] = import_module(self._view).records(self)
        return records

    def __repr__(self) -> str:
        text: str = import_module("qkd.reports.pages").parts_text(self._parts())
        return text

    __str__ = __repr__

    def _repr_html_(self) -> str:
        page: str = import_module("qkd.reports.pages").parts_html(self._parts())
        return page

    @public
    def to_frame(self, name: str | None = None) -> pd.DataFrame:
        """Return the numbers as a pandas table.

        Args:
            name: The name of the table, as the class lists them; the first of them if None.

        Raises:
            ConfigError: There is no such table.
        """
        import pandas as pd

        tables = self._records()
        name = next(iter(tables)) if name is None else name
        if name not in tables:
            raise ConfigError(
                f"there is no table '{name}'{nearest(name, tables)}; there are {', '.join(map(repr, tables))}"
            )
        frame = pd.json_normalize(tables[name], sep="_")
        frame = frame.rename(columns=lambda column: column.removeprefix("numbers_").removesuffix("_value"))
        return frame if frame.empty or "text" in frame else frame.set_index(frame.columns[0])

    @staticmethod
    def _plot(draw: str, *values: Any, ax: Axes | None) -> Axes:
        """Draw on ``ax``, or on a new figure of pyplot, which a notebook shows.

        Args:
            draw: The function, as ``MODULE:NAME``.
            values: Its arguments.
            ax: The axes, or None.
        """
        import matplotlib.pyplot as plt
        from matplotlib.axes import Axes

        if not isinstance(ax, Axes | None):
            raise ConfigError(f"ax is a {type(ax).__name__}; give axes of matplotlib, or None")
        module, _, name = draw.partition(":")
        function = getattr(import_module(module), name)
        if ax is None:
            size = function(*values).get_size_inches()
            ax = plt.figure(figsize=size, layout="constrained").add_subplot()
        function(*values, axes=ax)
        return ax


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
        return checked(values, cls, Path(f"the {cls.__name__}"), "correct that field")


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
