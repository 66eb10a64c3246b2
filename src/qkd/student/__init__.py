"""The student: its model, losses, metrics, training, and the folder that stores it.

::

    student = qkd.student.Student.load("runs/latest")
    student.predict_proba(["a text"])

================== ====================================================================================
`Student`          a trained student that takes texts; `Student.load` reads a run's or a bundle's folder
`StudentModel`     projection, core and head, from embeddings (B,D) to logits (B,C)
`QuantumCore`      the circuit on its engine, between projection and head
`Trainer`          batches, Adam, early stopping, a checkpoint after every epoch
`TrainingData`     embeddings, teacher logits, labels and splits
`LOSSES`           the losses by name: pure functions of logits
`risk_coverage`    error rates if only the surest texts are answered, with a band
`score`            accuracy, macro-F1, calibration error and agreement, each with its interval
`softmax`          class probabilities (N,C) of logits (N,C)
================== ====================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.student.bundle import Student
    from qkd.student.cores import QuantumCore
    from qkd.student.data import TrainingData
    from qkd.student.deferral import risk_coverage
    from qkd.student.losses import LOSSES
    from qkd.student.metrics import score, softmax
    from qkd.student.model import StudentModel
    from qkd.student.trainer import Trainer

__all__ = [
    "LOSSES",
    "QuantumCore",
    "Student",
    "StudentModel",
    "Trainer",
    "TrainingData",
    "risk_coverage",
    "score",
    "softmax",
]

__getattr__, __dir__ = exports(__name__)
