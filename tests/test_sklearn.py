"""The scikit-learn estimators keep scikit-learn's contract and work inside its tools."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from qkd.sklearn import QuantumStudentClassifier, TextStudentClassifier

SMALL = {"qubits": 3, "layers": 1, "epochs": 30, "lr": 0.05}


@parametrize_with_checks([QuantumStudentClassifier(**SMALL)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_it_works_in_pipelines_searches_and_calibration():
    X, y = load_iris(return_X_y=True)
    student = QuantumStudentClassifier(**SMALL)
    assert cross_val_score(make_pipeline(StandardScaler(), student), X, y, cv=3).mean() > 0.9
    search = GridSearchCV(student, {"qubits": [2, 3]}, cv=2).fit(X, y)
    assert search.best_score_ > 0.85
    columns = ColumnTransformer([("scaled", StandardScaler(), [0, 1, 2, 3])])
    assert make_pipeline(columns, clone(student)).fit(X, y).score(X, y) > 0.9
    calibrated = CalibratedClassifierCV(student, cv=2).fit(X, y)
    assert np.allclose(calibrated.predict_proba(X).sum(axis=1), 1)


def test_a_teacher_moves_the_student():
    X, y = load_iris(return_X_y=True)
    rng = np.random.default_rng(0)
    noisy = np.where(rng.random(len(y)) < 0.4, rng.integers(0, 3, len(y)), y)
    teacher = 6.0 * np.eye(3)[y]
    alone = QuantumStudentClassifier(**SMALL).fit(X, noisy)
    taught = QuantumStudentClassifier(**SMALL, alpha=0.9).fit(X, noisy, teacher_logits=teacher)
    assert taught.score(X, y) > alone.score(X, y) or taught.score(X, y) > 0.95
    with pytest.raises(ValueError, match="teacher_logits have shape"):
        QuantumStudentClassifier(**SMALL).fit(X, y, teacher_logits=teacher[:, :2])


@pytest.mark.parametrize("circuit", ["linear", "mlp", "product", "reupload", "qdllm"])
def test_circuits_and_controls(circuit):
    X, y = load_iris(return_X_y=True)
    student = QuantumStudentClassifier(circuit, qubits=3, epochs=30, lr=0.05).fit(X, y)
    assert student.score(X, y) > 0.7
    copy = pickle.loads(pickle.dumps(student))
    assert np.array_equal(copy.predict_proba(X), student.predict_proba(X))
    assert np.allclose(student.decision_function(X), student.model_.logits(X.astype(np.float32)), atol=1e-4)


def test_texts(corpus):
    import pandas as pd

    table = pd.read_csv(corpus / "texts.csv")
    student = TextStudentClassifier("hashing:128", QuantumStudentClassifier(qubits=4, epochs=20))
    scores = cross_val_score(student, table["t"].tolist(), table["y"].to_numpy(), cv=2)
    assert scores.mean() > 0.3
    fitted = clone(student).fit(table["t"], table["y"])
    assert set(fitted.predict(["Add a gate to the circuit."])) <= set(table["y"])
