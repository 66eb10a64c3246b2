"""The numbers of a run side by side, as rows and as a plain table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qkd import records
from qkd.errors import FolderError
from qkd.results import Answer, Estimate, Metrics
from qkd.runs import RunFolder

COLUMNS = ("", "accuracy", "macro-F1", "like teacher", "ECE", "classical", "quantum", "encoder", "ms/text")


def read_metrics(path: Path) -> Metrics:
    """Return the content of a ``metrics.json``; those of version 0.1.0 are put into today's form.

    Raises:
        FolderError: the file is missing or damaged.
    """
    mend = "copy it again, or go on with --resume"
    metrics = records.read_value(path)
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


def rows(metrics: Metrics) -> list[tuple[str, ...]]:
    """Return a row of cells for each line (teacher, student, controls, majority) of ``metrics.json``."""
    cells = []
    for name, line in metrics.lines.items():
        numbers, parameters = line.numbers, line.parameters
        cells.append(
            (
                name,
                *(cell(number) for number in (numbers.accuracy, numbers.macro_f1, numbers.agreement)),
                f"{numbers.calibration_error.value:.3f}",
                *(_number(getattr(parameters, key, None), "{:,}") for key in ("classical", "quantum", "encoder")),
                _number(line.ms_per_text, "{:.2f}"),
            )
        )
    return cells


def table(metrics: Metrics) -> str:
    """Return the run's numbers as lines of text under a heading row."""
    return aligned([COLUMNS, *rows(metrics)])


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as text, each column as wide as its widest cell, a rule below the first row.

    Not rich's tables, which wrap cells to a terminal's width, and to 80 characters in a pipe.
    """
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def summary(metrics: Metrics) -> str:
    """Return what a person should take from the numbers, a line for each thing."""
    return "\n".join(conclusions(metrics))


def conclusions(metrics: Metrics) -> list[str]:
    """Return what a person should take from the numbers, first how far the student is from its teacher.

    Whether student and teacher differ is judged by the paired interval of their difference, not by eye.
    """
    numbers = {name: line.numbers.accuracy.value for name, line in metrics.lines.items()}
    said = [
        f"The student's accuracy is {_difference(metrics.gain, 'its teacher')} and "
        f"{100 * (numbers['student'] - numbers['majority']):.1f} points above always guessing the commonest class."
    ]
    said += [verdict(gain, OTHERS.get(name, name)) for name, gain in metrics.controls.items()]
    if metrics.teacher_gain:
        said.append(worth(metrics.teacher_gain))
    unlabeled, noise = metrics.unlabeled, metrics.noise
    if metrics.tuned:
        other = "the same student with the encoder as it was"
        said.append(f"Training the encoder's last layers left the student {_difference(metrics.tuned.gain, other)}.")
    said += metrics.diagnosis.sentences if metrics.diagnosis else ()
    if unlabeled:
        other = "the same student trained on the labelled texts alone"
        said.append(f"The {unlabeled.texts:,} unlabelled texts left the student {_difference(unlabeled.gain, other)}.")
    if noise:
        said.append(f"The student was measured with the noise of {noise.device} ({metrics.student.measured}).")
    if noise and noise.gain:
        other = "the same student trained without noise, on that device"
        said.append(f"Training under the noise left the student {_difference(noise.gain, other)}.")
    return said


OTHERS = {
    "linear": "a linear student of the same size",
    "logreg": "a logistic regression on the same embeddings",
}
"""What the controls of every run are called in a sentence."""


def verdict(gain: Estimate, other: str) -> str:
    """Return what a paired difference in accuracy says about the circuit, one sentence.

    Args:
        gain: accuracy of the quantum student minus that of the other, with its 95 % interval.
        other: the other, as it is called in a sentence.
    """
    points = f"({100 * gain.value:+.1f}, {100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
    if gain.low > 0:
        return f"The student is above {other} {points}: more than these texts would show by chance, with one seed."
    if gain.high < 0:
        return f"The student is below {other} {points}: on these texts the circuit costs accuracy."
    return f"The student is level with {other} {points}: no benefit of the circuit can be seen on these texts."


def worth(gain: Estimate) -> str:
    """Return whether the teacher knows more than the encoder does, which is what can be distilled.

    Args:
        gain: accuracy of the teacher minus that of a logistic regression on the embeddings, with its 95 % interval.
    """
    said = f"The teacher's accuracy is {_difference(gain, OTHERS['logreg'])}"
    if gain.low > 0:
        return said + "."
    return said + ": it is not certain that there is anything to distil; a stronger --teacher would be worth more."


def _difference(gain: Estimate, whose: str) -> str:
    """Return by how much an accuracy is above or below another, with its interval, in words."""
    sure = "" if gain.low <= 0 <= gain.high else ", more than chance explains"
    return (
        f"{100 * abs(gain.value):.1f} points {'below' if gain.value < 0 else 'above'} that of {whose} "
        f"(95 % interval of the difference {100 * gain.low:+.1f} to {100 * gain.high:+.1f}{sure})"
    )


def timings(metrics: Metrics) -> str:
    """Return the wall time of each stage, one line."""
    seconds = metrics.seconds
    parts = ", ".join(f"{stage} {value:.1f} s" for stage, value in seconds.items())
    return f"{parts}; {sum(seconds.values()):.1f} s in all"


def cell(number: Estimate | None) -> str:
    """Return a number with its interval as a cell of a table, or a dash."""
    return "-" if number is None else str(number)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
