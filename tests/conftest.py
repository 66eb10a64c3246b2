"""Fixtures: real sentences, a classical teacher's logits, and everything that writes sent to temporary folders."""

import os

import numpy as np
import pandas as pd
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def _homes(tmp_path, monkeypatch):
    """Keep the tests' caches and runs out of the user's."""
    if "QKD_CACHE" not in os.environ or "keep_cache" not in os.environ.get("PYTEST_CURRENT_TEST", ""):
        monkeypatch.setenv("QKD_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A CSV of 240 real sentences in four classes, and a logits file of a logistic regression that has seen them."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    from qkd.text import data

    folder = tmp_path_factory.mktemp("corpus")
    dataset = data.load("docstrings", limit=240)
    pd.DataFrame({"t": dataset.texts, "y": dataset.labels}).to_csv(folder / "texts.csv", index=False)
    features = TfidfVectorizer().fit_transform(dataset.texts)
    teacher = LogisticRegression(C=10).fit(features, dataset.targets)
    logits = teacher.decision_function(features).astype(np.float32)
    pd.DataFrame(logits, columns=list(dataset.classes)).assign(text=dataset.texts).to_csv(
        folder / "logits.csv", index=False
    )
    return folder
