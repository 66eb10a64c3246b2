"""Validation of JSON files that others may have written.

Each kind of file has a schema beside its reader, a ``Record`` or a dataclass. ``read_record`` returns one, or raises an
error that names the faulty entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from qkd.core.errors import ConfigError, FolderError
from qkd.core.files import read_json

T = TypeVar("T")

MAX_DIMENSIONS = 1 << 20
"""Largest width of an embedding."""
MAX_REPR = 100
"""Most characters of a field in the representation of a record."""
MAX_CLASSES = 10_000
"""Largest number of classes."""


class _Sentences(type(BaseModel)):  # type: ignore[misc]
    """Calls of a class whose errors are sentences."""

    def __call__(cls, *args: Any, **values: Any) -> Any:
        try:
            return super().__call__(*args, **values)
        except ValidationError as error:
            raise ConfigError(cls.explain(error)) from None


if TYPE_CHECKING:
    _Base = BaseModel
else:
    _Base = _Sentences("_Base", (BaseModel,), {"__module__": __name__})


class CheckedModel(_Base):
    """A pydantic model whose calls raise ``ConfigError``."""

    @classmethod
    def explain(cls, error: ValidationError) -> str:
        """Return an error as a sentence."""
        return f"{cls.__name__}: {_first(error)}"


class _Shortened(str):
    """A text whose representation is itself."""

    __repr__ = str.__str__


class Record(CheckedModel):
    """A frozen table of a file with finite numbers; unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            text = repr(value)
            yield name, _Shortened(text[:MAX_REPR] + "...") if len(text) > MAX_REPR else value


def read_record(path: Path, schema: type[T], remedy: str, formats: tuple[int, ...] = ()) -> T:
    """Return the record in a JSON file.

    Args:
        path: of the file.
        schema: a ``Record`` or a dataclass.
        remedy: what to do about a damaged one.
        formats: the values of its key ``format`` that can be read; any where there is none.

    Raises:
        FolderError: the file is missing, too large, damaged, or of another format.
    """
    value = read_json(path)
    if formats:
        version = value.get("format") if isinstance(value, dict) else None
        if version not in formats:
            readable = " or ".join(map(str, formats))
            raise FolderError(f"{path}: format {version!r:.40} is not {readable}; {remedy}, or use another qkd")
    return checked(value, schema, path, remedy)


def checked(value: Any, schema: type[T], path: Path, remedy: str) -> T:
    """Return the record that a JSON value is.

    Raises:
        FolderError: it does not fit the schema.
    """
    try:
        return TypeAdapter(schema).validate_python(value)
    except ValidationError as error:
        raise FolderError(f"{path}: damaged ({_first(error)}); {remedy}") from None


def _first(error: ValidationError) -> str:
    """Return place and message of the first of several errors."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg'].lower()}"
