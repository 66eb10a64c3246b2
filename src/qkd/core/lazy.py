"""Lazy names of a package: importing the package costs nothing, and a name loads its module on first use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def exports(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    Args:
        package: The package's ``__name__``.
        modules: The module of each name; ``MODULE:NAME`` if the name differs there, and for a module its own name.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module, _, other = modules[name].partition(":")
        value = import_module(module)
        if module.rpartition(".")[2] != name or other:
            value = getattr(value, other or name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted({name for name in vars(sys.modules[package]) if name.startswith("__")} | {*modules})
