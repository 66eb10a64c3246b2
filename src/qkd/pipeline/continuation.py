"""A student that was trained further, compared with the one before on the same texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from qkd.core.config import Config
from qkd.core.runs import RunFolder, find_folder
from qkd.pipeline.evaluation import Evaluation
from qkd.pipeline.inputs import Inputs
from qkd.reports.run import BEFORE
from qkd.results.run import Continuation, read_predictions
from qkd.student.bundle import Student

ADVICE = {
    "new": "Deploy the new student: it is better on some of these texts and worse on none.",
    "before": "Keep the student before: these texts do not show that the new one is better without a loss.",
}
"""The advice about the two students."""


def compare_with_before(config: Config, inputs: Inputs, evaluation: Evaluation, new: Student) -> Continuation | None:
    """Return the comparison with the student before on this run's test texts, and on those of its own run.

    Neither student has learned from any of these texts.
    """
    before, gain = inputs.before, evaluation.difference(BEFORE)
    if before is None or gain is None or config.data.continue_from is None:
        return None
    path, kept = find_folder(config.data.continue_from).resolve(), None
    folder = RunFolder(path.parent if (path / "config.json").is_file() else path)
    if folder.predictions.is_file():
        rows = read_predictions(folder)
        texts, targets = [row.text for row in rows], np.array([before.classes.index(row.label) for row in rows])
        logits = {"student": new.logits(texts), BEFORE: before.logits(texts)}
        kept = replace(evaluation, logits=logits, targets=targets).difference(BEFORE)
    verdicts = [gain.verdict, *([kept.verdict] if kept else [])]
    deploy: Literal["new", "before"] = "new" if "better" in verdicts and "worse" not in verdicts else "before"
    sentences = [f"On this run's test texts: {gain.sentence}"]
    sentences += [f"On the test texts of {folder.name}: {kept.sentence}"] if kept else []
    text = " ".join([*sentences, ADVICE[deploy]])
    return Continuation(run=folder.name, gain=gain, kept=kept, deploy=deploy, sentence=text)
