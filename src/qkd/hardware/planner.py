"""``--minutes M``: which mitigation, how many texts and shots a time on the QPU buys, and what twice as much would."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from qkd.core.console import say
from qkd.core.errors import BudgetError
from qkd.core.runs import RunFolder
from qkd.hardware import adaptive, affine
from qkd.hardware import budget as costs
from qkd.hardware.budget import Stage
from qkd.hardware.forecast import SHOTS as PROBE
from qkd.hardware.forecast import Forecast, forecast
from qkd.hardware.mitigation import LEARNED, NAMES
from qkd.hardware.order import Order
from qkd.hardware.plan import Plan
from qkd.hardware.prepare import Prepared, plan_of, prepared
from qkd.student.metrics import Z95

SHOTS = tuple(n * 2**power for power in range(3, 16) for n in (2, 3))
"""Fixed numbers of shots that are tried."""
CHOICES = tuple(name for name in NAMES if name not in LEARNED)
"""Mitigations that are tried where none is asked for; learning noise alone would take minutes."""


@dataclass(frozen=True)
class Purchase:
    """What a time buys.

    mitigation: its name.
    texts: how many.
    shots: of each expectation value, or ``adaptive``.
    half: half the width of the 95 % interval of the accuracy.
    flipped: the share of predictions that are expected to differ from the exact student's.
    """

    mitigation: str
    texts: int
    shots: str
    half: float
    flipped: float

    @property
    def error(self) -> float:
        """The expected error of the accuracy: of the texts' number, and of what is turned over."""
        return math.hypot(self.half / Z95, self.flipped)

    def describe(self) -> str:
        """Return it as words."""
        return (
            f"{self.texts:,} texts with {self.mitigation} at {self.shots} shots, accuracy known to "
            f"+-{100 * self.half:.1f} points, shots and errors turn over {100 * self.flipped:.1f} % of the predictions"
        )


@dataclass(frozen=True)
class Offer:
    """A mitigation's prices and what it is expected to leave.

    probe: a plan of all texts at ``PROBE`` shots.
    forecast: what is expected of its predictions.
    """

    probe: Plan
    forecast: Forecast

    def ways(self) -> Iterator[tuple[str, tuple[tuple[float, int], ...], float]]:
        """Yield each way to spend shots: its name, each job's share of the texts and shots, and what it turns over."""
        for shots in SHOTS:
            yield str(shots), ((1.0, shots),), self.forecast.flipped(shots)
        if self.probe.mitigation.name in adaptive.KINDS:
            shares, flipped = self.forecast.adaptive()
            yield "adaptive", tuple(zip(shares, adaptive.ROUNDS, strict=True)), flipped

    def seconds(self, texts: int, rounds: tuple[tuple[float, int], ...]) -> float:
        """Return the estimated seconds of the QPU for a number of texts, in rounds of a share of them and shots."""
        probe, shots = self.probe, rounds[0][1]
        measuring = next(stage for stage in probe.budget.stages if not stage.name.startswith("learning"))
        bases = measuring.executions / (len(probe.values) * PROBE)
        extra = affine.points(shots) if probe.mitigation.name == "affine" else 0
        total = sum(stage.seconds for stage in probe.budget.stages if "layers" in stage.name)
        for number, (share, each) in enumerate(rounds):
            points = math.ceil(share * texts) + (extra if number == 0 else 0)
            executions = math.ceil(points * each * bases)
            jobs = math.ceil(executions / costs.MOST_PER_JOB)
            total += Stage("", jobs, executions, measuring.each).seconds
            for stage in probe.budget.stages:
                if stage.name == "learning readout":
                    total += jobs * max(stage.executions, stage.executions * each // PROBE) * stage.each
        return probe.budget.correction * total


def planned(order: Order, folder: RunFolder, minutes: float, offline: bool = False) -> Order:
    """Return an order with the mitigation, samples and shots that make the most of some minutes of the QPU.

    The accuracy of the exact student is what is to be known: of N texts the squared error is ``p (1 - p) / N + f^2``,
    where f is the share of predictions that shots and the device's errors, mitigated, are expected to turn over; see
    ``forecast``. A mitigation that is asked for is kept; else those of ``CHOICES`` are compared.

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
    names = CHOICES if order.mitigation is None else (order.mitigation,)
    there, asked = prepared(order, folder, offline), replace(order, shots=str(PROBE))
    probes = [plan_of(there, asked, folder, name) for name in names]
    offers, accuracy = [Offer(probe, forecast(probe, there.student)) for probe in probes], _accuracy(there)
    room = 60 * minutes
    for _ in range(4):
        bought = best(offers, room, accuracy)
        chosen = replace(order, mitigation=bought.mitigation, samples=bought.texts, shots=bought.shots)
        made = plan_of(there.chosen(chosen), chosen, folder, bought.mitigation)
        if made.budget.seconds <= 60 * minutes:
            twice = best(offers, 2 * room, accuracy)
            say(f"{minutes:g} min of the QPU buy {bought.describe()}; twice as much would buy {twice.describe()}")
            return chosen
        room *= 0.98 * 60 * minutes / made.budget.seconds  # twirls round shots up
    raise BudgetError(f"--minutes {minutes:g}: no plan fits; give more, or a cheaper --mitigation")


def best(offers: list[Offer], seconds: float, accuracy: float) -> Purchase:
    """Return the mitigation, texts and shots that some seconds buy with the least error.

    Args:
        offers: the mitigations.
        seconds: of the QPU.
        accuracy: of the exact student.

    Raises:
        BudgetError: not one text fits.
    """
    purchases = list[Purchase]()
    for offer in offers:
        for shots, rounds, flipped in offer.ways():
            texts, most = 0, len(offer.probe.texts)
            while texts < most:  # the price grows with every text
                middle = (texts + most + 1) // 2
                texts, most = (middle, most) if offer.seconds(middle, rounds) <= seconds else (texts, middle - 1)
            if texts:
                half = Z95 * math.sqrt(accuracy * (1 - accuracy) / texts)
                purchases.append(Purchase(offer.probe.mitigation.name, texts, shots, half, flipped))
    if not purchases:
        raise BudgetError(f"{seconds / 60:g} minutes of the QPU hold not one text; give more")
    return min(purchases, key=lambda purchase: purchase.error)


def _accuracy(there: Prepared) -> float:
    """Return the exact student's accuracy on the texts; a half where their labels are not known."""
    said, classes = there.student.model.logits_of(there.evs).argmax(axis=1), there.student.model.classes
    known = [classes[i] == row["label"] for i, row in zip(said, there.texts, strict=True) if row["label"]]
    return float(np.mean(known)) if known else 0.5
