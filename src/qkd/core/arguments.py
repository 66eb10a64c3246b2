"""Checks of the arguments of public functions: of each parameter whose annotation is made of plain types.

A wrong type would otherwise surface somewhere inside a library, as an error that does not name the argument.
"""

from __future__ import annotations

import errno
import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from importlib import import_module
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin

from qkd.core.console import one_line, suppressed_output
from qkd.core.errors import ConfigError

P = ParamSpec("P")
T = TypeVar("T")
_PLAIN = {str: "a string", Path: "a path", bool: "True or False", int: "a whole number", float: "a number"}
_PLURAL = {str: "strings", Any: "values", int: "whole numbers", float: "numbers"}


def public(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function whose arguments are checked, and whose argument ``quiet`` suppresses ``log.info``.

    Raises:
        ConfigError: An argument has a wrong type.
        TypeError: There is no such argument, or one is missing, as Python says.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def run(*args: P.args, **options: P.kwargs) -> T:
        bound = signature.bind(*args, **options)
        kinds = _kinds(function)
        for name, value in bound.arguments.items():
            if name in kinds and not _fits(value, kinds[name]):
                raise ConfigError(f"{name} is {_shown(value)}, not {_described(kinds[name])}")
        for name, value in {**bound.arguments, **bound.kwargs}.items():
            if isinstance(value, str | Path) and name != "texts":
                _check_characters(name, str(value))
        try:
            with suppressed_output() if bound.arguments.get("quiet") else nullcontext():
                return function(*args, **options)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise ConfigError(f"{_shown(error.filename)} is too long for the name of a file or folder") from None

    return run


def _check_characters(name: str, value: str) -> None:
    """Refuse characters that no file name has."""
    if "\0" in value:
        raise ConfigError(f"{name} contains a null byte; remove it")
    try:
        os.fsencode(value)
    except UnicodeEncodeError as error:
        raise ConfigError(f"{name} contains half a surrogate pair at position {error.start}; remove it") from None


@functools.cache
def _kinds(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotation of each parameter that has one of known types."""
    kinds = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) or name in ("self", "cls"):
            continue
        annotation = parameter.annotation
        kinds[name] = _evaluated(annotation, function) if isinstance(annotation, str) else annotation
    return kinds


def _evaluated(annotation: str, function: Callable[..., Any]) -> Any:
    """Return the type that an annotation means; names that only type checkers know mean anything."""
    names = _Loaded()
    while True:
        try:
            return eval(annotation, vars(sys.modules[function.__module__]), names)
        except NameError as error:
            names[str(error.name)] = Any


class _Loaded(dict[str, Any]):
    """The names that modules import for type checkers alone."""

    def __missing__(self, name: str) -> Any:
        import qkd

        if name == "np":
            return import_module("numpy")
        for home in (qkd, qkd.data, qkd.circuits, qkd.devices):
            if name in dir(home):
                return getattr(home, name)
        raise KeyError(name)


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value is of a kind; kinds that are not plain fit everything."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Sequence:
        dimensions = getattr(value, "ndim", 0)
        is_array = isinstance(dimensions, int) and dimensions > 0
        inner = (isinstance(value, Sequence) and not isinstance(value, str | bytes)) or is_array
        if parts[0] is Any or not inner:
            return inner
        return not hasattr(value, "columns") and all(_fits(item, parts[0]) for item in value)  # a table has its names
    if origin is Mapping:
        return isinstance(value, Mapping)
    if origin is Callable:
        return callable(value)
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind is bool:
        return isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool"
    if kind is Any:
        return True
    if getattr(kind, "_is_protocol", False):
        names = {*kind.__annotations__, *(name for name in vars(kind) if not name.startswith("_"))}
        return not isinstance(value, type) and names <= {*dir(value)}  # hasattr would load a model
    return not isinstance(kind, type) or isinstance(value, kind)


def _described(kind: Any) -> str:
    """Return the kinds of values that an annotation allows."""
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    words = []
    for part in parts:
        if part is NoneType:
            words.append("None")
        elif get_origin(part) is Sequence:
            inner = get_args(part)[0]
            words.append(f"a list of {_PLURAL.get(inner) or getattr(inner, '__name__', inner)}")
        else:
            words.append(_PLAIN.get(part) or f"a {getattr(part, '__name__', part)}")
    return " or ".join(words)


def _shown(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    kind = type(value).__name__
    if value is None or not isinstance(value, str | bytes | int | float | complex | list | tuple | dict | set):
        return "None" if value is None else f"a {kind}"
    return f"{one_line(repr(value)):.40} ({kind})"
