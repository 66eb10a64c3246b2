"""Linear and kernel probes on embeddings, which measure encoders, teachers and students."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Candidate penalties of leave-one-out predictions, in units of the kernel's trace.
RIDGES = tuple(10.0 ** np.arange(-4, 1.1, 0.5))
# A feature is constant if its standard deviation is below these fractions of its largest value, which is rounding in
# float32, or of the largest standard deviation of all features. Transformers have entries of 1e-9 and of 1e-33.
CONSTANT, NEGLIGIBLE = 1e-6, 1e-7
# Candidates for C, scikit-learn's inverse regularization strength, on standardized embeddings.
STRENGTHS = (0.0003, 0.001, 0.003, 0.01)


@dataclass(frozen=True)
class Probe:
    """A fitted logistic regression on standardized embeddings.

    Attributes:
        c: Inverse regularization strength with the smallest validation loss.
        valid_loss: Mean cross-entropy on the validation texts in nats.
        valid_accuracy: Accuracy on the validation texts.
        train_accuracy: Accuracy on the training texts.
    """

    c: float
    valid_loss: float
    valid_accuracy: float
    train_accuracy: float


def linear_probe(
    x: np.ndarray,
    y: np.ndarray,
    x_valid: np.ndarray,
    y_valid: np.ndarray,
    x_test: np.ndarray | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> tuple[Probe, np.ndarray]:
    """Fit on embeddings ``(N,D)`` and class numbers ``(N,)``; choose C on the validation ones.

    Returns:
        The probe, and log-probabilities (M,C) of ``x_test`` (M,D), or of the validation embeddings if it is None. A
        class without training texts has log(1e-30).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, scale = standardization(x)
    x, x_valid = (x - mean) * scale, (x_valid - mean) * scale
    x_test = x_valid if x_test is None else (x_test - mean) * scale
    classes = int(max(y.max(), y_valid.max())) + 1

    def log_probabilities(model: LogisticRegression, rows: np.ndarray) -> np.ndarray:
        out = np.full((len(rows), classes), np.log(1e-30))
        out[:, model.classes_] = model.predict_log_proba(rows)
        return out

    best: tuple[Probe, np.ndarray] | None = None
    for c in strengths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # validation judges an unfinished fit too
            model = LogisticRegression(C=c, tol=1e-3, max_iter=100).fit(x, y)
        valid = log_probabilities(model, x_valid)
        loss = float(-valid[np.arange(len(y_valid)), y_valid].mean())
        if best is None or loss < best[0].valid_loss:
            right = float((valid.argmax(axis=1) == y_valid).mean())
            best = Probe(c, loss, right, float(model.score(x, y))), log_probabilities(model, x_test)
    assert best is not None
    return best


def kernel_probe(
    x: np.ndarray, y: np.ndarray, x_valid: np.ndarray, y_valid: np.ndarray, x_test: np.ndarray
) -> np.ndarray:
    """Return the class numbers (M,) of ``x_test`` (M,D) by a support vector machine with a Gaussian kernel.

    The kernel's width is the length of standardized embeddings. Validation embeddings determine C.
    """
    from sklearn.svm import SVC

    mean, scale = standardization(x)
    x, x_valid, x_test = ((rows - mean) * scale for rows in (x, x_valid, x_test))
    machines = [SVC(C=c, gamma=1 / x.shape[1]).fit(x, y) for c in (1.0, 3.0)]
    classes: np.ndarray = max(machines, key=lambda machine: machine.score(x_valid, y_valid)).predict(x_test)
    return classes


def standardization(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the means (D,) and the inverse standard deviations (D,) of embeddings (N,D).

    The latter is 0 for a feature that is constant in ``x``. Nothing can be learned about it, and a division by almost 0
    would let it decide alone about every text in which it has another value.
    """
    scale = x.std(axis=0)
    varies = (scale > CONSTANT * np.abs(x).max(axis=0)) & (scale > NEGLIGIBLE * scale.max())
    return x.mean(axis=0), np.divide(1, scale, out=np.zeros_like(scale), where=varies)


def leave_one_out(kernel: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return leave-one-out predictions ``(N,C)`` of ridge regression at the best of ``RIDGES``.

    The targets are one column for each class, 1 for a text's own. One eigendecomposition serves all penalties: with the
    smoother S of all texts, the leave-one-out residual of text i is (y - S y)_i / (1 - S_ii) (Craven and Wahba 1978,
    Numer. Math. 31:377).

    Args:
        kernel: inner products (N,N) of the texts' features.
        y: class numbers (N,), which contain every one of 0..C-1.
    """
    n = len(y)
    kernel = kernel - kernel.mean(axis=0)
    values, vectors = np.linalg.eigh((kernel - kernel.mean(axis=1, keepdims=True)).astype(np.float64))
    values = np.maximum(values, 0)
    classes = np.eye(y.max() + 1)[y]
    targets = classes - classes.mean(axis=0)
    projected = vectors.T @ targets
    candidates = []
    for ridge in RIDGES:
        shrunk = values / (values + ridge * values.sum() + 1e-12)
        leverage = np.square(vectors) @ shrunk + 1 / n
        residual = (targets - vectors @ (shrunk[:, None] * projected)) / np.maximum(1 - leverage, 1e-6)[:, None]
        candidates.append(classes - residual)
    return min(candidates, key=lambda scores: float(squared_errors(scores, y).mean()))


def squared_errors(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return each text's squared distance (N,) of scores (N,C) from 1 for its class and 0 for the others."""
    return np.square(scores - np.eye(scores.shape[1])[y]).sum(axis=1)
