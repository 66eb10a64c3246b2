"""scikit-learn estimators: a quantum student on features, and one on texts.

::

    from qkd.sklearn import QuantumStudentClassifier, TextStudentClassifier

    cross_val_score(QuantumStudentClassifier(qubits=4), X, y)
    TextStudentClassifier().fit(texts, labels).predict(["a text"])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from qkd.circuits.library import load_circuit
from qkd.circuits.student import StudentCircuit
from qkd.core.config import Config, EngineSpec, LossSpec, StudentSpec, TrainSpec
from qkd.data.dataset import validate_texts
from qkd.encoders.protocol import Encoder
from qkd.encoders.registry import make_encoder
from qkd.encoders.static import fit_tables
from qkd.simulation.factory import make_engine
from qkd.student.classical import classical_form
from qkd.student.cores import CLASSICAL, QuantumCore, StudentCore, make_control
from qkd.student.data import TrainingData
from qkd.student.trainer import make_trainer

MAX_DEFAULT_QUBITS = 11
MIN_TEXTS_FOR_VALIDATION = 20  # with fewer samples the training loss decides when to stop


class QuantumStudentClassifier(ClassifierMixin, BaseEstimator):
    """A projection, a parameterized circuit and a linear head on features (N,D).

    Training uses exact gradients. Prediction uses the student's classical form in float64, without torch or Qiskit.

    Args:
        circuit: A circuit's name or file, a ``StudentCircuit``, or a control (``linear``, ``mlp``, ``fourier``,
            ``product``).
        qubits: The width n; the number of features, between 2 and 11, if None.
        layers: The number of layers; the circuit's default if None.
        dropout: The fraction of features that are dropped in training.
        alpha: The weight of the teacher in the loss; it counts only if ``fit`` gets teacher logits.
        temperature: The temperature T of the loss.
        epochs: The maximum number of passes over the samples.
        batch_size: Samples of an optimizer step.
        lr: Adam's learning rate.
        weight_decay: Decoupled weight decay of projection and head.
        patience: The number of epochs without a better validation loss after which training stops.
        validation_fraction: The fraction of the samples that decides when to stop.
        random_state: The seed of the split, the initial weights and the batches.

    Attributes:
        classes_: The C class labels, sorted.
        n_features_in_: The number D of features.
        n_iter_: The number of epochs.
        model_: The trained model, from embeddings (B,D) to logits (B,C).
    """

    def __init__(
        self,
        circuit: str | StudentCircuit = "hardware",
        *,
        qubits: int | None = None,
        layers: int | None = None,
        dropout: float = 0.0,
        alpha: float = 0.2,
        temperature: float = 2.0,
        epochs: int = 100,
        batch_size: int = 64,
        lr: float = 0.02,
        weight_decay: float = 0.0,
        patience: int = 10,
        validation_fraction: float = 0.15,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.circuit = circuit
        self.qubits = qubits
        self.layers = layers
        self.dropout = dropout
        self.alpha = alpha
        self.temperature = temperature
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X: Any, y: Any, teacher_logits: Any = None) -> Self:
        """Train a student.

        Args:
            X: Features (N,D).
            y: Class labels (N,).
            teacher_logits: A teacher's logits (N,C), columns in the order of the sorted labels; labels alone if None.

        Raises:
            ValueError: the arrays do not fit.
            QkdError: a setting does not fit.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, targets = np.unique(column_or_1d(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"{type(self).__name__} needs at least 2 classes; the data contain 1 class")
        config = self._config(len(self.classes_) if teacher_logits is None else None)
        teacher = np.zeros((len(X), len(self.classes_)))
        if teacher_logits is not None:
            teacher = check_array(teacher_logits, dtype=np.float64)
            if teacher.shape != (len(X), len(self.classes_)):
                raise ValueError(f"teacher_logits have shape {teacher.shape}, not {(len(X), len(self.classes_))}")
        train, valid = self._split(targets, config.train.seed)
        data = TrainingData(
            classes=tuple(str(number) for number in range(len(self.classes_))),
            embeddings=X.astype(np.float32),
            teacher_logits=teacher.astype(np.float32),
            targets=targets,
            train=train,
            valid=valid,
            test=valid,
        )
        # training draws from torch's global generator, which the caller may use as well
        with torch.random.fork_rng(devices=[]):
            trainer = make_trainer(config, self._core(X.shape[1], config), data, torch.device("cpu"), None)
            trainer.run()
        self.n_iter_ = trainer.progress.epoch
        self.model_ = trainer.model.eval()
        self._form = classical_form(self.model_)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return class probabilities (N,C) of features (N,D)."""
        logits = self._logits(X)
        logits = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(logits / logits.sum(axis=1, keepdims=True))

    def decision_function(self, X: Any) -> np.ndarray:
        """Return logits (N,C) of features (N,D); with two classes the log-odds (N,) of the second."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict(self, X: Any) -> np.ndarray:
        """Return class labels (N,) of features (N,D)."""
        logits = self._logits(X)
        return np.asarray(self.classes_[logits.argmax(axis=1)])

    def _logits(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self._form.logits(validate_data(self, X, reset=False, dtype=np.float64))

    def _config(self, labels_only: int | None) -> Config:
        """Return the configuration of a run with these settings."""
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return Config(
            student=StudentSpec(dropout=self.dropout),
            loss=LossSpec(alpha=0.0 if labels_only else self.alpha, temperature=self.temperature),
            train=TrainSpec(
                epochs=self.epochs,
                batch_size=self.batch_size,
                lr=self.lr,
                weight_decay=self.weight_decay,
                patience=self.patience,
                seed=seed,
            ),
            engine=EngineSpec(torch_device="cpu"),
        )

    def _split(self, targets: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return row numbers for training and validation, stratified."""
        rows = np.arange(len(targets))
        counts = np.bincount(targets)
        if len(rows) < MIN_TEXTS_FOR_VALIDATION or self.validation_fraction * counts.min() < 1:
            return rows, rows
        train, valid = train_test_split(rows, test_size=self.validation_fraction, stratify=targets, random_state=seed)
        return np.sort(train), np.sort(valid)

    def _core(self, features: int, config: Config) -> StudentCore:
        qubits = self.qubits or min(max(features, 2), MAX_DEFAULT_QUBITS)
        control = isinstance(self.circuit, str) and self.circuit in (*CLASSICAL, "product")
        circuit = self.circuit
        if isinstance(circuit, str):
            circuit = load_circuit("hardware" if control else circuit, qubits=qubits, layers=self.layers)
        if control:
            return make_control(str(self.circuit), circuit, len(self.classes_), config.engine)
        return QuantumCore(circuit, make_engine(config.engine, circuit, rows=self.batch_size))


class TextStudentClassifier(ClassifierMixin, BaseEstimator):
    """An encoder and a ``QuantumStudentClassifier`` on its embeddings: texts in, labels out.

    Args:
        encoder: An encoder's name, as ``qkd distill --encoder`` takes it, or an object with ``encode(texts) -> (N,D)``.
        classifier: The classifier of embeddings; a ``QuantumStudentClassifier`` with 11 qubits and dropout 0.5 if None.

    Attributes:
        classes_: The C class labels, sorted.
        classifier_: The trained classifier of embeddings.
    """

    def __init__(self, encoder: str | Encoder = "minilm", classifier: Any = None) -> None:
        self.encoder = encoder
        self.classifier = classifier

    def fit(self, X: Sequence[str], y: Any, teacher_logits: Any = None) -> Self:
        """Train a student on texts.

        Args:
            X: N texts.
            y: Class labels (N,).
            teacher_logits: A teacher's logits (N,C), columns in the order of the sorted labels; labels alone if None.

        Raises:
            QkdError: the texts are no strings, or the encoder does not exist.
        """
        from sklearn.base import clone

        encoder = make_encoder(self.encoder) if isinstance(self.encoder, str) else self.encoder
        self._encoder = fit_tables(encoder, validate_texts(list(X)))
        default = QuantumStudentClassifier(qubits=MAX_DEFAULT_QUBITS, dropout=0.5, lr=0.005)
        self.classifier_ = clone(self.classifier if self.classifier is not None else default)
        options = {} if teacher_logits is None else {"teacher_logits": teacher_logits}
        self.classifier_.fit(self._embed(X), y, **options)
        self.classes_ = self.classifier_.classes_
        return self

    def predict(self, X: Sequence[str]) -> np.ndarray:
        """Return class labels (N,) of N texts."""
        check_is_fitted(self)
        return np.asarray(self.classifier_.predict(self._embed(X)))

    def predict_proba(self, X: Sequence[str]) -> np.ndarray:
        """Return class probabilities (N,C) of N texts."""
        check_is_fitted(self)
        return np.asarray(self.classifier_.predict_proba(self._embed(X)))

    def decision_function(self, X: Sequence[str]) -> np.ndarray:
        """Return logits (N,C) of N texts; with two classes the log-odds (N,) of the second."""
        check_is_fitted(self)
        return np.asarray(self.classifier_.decision_function(self._embed(X)))

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        return self._encoder.encode(validate_texts(list(texts)))
