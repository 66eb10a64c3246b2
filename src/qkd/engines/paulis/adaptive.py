"""Light cones kept as lists of Pauli strings that are as long as an accuracy asks for.

A threshold is tried on a few cones and rows against a quarter of it, values and gradients both, and lowered until the
two agree; then all cones get their lists. They are used until a weight has moved by more than ``MOVED``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from qkd.engines.paulis.search import Search
from qkd.engines.paulis.sparse import Carrier

MOVED = 0.15
"""Radians by which a weight may move before strings are looked for again."""
SPREAD, SAMPLES = 0.1, 4
"""Around the weights so many samples are taken, normally distributed with this standard deviation in radians."""
POINTS, CONES = 8, 3
"""Rows and cones on which a threshold is tried."""
FINER = 4.0
"""What a threshold is divided by to see what it leaves out; there may be twice as many strings then."""
SLOPE = 10.0
"""A relative error of gradients is allowed to be this many times the error of values: 1 % at 1e-3."""
FIRST, LAST = 0.1, 1e-3
"""The first threshold and the last one that are tried, as multiples of the accuracy."""

Forms = Callable[[torch.Tensor, torch.Tensor], tuple[dict[int, torch.Tensor], torch.Tensor]]
"""From values (R,A') of the rows' parameters and (1 or R,P') of the shared ones to every block's matrices
(1 or R,16,16) and the encoded qubits' features (n,R,4), in double precision."""


@dataclass(frozen=True)
class Found:
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
        self._found: Found | None = None
        self._weights = torch.zeros(0)

    def forget(self) -> None:
        """Let the next call look for strings again."""
        self._found = None

    def __call__(self, batched: torch.Tensor, shared: torch.Tensor) -> Found:
        """Return the lists to use at parameter values (B,A') and (P',)."""
        weights = shared.detach().cpu().double()
        if self._found is None or bool(((weights - self._weights).abs() > MOVED).any()):
            points = batched.detach().double()[np.linspace(0, len(batched) - 1, POINTS).round().astype(int)]
            self._found = self._find(points, shared.detach().double())
            self._weights = weights.clone()
        return self._found

    def _find(self, points: torch.Tensor, shared: torch.Tensor) -> Found:
        sampled = self._sampled(points, shared)
        order = sorted(range(len(self._searches)), key=lambda i: -self._searches[i].width)
        spaced = np.linspace(0, len(order) - 1, min(CONES, len(order))).round().astype(int)
        tried = sorted({order[i] for i in spaced})
        threshold = self._threshold or FIRST * self._accuracy
        coarse = self._try(tried, sampled, threshold, self._limit, points, shared)
        while True:
            fine = self._try(tried, sampled, threshold / FINER, 2 * self._limit, points, shared)
            error = float((coarse[1] - fine[1]).abs().max())
            slope = float((coarse[2] - fine[2]).norm() / fine[2].norm().clamp_min(1e-300))
            excess = max(error / (self._accuracy / 2), slope / (SLOPE * self._accuracy)) if not self._threshold else 0.0
            full = all(carrier.full for carrier in coarse[0])
            if excess <= 1 or full or threshold <= LAST * self._accuracy:
                break
            threshold /= min(FINER**2, max(2.0, excess))  # errors fall about as the threshold does
            coarse = self._try(tried, sampled, threshold, self._limit, points, shared)
        known = dict(zip(tried, coarse[0], strict=True))
        carriers = [
            known[i] if i in known else self._carrier(i, sampled, threshold, self._limit)
            for i in range(len(self._searches))
        ]
        return Found(tuple(carriers), threshold, error, slope)

    def _sampled(self, points: torch.Tensor, shared: torch.Tensor) -> dict[int, np.ndarray]:
        """Return the blocks' matrices (R,16,16) at values around those of a call."""
        rows = points if self._rowwise else points[:SAMPLES]
        noise = np.random.default_rng(len(shared)).normal(0, SPREAD, (len(rows), len(shared)))
        noise[0] = 0
        around = shared + torch.as_tensor(noise, device=shared.device)
        found, _ = self._forms(rows, around)
        return {number: matrix.cpu().numpy() for number, matrix in found.items()}

    def _carrier(self, number: int, sampled: Mapping[int, np.ndarray], threshold: float, limit: int) -> Carrier:
        search = self._searches[number]
        plan = search.plan(sampled, threshold, limit)
        return Carrier(plan, search.start, self._rows[number], self._device)

    def _try(
        self,
        tried: Sequence[int],
        sampled: Mapping[int, np.ndarray],
        threshold: float,
        limit: int,
        points: torch.Tensor,
        shared: torch.Tensor,
    ) -> tuple[list[Carrier], torch.Tensor, torch.Tensor]:
        """Return some cones' lists, their expectation values (T,R) and the gradient of a random sum of these."""
        carriers = [self._carrier(number, sampled, threshold, limit) for number in tried]
        with torch.enable_grad():
            leaves = points.clone().requires_grad_(), shared.clone().requires_grad_()
            matrices, features = self._forms(leaves[0], leaves[1][None])
            values = torch.stack([carrier(matrices, features)[0] for carrier in carriers])
            signs = np.random.default_rng(0).choice([-1.0, 1.0], values.shape)
            total = (values * torch.as_tensor(signs, device=values.device)).sum()
            found = torch.autograd.grad(total, leaves, allow_unused=True)
        gradient = torch.cat([part.flatten() for part in found if part is not None])
        return carriers, values.detach(), gradient
