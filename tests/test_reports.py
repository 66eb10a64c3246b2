"""What reports say in words follows from the numbers, whichever way they come out."""

import numpy as np
import pytest

from qkd.reports import plots
from qkd.reports.pages import picture
from qkd.reports.run import teacher_conclusion
from qkd.results import Metrics, PairedDifference
from qkd.student.verdicts import compare_accuracies


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        (40, 10, "The student is better than a linear student (+3.0 points, +1.6 to +4.4)."),
        (10, 40, "The student is worse than a linear student (-3.0 points, -4.4 to -1.6)."),
        (4, 3, "The student is equivalent to a linear student (+0.1 points, -0.5 to +0.7; margin 1)."),
        (22, 20, "The student and a linear student: undecided (+0.2 points, -1.1 to +1.5); about 2,600 test texts"),
    ],
)
def test_a_verdict_follows_from_the_interval_and_the_margin(right, wrong, words):
    rows = np.repeat([1.0, -1.0, 0.0], [right, wrong, 1000 - right - wrong])[None]
    found = compare_accuracies("the student", rows, {"linear": 0 * rows}, 0.01, {"linear": "a linear student"})
    assert words in found["linear"].sentence


def test_the_teacher_is_questioned_only_where_the_student_learned_nothing_from_it():
    def gain(verdict):
        return PairedDifference(value=0, low=0, high=0, p=1, p_holm=1, verdict=verdict, sentence="A sentence.")

    def said(teacher, student):
        metrics = Metrics.model_construct(teacher_gain=gain(teacher), controls={"logreg": gain(student)})
        return teacher_conclusion(metrics)

    assert "stronger --teacher" in said("undecided", "undecided") and "stronger --teacher" in said(
        "worse", "equivalent"
    )
    assert said("better", "worse") == said("undecided", "better") == "A sentence."


def test_a_picture_is_drawn_of_its_own_values_though_others_were_drawn_before():
    history = [{"epoch": n, "loss": 1 / n, "valid_loss": 1.1 / n, "valid_accuracy": 0.5} for n in (1, 2, 3)]
    shown = [picture(caption, plots.learning, history, best) for caption, best in (("a", 1), ("b", 3), ("c", 1))]
    assert [row["caption"] for row in shown] == ["a", "b", "c"]
    first, second, third = (row["image"] for row in shown)
    assert first == third == plots.png(plots.learning(history, 1)) and second == plots.png(plots.learning(history, 3))
    history[0]["loss"] = 2.0
    assert picture("d", plots.learning, history, 1)["image"] not in (first, second)
