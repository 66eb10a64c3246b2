"""Objects of a Python caller, which a configuration names ``object:NAME`` because no file can hold them.

A teacher and a loss are known while the call that got them runs. An encoder stays known to the process, because its
student embeds texts with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from qkd.core.errors import ConfigError

PREFIX = "object:"
Role = Literal["teacher", "encoder", "loss"]
_objects: dict[tuple[Role, str], Any] = {}


class Named:
    """An object that is shown with its name."""

    name: str

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def is_object(name: str) -> bool:
    """Return whether a setting names an object."""
    return name.startswith(PREFIX)


def label(value: Any) -> str:
    """Return a short name of an object: that of a function, or of the object's class."""
    name = getattr(value, "__name__", None) or type(value).__name__
    return re.sub(r"\W+", "-", str(name)).strip("-") or "function"


def register(role: Role, value: Any, name: str | None = None) -> str:
    """Make an object known and return its name. A newer encoder replaces an older one of the same name.

    Args:
        role: The setting.
        value: The object.
        name: The name that a configuration has for it; None takes a free one.
    """
    stem, number = PREFIX + label(value), 1
    while name is None:
        free = stem if number == 1 else f"{stem}-{number}"
        name = free if role == "encoder" or _objects.get((role, free), value) is value else None
        number += 1
    _objects[role, name] = value
    return name


def find(role: Role, name: str) -> Any:
    """Return the object called ``name``.

    Raises:
        ConfigError: This process does not know it.
    """
    if (role, name) not in _objects:
        call = "qkd.Student.load(folder, encoder=...)" if role == "encoder" else f"the call as {role}=..."
        raise ConfigError(
            f"the {role} '{name}' is a Python object, which no file can hold; pass the same object to {call}"
            + (", or as encoder=... when a run is resumed" if role == "encoder" else "")
        )
    return _objects[role, name]


@contextmanager
def released() -> Iterator[None]:
    """Forget the teachers and losses that were registered in the block, at its end."""
    before = set(_objects)
    try:
        yield
    finally:
        for key in [key for key in _objects if key[0] != "encoder" and key not in before]:
            del _objects[key]


def losses() -> dict[str, Any]:
    """Return the losses by name; a worker process needs them."""
    return {name: value for (role, name), value in _objects.items() if role == "loss"}


def add_losses(values: Mapping[str, Any]) -> None:
    """Make losses known to a worker process."""
    _objects.update({("loss", name): value for name, value in values.items()})
