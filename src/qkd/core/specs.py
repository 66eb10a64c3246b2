"""What a spec is: a frozen table of settings with one sentence for each, read from TOML and checked.

The same sentence is the comment in a written TOML file and the help of the CLI option.
"""

from __future__ import annotations

import reprlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qkd.core.errors import ConfigError, FolderError, nearest
from qkd.core.files import MAX_TOML_BYTES, read_text

S = TypeVar("S", bound="Spec")
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


def option(default: Any, sentence: str) -> Any:
    """Return a field with its one sentence."""
    return Field(default, description=sentence)


class Spec(BaseModel):
    """A frozen table of settings; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


def validated(spec: type[S], values: Mapping[str, Any], where: str) -> S:
    """Return the ``spec`` that nested ``values`` describe; ``where`` begins the sentence if they do not.

    Raises:
        QkdError: a key does not exist (the nearest known one is named) or a value does not fit.
    """
    try:
        return spec.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(spec, error, where)) from None


def read_toml(path: Path) -> dict[str, object]:
    """Return the content of a TOML file.

    Raises:
        QkdError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(read_text(path, MAX_TOML_BYTES))
    except FolderError as error:
        raise ConfigError(str(error)) from None
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, and of numbers with thousands of digits
        raise ConfigError(f"{path}: not a TOML file ({error})") from None


def _sentence(spec: type[Spec], error: ValidationError, where: str) -> str:
    """Turn pydantic's first complaint into one sentence."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        known, table = spec, ""
        for part in place[:-1]:
            inner: Any = known.model_fields[part].annotation
            known, table = inner, f" in [{part}]"
        return f"{where}: there is no key '{place[-1]}'{table}{nearest(place[-1], known.model_fields)}"
    if first["type"] == "missing":
        return f"{where}: the key '{'.'.join(place)}' is missing"
    message = first["msg"].removeprefix("Value error, ")
    given = reprlib.repr(first["input"])
    return f"{where}: {'.'.join(place)} = {given} does not fit: {message[:1].lower()}{message[1:]}"
