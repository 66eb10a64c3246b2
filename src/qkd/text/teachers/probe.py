"""The ``probe:`` teacher: a causal LM's hidden states with a logistic head.

The LM itself is not changed. Every few layers its hidden states are averaged over a text's real tokens; layer and
regularisation of the logistic regression on top are those with the lowest cross-entropy on the validation split,
and its temperature is set there too, so that the logits are calibrated.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from qkd import cache
from qkd.errors import QkdError
from qkd.text.models.backbone import Backbone
from qkd.text.models.transformer import Loading

if TYPE_CHECKING:
    from qkd.text.data.load import Dataset
    from qkd.text.data.splits import Splits

MOST_LAYERS = 10
"""How many layers are looked at, evenly spaced, the last one among them."""

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1)
"""The values of C, sklearn's inverse regularisation strength, that are tried."""

LAYER_STRENGTH = 0.01
"""The C with which layers are compared."""

LAYER_TEXTS = 2000
"""Training texts with which layers are compared."""


class ProbeTeacher:
    """A frozen causal LM with a logistic head.

    Args:
        model: a short name, folder or hub id.
        loading: how the LM is loaded.

    Raises:
        QkdError: the model cannot be had.
    """

    def __init__(self, model: str, loading: Loading | None = None) -> None:
        self.name = f"probe:{model}"
        self._backbone = Backbone(model, loading)
        self._classes: tuple[str, ...] = ()
        self._head: dict[str, np.ndarray] = {}

    @property
    def num_parameters(self) -> int:
        """The weights of the LM and of the head."""
        return self._backbone.num_parameters + sum(self._head[part].size for part in ("weight", "bias"))

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Compute the hidden states of all texts and fit the head; both are cached."""
        self._classes = dataset.classes
        self._remember(dataset.texts)
        train, valid = ([dataset.texts[row] for row in rows] for rows in (splits.train, splits.valid))
        y_train, y_valid = dataset.targets[splits.train], dataset.targets[splits.valid]
        key = {
            "kind": "probe-head",
            "states": self._store.key,
            "train": cache.digest([train, y_train.tolist()]),
            "valid": cache.digest([valid, y_valid.tolist()]),
            "tried": [STRENGTHS, LAYER_STRENGTH, LAYER_TEXTS],
        }
        self._head = cache.arrays(key, lambda: self._choose(train, y_train, valid, y_valid))

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts; hidden states come from the cache where it has them."""
        column = self._column
        self._remember(texts)
        return self._apply(self._store.read(texts, lambda states: states[:, column]))

    def answer(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, computed now."""
        return self._apply(self._states(texts, [self._layers[self._column]])[:, 0])

    def describe(self) -> dict[str, Any]:
        """Return model, chosen layer, regularisation, temperature and validation numbers."""
        facts = {name: float(self._head[name]) for name in ("c", "temperature", "valid_loss", "valid_accuracy")}
        return {
            "name": self.name,
            "kind": "probe",
            "model": self._backbone.model,
            "fingerprint": self._backbone.fingerprint,
            "layer": self._layers[self._column],
            "layers": self._backbone.num_layers,
            "classes": list(self._classes),
            **facts,
        }

    @cached_property
    def _layers(self) -> list[int]:
        last = self._backbone.num_layers
        step = -(-last // MOST_LAYERS)
        return sorted(range(last, 0, -step))

    @property
    def _column(self) -> int:
        """Which of ``_layers`` was chosen."""
        if not self._head:
            raise QkdError(f"{self.name} has not been fitted: call fit(dataset, splits) first")
        return int(self._head["column"])

    @cached_property
    def _store(self) -> cache.Store:
        return cache.Store({"kind": "states", "layers": self._layers, **self._backbone.key})

    def _states(self, texts: Sequence[str], layers: Sequence[int]) -> np.ndarray:
        """Return pooled states ``(N, len(layers), D)``; float16 is fine, they are of order one by construction."""
        return self._backbone.pooled(texts, layers, equal_tokens=True).astype(np.float16)

    def _remember(self, texts: Sequence[str]) -> None:
        self._store.fill(texts, lambda chunk: self._states(chunk, self._layers), f"reading with {self._backbone.model}")
        self._backbone.report(len(texts))

    def _choose(
        self, train: Sequence[str], y_train: np.ndarray, valid: Sequence[str], y_valid: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the head with the lowest validation loss: first the layer is chosen, then C."""

        def states(texts: Sequence[str], column: int) -> np.ndarray:
            return self._store.read(texts, lambda rows: rows[:, column]).astype(np.float32)

        step = -(-len(train) // LAYER_TEXTS)  # every step-th: the rows carry no order that depends on the class
        few, y_few = train[::step], y_train[::step]
        column = min(
            range(len(self._layers)),
            key=lambda n: fit_head(states(few, n), y_few, states(valid, n), y_valid, LAYER_STRENGTH)["valid_loss"],
        )
        x_train, x_valid = states(train, column), states(valid, column)
        heads = [fit_head(x_train, y_train, x_valid, y_valid, c) for c in STRENGTHS]
        return {**min(heads, key=lambda head: head["valid_loss"]), "column": np.array(column)}

    def _apply(self, states: np.ndarray) -> np.ndarray:
        # in double precision, for in single the last digit depends on how many texts are asked for at once
        weight, bias = (self._head[name].astype(np.float64) for name in ("weight", "bias"))
        return (states.astype(np.float64) @ weight + bias).astype(np.float32)


def fit_head(x: np.ndarray, y: np.ndarray, x_valid: np.ndarray, y_valid: np.ndarray, c: float) -> dict[str, np.ndarray]:
    """Fit a calibrated logistic head on standardised features.

    Args:
        x: training features ``(N,D)``.
        y: class numbers ``(N,)``, every one of 0..C-1 among them.
        x_valid: validation features; they set the temperature.
        y_valid: their class numbers.
        c: sklearn's inverse regularisation strength.

    Returns:
        ``weight (D,C)`` and ``bias (C,)`` that take raw features to calibrated logits, and the scalars ``c``,
        ``temperature``, ``valid_loss`` (mean cross-entropy, nats) and ``valid_accuracy``.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an unfinished fit has to stand the validation too
        model = LogisticRegression(C=c, tol=1e-3, max_iter=200).fit((x - mean) / scale, y)
    weight, bias = model.coef_.T, model.intercept_
    if weight.shape[1] == 1:  # two classes: one margin m becomes the logits (-m/2, m/2)
        weight, bias = np.hstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scale[:, None]
    bias = bias - mean @ weight
    logits = x_valid @ weight + bias
    temperature = calibrated_temperature(logits, y_valid)
    found = {
        "weight": weight / temperature,
        "bias": bias / temperature,
        "c": c,
        "temperature": temperature,
        "valid_loss": cross_entropy(logits / temperature, y_valid),
        "valid_accuracy": np.mean(logits.argmax(axis=1) == y_valid),
    }
    return {name: np.asarray(value, dtype=np.float32) for name, value in found.items()}


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean cross-entropy, nats, of logits ``(N,C)`` against class numbers ``(N,)``."""
    from scipy.special import log_softmax

    return float(-log_softmax(logits, axis=1)[np.arange(len(targets)), targets].mean())


def calibrated_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the T in 1/20..20 for which softmax(logits / T) fits ``targets`` best (Guo et al., arXiv 1706.04599)."""
    from scipy.optimize import minimize_scalar

    ends = (-np.log(20), np.log(20))
    return float(np.exp(minimize_scalar(lambda t: cross_entropy(logits / np.exp(t), targets), bounds=ends).x))
