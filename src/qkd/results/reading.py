"""A run's results, read back from its folder."""

from __future__ import annotations

from pathlib import Path

from qkd.core import records
from qkd.core.errors import FolderError
from qkd.core.files import read_json
from qkd.core.runs import RunFolder
from qkd.results.run import Answer, Metrics


def read_metrics(path: Path) -> Metrics:
    """Return the content of a ``metrics.json``; those of version 0.1.0 are put into today's form.

    Raises:
        FolderError: the file is missing or damaged.
    """
    mend = "copy it again, or go on with --resume"
    metrics = read_json(path)
    try:
        for line in metrics["lines"].values():
            trained = line.get("parameters")
            if "parameters_with_encoder" in line:
                quantum, encoder = metrics["student"]["weights"], line["parameters_with_encoder"] - trained
                line["parameters"] = {"classical": trained - quantum, "quantum": quantum, "encoder": encoder}
            elif not isinstance(trained, dict) or not trained:
                line["parameters"] = {"classical": trained, "quantum": 0} if trained else None
    except (AttributeError, KeyError, TypeError) as error:
        raise FolderError(f"{path}: damaged ({error!s:.100}); {mend}") from None
    return records.checked(metrics, Metrics, path, mend)


def read_answers(folder: RunFolder) -> list[Answer]:
    """Return the rows of a finished run's ``predictions.jsonl``.

    Raises:
        FolderError: the run has not come so far, or the file is damaged.
    """
    path = folder.predictions
    return [records.checked(row, Answer, path, "go on with --resume") for row in folder.rows(path)]
