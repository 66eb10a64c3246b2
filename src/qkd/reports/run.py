"""The numbers of a run side by side, as rows and as a plain table."""

from __future__ import annotations

from qkd.reports.tables import aligned
from qkd.results import Estimate, Metrics

COLUMNS = ("", "accuracy", "macro-F1", "like teacher", "ECE", "classical", "quantum", "encoder", "ms/text")


def run_rows(metrics: Metrics) -> list[tuple[str, ...]]:
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


def run_table(metrics: Metrics) -> str:
    """Return the run's numbers as lines of text under a heading row."""
    return aligned([COLUMNS, *run_rows(metrics)])


def summary(metrics: Metrics) -> str:
    """Return what a person should take from the numbers, a line for each thing."""
    return "\n".join(conclusions(metrics))


def conclusions(metrics: Metrics) -> list[str]:
    """Return what a person should take from the numbers, first how far the student is from its teacher.

    Whether student and teacher differ is judged by the paired interval of their difference, not by eye.
    """
    numbers = {name: line.numbers.accuracy.value for name, line in metrics.lines.items()}
    sentences = [
        f"The student's accuracy is {_difference(metrics.gain, 'its teacher')} and "
        f"{100 * (numbers['student'] - numbers['majority']):.1f} points above always guessing the commonest class."
    ]
    sentences += [verdict(gain, OTHERS.get(name, name)) for name, gain in metrics.controls.items()]
    if metrics.teacher_gain:
        sentences.append(worth(metrics.teacher_gain))
    unlabeled, noise = metrics.unlabeled, metrics.noise
    if metrics.tuned:
        other = "the same student with the encoder as it was"
        sentences.append(
            f"Training the encoder's last layers left the student {_difference(metrics.tuned.gain, other)}."
        )
    sentences += metrics.diagnosis.sentences if metrics.diagnosis else ()
    if unlabeled:
        other = "the same student trained on the labelled texts alone"
        sentences.append(
            f"The {unlabeled.texts:,} unlabelled texts left the student {_difference(unlabeled.gain, other)}."
        )
    if noise:
        sentences.append(f"The student was measured with the noise of {noise.device} ({metrics.student.measured}).")
    if noise and noise.gain:
        other = "the same student trained without noise, on that device"
        sentences.append(f"Training under the noise left the student {_difference(noise.gain, other)}.")
    return sentences


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
    points = f"({100 * gain.value:+z.1f}, {100 * gain.low:+z.1f} to {100 * gain.high:+z.1f})"
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
    sentence = f"The teacher's accuracy is {_difference(gain, OTHERS['logreg'])}"
    if gain.low > 0:
        return sentence + "."
    return sentence + ": it is not certain that there is anything to distil; a stronger --teacher would be worth more."


def _difference(gain: Estimate, whose: str) -> str:
    """Return by how much an accuracy is above or below another, with its interval, in words."""
    sure = "" if gain.low <= 0 <= gain.high else ", more than chance explains"
    return (
        f"{100 * abs(gain.value):.1f} points {'below' if gain.value < 0 else 'above'} that of {whose} "
        f"(95 % interval of the difference {100 * gain.low:+z.1f} to {100 * gain.high:+z.1f}{sure})"
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
