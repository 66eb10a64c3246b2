"""Exports: a student in formats that need neither qkd nor Qiskit nor torch.

::

    qkd.export.export_student(student, "folder", "numpy", texts=some_texts)

================== ===================================================================================================
`export_student`   write a student in a format, after comparing the export with the student
`FORMATS`          the formats by name, each with the module that writes and checks it
`Exported`         the folder, its size and how far its probabilities are from the student's
================== ===================================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.export.registry import FORMATS, Exported, export_student

__all__ = ["FORMATS", "Exported", "export_student"]

__getattr__, __dir__ = exports(__name__)
