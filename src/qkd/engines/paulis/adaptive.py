"""Light cones kept as lists of Pauli strings that are as long as an accuracy asks for.

A threshold is tried on a few cones and rows against a quarter of it, values and gradients both, and lowered until the
two agree; then all cones get their lists. One that would be much longer than those that were tried (a string on very
many qubits, say) gets a threshold of its own. Lists are used until a weight has moved by more than ``MOVED``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from qkd.engines.paulis.search import Search, TooManyStrings
from qkd.engines.paulis.sparse import Carrier

MOVED = 0.15
"""Radians by which a weight may move before strings are looked for again."""
SPREAD, SAMPLES = 0.1, 4
"""Around the weights so many samples are taken, normally distributed with this standard deviation in radians."""
POINTS, MOST_POINTS, CONES = 8, 64, 4
"""Rows, as many as that where they share all matrices, and cones, of the wider ones, on which a threshold is tried."""
FINER = 4.0
"""What a threshold is divided by to see what it leaves out; there may be twice as many strings then."""
TAIL = 3.0
"""Errors were seen to be up to so many times the difference from the finer threshold, which leaves out some too."""
MARGIN = 1.5
"""The errors seen may be so many times smaller than the accuracy: the largest of all rows and cones is larger."""
SLOPE = 10.0
"""A relative error of gradients is allowed to be this many times the error of values: 1 % at 1e-3."""
MOST_GROUPS = 2**23
"""Groups of up to 16 coefficients in all lists together, about 1 GB; where it is too few, fewer strings are kept."""
LONGER, LONG = 4, 2**14
"""A list is much longer where it has so many times the groups of the longest that was tried, and so many at least."""
FIRST, LAST = 0.1, 1e-3
"""The first threshold and the last one that are tried, as multiples of the accuracy."""

Forms = Callable[[torch.Tensor, torch.Tensor], tuple[dict[int, torch.Tensor], torch.Tensor]]
"""From values (R,A') of the rows' parameters and (1 or R,P') of the shared ones to every block's matrices
(1 or R,16,16) and the encoded qubits' features (n,R,4), in double precision."""


@dataclass(frozen=True)
class StringLists:
    """Lists for all cones.

    carriers: one a cone.
    threshold: with which they were made.
    error: how far an expectation value of a string is probably off, as seen on the sampled rows and cones.
    slope: likewise the relative error of a gradient.
    """

    carriers: tuple[Carrier, ...]
    threshold: float
    error: float
    slope: float


@dataclass(frozen=True)
class _Trial:
    """Some cones' lists, with a threshold and a limit on strings, and how far they are from finer ones.

    off: the norm of the gradients' difference.
    norm: that of the finer gradient.
    """

    carriers: list[Carrier]
    threshold: float
    limit: int
    error: float
    off: float
    norm: float

    @property
    def slope(self) -> float:
        """The relative error of gradients."""
        return self.off / max(self.norm, 1e-300)


class Adaptive:
    """Several cones' lists of strings.

    Args:
        searches: the cones.
        rows: for each cone and place where its qubit's features are.
        forms: the blocks' matrices and the encoded qubits' features as functions of parameter values.
        rowwise: whether rows have matrices of their own.
        accuracy: how far an expectation value may be off.
        threshold: fixed instead of found, where it is not 0.
        limit: how many strings of a cone are kept at once.
        device: where they live.
    """

    def __init__(
        self,
        searches: Sequence[Search],
        rows: Sequence[Sequence[int]],
        forms: Forms,
        rowwise: bool,
        accuracy: float,
        threshold: float,
        limit: int,
        device: torch.device,
    ) -> None:
        self._searches, self._rows = list(searches), list(rows)
        self._forms, self._rowwise = forms, rowwise
        self._accuracy, self._threshold, self._limit = accuracy, threshold, limit
        self._device = device
        self._latest: StringLists | None = None
        self._weights = torch.zeros(0)

    def forget(self) -> None:
        """Let the next call look for strings again."""
        self._latest = None

    def __call__(self, batched: torch.Tensor, shared: torch.Tensor) -> StringLists:
        """Return the lists to use at parameter values (B,A') and (P',)."""
        weights = shared.detach().cpu().double()
        if self._latest is None or bool(((weights - self._weights).abs() > MOVED).any()):
            count = POINTS if self._rowwise else max(POINTS, min(MOST_POINTS, len(batched)))
            points = batched.detach().double()[np.linspace(0, len(batched) - 1, count).round().astype(int)]
            self._latest = self._find(points, shared.detach().double())
            self._weights = weights.clone()
        return self._latest

    def forecast(self, batched: torch.Tensor, shared: torch.Tensor, budget: float) -> tuple[float, float]:
        """Estimate the seconds of a search and of a step (values and gradients) at parameter values (B,A') and (P',).

        Lists of one cone are made with lower and lower thresholds until the next would exceed the budget. Their
        lengths follow a power of the threshold, which is extrapolated to the last threshold that searches usually try.

        Args:
            batched: a typical batch.
            shared: typical weights.
            budget: seconds that the estimate itself may take.
        """
        points, shared = batched[:POINTS].detach().double(), shared.detach().double()
        sampled = self._sampled(points, shared)
        number = sorted(range(len(self._searches)), key=lambda i: -self._searches[i].width)[len(self._searches) // 3]
        target = self._threshold or FIRST * self._accuracy / FINER
        threshold, spent, made = max(target, 64 * target), 0.0, list[tuple[float, int, float]]()
        while True:
            began = time.perf_counter()
            carrier = self._carriers([number], sampled, threshold, self._limit)[0]
            seconds = time.perf_counter() - began
            spent += seconds
            made.append((threshold, carrier.groups, seconds))
            if threshold <= target or spent + FINER * seconds > budget:
                break
            threshold = max(target, threshold / FINER)
        began = time.perf_counter()
        self._compared([carrier], [carrier], points, shared)
        step = (time.perf_counter() - began) / 2
        growth = 1.0
        if threshold > target and len(made) > 1:
            (coarse, few, _), (fine, many, _) = made[-2:]
            power = max(0.5, float(np.log(many / max(few, 1)) / np.log(coarse / fine)))
            growth = (threshold / target) ** power
        cones = len(self._searches)
        growth = min(growth, max(1.0, MOST_GROUPS / cones / max(1, carrier.groups)))
        rows = len(batched) / len(points) if self._rowwise else 1.0
        tried = min(cones, CONES)  # each with a finer list beside it, and again with another threshold
        return made[-1][2] * growth * (cones + 4 * tried), step * growth * cones * rows

    def _find(self, points: torch.Tensor, shared: torch.Tensor) -> StringLists:
        sampled = self._sampled(points, shared)
        order = sorted(range(len(self._searches)), key=lambda i: -self._searches[i].width)
        spaced = np.linspace(0, 2 * (len(order) - 1) / 3, CONES).round().astype(int)
        tried = sorted({order[i] for i in spaced})
        best = self._tried(tried, sampled, points, shared)
        made, error = dict(zip(tried, best.carriers, strict=True)), best.error
        cap = None if self._threshold else max(LONG, LONGER * max(carrier.groups for carrier in best.carriers))
        for i in [i for i in range(len(self._searches)) if i not in made]:
            try:
                made[i] = self._carriers([i], sampled, best.threshold, best.limit, cap)[0]
            except TooManyStrings:
                room = max(LONG, (MOST_GROUPS - sum(carrier.groups for carrier in made.values())) // 2)
                norm = best.norm / len(tried) ** 0.5
                made[i], longer = self._longer(i, sampled, best, room, points, shared, norm)
                error = max(error, longer)
        return StringLists(tuple(made[i] for i in range(len(made))), best.threshold, error, best.slope)

    def _tried(
        self, tried: Sequence[int], sampled: Mapping[int, np.ndarray], points: torch.Tensor, shared: torch.Tensor
    ) -> _Trial:
        """Return the lists of some cones with a threshold that keeps the accuracy, or comes nearest to it."""
        threshold, limit = self._threshold or FIRST * self._accuracy, self._limit
        most, best = MOST_GROUPS // len(self._searches), None
        while True:
            coarse, limit = self._fitting(tried, sampled, threshold, limit, most)
            fine = self._carriers(tried, sampled, threshold / FINER, 2 * limit)
            trial = _Trial(coarse, threshold, limit, *self._compared(coarse, fine, points, shared))
            if self._threshold:
                return trial
            excess = self._excess(trial)
            if best is None or excess < self._excess(best):
                best = trial
            if excess <= 1 or any(carrier.full for carrier in coarse) or threshold <= LAST * self._accuracy:
                return best
            threshold /= min(FINER**2, max(2.0, excess))  # errors fall about as the threshold does

    def _excess(self, trial: _Trial) -> float:
        """Return how many times too large a trial's errors are."""
        return max(trial.error / (self._accuracy / MARGIN), trial.slope / (SLOPE * self._accuracy))

    def _longer(
        self,
        number: int,
        sampled: Mapping[int, np.ndarray],
        others: _Trial,
        room: int,
        points: torch.Tensor,
        shared: torch.Tensor,
        norm: float,
    ) -> tuple[Carrier, float]:
        """Return the list of a cone by itself, and how far its expectation value is probably off.

        Args:
            number: of the cone.
            sampled: see ``Search.route``.
            others: what the other cones have.
            room: how many groups there may be.
            points: rows.
            shared: weights.
            norm: that of another cone's gradient.
        """
        threshold = max(others.threshold, self._accuracy)
        coarse, limit = self._fitting([number], sampled, threshold, others.limit, room)
        while True:
            threshold /= FINER
            fine, limit = self._fitting([number], sampled, threshold, limit, room)
            error, off, _ = self._compared(coarse, fine, points, shared)
            if error <= self._accuracy / MARGIN and off <= SLOPE * self._accuracy * norm:
                return coarse[0], error
            if fine[0].full or threshold <= LAST * self._accuracy:
                return fine[0], error
            coarse = fine

    def _sampled(self, points: torch.Tensor, shared: torch.Tensor) -> dict[int, np.ndarray]:
        """Return the blocks' matrices (R,16,16) at values around those of a call."""
        rows = points if self._rowwise else points[:SAMPLES]
        noise = np.random.default_rng(len(shared)).normal(0, SPREAD, (len(rows), len(shared)))
        noise[0] = 0
        around = shared + torch.as_tensor(noise, device=shared.device)
        matrices, _ = self._forms(rows, around)
        return {number: matrix.cpu().numpy() for number, matrix in matrices.items()}

    def _fitting(
        self, numbers: Sequence[int], sampled: Mapping[int, np.ndarray], threshold: float, limit: int, most: int
    ) -> tuple[list[Carrier], int]:
        """Return some cones' lists of no more than ``most`` groups each, and the limit on strings that this took."""
        while True:
            try:
                return self._carriers(numbers, sampled, threshold, limit, most), limit
            except TooManyStrings:
                limit = max(1, limit // 4)

    def _carriers(
        self,
        numbers: Sequence[int],
        sampled: Mapping[int, np.ndarray],
        threshold: float,
        limit: int,
        most: int | None = None,
    ) -> list[Carrier]:
        carriers = []
        for number in numbers:
            search = self._searches[number]
            route = search.route(sampled, threshold, limit, most)
            carriers.append(Carrier(route, self._rows[number], self._device))
        return carriers

    def _compared(
        self, coarse: Sequence[Carrier], fine: Sequence[Carrier], points: torch.Tensor, shared: torch.Tensor
    ) -> tuple[float, float, float]:
        """Return how far apart two sets of lists are.

        The coarse ones' error as the largest difference of values shows it, the norm of the gradients' difference, and
        that of the second gradient: of a sum of all expectation values with random signs.
        """
        evs, gradients = [], []
        for carriers in (coarse, fine):
            with torch.enable_grad():
                leaves = points.clone().requires_grad_(), shared.clone().requires_grad_()
                matrices, features = self._forms(leaves[0], leaves[1][None])
                values = torch.stack([carrier(matrices, features)[0] for carrier in carriers])
                signs = np.random.default_rng(0).choice([-1.0, 1.0], values.shape)
                total = (values * torch.as_tensor(signs, device=values.device)).sum()
                derivatives = torch.autograd.grad(total, leaves, allow_unused=True)
            evs.append(values.detach())
            gradients.append(torch.cat([part.flatten() for part in derivatives if part is not None]))
        off, norm = (gradients[0] - gradients[1]).norm(), gradients[1].norm()
        return TAIL * float((evs[0] - evs[1]).abs().max()), float(off), float(norm)
