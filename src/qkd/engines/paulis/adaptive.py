"""Light cones as lists of Pauli strings that are as long as the requested accuracy needs.

No formula predicts the error of a threshold, so the engine measures it. It tries a threshold on a few cones and rows
against a finer one, compares values and gradients, and lowers the threshold until both agree. All cones then get lists
with this threshold. A cone whose list would be much longer than the lists of the trial (a string on many qubits, for
example) gets a threshold of its own. Lists are used until a weight has changed by more than ``MAX_WEIGHT_CHANGE``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from qkd.engines.paulis.search import Search, TooManyStrings
from qkd.engines.paulis.sparse import Carrier

MAX_WEIGHT_CHANGE = 0.15
"""Largest change of a weight in radians for which lists are used again."""
SAMPLE_STD, NUM_SAMPLES = 0.1, 4
"""Standard deviation in radians and number of the weight vectors at which a search samples coefficients."""
TRIAL_ROWS, MAX_TRIAL_ROWS, TRIAL_CONES = 8, 64, 4
"""Numbers of rows and cones of a trial; up to ``MAX_TRIAL_ROWS`` rows if all rows share their matrices."""
THRESHOLD_RATIO = 4.0
"""Ratio of a threshold and the finer one with which it is compared; the finer list may have twice as many strings."""
ERROR_FACTOR = 3.0
"""Ratio of the largest measured error and the difference from the finer threshold, which truncates as well."""
SAFETY_FACTOR = 1.5
"""Ratio of the accuracy and the largest error in a trial, because other rows and cones may have larger errors."""
GRADIENT_FACTOR = 10.0
"""Ratio of the relative error of gradients and the error of values: 1 % at an accuracy of 1e-3."""
MAX_GROUPS = 2**23
"""Maximum number of groups of up to 16 coefficients in all lists together, about 1 GB."""
LONG_RATIO, LONG_GROUPS = 4, 2**14
"""A list is long if it has ``LONG_RATIO`` times the groups of the longest list in the trial, and ``LONG_GROUPS``."""
FIRST_THRESHOLD, LAST_THRESHOLD = 0.1, 1e-3
"""The first and the last threshold, as multiples of the accuracy."""

Forms = Callable[[torch.Tensor, torch.Tensor], tuple[dict[int, torch.Tensor], torch.Tensor]]
"""A function of values (R,A') of the batched and (1 or R,P') of the shared parameters. It returns the matrices
(1 or R,16,16) of every block and the features (n,R,4) of the encoded qubits, in double precision."""


@dataclass(frozen=True)
class StringLists:
    """Lists of strings for all cones.

    Attributes:
        carriers: The list of each cone.
        threshold: The threshold of most lists.
        error: The estimated error of a string's expectation value, from the rows and cones of the trial.
        slope: The estimated relative error of a gradient.
    """

    carriers: tuple[Carrier, ...]
    threshold: float
    error: float
    slope: float


@dataclass(frozen=True)
class _Trial:
    """Lists of some cones with one threshold, compared with finer lists.

    Attributes:
        carriers: The lists.
        threshold: The threshold.
        limit: The maximum number of strings.
        error: The estimated error of values.
        gradient_error: The norm of the difference of the gradients.
        gradient_norm: The norm of the finer gradient.
    """

    carriers: list[Carrier]
    threshold: float
    limit: int
    error: float
    gradient_error: float
    gradient_norm: float

    @property
    def slope(self) -> float:
        """The relative error of gradients."""
        return self.gradient_error / max(self.gradient_norm, 1e-300)


@dataclass(frozen=True)
class _Point:
    """The parameter values of a search.

    Attributes:
        rows: Values (R,A') of the batched parameters.
        shared: Values (P',) of the shared parameters.
        sampled: The matrices (R,16,16) of every block at weights around ``shared``.
    """

    rows: torch.Tensor
    shared: torch.Tensor
    sampled: Mapping[int, np.ndarray]


@dataclass(frozen=True)
class Limits:
    """The limits of an adaptive search.

    Attributes:
        accuracy: Largest error of an expectation value.
        threshold: A threshold that is used instead of the search; 0 searches.
        strings: Maximum number of strings of a cone.
    """

    accuracy: float
    threshold: float
    strings: int


class Adaptive:
    """Lists of strings of several cones.

    Args:
        rows: For each cone and place the row of the qubit's features.
        forms: The blocks' matrices and the encoded qubits' features as functions of parameter values.
        rowwise: Whether rows have matrices of their own.
    """

    def __init__(
        self,
        searches: Sequence[Search],
        rows: Sequence[Sequence[int]],
        forms: Forms,
        rowwise: bool,
        limits: Limits,
        device: torch.device,
    ) -> None:
        self._searches, self._rows = list(searches), list(rows)
        self._forms, self._rowwise, self._device = forms, rowwise, device
        self._accuracy, self._threshold, self._limit = limits.accuracy, limits.threshold, limits.strings
        self._latest: StringLists | None = None
        self._weights = torch.zeros(0)

    def clear_cache(self) -> None:
        """Search again in the next call."""
        self._latest = None

    def __call__(self, batched: torch.Tensor, shared: torch.Tensor) -> StringLists:
        """Return the lists for parameter values (B,A') and (P',)."""
        weights = shared.detach().cpu().double()
        if self._latest is None or bool(((weights - self._weights).abs() > MAX_WEIGHT_CHANGE).any()):
            count = TRIAL_ROWS if self._rowwise else max(TRIAL_ROWS, min(MAX_TRIAL_ROWS, len(batched)))
            rows = batched.detach().double()[np.linspace(0, len(batched) - 1, count).round().astype(int)]
            shared = shared.detach().double()
            self._latest = self._lists(_Point(rows, shared, self._sampled(rows, shared)))
            self._weights = weights.clone()
        return self._latest

    def forecast(self, batched: torch.Tensor, shared: torch.Tensor, budget: float) -> tuple[float, float]:
        """Estimate the seconds of a search and of a step (values and gradients) at parameter values (B,A') and (P',).

        The estimate makes lists of one cone with decreasing thresholds until the next would exceed the budget. Their
        lengths follow a power of the threshold, which is extrapolated to the last threshold of a usual search.

        Args:
            batched: Values (B,A') of a typical batch.
            shared: Typical weights (P',).
            budget: Maximum number of seconds of the estimate itself.
        """
        rows, shared = batched[:TRIAL_ROWS].detach().double(), shared.detach().double()
        point = _Point(rows, shared, self._sampled(rows, shared))
        number = sorted(range(len(self._searches)), key=lambda i: -self._searches[i].width)[len(self._searches) // 3]
        target = self._threshold or FIRST_THRESHOLD * self._accuracy / THRESHOLD_RATIO
        threshold, spent, trials = max(target, 64 * target), 0.0, list[tuple[float, int, float]]()
        while True:
            began = time.process_time()
            carrier = self._carriers([number], point, threshold, self._limit)[0]
            trials.append((threshold, carrier.groups, time.process_time() - began))
            spent += trials[-1][2]
            if threshold <= target or spent + THRESHOLD_RATIO * trials[-1][2] > budget:
                break
            threshold = max(target, threshold / THRESHOLD_RATIO)
        began = time.process_time()
        self._compared([carrier], [carrier], point)
        step = (time.process_time() - began) / 2
        growth = 1.0
        if threshold > target and len(trials) > 1:
            (coarse, few, _), (fine, many, _) = trials[-2:]
            power = max(0.5, float(np.log(many / max(few, 1)) / np.log(coarse / fine)))
            growth = (threshold / target) ** power
        cones = len(self._searches)
        growth = min(growth, max(1.0, MAX_GROUPS / cones / max(1, carrier.groups)))
        repeats = len(batched) / len(rows) if self._rowwise else 1.0
        tried = min(cones, TRIAL_CONES)  # each has a finer list too, and another trial with another threshold
        return trials[-1][2] * growth * (cones + 4 * tried), step * growth * cones * repeats

    def _lists(self, point: _Point) -> StringLists:
        # the trial takes cones at equal distances among the wider two thirds, where truncation matters
        order = sorted(range(len(self._searches)), key=lambda i: -self._searches[i].width)
        chosen = np.linspace(0, 2 * (len(order) - 1) / 3, TRIAL_CONES).round().astype(int)
        numbers = sorted({order[i] for i in chosen})
        best = self._best_trial(numbers, point)
        lists, error = dict(zip(numbers, best.carriers, strict=True)), best.error
        long = None if self._threshold else max(LONG_GROUPS, LONG_RATIO * max(c.groups for c in best.carriers))
        for i in [i for i in range(len(self._searches)) if i not in lists]:
            try:
                lists[i] = self._carriers([i], point, best.threshold, best.limit, long)[0]
            except TooManyStrings:
                groups = max(LONG_GROUPS, (MAX_GROUPS - sum(carrier.groups for carrier in lists.values())) // 2)
                lists[i], own_error = self._own_list(i, point, best, groups, best.gradient_norm / len(numbers) ** 0.5)
                error = max(error, own_error)
        return StringLists(tuple(lists[i] for i in range(len(lists))), best.threshold, error, best.slope)

    def _best_trial(self, numbers: Sequence[int], point: _Point) -> _Trial:
        """Return the lists of some cones with the largest threshold that keeps the accuracy, or comes nearest to it."""
        threshold, limit = self._threshold or FIRST_THRESHOLD * self._accuracy, self._limit
        max_groups, best = MAX_GROUPS // len(self._searches), None
        while True:
            coarse, limit = self._fitting(numbers, point, threshold, limit, max_groups)
            fine = self._carriers(numbers, point, threshold / THRESHOLD_RATIO, 2 * limit)
            trial = _Trial(coarse, threshold, limit, *self._compared(coarse, fine, point))
            if self._threshold:
                return trial
            excess = self._excess(trial)
            if best is None or excess < self._excess(best):
                best = trial
            if excess <= 1 or any(c.full for c in coarse) or threshold <= LAST_THRESHOLD * self._accuracy:
                return best
            # errors fall about as the threshold does, so one division by the excess is usually enough
            threshold /= min(THRESHOLD_RATIO**2, max(2.0, excess))

    def _excess(self, trial: _Trial) -> float:
        """Return the ratio of a trial's errors and the allowed errors."""
        return max(trial.error / (self._accuracy / SAFETY_FACTOR), trial.slope / (GRADIENT_FACTOR * self._accuracy))

    def _own_list(
        self, number: int, point: _Point, others: _Trial, max_groups: int, norm: float
    ) -> tuple[Carrier, float]:
        """Return the list of one cone with its own threshold, and the estimated error of its expectation value."""
        threshold = max(others.threshold, self._accuracy)
        coarse, limit = self._fitting([number], point, threshold, others.limit, max_groups)
        while True:
            threshold /= THRESHOLD_RATIO
            fine, limit = self._fitting([number], point, threshold, limit, max_groups)
            error, gradient_error, _ = self._compared(coarse, fine, point)
            if error <= self._accuracy / SAFETY_FACTOR and gradient_error <= GRADIENT_FACTOR * self._accuracy * norm:
                return coarse[0], error
            if fine[0].full or threshold <= LAST_THRESHOLD * self._accuracy:
                return fine[0], error
            coarse = fine

    def _sampled(self, rows: torch.Tensor, shared: torch.Tensor) -> dict[int, np.ndarray]:
        """Return the blocks' matrices (R,16,16) at weights around those of a call, which are the first sample."""
        rows = rows if self._rowwise else rows[:NUM_SAMPLES]
        noise = np.random.default_rng(len(shared)).normal(0, SAMPLE_STD, (len(rows), len(shared)))
        noise[0] = 0
        matrices, _ = self._forms(rows, shared + torch.as_tensor(noise, device=shared.device))
        return {number: matrix.detach().cpu().numpy() for number, matrix in matrices.items()}

    def _fitting(
        self, numbers: Sequence[int], point: _Point, threshold: float, limit: int, max_groups: int
    ) -> tuple[list[Carrier], int]:
        """Return some cones' lists of at most ``max_groups`` groups each, and the limit on strings for this."""
        while True:
            try:
                return self._carriers(numbers, point, threshold, limit, max_groups), limit
            except TooManyStrings:
                limit = max(1, limit // 4)

    def _carriers(
        self, numbers: Sequence[int], point: _Point, threshold: float, limit: int, max_groups: int | None = None
    ) -> list[Carrier]:
        routes = (self._searches[number].route(point.sampled, threshold, limit, max_groups) for number in numbers)
        return [Carrier(route, self._rows[i], self._device) for i, route in zip(numbers, routes, strict=True)]

    def _compared(
        self, coarse: Sequence[Carrier], fine: Sequence[Carrier], point: _Point
    ) -> tuple[float, float, float]:
        """Return the differences of two sets of lists.

        Returns:
            The estimated error of the coarse values, the norm of the difference of the gradients, and the norm of the
            finer gradient. Gradients are those of the sum of all values with random signs, so that one backward pass
            shows the errors of all of them.
        """
        evs, gradients = [], []
        for carriers in (coarse, fine):
            with torch.inference_mode(False), torch.enable_grad():  # the search also runs during evaluation
                inputs = point.rows.clone().requires_grad_(), point.shared.clone().requires_grad_()
                matrices, features = self._forms(inputs[0], inputs[1][None])
                values = torch.stack([carrier(matrices, features)[0] for carrier in carriers])
                signs = np.random.default_rng(0).choice([-1.0, 1.0], values.shape)
                total = (values * torch.as_tensor(signs, device=values.device)).sum()
                derivatives = torch.autograd.grad(total, inputs, allow_unused=True)
            evs.append(values.detach())
            gradients.append(torch.cat([part.flatten() for part in derivatives if part is not None]))
        difference, norm = (gradients[0] - gradients[1]).norm(), gradients[1].norm()
        return ERROR_FACTOR * float((evs[0] - evs[1]).abs().max()), float(difference), float(norm)
