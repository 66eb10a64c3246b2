"""Readers of a run's results."""

from __future__ import annotations

from pathlib import Path

from qkd.core.files import read_json
from qkd.core.records import checked
from qkd.core.runs import RunFolder
from qkd.results.run import Metrics, TestPrediction


def read_metrics(path: Path) -> Metrics:
    """Return the content of a ``metrics.json``.

    Raises:
        FolderError: The file is missing or damaged.
    """
    return checked(read_json(path), Metrics, path, "copy it again, or continue with --resume")


def read_predictions(folder: RunFolder) -> list[TestPrediction]:
    """Return the rows of a finished run's ``predictions.jsonl``.

    Raises:
        FolderError: The file is missing or damaged.
    """
    path = folder.predictions
    return [checked(row, TestPrediction, path, "continue with --resume") for row in folder.rows(path)]
