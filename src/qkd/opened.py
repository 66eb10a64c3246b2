"""``Run``, a run folder that is opened for reading, and the student of a run, a bundle or a folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qkd.core.arguments import public
from qkd.core.config import Config, read_config
from qkd.core.errors import FolderError
from qkd.core.runs import existing_run, find_folder
from qkd.reports.run import parts, predicted_classes, probabilities_and_targets, results_table
from qkd.results import Metrics, TestPrediction
from qkd.results.base import Shown
from qkd.results.run import read_metrics, read_predictions

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from qkd.reports.tables import Table
    from qkd.student.bundle import Student


class Run(Shown):
    """A run folder. ``to_frame`` has the tables ``results``, ``history`` and ``predictions``.

    Args:
        folder: ``runs/NAME``, its NAME, or ``runs/latest``.

    Raises:
        QkdError: there is no run.
    """

    @public
    def __init__(self, folder: str | Path = "runs/latest") -> None:
        self.folder = existing_run(Path(folder))

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @cached_property
    def config(self) -> Config:
        """The run's configuration."""
        return read_config(self.folder.config)

    @cached_property
    def metrics(self) -> Metrics:
        """The content of ``metrics.json``.

        Raises:
            QkdError: the run is not finished.
        """
        if not self.folder.metrics.is_file():
            raise FolderError(
                f"{self.folder.path}: this run has no numbers yet; continue it with 'qkd distill --resume --name "
                f"{self.name}'"
            )
        return read_metrics(self.folder.metrics)

    @property
    def history(self) -> list[dict[str, float]]:
        """The history of the training, one row per epoch."""
        return self.folder.rows(self.folder.history)

    @property
    def predictions(self) -> list[TestPrediction]:
        """Text, label and the logits (C,) of teacher and student for each test text."""
        return read_predictions(self.folder)

    @cached_property
    def student(self) -> Student:
        """The trained student."""
        from qkd.student.bundle import Student

        return Student.load(self.folder.path)

    @property
    def report(self) -> Path:
        """The report, an HTML page."""
        return self.folder.report

    def table(self) -> Table:
        """Return teacher, student, controls and majority class side by side."""
        return results_table(self.metrics)

    def _parts(self) -> Sequence[Any]:
        return parts(self.folder.path, self.metrics if self.folder.metrics.is_file() else None)

    def _records(self) -> dict[str, list[dict[str, Any]]]:
        lines = [{"name": name, **line.to_dict()} for name, line in self.metrics.lines.items()]
        predictions = predicted_classes(self.metrics.classes, self.predictions)
        return {"results": lines, "history": self.history, "predictions": predictions}

    def plot_accuracies(self, ax: Axes | None = None) -> Axes:
        """Draw the test accuracy of teacher, student and controls with 95 % intervals."""
        return self._plot("qkd.reports.plots:accuracies", self.metrics.lines, ax=ax)

    def plot_learning(self, ax: Axes | None = None) -> Axes:
        """Draw loss and validation accuracy against epochs."""
        best = self.metrics.student.best_epoch
        return self._plot("qkd.reports.plots:learning", self.history, best, ax=ax)

    def plot_confusion(self, ax: Axes | None = None) -> Axes:
        """Draw how many test texts of each label are predicted as each class."""
        from qkd.student.metrics import confusion_matrix

        classes, (probabilities, targets) = self.metrics.classes, self._probabilities()
        table = confusion_matrix(probabilities["student"].argmax(axis=1), targets, len(classes))
        return self._plot("qkd.reports.plots:confusion", table, classes, ax=ax)

    def plot_reliability(self, ax: Axes | None = None) -> Axes:
        """Draw accuracy against confidence for teacher and student."""
        return self._plot("qkd.reports.plots:reliability", *self._probabilities(), ax=ax)

    def plot_risk_coverage(self, ax: Axes | None = None) -> Axes:
        """Draw the error rate among the most confident test texts against their share, for teacher and student."""
        return self._plot("qkd.reports.plots:risk_coverage", *self._probabilities(), ax=ax)

    def plot_agreement(self, ax: Axes | None = None) -> Axes:
        """Draw the student's probability of the teacher's class against the teacher's own."""
        return self._plot("qkd.reports.plots:agreement", *self._probabilities()[0].values(), ax=ax)

    def _probabilities(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the probabilities (N,C) of teacher and student on the test texts, and the class numbers (N,)."""
        return probabilities_and_targets(self.metrics.classes, self.predictions)


def open_student(run: str | Path | Run | Student) -> tuple[Student, Run | None]:
    """Return the student of a run, a student or a folder, and the run where there is one."""
    if isinstance(run, str | Path):
        path = find_folder(Path(run))
        if (path / "config.json").is_file() and not (path / "config.toml").is_file():
            from qkd.student.bundle import Student

            return Student.load(path), None
        run = Run(path)
    return (run.student, run) if isinstance(run, Run) else (run, None)
