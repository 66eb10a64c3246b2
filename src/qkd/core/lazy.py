"""Lazy names of a package: importing the package costs nothing, and a name loads its module on first use.

``lazy_loader`` does the same from a stub file, but cannot give a name that differs from the one in its module.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def exports(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    The names are those that the package imports for type checkers alone, in its first ``if`` statement.
    """
    module = sys.modules[package]
    tree = ast.parse(module.__loader__.get_source(package))  # type: ignore[union-attr]
    homes: dict[str, tuple[str, str]] = {}
    for node in next(node for node in tree.body if isinstance(node, ast.If)).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                home = (node.module or "", alias.name) if isinstance(node, ast.ImportFrom) else (alias.name, "")
                homes[alias.asname or alias.name] = home

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        home, attribute = homes[name]
        value = getattr(import_module(home), attribute) if attribute else import_module(home)
        setattr(module, name, value)
        return value

    return get, lambda: sorted({name for name in vars(module) if name.startswith("__")} | {*homes})
