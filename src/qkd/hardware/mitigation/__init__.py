"""Error mitigation: one module for each method, and the registry of them.

To add a method, write a module with a subclass of `Method` and add one line to ``METHODS`` in ``registry.py``.

============== ==========================================================================
`METHODS`      the registry, by the name that users type
`Method`       the base class of all methods
`Mitigation`   a method with its shots, twirls and pulses
============== ==========================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.hardware.mitigation.base import Corrected, Measurements, Method, Mitigation
    from qkd.hardware.mitigation.registry import METHODS

__all__ = ["METHODS", "Corrected", "Measurements", "Method", "Mitigation"]

__getattr__, __dir__ = exports(__name__)
