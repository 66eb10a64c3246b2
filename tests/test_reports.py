"""What reports say in words follows from the numbers, whichever way they come out."""

import pytest

from qkd.reports.run import verdict
from qkd.results import Estimate


@pytest.mark.parametrize(
    ("low", "value", "high", "words"),
    [
        (-0.012, 0.003, 0.018, "level with a linear student (+0.3, -1.2 to +1.8): no benefit of the circuit can be"),
        (-0.05, -0.03, -0.01, "below a linear student (-3.0, -5.0 to -1.0): on these texts the circuit costs"),
        (0.01, 0.03, 0.05, "above a linear student (+3.0, +1.0 to +5.0)"),
        (0.0, 0.0, 0.0, "level with"),
    ],
)
def test_a_verdict_is_what_the_interval_allows(low, value, high, words):
    assert words in verdict(Estimate(value=value, low=low, high=high), "a linear student")
