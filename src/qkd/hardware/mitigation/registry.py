"""The registry of mitigation methods. It imports a method only when it is used, so that command lines start quickly."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from qkd.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from qkd.hardware.mitigation.base import Method

# One line for each method: its name, then its module and class. Tables have the same order.
METHODS = {
    "none": "qkd.hardware.mitigation.base:Method",
    "readout": "qkd.hardware.mitigation.readout:Readout",
    "affine": "qkd.hardware.mitigation.affine:Affine",
    "zne": "qkd.hardware.mitigation.zne:ZNE",
    "pea": "qkd.hardware.mitigation.learned:PEA",
    "pec": "qkd.hardware.mitigation.learned:PEC",
}


def check_method(name: str) -> None:
    """Refuse an unknown method."""
    if name not in METHODS:
        raise ConfigError(f"there is no mitigation '{name}'{nearest(name, METHODS)}")


def find_method(name: str) -> Method:
    """Return the method called ``name``."""
    check_method(name)
    module, _, kind = METHODS[name].partition(":")
    method: Method = getattr(import_module(module), kind)()
    return method
