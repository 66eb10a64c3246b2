"""Shots where they are needed: a few for every text, more only for texts that are not clear.

A text is clear once its first class leads every other by ``z`` standard errors of shot noise. A lead is a sum over many
shots, so for a text whose lead has the wrong sign the chance to look clear in a round is at most ``1 - Phi(z)``; with R
rounds, ``z = Phi^-1(1 - rate / R)`` keeps the chance over all of them below the error rate (Bonferroni). More shots do
not help against bias, so it plays no part here.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from qkd.circuits.student import StudentCircuit
from qkd.core.console import say
from qkd.devices.snapshot import Snapshot
from qkd.hardware import budget as costs
from qkd.hardware.budget import Budget, Stage
from qkd.hardware.gathered import Gathered, Mitigated, shot_noise
from qkd.hardware.plan import Earlier, Plan, new_folder

ROUNDS = (16, 48)
"""Shots of each round; a text that takes part in all has 64."""
FIXED = (16, 24, 32, 48, 64, 96, 128)
"""Shots for every text at once, which are cheaper than rounds where texts are few."""
REPEATS = 16
"""How often a run is tried on exact values to say what it would take."""
ERROR_RATE = 0.05
"""The chance that a text is called clear whose class would be another with shots without end."""
KINDS = ("none", "readout", "affine")
"""Mitigations whose error falls with shots alone, so that a few shots already say something."""


def threshold(rounds: int) -> float:
    """Return the standard errors by which a lead is clear, with so many rounds in all."""
    return NormalDist().inv_cdf(1 - ERROR_RATE / rounds)


def clearness(evs: np.ndarray, noise: np.ndarray, weights: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return by how many standard errors the first class leads the class that is nearest to it (n,).

    Args:
        evs: expectation values (n,K).
        noise: their standard errors (n,K).
        weights: of the head (C,K).
        logits: (n,C).
    """
    first = logits.argmax(axis=1)
    slopes = weights[first][:, None] - weights[None]  # (n,C,K)
    errors = np.sqrt((slopes**2 * noise[:, None] ** 2).sum(axis=2))
    lead = logits[np.arange(len(logits)), first][:, None] - logits
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(np.arange(logits.shape[1]) == first[:, None], np.inf, lead / errors)
    least: np.ndarray = ratio.min(axis=1)
    return least


@dataclass(frozen=True)
class Trial:
    """What a number of rounds would come to on exact values, on the average of several tries.

    rounds: shots of each.
    counts: texts of each.
    flipped: the share of texts whose class shot noise turns over.
    """

    rounds: tuple[int, ...]
    counts: list[int]
    flipped: float


def tried(evs: np.ndarray, weights: np.ndarray, logits: np.ndarray, rounds: tuple[int, ...] = ROUNDS) -> Trial:
    """Return what rounds would take and give, with shots drawn from exact values (n,K) by a fixed seed.

    Args:
        evs: exact (n,K).
        weights: of the head (C,K).
        logits: exact (n,C).
        rounds: shots of each.
    """
    random, z = np.random.default_rng(0), threshold(len(rounds))
    bias = logits - evs @ weights.T
    means, biases = (np.tile(part, (REPEATS, 1)) for part in (evs.clip(-1, 1), bias))
    ups, shots, left = np.zeros_like(means), np.zeros(len(means)), np.arange(len(means))
    counts = []
    for more in rounds:
        counts.append(math.ceil(len(left) / REPEATS))
        ups[left] += random.binomial(more, (1 + means[left]) / 2)
        shots[left] += more
        seen = 2 * ups[left] / shots[left][:, None] - 1
        said = seen @ weights.T + biases[left]
        left = left[clearness(seen, shot_noise(seen, shots[left][:, None]), weights, said) < z]
    last = (2 * ups / shots[:, None] - 1) @ weights.T + biases
    flipped = last.argmax(axis=1) != np.tile(logits.argmax(axis=1), REPEATS)
    return Trial(rounds, counts, float(flipped.mean()))


