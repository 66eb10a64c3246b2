"""Names of a room that load when they are first used, so that importing the room costs nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def exports(room: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a room's ``__getattr__`` and ``__dir__`` (PEP 562).

    Args:
        room: the package's ``__name__``.
        homes: by name, the module that has it; ``MODULE:NAME`` where it has another name there, and a module's own name
            for the module.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{room}' has no attribute '{name}'")
        module, _, there = homes[name].partition(":")
        value = import_module(module)
        if module.rpartition(".")[2] != name or there:
            value = getattr(value, there or name)
        setattr(sys.modules[room], name, value)
        return value

    return get, lambda: sorted({name for name in vars(sys.modules[room]) if name.startswith("__")} | {*homes})
