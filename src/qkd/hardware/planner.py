"""``--minutes M``: how many texts and shots a time on the QPU buys, and what twice as much would."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from qkd.config import EngineSpec
from qkd.console import say
from qkd.errors import BudgetError
from qkd.hardware.order import Order, plans_for
from qkd.hardware.plan import Plan
from qkd.hardware.result import expected, margins, slopes_of
from qkd.runs import RunFolder
from qkd.simulation.make import make_engine
from qkd.student.bundle import Student
from qkd.student.metrics import Z95

SHOTS = tuple(2**power for power in range(4, 17))
"""Shots that are tried."""
PROBE = 256
"""Shots of the plan from which the others' prices are scaled."""


@dataclass(frozen=True)
class Purchase:
    """What a time buys.

    texts: how many.
    shots: of each expectation value.
    half: half the width of the 95 % interval of the accuracy.
    flipped: the share of predictions that shot noise is expected to turn over.
    """

    texts: int
    shots: int
    half: float
    flipped: float

    def describe(self) -> str:
        """Return it as words."""
        return (
            f"{self.texts:,} texts at {self.shots:,} shots, accuracy known to +-{100 * self.half:.1f} points, "
            f"shot noise turns over {100 * self.flipped:.1f} % of the predictions"
        )


def planned(order: Order, folder: RunFolder, minutes: float, offline: bool = False) -> Order:
    """Return an order with the samples and shots that make the most of some minutes of the QPU.

    The accuracy of the exact student is what is to be known: of N texts and S shots the squared error is
    ``p (1 - p) / N + f(S)^2``, where f is the share of predictions that shot noise turns over (Gaussian, from the exact
    margins). Mitigation is the order's or the profile's, and ``none`` where that alone takes longer.

    Args:
        order: what is asked for, without samples and shots.
        folder: the run's.
        minutes: of the QPU; the limit of the run too.
        offline: nothing will be sent.

    Raises:
        BudgetError: not one text fits, or samples or shots are given too.
    """
    if order.samples is not None or order.shots is not None or order.target_stderr is not None:
        raise BudgetError("--minutes chooses samples and shots; leave out --samples, --shots and --target-stderr")
    if not 0 < minutes < math.inf or order.mitigation == "all":
        raise BudgetError(f"--minutes {minutes:g} with one --mitigation: give a number above 0, and not all of them")
    order = replace(order, max_qpu_seconds=60 * minutes)
    probe = plans_for(replace(order, shots=str(PROBE)), folder, offline)[0]
    if _seconds(probe, 1, SHOTS[0]) > 60 * minutes and order.mitigation is None:
        order = replace(order, mitigation="none")
        probe = plans_for(replace(order, shots=str(PROBE)), folder, offline)[0]
    share, accuracy = _flips(probe, Student.load(folder.path))
    room = 60 * minutes
    for _ in range(4):
        bought = best(probe, room, share, accuracy)
        chosen = replace(order, mitigation=probe.mitigation.name, samples=bought.texts, shots=str(bought.shots))
        made = plans_for(chosen, folder, offline)[0]
        if made.budget.seconds <= 60 * minutes:
            twice = best(probe, 2 * room, share, accuracy)
            say(f"{minutes:g} minutes buy {bought.describe()}; twice as much would buy {twice.describe()}")
            return chosen
        room *= 0.98 * 60 * minutes / made.budget.seconds  # twirls round shots up
    raise BudgetError(f"--minutes {minutes:g}: no plan fits; give more, or a cheaper --mitigation")


def best(probe: Plan, seconds: float, share: dict[int, float], accuracy: float) -> Purchase:
    """Return the texts and shots that some seconds buy with the least error.

    Args:
        probe: a plan of all texts at ``PROBE`` shots.
        seconds: of the QPU.
        share: by shots, the share of predictions that shot noise turns over.
        accuracy: of the exact student.

    Raises:
        BudgetError: not one text fits.
    """
    found: list[tuple[float, Purchase]] = []
    for shots in SHOTS:
        texts, most = 0, len(probe.texts)
        while texts < most:  # the price grows with every text
            middle = (texts + most + 1) // 2
            texts, most = (middle, most) if _seconds(probe, middle, shots) <= seconds else (texts, middle - 1)
        if texts:
            variance = accuracy * (1 - accuracy) / texts
            bought = Purchase(texts, shots, Z95 * math.sqrt(variance), share[shots])
            found.append((variance + share[shots] ** 2, bought))
    if not found:
        raise BudgetError(f"{seconds / 60:g} minutes of the QPU hold not one text; give more")
    return min(found, key=lambda pair: pair[0])[1]


def _seconds(probe: Plan, texts: int, shots: int) -> float:
    """Return the estimated seconds of the QPU of another number of texts and shots than the probe's."""
    total, parts = 0.0, texts / len(probe.texts)
    jobs = max(1, math.ceil(len(probe.chunks) * parts * shots / PROBE)) if not probe.local else 1
    for stage in probe.budget.stages:
        if stage.name.startswith("measuring"):
            scaled = replace(stage, jobs=jobs, executions=math.ceil(stage.executions * parts * shots / PROBE))
        elif stage.name == "learning readout":
            scaled = replace(stage, executions=math.ceil(stage.executions * shots / PROBE))
        else:
            scaled = stage
        total += scaled.seconds
    return probe.budget.correction * total


def _flips(probe: Plan, student: Student) -> tuple[dict[int, float], float]:
    """Return by shots the share of predictions that shot noise turns over, and the exact student's accuracy."""
    model = student.model
    evs = expected(
        make_engine(EngineSpec(precision="double"), model.circuit), model.circuit, probe.values[: len(probe.texts)]
    )
    logits, weights = model.logits_of(evs), model.head.weight.detach().cpu().numpy()
    margin, _ = margins(logits, np.zeros_like(evs), weights)
    variance = (slopes_of(logits, weights) ** 2 * (1 - evs.clip(-1, 1) ** 2)).sum(axis=1)
    share = {shots: float(norm.cdf(-margin / np.sqrt(variance / shots + 1e-300)).mean()) for shots in SHOTS}
    labels = [row["label"] for row in probe.texts]
    known = [model.classes[i] == label for i, label in zip(logits.argmax(axis=1), labels, strict=True) if label]
    return share, float(np.mean(known)) if known else 0.5
