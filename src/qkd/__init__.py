"""qkd distils a large language model's text classifier into a parameterized quantum circuit.

import qkd

run = qkd.distill(data="texts.csv")
print(run.table())
run.student.predict(["a new text"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qkd.api import Run, distill, evaluate, predict, teach
    from qkd.config import Config
    from qkd.errors import QkdError
    from qkd.student.bundle import Student

__all__ = ["Config", "QkdError", "Run", "Student", "compare", "distill", "evaluate", "predict", "teach"]

_HOMES = {
    "Config": "qkd.config",
    "QkdError": "qkd.errors",
    "Run": "qkd.api",
    "Student": "qkd.student.bundle",
    "compare": "qkd.studies",
    "distill": "qkd.api",
    "evaluate": "qkd.api",
    "predict": "qkd.api",
    "teach": "qkd.api",
}


def __getattr__(name: str) -> Any:
    # names load on first use: the command line's --help must not wait for torch and qiskit
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'qkd' has no attribute '{name}'")
