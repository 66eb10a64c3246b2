"""What reports say in words follows from the numbers, whichever way they come out."""

import pytest

from qkd.reports import plots
from qkd.reports.pages import picture
from qkd.reports.run import verdict
from qkd.results import Estimate


@pytest.mark.parametrize(
    ("low", "value", "high", "words"),
    [
        (-0.012, 0.003, 0.018, "level with a linear student (+0.3, -1.2 to +1.8): no benefit of the circuit can be"),
        (-0.05, -0.03, -0.01, "below a linear student (-3.0, -5.0 to -1.0): on these texts the circuit costs"),
        (0.01, 0.03, 0.05, "above a linear student (+3.0, +1.0 to +5.0)"),
        (-0.0002, -0.0001, 0.0, "level with a linear student (+0.0, +0.0 to +0.0)"),
    ],
)
def test_a_verdict_is_what_the_interval_allows(low, value, high, words):
    assert words in verdict(Estimate(value=value, low=low, high=high), "a linear student")


def test_a_picture_is_drawn_of_its_own_values_though_others_were_drawn_before():
    history = [{"epoch": n, "loss": 1 / n, "valid_loss": 1.1 / n, "valid_accuracy": 0.5} for n in (1, 2, 3)]
    shown = [picture(caption, plots.learning, history, best) for caption, best in (("a", 1), ("b", 3), ("c", 1))]
    assert [row["caption"] for row in shown] == ["a", "b", "c"]
    first, second, third = (row["image"] for row in shown)
    assert first == third == plots.png(plots.learning(history, 1)) and second == plots.png(plots.learning(history, 3))
    history[0]["loss"] = 2.0
    assert picture("d", plots.learning, history, 1)["image"] not in (first, second)