def cheapest(
    evs: np.ndarray, weights: np.ndarray, logits: np.ndarray, price: Callable[[tuple[int, ...], list[int]], float]
) -> Trial:
    """Return rounds, or one round of a fixed number, whichever costs less; the fixed number turns over no more classes.

    Args:
        evs: exact (n,K).
        weights: of the head (C,K).
        logits: exact (n,C).
        price: of rounds with so many texts each, in seconds of the QPU.
    """
    best = tried(evs, weights, logits)
    for shots in FIXED:
        trial = tried(evs, weights, logits, (shots,))
        if trial.flipped <= best.flipped:
            fixed, rounds = price(trial.rounds, trial.counts), price(best.rounds, best.counts)
            if fixed < rounds:
                say(
                    f"{shots} shots for every text, {fixed:.1f} s of the QPU, are as good as rounds of "
                    f"{' and '.join(map(str, ROUNDS))}, {rounds:.1f} s"
                )
                return trial
            break
    return best


def stages(
    rounds: tuple[int, ...], counts: list[int], student: StudentCircuit, device: Snapshot, bases: int, points: int
) -> tuple[Stage, ...]:
    """Return the rounds as stages of a budget, a job each.

    Args:
        rounds: shots of each.
        counts: texts of each.
        student: compiled.
        device: the device.
        bases: executions for each shot.
        points: calibration points, in the first round.
    """
    each = costs.shot_seconds(student.circuit, device)
    return tuple(
        Stage(
            f"round {i + 1}, {count} texts, {shots} shots", 1, (count + (points if i == 0 else 0)) * shots * bases, each
        )
        for i, (count, shots) in enumerate(zip(counts, rounds, strict=True))
        if count
    )


def following(plan: Plan, gathered: Gathered, said: Mitigated, weights: np.ndarray, logits: np.ndarray) -> Plan | None:
    """Return the next round: the texts that are not clear, as many as the limit still pays for, or None.

    Where it does not pay for all of them, those come first that are nearest to being clear: where two classes are equal
    no number of shots decides.

    Args:
        plan: the round that is done.
        gathered: what was measured so far.
        said: the same, mitigated.
        weights: of the head (C,K).
        logits: (n,C) of the mitigated values.
    """
    if not plan.rounds or not len(said.rows):
        return None
    shots, later = plan.rounds[0], plan.rounds[1:]
    lead = clearness(said.evs, said.noise, weights, logits)
    unclear = np.flatnonzero(lead < threshold(len(ROUNDS)))
    each = plan.budget.stages[0].each * plan.budget.correction
    bases = max(1, round(plan.budget.stages[0].executions / max(1, len(plan.values) * plan.mitigation.shots)))
    left = plan.limit - plan.budget.own_seconds - costs.PER_JOB * plan.budget.correction
    most = int(max(0.0, left) // (each * shots * bases))
    chosen = np.sort(unclear[np.argsort(-lead[unclear])][:most])
    if not len(chosen):
        return None
    points = said.rows[chosen]
    budget = Budget(
        (
            Stage(
                f"{len(points)} texts, {shots} shots more", 1, len(points) * shots * bases, plan.budget.stages[0].each
            ),
        ),
        correction=plan.budget.correction,
    )
    return replace(
        plan,
        folder=new_folder(plan.folder.parent),
        key=secrets.token_hex(6),
        values=gathered.values[points],
        mitigation=replace(plan.mitigation, shots=shots),
        chunks=((0, len(points)),),
        budget=budget,
        limit=plan.limit - plan.budget.own_seconds,
        rounds=later,
        earlier=Earlier(
            plan.name,
            plan.budget.own_seconds + (plan.earlier.seconds if plan.earlier is not None else 0.0),
            points,
            gathered.values,
            np.nan_to_num(gathered.evs),
            np.nan_to_num(gathered.stds),
            gathered.shots,
        ),
    )
