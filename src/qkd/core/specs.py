"""Tables of settings, frozen and validated, with one sentence for each field.

The sentence is the comment in a TOML file, the help of the CLI option, and the documentation.
"""

from __future__ import annotations

import reprlib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from qkd.core.errors import ConfigError, FolderError, nearest
from qkd.core.files import MAX_TOML_BYTES, read_text
from qkd.core.records import CheckedModel

S = TypeVar("S", bound="Spec")
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Number = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""A seed that every generator of random numbers takes."""
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(gt=0, le=1)]


def several(value: Any) -> Any:
    """Accept one word as a list of one."""
    return (value,) if isinstance(value, str) else value


def _split_words(value: Any) -> Any:
    """Split words such as "3,4,5", as a command line gives them."""
    words = [value] if isinstance(value, str) else value
    if isinstance(words, Iterable):
        return tuple(part for word in words for part in (word.split(",") if isinstance(word, str) else [word]))
    return value


Layout = Annotated[tuple[Number, ...] | None, BeforeValidator(_split_words)]
"""Physical qubits."""
Names = Annotated[tuple[str, ...] | None, BeforeValidator(_split_words)]
Words = Annotated[tuple[str, ...], BeforeValidator(several), Field(min_length=1)]


def option(default: Any, sentence: str) -> Any:
    """Return a field with its one sentence."""
    return Field(default, description=sentence)


class Spec(CheckedModel):
    """A frozen table of settings; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @classmethod
    def explain(cls, error: ValidationError) -> str:
        """Return an error as a sentence."""
        return _sentence(cls, error, None)


def validated(spec: type[S], values: Mapping[str, Any], where: str | None = None) -> S:
    """Return the ``spec`` that nested ``values`` describe.

    Args:
        spec: The table of settings.
        values: Values by field.
        where: The file of the values; None for options, which errors then name as they are typed.

    Raises:
        ConfigError: A key does not exist (the error names the nearest known one), or a value does not fit.
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


def as_toml(spec: Spec, title: str) -> str:
    """Return a spec of specs as TOML under a title, with all defaults and the sentence of each field."""
    import tomlkit

    document = tomlkit.document()
    document.add(tomlkit.comment(title))
    for section, inner in spec:
        table = tomlkit.table()
        for key, field in type(inner).model_fields.items():
            table.add(tomlkit.comment(field.description or ""))
            value = getattr(inner, key)
            if value is None:
                table.add(tomlkit.comment(f"{key} ="))
            else:
                table.add(
                    key, str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
                )
        document.add(section, table)
    return tomlkit.dumps(document)


def _sentence(spec: type[Spec], error: ValidationError, where: str | None) -> str:
    """Return pydantic's first complaint as one sentence."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    start = f"{where}: " if where else ""
    if first["type"] == "extra_forbidden":
        known, table = spec, ""
        for part in place[:-1]:
            inner: Any = known.model_fields[part].annotation
            known, table = inner, f" in [{part}]"
        return f"{start}there is no key '{place[-1]}'{table}{nearest(place[-1], known.model_fields)}"
    if first["type"] == "missing":
        return f"{start}the key '{'.'.join(place)}' is missing"
    message = first["msg"].removeprefix("Value error, ")
    name = ".".join(place) if where or not place else _option(spec, place)
    secret = first["type"] == "credentials"
    given = "" if secret or isinstance(first["input"], Mapping | Spec) else f" = {reprlib.repr(first['input'])}"
    return f"{start}{name}{given} does not fit: {message[:1].lower()}{message[1:]}"


def _option(spec: type[Spec], place: list[str]) -> str:
    """Return the option of a setting, or the table whose settings contradict each other."""
    inner = spec.model_fields[place[0]].annotation
    nested = isinstance(inner, type) and issubclass(inner, Spec)
    if nested and len(place) == 1:
        return f"[{place[0]}]"
    return f"--{place[1 if nested else 0].replace('_', '-')}"
