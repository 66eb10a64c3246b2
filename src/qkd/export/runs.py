"""Exports of a run's student, checked on the run's own test texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from qkd.core.errors import DataError
from qkd.core.runs import RunFolder
from qkd.export.registry import Exported, default_format, export_student
from qkd.results.run import read_predictions
from qkd.student.bundle import Student
from qkd.student.deferral import find_deferral


def export_run(
    run: str | Path = "runs/latest",
    format: str | None = None,
    out: Path | None = None,
    check: bool = True,
    defer: float | Literal["teacher"] | None = None,
    **options: Any,
) -> Exported:
    """Export the student of a run.

    Args:
        run: A run folder or a student folder.
        format: A name in ``qkd.export.FORMATS``; ``default_format`` by default.
        out: Folder of the export; ``RUN/exports/FORMAT`` by default.
        check: Whether export and student are compared on the run's test texts.
        defer: Largest error rate among answered texts, or ``teacher`` for the teacher's; the export contains the
            threshold below which texts are deferred.
        options: Options of the format.

    Raises:
        QkdError: The folder holds no student, the student does not fit the format, the comparison fails, or every text
            would be deferred.
    """
    student = Student.load(run)
    format = format or default_format(student)
    if defer is not None:
        options["threshold"] = find_threshold(student, defer)
    folder = RunFolder(Path(run).resolve())
    texts = [row.text for row in read_predictions(folder)] if folder.predictions.is_file() else []
    return export_student(student, out or folder.path / "exports" / format, format, texts, check, **options)


def find_threshold(student: Student, defer: float | Literal["teacher"]) -> float:
    """Return the smallest probability of an answer that is not deferred.

    Raises:
        QkdError: Every text would be deferred, or the run has no validation texts.
    """
    deferral = find_deferral(student, None if defer == "teacher" else defer)
    if deferral.threshold is None:
        raise DataError(f"{deferral.describe()} Omit --defer, or allow more errors")
    return deferral.threshold
