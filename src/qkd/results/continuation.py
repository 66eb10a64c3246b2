"""The result of a training that continued from an earlier student."""

from __future__ import annotations

from typing import Literal

from qkd.results.base import PairedDifference, Result


class Continuation(Result):
    """Comparison of a student with the one that its training continued from.

    Attributes:
        run: The run of the student before.
        gain: The student's accuracy minus the earlier one's on this run's test texts.
        kept: The same difference on the earlier run's test texts, where its folder has them.
        deploy: The student to deploy.
        sentence: The comparison and the advice in words.
    """

    run: str
    gain: PairedDifference
    kept: PairedDifference | None = None
    deploy: Literal["new", "before"]
    sentence: str
