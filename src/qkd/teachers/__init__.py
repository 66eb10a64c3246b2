"""Teachers: texts to logits.

::

    teacher = qkd.teachers.make_teacher("probe:smollm2-135m")
    teacher.fit(dataset, splits)
    logits = teacher.logits(dataset.texts)

================== ===================================================================================================
`Teacher`          the protocol of a teacher
`make_teacher`     returns the teacher of a name
`FunctionTeacher`  a function as a teacher, with the labels of its columns
================== ===================================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.teachers.given import FunctionTeacher
    from qkd.teachers.protocol import Teacher
    from qkd.teachers.registry import make_teacher

__all__ = ["FunctionTeacher", "Teacher", "make_teacher"]

__getattr__, __dir__ = exports(__name__)
